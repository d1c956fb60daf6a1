"""Waiting for a container's exit, and looking up the exit status of a run.

Any process on the data root may record an exit and remove the container. So the exit status is looked up in three
places: the monitor's file, which the release of the run removes; the record, which the next start and the removal
change; and the event log, which keeps it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pylab_container.containers.lookup import no_such_container
from pylab_container.containers.settle import read_settled
from pylab_container.errors import ContainerNotFound
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.lifecycle import ALIVE, State
from pylab_container.runtime import Runtime
from pylab_container.runtime.monitor import UNKNOWN_STATUS
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.text.timestamps import parse_rfc3339

STATUS_TIMEOUT = 20.0  # seconds from the exit of a process until its monitor must have written the status
RESTART_POLL_INTERVAL = 0.05  # seconds between looks at the record while a restart policy is at work


class PastEvents(Protocol):
    """The log of past events; docker/event_log.py is one."""

    def read(self, *, since: float, until: float | None, filters: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        """Return Docker's event documents in a span of time, in seconds since 1970."""


def wait(
    data: DataRoot, runtime: Runtime, events: PastEvents, container_id: ContainerId, timeout: float | None = None
) -> int:
    """Wait for a container's exit; return its exit status, 128 + n after signal n.

    While the restart policy starts the container again, the wait continues until the last exit. On return the exit is
    recorded, and a container with auto_remove is removed. For a container that was removed before, the status is that
    of its last run.

    Raises TimeoutError after timeout seconds, ContainerNotFound if it never ran.
    """
    before = data.records.load(container_id)
    if before is None:
        return status_of_removed(events, container_id)
    record = before
    if record.state in ALIVE:
        status = runtime.monitor(container_id).wait(timeout)
        with contextlib.suppress(ContainerNotFound):
            record = read_settled(data, runtime, container_id)
        if status == UNKNOWN_STATUS:
            status = status_of_run(data, runtime, events, before)
    else:
        status = record.exit_code
    # A start by a user resets the count, so a new run with a count was started by the policy.
    was_restarted = record.started_at != before.started_at and record.restart_count > 0
    if record.state is State.RESTARTING or was_restarted:
        return _wait_for_last_exit(data, runtime, container_id, timeout)
    return status


def _wait_for_last_exit(data: DataRoot, runtime: Runtime, container_id: ContainerId, timeout: float | None) -> int:
    """Wait until the restart policy does not start the container again; return the last exit status."""
    # Polled: the process of the next run does not exist yet, so poll(2) would have no descriptor to wait for.
    deadline = None if timeout is None else time.monotonic() + timeout
    while (record := read_settled(data, runtime, container_id)).state in (State.RESTARTING, *ALIVE):
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"container {record.short_id} still runs after {timeout} seconds")
        time.sleep(RESTART_POLL_INTERVAL)
    return record.exit_code


def process_descriptor(runtime: Runtime, record: ContainerRecord) -> int:
    """Return a descriptor that is readable once the run's first process has exited (pidfd_open(2)).

    The caller closes it. Raises ProcessLookupError if the process has exited already.
    """
    if record.pid <= 0:
        raise ProcessLookupError
    fd = os.pidfd_open(record.pid)
    # The pid may have been reused before it was opened. The monitor is the parent of the process, and the kernel keeps
    # the pid until the parent has waited for it (wait(2)). After that the monitor exits.
    if not runtime.monitor(record.id).alive():
        os.close(fd)
        raise ProcessLookupError
    return fd


def status_of_run(data: DataRoot, runtime: Runtime, events: PastEvents, record: ContainerRecord) -> int:
    """Return the exit status of the run in a record, whose process has exited: 128 + n after signal n.

    On return the exit is recorded, and a container with auto_remove is removed.
    """
    status = UNKNOWN_STATUS
    with contextlib.suppress(TimeoutError):
        status = runtime.monitor(record.id).wait(STATUS_TIMEOUT)
    with contextlib.suppress(ContainerNotFound):
        current = read_settled(data, runtime, record.id)
        is_same_run = current.started_at == record.started_at
        if status == UNKNOWN_STATUS and is_same_run and current.state not in ALIVE:
            return current.exit_code
    if status != UNKNOWN_STATUS:
        return status
    logged = _logged_statuses(events, record.id, since=parse_rfc3339(record.started_at) / 10**9)
    return logged[0] if logged else UNKNOWN_STATUS


def is_log_complete(runtime: Runtime, record: ContainerRecord) -> bool:
    """Whether the monitor of an exited run has written all output to the log."""
    # It writes the exit status after the output (monitor.py, Monitor.wait()).
    return runtime.monitor(record.id).exit_status() is not None


def status_of_removed(events: PastEvents, container_id: str) -> int:
    """Return the exit status of the last run of a removed container.

    Raises ContainerNotFound if none is logged.
    """
    logged = _logged_statuses(events, container_id, since=0)
    if not logged:
        raise no_such_container(container_id[:12])
    return logged[-1]


def _logged_statuses(events: PastEvents, container_id: str, *, since: float) -> list[int]:
    """The exit statuses of a container in the event log, the oldest first."""
    filters = {"type": "container", "container": container_id, "event": "die"}
    exits = events.read(since=since, until=time.time(), filters=filters)
    return [int(event["Actor"]["Attributes"].get("exitCode", UNKNOWN_STATUS)) for event in exits]
