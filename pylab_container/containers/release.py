"""Releasing what a run used: cgroup, interfaces, mounts, bundle.

Idempotent: if a process is killed half-way, the next one releases the rest.
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
    """Release the run of a container whose start has failed, with its bundle."""
    release_resources(data, runtime, record)
    remove_run(runtime, record.id)


def release_resources(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> None:
    """Release cgroup, interfaces and mounts of a run, but keep its bundle and its exit status."""
    # Concurrently, because `runc delete` waits until the kernel has removed the cgroup. The mounts below are those of
    # the host: the container has its own in its mount namespace, which ends with its processes (mount_namespaces(7)).
    deleted = Background(lambda: runtime.runc.delete(record.id, force=True))
    try:
        endpoints.disconnect_all(data, runtime, record)
        shared_memory.unmount(data, runtime, record.id)
        volume_parts.unmount(runtime, record.id)
        remap.unmount(runtime, record.id)
        _unmount_layer(data, record.id)
        volume_mounting.unmount(data, record, lambda container_id: runtime.bundle(container_id).exists())
    finally:
        # Also after an error: a `runc delete` that still ran would race with the container's next start.
        deleted.result()


def remove_run(runtime: Runtime, container_id: ContainerId) -> None:
    """Remove the exit status and the bundle of a run whose resources are released."""
    # The exit status is outside of the bundle, and would be taken for the status of the next run.
    runtime.monitor(container_id).remove_files()
    # Last: while the bundle exists, settle() and volumes/mounting.py know that the run is not released completely.
    _remove_bundle(runtime.bundle(container_id))


def _unmount_layer(data: DataRoot, container_id: ContainerId) -> None:
    """Unmount a container's file system. A damaged record of its layer is reported (StoreDamaged)."""
    # Not an error: it would prevent the exit from being recorded, and the container from being removed.
    try:
        data.driver.unmount(data.layers.writable(container_id).mount_id)
    except CorruptStore as error:
        data.emit(StoreDamaged.of(error))


def _remove_bundle(bundle: Path) -> None:
    """Remove a bundle, in which the monitors of `exec` commands may still write and remove files."""
    # A file that appears between the listing of a directory and its rmdir(2) lets that fail with ENOTEMPTY. Those
    # commands have ended with the container and their monitors end soon, so a later attempt succeeds.
    deadline = time.monotonic() + BUNDLE_REMOVAL_TIMEOUT
    if bundle.exists():
        discard_below(bundle.parent, EntryName(bundle.name))
    while bundle.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
        discard_below(bundle.parent, EntryName(bundle.name))
