"""Releasing what a run used: cgroup, interfaces, mounts, bundle.

Idempotent, so that a crash half-way is harmless.
"""

from __future__ import annotations

import time
from pathlib import Path

from pylab_container.containers import remap, shared_memory, volume_parts
from pylab_container.errors import CorruptStore
from pylab_container.events import StoreDamaged
from pylab_container.host.background import Background
from pylab_container.host.removal import discard_below
from pylab_container.networks import endpoints
from pylab_container.oci.ids import ContainerId, EntryName
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.volumes import mounting as volume_mounting

BUNDLE_REMOVAL_TIMEOUT = 10.0  # seconds for the monitors of other commands to remove their files


def release(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> None:
    """Release the run of a container that does not run.

    The bundle is removed last: until then the run can be seen.
    """
    # runc delete waits for the cgroup; the rest need not, because the container's mounts are in another namespace.
    deleted = Background(lambda: runtime.runc.delete(record.id, force=True))
    try:
        endpoints.disconnect_all(data, runtime, record)
        shared_memory.unmount(data, runtime, record.id)
        volume_parts.unmount(runtime, record.id)
        remap.unmount(runtime, record.id)
        _unmount_layer(data, record.id)
        volume_mounting.unmount(data, record, lambda container_id: runtime.bundle(container_id).exists())
    finally:
        deleted.result()
    runtime.monitor(record.id).remove_files()
    _remove_bundle(runtime.bundle(record.id))


def _unmount_layer(data: DataRoot, container_id: ContainerId) -> None:
    """Unmount a container's file system.

    A damaged record of its layer must not prevent the container's exit.
    """
    try:
        data.driver.unmount(data.layers.writable(container_id).mount_id)
    except CorruptStore as error:
        data.emit(StoreDamaged.of(error))


def _remove_bundle(bundle: Path) -> None:
    """Remove a bundle, in which monitors of other commands write and remove files concurrently."""
    deadline = time.monotonic() + BUNDLE_REMOVAL_TIMEOUT
    if bundle.exists():
        discard_below(bundle.parent, EntryName(bundle.name))
    while bundle.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
        discard_below(bundle.parent, EntryName(bundle.name))
