"""Recovery: roll back the operations of killed processes when a data root is opened.

An operation of several steps first claims in a lease what it creates (store/leases.py, store/transactions.py). When it
ends, it clears the lease itself. The lease of a killed process has no lock any more, and clear() does the same for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pylab_container.containers import removal as container_removal
from pylab_container.errors import LabError
from pylab_container.host.files import TEMPORARY, try_locked
from pylab_container.host.removal import discard_below
from pylab_container.networks import dns_records
from pylab_container.oci.ids import EntryName
from pylab_container.oci.lifecycle import State
from pylab_container.oci.mounts import MountPoint
from pylab_container.runtime import Runtime
from pylab_container.store.damage import ReportingDamage
from pylab_container.store.data_root import DataRoot
from pylab_container.store.leases import Lease
from pylab_container.store.transactions import release
from pylab_container.volumes import removal as volume_removal


def clear(data: DataRoot, runtime: Runtime, lease: Lease) -> None:
    """Delete the objects that a lease claims and no other object needs, then end the lease.

    Raises CorruptStore for a damaged lease, or if a record of a claimed object is damaged; the lease is then kept.
    """
    try:
        lease.check()
        for container_id in lease.claimed("frozen"):
            record = data.records.load(container_id)
            if record is not None and record.state is State.RUNNING:
                with contextlib.suppress(LabError):  # it has exited, or is not frozen any more
                    runtime.runc.resume(container_id)
        for container_id in lease.claimed("container"):
            container_removal.discard(data, runtime, container_id)
        for container_id in lease.claimed("writable"):
            if not data.records.exists(container_id):
                data.layers.remove_writable(container_id)
                data.records.remove(container_id)
        anonymous = [MountPoint(type="volume", name=name, anonymous=True) for name in lease.claimed("volume")]
        if anonymous:
            volume_removal.remove_anonymous(data, anonymous)  # keeps those that a container mounts
        release(data, lease)
    except BaseException:
        lease.leave()
        raise


def clear_abandoned(data: DataRoot, runtime: Runtime) -> None:
    """Clear everything that killed processes left. What cannot be cleared is left for `fsck`."""
    dns_records.clear(runtime)
    if not data.records.writable:
        return
    for lease in data.layers.leases.abandoned():
        with contextlib.suppress(LabError, OSError), ReportingDamage(data.emit):
            clear(data, runtime, lease)
    for path, cache_id in data.layers.abandoned_write_sets():
        with contextlib.suppress(LabError, OSError):
            data.layers.clear_write_set(path, cache_id)
    for path in half_written(data):
        path.unlink(missing_ok=True)
    with data.scratch_lock():
        for path in abandoned_scratch(data):
            discard_below(path.parent, EntryName(path.name))


def abandoned_scratch(data: DataRoot) -> Iterator[Path]:
    """Yield the scratch directories of killed processes. The caller holds data.scratch_lock()."""
    for path in (data.path / "tmp").glob("*"):
        with try_locked(path) as is_free:
            if is_free:
                yield path


ATOMICALLY_WRITTEN = (
    *("", "networks", "containers/*", "volumes/*", "builder/bases", "image/*"),
    *("image/*/imagedb/content/sha256", "image/*/imagedb/metadata/sha256/*", "image/*/distribution/*/sha256"),
)
"""Directories below the data root, as glob patterns, in which files are written atomically (host/files.py)."""


def half_written(data: DataRoot) -> Iterator[Path]:
    """Yield the temporary files of killed processes.

    A file that is being written is locked, and left out.
    """
    for pattern in ATOMICALLY_WRITTEN:
        for directory in data.path.glob(pattern) if pattern else (data.path,):
            for path in _temporary_files(directory):
                with contextlib.suppress(OSError), try_locked(path) as is_free:
                    if is_free:
                        yield path


def _temporary_files(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            return [Path(entry.path) for entry in entries if entry.name.startswith(TEMPORARY) and entry.is_file()]
    except OSError:
        return []  # not a directory, or removed concurrently
