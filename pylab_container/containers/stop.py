"""Stopping, killing, pausing and restarting a container.

The table in oci/lifecycle.py says what is allowed in which state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from msgspec.structs import replace

from pylab_container.containers.change_events import emit_change
from pylab_container.containers.lookup import read
from pylab_container.containers.settle import read_settled, settle
from pylab_container.containers.signals import kill_for_certain, send_signal
from pylab_container.containers.start import start
from pylab_container.containers.waiting import PastEvents, wait
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.lifecycle import ALIVE, State, Transition, next_state
from pylab_container.oci.signals import signal_number
from pylab_container.runtime import Runtime
from pylab_container.runtime.monitor import Attachment
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot

DEFAULT_STOP_TIMEOUT = 10.0  # seconds, Docker's


def stop(
    data: DataRoot,
    runtime: Runtime,
    events: PastEvents,
    container_id: ContainerId,
    timeout: float | None = None,
    *,
    signal: str | int | None = None,
) -> None:
    """Send the stop signal, and kill the container if it still runs after timeout seconds.

    timeout  default: the container's StopTimeout, else 10; negative waits without a limit
    signal   default: the container's StopSignal, else SIGTERM

    No error if the container does not run. Its restart policy does not start it again.
    """
    config = read(data.records, container_id).config
    number = signal_number(signal or config.stop_signal or "SIGTERM")
    record = _request(data, runtime, container_id, Transition.STOP, manually=True)
    if record.state not in ALIVE:
        return
    requested = timeout if timeout is not None else record.config.stop_timeout
    seconds = float(DEFAULT_STOP_TIMEOUT if requested is None else requested)
    send_signal(data, runtime, record, number)
    # Without the lock, because this may take long: readers that settle the record would wait with it.
    try:
        runtime.monitor(container_id).wait(None if seconds < 0 else seconds)
    except TimeoutError:
        kill_for_certain(data, runtime, record)
    wait(data, runtime, events, container_id)
    # The process that records the exit emits "exited" under the lock, so "stopped" follows it.
    with data.records.lock(container_id):
        emit_change(data.emit, "stopped", record)


def kill(
    data: DataRoot, runtime: Runtime, events: PastEvents, container_id: ContainerId, signal: str | int = "SIGKILL"
) -> None:
    """Send a signal to the first process. Raises Conflict if the container does not run.

    SIGKILL and the container's stop signal also end the restart policy.
    """
    # As in moby, daemon/kill.go, killWithSignal(). A paused container is thawed and receives the signal at once. If it
    # has a stop signal, any other signal but SIGKILL stays pending until it is unpaused.
    number = signal_number(signal)
    stop_signal = read(data.records, container_id).config.stop_signal
    ends_policy = number in (9, signal_number(stop_signal or "SIGTERM"))
    thaws = ends_policy or not stop_signal
    record = _request(data, runtime, container_id, Transition.KILL, manually=ends_policy, thaws=thaws)
    if record.state in ALIVE:
        send_signal(data, runtime, record, number, thaws=thaws)
    if number == 9:
        wait(data, runtime, events, container_id)


def _request(
    data: DataRoot,
    runtime: Runtime,
    container_id: ContainerId,
    transition: Transition,
    *,
    manually: bool,
    thaws: bool = True,
) -> ContainerRecord:
    """Check that the transition is allowed, and record the user's request; return the record before the transition.

    manually  the restart policy ends; a container that waits for its restart is then recorded as exited
    thaws     a paused container is recorded as running
    """
    # Recorded before the signal is sent. The process that records the exit decides on a restart from manually_stopped.
    with data.records.lock(container_id):
        record = settle(data, runtime, read(data.records, container_id))
        state = _state_after(record, transition)
        if record.state is State.PAUSED and thaws:
            state = State.RUNNING
        if manually and record.state in (*ALIVE, State.RESTARTING):
            data.records.update(record, state=state, manually_stopped=True)
        elif record.state is State.PAUSED:
            data.records.update(record, state=state)
        return record if record.state is not State.RESTARTING else replace(record, state=state)


def _state_after(record: ContainerRecord, transition: Transition) -> State:
    return next_state(record.state, transition, container=record.name, container_id=record.id)


def pause(data: DataRoot, runtime: Runtime, container_id: ContainerId) -> None:
    """Freeze all processes of a container. Raises Conflict if it does not run."""
    with data.records.lock(container_id):
        record = settle(data, runtime, read(data.records, container_id))
        state = _state_after(record, Transition.PAUSE)
        runtime.runc.pause(container_id)
        data.records.update(record, state=state)
    emit_change(data.emit, "paused", record)


def unpause(data: DataRoot, runtime: Runtime, container_id: ContainerId) -> None:
    """Thaw the processes of a paused container. Raises Conflict if it is not paused."""
    with data.records.lock(container_id):
        record = settle(data, runtime, read(data.records, container_id))
        state = _state_after(record, Transition.UNPAUSE)
        runtime.runc.resume(container_id)
        data.records.update(record, state=state)
    emit_change(data.emit, "unpaused", record)


def restart(
    data: DataRoot,
    runtime: Runtime,
    events: PastEvents,
    container_id: ContainerId,
    timeout: float | None = None,
    *,
    signal: str | int | None = None,
    clients: int = 0,
) -> Attachment | None:
    """Stop a container if it runs, and start it again.

    timeout, signal  as for stop()
    clients          as for start()
    """
    with _auto_remove_suspended(data, runtime, container_id):
        stop(data, runtime, events, container_id, timeout, signal=signal)
    attachment = start(data, runtime, container_id, exit_hook=True, clients=clients)
    emit_change(data.emit, "restarted", read(data.records, container_id))
    return attachment


@contextlib.contextmanager
def _auto_remove_suspended(data: DataRoot, runtime: Runtime, container_id: ContainerId) -> Iterator[None]:
    """Suspend auto-remove while the block runs."""
    # Otherwise the exit between stop and start would remove the container.
    removes = read_settled(data, runtime, container_id).host_config.auto_remove
    if removes:
        _set_auto_remove(data, container_id, removes=False)
    try:
        yield
    finally:
        if removes:
            _set_auto_remove(data, container_id, removes=True)


def _set_auto_remove(data: DataRoot, container_id: ContainerId, *, removes: bool) -> None:
    with data.records.lock(container_id):
        record = read(data.records, container_id)
        data.records.update(record, host_config=replace(record.host_config, auto_remove=removes))
