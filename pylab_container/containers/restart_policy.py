"""Restart policies: when an exited container is started again, and by which process.

After the exit the record has the state "restarting" and the delay. The exit command waits for the delay, with a lock
on the file restarts/<id>, and starts the container (exit_command.py). If that process was killed, the next reader of
the record starts another one (ensure_restart).
"""

from __future__ import annotations

import time
from pathlib import Path

from pylab_container.containers.commands import exit_command, spawn
from pylab_container.host.files import try_locked
from pylab_container.oci.lifecycle import restart_delay
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.text.timestamps import parse_rfc3339

# An exit command that has just been started has not locked its file yet.
RESTART_STALE_AFTER = 5.0  # seconds; a scheduled restart that is overdue by more than this may be lost


def has_restart_policy(record: ContainerRecord) -> bool:
    """Whether the container has a restart policy other than "no"."""
    return record.host_config.restart_policy.name not in ("", "no")


def delay_after_exit(record: ContainerRecord, status: int, *, now: int) -> float | None:
    """Return the seconds to wait before a restart; None if the container stays exited.

    now  nanoseconds since 1970
    """
    return restart_delay(
        record.host_config.restart_policy,
        exit_code=status,
        restart_count=record.restart_count,
        manually_stopped=record.manually_stopped,
        ran=(now - parse_rfc3339(record.started_at)) / 10**9,
        last_delay=record.restart_delay,
    )


def seconds_to_restart(record: ContainerRecord) -> float:
    """Return the seconds until the restart of a container in the state restarting.

    The number is negative if the restart is overdue.
    """
    # The wall clock, because the time of the exit is in the record, which outlives a reboot. A monotonic clock starts
    # again at each boot (clock_gettime(2)).
    return record.restart_delay - (time.time() - parse_rfc3339(record.finished_at) / 10**9)


def marker_path(runtime: Runtime, container_id: str) -> Path:
    """Return the file that is locked by the process that waits for the restart."""
    return runtime.path / "restarts" / container_id


def ensure_restart(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> None:
    """Start another exit command if the one that waited for the restart was killed."""
    if seconds_to_restart(record) > -RESTART_STALE_AFTER:
        return
    # A locked file proves that the process lives: the kernel releases the lock when the process exits (flock(2)). The
    # file is on a tmpfs, so after a reboot it is missing, and the process with it.
    try:
        with try_locked(marker_path(runtime, record.id)) as free:
            is_lost = free
    except FileNotFoundError:
        is_lost = True
    if is_lost:
        spawn(exit_command(data, record.id))
