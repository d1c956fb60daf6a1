"""Transactions over several objects of a data root.

Each is recorded in a lease, so that a crash can be rolled back.

    making     new layers and temporary containers: at the end, what no image or container needs is deleted
    changing   a container that is created or removed: after a crash it exists completely or not at all
    freezing   a container whose processes are stopped: after a crash they are resumed

An operation that ends normally clears its own lease. The lease of a killed process has no lock any more; the next
engine that opens the data root clears it (maintenance/recovery.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from pylab_container.errors import CorruptStore
from pylab_container.events import StoreDamaged
from pylab_container.oci.ids import ContainerId, Digest
from pylab_container.oci.mounts import MountPoint

if TYPE_CHECKING:
    from pylab_container.store.data_root import DataRoot
    from pylab_container.store.leases import Lease


@contextlib.contextmanager
def making(data: DataRoot, discard: Callable[[ContainerId], object] | None = None) -> Iterator[Lease]:
    """Open a lease for what the block makes; at the end, delete what it claims and no image or container needs.

    discard  removes a temporary container that the lease claims; by default only its writable layer is removed
    """
    lease = data.layers.leases.open()
    try:
        yield lease
    finally:
        _clear(data, lease, discard or data.layers.remove_writable)


def _clear(data: DataRoot, lease: Lease, discard: Callable[[ContainerId], object]) -> None:
    try:
        lease.check()
        for container_id in lease.claimed("container"):
            discard(container_id)
        release(data, lease)
    except BaseException:
        lease.leave()
        raise


@contextlib.contextmanager
def changing(data: DataRoot, container_id: ContainerId, mounts: Iterable[MountPoint] = ()) -> Iterator[None]:
    """Claim a container that the block creates or removes; after a crash in the block it is removed completely.

    mounts  of the container: unnamed volumes are created and removed with the container
    """
    lease = data.layers.leases.open()
    lease.claim("writable", container_id)
    for mount in mounts:
        if mount.type == "volume" and mount.anonymous:
            lease.claim("volume", mount.name)
    try:
        yield
    finally:
        lease.end()


@contextlib.contextmanager
def freezing(data: DataRoot, container_id: str) -> Iterator[None]:
    """Record that a container's processes are frozen while the block runs; after a crash they are resumed."""
    lease = data.layers.leases.open()
    lease.claim("frozen", container_id)
    try:
        yield
    finally:
        lease.end()


def release(data: DataRoot, lease: Lease) -> None:
    """End a lease, and delete the layers that it claims and no image, container, other lease or layer needs."""
    if chain_ids := lease.claimed("layer"):
        # Under one lock: if two leases claim a layer, the one that ends last must see that no other claim is left.
        with data.images_lock():
            release_layers(data, chain_ids, lease)
            lease.end()
    else:
        lease.end()


def release_layers(data: DataRoot, chain_ids: Iterable[str], lease: Lease) -> list[Digest]:
    """Delete the layers that nothing but the lease needs, with their parents; the caller holds data.images_lock().

    Returns the chain ids of the deleted layers. Deletes none while the config of an image is damaged, because the
    layers of that image are unknown; `fsck` finds the orphaned layers once the image is removed.
    """
    try:
        needed = {chain_id for image_id in data.images.all() for chain_id in data.images.get(image_id).chain_ids}
    except CorruptStore as error:
        data.emit(StoreDamaged.of(error))
        return []
    return data.layers.release(chain_ids, needed, lease)
