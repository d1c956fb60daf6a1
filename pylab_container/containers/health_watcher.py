"""The watcher of a container's health: its start, and whether it runs.

health_checks.py is what the process does.
"""

from __future__ import annotations

import time
from pathlib import Path

from pylab_container.containers.commands import health_command, spawn
from pylab_container.host.files import try_locked
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot

WATCHER_STALE_AFTER = 5.0  # seconds; a watcher that has not locked its file by then is presumed killed


def lock_path(runtime: Runtime, container_id: str) -> Path:
    """Return the file that the watcher of a container's present run locks."""
    return runtime.bundle(container_id) / "health"


def start_watcher(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> None:
    """Start the watcher of a container that runs, if it has a health check."""
    if record.health is not None:
        lock_path(runtime, record.id).touch()
        spawn(health_command(data, record))


def is_unwatched(runtime: Runtime, record: ContainerRecord) -> bool:
    """Whether the watcher of a container with a health check was killed: its file is not locked any more."""
    if record.health is None:
        return False
    lock = lock_path(runtime, record.id)
    try:
        if time.time() - lock.stat().st_mtime < WATCHER_STALE_AFTER:
            # A new watcher may not have locked the file yet. If we held the lock at that moment, it would take another
            # watcher for running and exit.
            return False
        with try_locked(lock) as free:
            return free
    except FileNotFoundError:
        return True
