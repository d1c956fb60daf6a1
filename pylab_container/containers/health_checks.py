"""Health checks: a small process beside each container that has one.

dockerd runs all checks. We have no daemon, and conmon knows no checks, so a start leaves one process per container
with a HEALTHCHECK: `labctr container watch-health`. It waits on the pidfds of the monitor and of the container's
first process, so it exits with the container. If it is killed, the next reader of the container's record starts
another one (health_watcher.py). A container without a check costs nothing. systemd timers, as Podman uses them, would
need systemd.
"""

from __future__ import annotations

import contextlib
import select
import time

from pylab_container.containers import health, health_watcher
from pylab_container.containers.change_events import emit_change
from pylab_container.containers.execution import Exec, ExecOptions, ExecutionCollection
from pylab_container.containers.lookup import read
from pylab_container.errors import ContainerNotFound, LabError
from pylab_container.host.files import try_locked
from pylab_container.oci.container_config import Healthcheck
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import State
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.text.timestamps import parse_rfc3339, rfc3339

KEPT_OUTPUT = 4096  # bytes of a check's output that are recorded, as in moby


def watch(data: DataRoot, runtime: Runtime, container_id: str, started_at: str) -> None:
    """Check a container's health until the run that began at started_at is over.

    If another watcher does so already, return at once.
    """
    lock = health_watcher.lock_path(runtime, container_id)
    with contextlib.suppress(ContainerNotFound, FileNotFoundError), try_locked(lock) as is_first:
        if not is_first:
            return
        executions = ExecutionCollection(data, runtime)
        record = read(data.records, container_id)
        check = health.effective(record.config.healthcheck)
        monitor = runtime.monitor(container_id)
        while check is not None and monitor.runs_after(_pause(record, check)):
            record = read(data.records, container_id)
            if record.started_at != started_at:
                return
            if record.state is State.RUNNING:
                _record_result(data, record, check, _probe(executions, record, check))
                record = read(data.records, container_id)


def _pause(record: ContainerRecord, check: Healthcheck) -> float:
    """Seconds until the next check."""
    ran = time.time_ns() - parse_rfc3339(record.started_at)
    return health.pause(record.health, check, ran=ran) / 10**9


def _record_result(data: DataRoot, record: ContainerRecord, check: Healthcheck, result: Json) -> None:
    """Record the health after a result, if the same run still lasts.

    An event is emitted if the status changes.
    """
    with data.records.lock(record.id):
        current = read(data.records, record.id)
        if current.started_at != record.started_at or current.state is not State.RUNNING or not current.health:
            return
        ran = parse_rfc3339(result["Start"]) - parse_rfc3339(current.started_at)
        new = health.after(current.health, result, check, in_start_period=ran < check.start_period)
        data.records.update(current, health=new)
    if new["Status"] != current.health["Status"]:
        emit_change(data.emit, "health_status", current, new["Status"])


def _probe(executions: ExecutionCollection, record: ContainerRecord, check: Healthcheck) -> Json:
    """Run the check once; return an entry of Health.Log."""
    start = rfc3339(time.time_ns())
    words = health.command(check, record.config.shell or ("/bin/sh", "-c"))
    seconds = check.timeout / 10**9
    try:
        status, output = _run(executions.create(record.id, ExecOptions(command=tuple(words))), seconds)
        text = output.decode(errors="replace")
    except LabError as error:
        status, text = -1, error.message
    except TimeoutError as error:
        printed = b"".join(error.args).decode(errors="replace")
        status, text = -1, f"Health check exceeded timeout ({_span(check.timeout)})" + (printed and f": {printed}")
    return {"Start": start, "End": rfc3339(time.time_ns()), "ExitCode": status, "Output": text}


def _run(execution: Exec, seconds: float) -> tuple[int, bytes]:
    """Run a check; return its exit status and the beginning of its output.

    Raises TimeoutError, with its output so far, if it took too long; it has been killed then.
    """
    deadline = time.monotonic() + seconds
    output = b""
    with execution.start() as streams:
        while select.select([streams], [], [], max(0, deadline - time.monotonic()))[0]:
            piece = streams.receive()
            if piece is None:
                return execution.wait(), output
            output += piece[1][: KEPT_OUTPUT - len(output)]
    execution.kill()
    execution.wait()
    raise TimeoutError(output)


def _span(nanoseconds: int) -> str:
    """A duration roughly as Go prints it: "30s", "500ms"."""
    seconds = nanoseconds / 10**9
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"
