"""What an operation leaves when it dies half-way, and how the next start clears it.

Everything that is made in several steps is claimed in a lease first (store/leases.py). An
operation that ends clears its own lease: what nobody came to need goes. One that was killed
leaves its lease without a lock, and the next engine on the data root clears that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.errors import LabError
from pylab_container.host.files import TEMPORARY, try_locked
from pylab_container.host.removal import discard_below
from pylab_container.oci.ids import EntryName
from pylab_container.oci.lifecycle import State
from pylab_container.oci.mounts import MountPoint
from pylab_container.store.damage import ReportingDamage
from pylab_container.store.transactions import release
from pylab_container.volumes.removal import remove_anonymous

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.store.leases import Lease


def clear(engine: Engine, lease: Lease) -> None:
    """Delete what a lease claims and no other object needs, then end it.

    Raises CorruptStore for a lease that is damaged, or that claims what a damaged record describes; it stays, then.
    """
    try:
        lease.check()
        for container_id in lease.claimed("frozen"):
            record = engine.data.records.load(container_id)
            if record is not None and record.state is State.RUNNING:
                with contextlib.suppress(LabError):  # it has ended, or goes on already
                    engine.runtime.runc.resume(container_id)
        for container_id in lease.claimed("container"):
            engine.containers.discard(container_id)
        for container_id in lease.claimed("writable"):
            if not engine.data.records.exists(container_id):
                engine.data.layers.remove_writable(container_id)
                engine.data.records.remove(container_id)
        unnamed = [MountPoint(type="volume", name=name, anonymous=True) for name in lease.claimed("volume")]
        if unnamed:
            remove_anonymous(engine.data, unnamed)  # those that no container mounts
        release(engine.data, lease)
    except BaseException:
        lease.leave()
        raise


def clear_abandoned(engine: Engine) -> None:
    """Clear what dead makers left; an engine does so when it starts.

    What cannot be cleared stays for `fsck`.
    """
    from pylab_container.networks import dns_records

    dns_records.clear(engine.runtime)
    if not engine.data.records.writable:
        return
    for lease in engine.data.layers.leases.abandoned():
        with contextlib.suppress(LabError, OSError), ReportingDamage(engine.data.emit):
            clear(engine, lease)
    for path, cache_id in engine.data.layers.abandoned_write_sets():
        with contextlib.suppress(LabError, OSError):
            engine.data.layers.clear_write_set(path, cache_id)
    for path in half_written(engine):
        path.unlink(missing_ok=True)
    with engine.data.scratch_lock():
        for path in abandoned_scratch(engine):
            discard_below(path.parent, EntryName(path.name))


def abandoned_scratch(engine: Engine) -> Iterator[Path]:
    """The scratch directories of operations that are dead; the caller holds the scratch lock."""
    for path in (engine.data.path / "tmp").glob("*"):
        with try_locked(path) as free:
            if free:
                yield path


_PLACES = (
    *("", "networks", "containers/*", "volumes/*", "builder/bases", "image/*"),
    *("image/*/imagedb/content/sha256", "image/*/imagedb/metadata/sha256/*", "image/*/distribution/*/sha256"),
)
"""Where files are written whole or not at all, below the data root."""


def half_written(engine: Engine) -> Iterator[Path]:
    """Files that killed commands left half written (host/files.py).

    A file that is being written is locked.
    """
    for place in _PLACES:
        for directory in engine.data.path.glob(place) if place else (engine.data.path,):
            for path in _temporary(directory):
                with contextlib.suppress(OSError), try_locked(path) as free:
                    if free:
                        yield path


def _temporary(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            return [Path(entry.path) for entry in entries if entry.name.startswith(TEMPORARY) and entry.is_file()]
    except OSError:
        return []  # not a directory, or removed since
