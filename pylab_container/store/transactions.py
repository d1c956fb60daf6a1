"""Transactions over several objects of a data root; a lease records what to roll back.

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
    """Open a lease for what the block makes; at the end, delete what nothing else needs.

    discard  removes a temporary container that the lease claims; by default only its writable layer is removed
    """
    # Before the block: a claim must precede its object, or a crash in between would leave an orphan that no file names.
    lease = data.layers.leases.open()
    try:
        yield lease
    finally:
        # After success and failure alike: what succeeded is named by an image, so only leftovers are deleted.
        _clear(data, lease, discard or data.layers.remove_writable)


def _clear(data: DataRoot, lease: Lease, discard: Callable[[ContainerId], object]) -> None:
    try:
        lease.check()
        # Containers before layers: the record of a container's layer counts as a need of the layers below it.
        for container_id in lease.claimed("container"):
            discard(container_id)
        release(data, lease)
    except BaseException:
        # Also KeyboardInterrupt. The unlocked lease still names what is left, and the next engine tries again.
        lease.leave()
        raise


@contextlib.contextmanager
def changing(data: DataRoot, container_id: ContainerId, mounts: Iterable[MountPoint] = ()) -> Iterator[None]:
    """Claim a container that the block creates or removes; a crash leaves all of it or nothing.

    mounts  of the container: unnamed volumes are created and removed with the container

    The container's record decides. The block writes it last, or deletes it first; recovery keeps a container with a
    record, and removes what is left of one without. An exception ends the claim: the caller undoes its own steps.
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
    """Record that the block freezes a container's processes; after a crash they are resumed."""
    # Only the lease can repair that: the container's record still says "running", so that `labctr unpause` would refuse
    # to thaw it (oci/lifecycle.py), and the frozen processes would hang.
    lease = data.layers.leases.open()
    lease.claim("frozen", container_id)
    try:
        yield
    finally:
        lease.end()


def release(data: DataRoot, lease: Lease) -> None:
    """End a lease, and delete the layers that it claims and nothing else needs.

    Images, containers, other leases and layers above need a layer.
    """
    if chain_ids := lease.claimed("layer"):
        # Race: if two leases claim a layer and end concurrently, each would see the other's claim and keep the layer.
        # Under one lock the lease that ends last sees no other claim.
        with data.images_lock():
            release_layers(data, chain_ids, lease)
            lease.end()
    else:
        lease.end()


def release_layers(data: DataRoot, chain_ids: Iterable[str], lease: Lease) -> list[Digest]:
    """Delete the layers that nothing but the lease needs, with their parents.

    The caller holds data.images_lock().

    Returns the chain ids of the deleted layers. Deletes none while the config of an image is damaged, because the
    layers of that image are unknown; `fsck` finds the orphaned layers once the image is removed.
    """
    try:
        needed = {chain_id for image_id in data.images.all() for chain_id in data.images.get(image_id).chain_ids}
    except CorruptStore as error:
        data.emit(StoreDamaged.of(error))
        return []
    return data.layers.release(chain_ids, needed, lease)
