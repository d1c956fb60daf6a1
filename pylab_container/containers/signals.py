"""Signals to a container's first process."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from pylab_container.containers.change_events import emit_change
from pylab_container.errors import Conflict, ContainerNotFound, LabError
from pylab_container.oci.lifecycle import ALIVE, State, Transition, next_state
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot

KILL_TIMEOUT = 10.0  # seconds from SIGKILL until the monitor must have written the exit status


def send_signal(data: DataRoot, runtime: Runtime, record: ContainerRecord, number: int, *, thaws: bool = True) -> None:
    """Send a signal to the first process. No error if it has exited.

    thaws  thaw a paused container, so that it receives the signal at once
    """
    # Under the lock, so that the exit that the signal causes is recorded and emitted after the event of the signal.
    with data.records.lock(record.id), contextlib.suppress(Conflict, ContainerNotFound):
        runtime.runc.kill(record.id, number)
        emit_change(data.emit, "killed", record, f"signal {number}")
    if record.state is State.PAUSED and thaws:
        with contextlib.suppress(LabError):
            runtime.runc.resume(record.id)


def kill_for_certain(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> None:
    """Kill a container and end its restart policy. On return it does not run, even if its monitor hung."""
    with data.records.lock(record.id):
        current = data.records.load(record.id)
        if current is None or current.state not in (*ALIVE, State.RESTARTING):
            return
        current = data.records.update(current, manually_stopped=True)
        if current.state is State.RESTARTING:
            data.records.update(current, state=next_state(current.state, Transition.KILL, container=current.name))
            return
    send_signal(data, runtime, current, signal.SIGKILL)
    monitor = runtime.monitor(record.id)
    with contextlib.suppress(TimeoutError):
        monitor.wait(KILL_TIMEOUT)
        return
    # A monitor that hangs writes no status. Once it is killed, exit_status() reports UNKNOWN_STATUS to every reader.
    with contextlib.suppress(ProcessLookupError):
        if monitor.alive():
            os.kill(monitor.conmon_pid, signal.SIGKILL)
        while monitor.alive():
            time.sleep(0.001)
