"""Waiting for a container's end without a thread for it, and how a run ended when somebody else wrote that down.

The end of a run may be noted, and the container removed, by any process on the data root. So its exit status
is looked for where it still is: with the monitor, in the record, and in the end in the log of events.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from pylab_container.containers import lifetime
from pylab_container.errors import ContainerNotFound
from pylab_container.oci.lifecycle import ALIVE
from pylab_container.runtime.monitor import UNKNOWN_STATUS
from pylab_container.store.container_store import ContainerRecord
from pylab_container.text.timestamps import parse_rfc3339

if TYPE_CHECKING:
    from pylab_container.engine import Engine

_GRACE = 20.0  # seconds that a monitor gets to write the status of a process that is gone


def process_descriptor(engine: Engine, record: ContainerRecord) -> int:
    """A descriptor that is readable once the run's first process has ended (pidfd_open(2)); the caller closes it.

    Raises ProcessLookupError where it has ended already.
    """
    if record.pid <= 0:
        raise ProcessLookupError
    fd = os.pidfd_open(record.pid)
    # The number may be another process's by now. While the monitor lives, it cannot be.
    if not lifetime.monitor(engine, record.id).alive():
        os.close(fd)
        raise ProcessLookupError
    return fd


def status_of_run(engine: Engine, record: ContainerRecord) -> int:
    """The exit status of the run that a record tells of and whose process has ended, 128 + n after signal n.

    The end is noted by then, and a container that asked for it (auto_remove) is gone.
    """
    status = UNKNOWN_STATUS
    with contextlib.suppress(TimeoutError):
        status = lifetime.monitor(engine, record.id).wait(_GRACE)
    with contextlib.suppress(ContainerNotFound):
        now = lifetime.settled(engine, lifetime.read(engine, record.id))
        if status == UNKNOWN_STATUS and now.started_at == record.started_at and now.state not in ALIVE:
            return now.exit_code
    return _told_status(engine, record) if status == UNKNOWN_STATUS else status


def is_log_complete(engine: Engine, record: ContainerRecord) -> bool:
    """Whether the monitor of a run whose process has ended has read all output: then it notes the exit status."""
    return lifetime.monitor(engine, record.id).exit_status() is not None


def status_of_removed(engine: Engine, container_id: str) -> int:
    """The exit status of the last run of a container that is gone. Raises ContainerNotFound where none is known."""
    told = _told_ends(engine, container_id, since=0)
    if not told:
        raise lifetime.no_such_container(container_id[:12])
    return told[-1]


def _told_status(engine: Engine, record: ContainerRecord) -> int:
    """What the log of events says of the end of that run."""
    told = _told_ends(engine, record.id, since=parse_rfc3339(record.started_at) / 10**9)
    return told[0] if told else UNKNOWN_STATUS


def _told_ends(engine: Engine, container_id: str, *, since: float) -> list[int]:
    wanted = {"type": "container", "container": container_id, "event": "die"}
    found = engine.event_log.read(since=since, until=time.time(), filters=wanted)
    return [int(told["Actor"]["Attributes"].get("exitCode", UNKNOWN_STATUS)) for told in found]
