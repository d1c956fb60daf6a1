"""The exit command: record the exit, and restart the container if its policy says so."""

from __future__ import annotations

import contextlib
import time

from pylab_container.containers.restart_policy import marker_path, seconds_to_restart
from pylab_container.containers.settle import read_settled
from pylab_container.containers.start import start
from pylab_container.errors import LabError
from pylab_container.host.files import try_locked
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.lifecycle import State
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot

RESTART_POLL_INTERVAL = 0.1  # seconds between checks whether a user stopped, started or removed the container


def settle_and_restart(data: DataRoot, runtime: Runtime, name: str) -> None:
    """Record the exit of the container with this id, and restart it if its policy says so.

    Errors are suppressed: the monitor that runs this has no user to report them to.
    """
    container_id = ContainerId.match(name)
    with contextlib.suppress(LabError):
        if container_id and read_settled(data, runtime, container_id).state is State.RESTARTING:
            _restart_when_due(data, runtime, container_id)


def _restart_when_due(data: DataRoot, runtime: Runtime, container_id: ContainerId) -> None:
    """Wait for the delay of the policy, and start the container. Ends early if a user stops, starts or removes it."""
    # The lock of the marker makes this the only process that restarts the container, and shows that it lives.
    marker = marker_path(runtime, container_id)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    with contextlib.suppress(FileNotFoundError), try_locked(marker) as is_first:
        if not is_first:
            return
        try:
            while record := _restarting_record(data, container_id):
                if (remaining := seconds_to_restart(record)) <= 0:
                    start(data, runtime, container_id, exit_hook=True, restarting=True)
                    return
                time.sleep(min(remaining, RESTART_POLL_INTERVAL))
        finally:
            marker.unlink(missing_ok=True)


def _restarting_record(data: DataRoot, container_id: ContainerId) -> ContainerRecord | None:
    record = data.records.load(container_id)
    return record if record is not None and record.state is State.RESTARTING else None
