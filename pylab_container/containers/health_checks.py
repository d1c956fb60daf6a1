"""Health checks: a small process beside each container that has one.

Docker's daemon runs all checks. We have no daemon, and conmon knows no checks; so start() leaves one
process per container with a HEALTHCHECK, `labctr container watch-health`. It ends with the container: it
waits on the pidfds of the monitor and of the container's first process, so nobody has to stop it. If it is
killed, whoever next looks at the container starts another one (lifetime.py). A container without a check
costs nothing. systemd timers, as Podman has them, would need systemd.
"""

from __future__ import annotations

import contextlib
import select
import time
from typing import TYPE_CHECKING

from pylab_container.containers import health, lifetime
from pylab_container.errors import ContainerNotFound, LabError
from pylab_container.host.files import try_locked
from pylab_container.oci.container_config import Healthcheck
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import State
from pylab_container.store.container_store import ContainerRecord
from pylab_container.text.timestamps import parse_rfc3339, rfc3339

if TYPE_CHECKING:
    from pylab_container.containers.execution import Exec
    from pylab_container.engine import Engine

_KEPT_OUTPUT = 4096  # bytes, as in moby


def watch(engine: Engine, container_id: str, started_at: str) -> None:
    """Check a container's health until the run ends that began at started_at, unless somebody else does."""
    lock = lifetime.health_lock(engine, container_id)
    with contextlib.suppress(ContainerNotFound, FileNotFoundError), try_locked(lock) as alone:
        if not alone:
            return
        record = lifetime.read(engine, container_id)
        check = health.effective(record.config.healthcheck)
        monitor = lifetime.monitor(engine, container_id)
        while check is not None and monitor.runs_after(_pause(record, check)):
            record = lifetime.read(engine, container_id)
            if record.started_at != started_at:
                return
            if record.state is State.RUNNING:
                _note(engine, record, check, _probe(engine, record, check))
                record = lifetime.read(engine, container_id)


def _pause(record: ContainerRecord, check: Healthcheck) -> float:
    """Seconds until the next check."""
    ran = time.time_ns() - parse_rfc3339(record.started_at)
    return health.pause(record.health, check, ran=ran) / 10**9


def _note(engine: Engine, record: ContainerRecord, check: Healthcheck, result: Json) -> None:
    """Write down what the result makes of the health, if the same run still lasts."""
    with engine.data.records.lock(record.id):
        current = lifetime.read(engine, record.id)
        if current.started_at != record.started_at or current.state is not State.RUNNING or not current.health:
            return
        ran = parse_rfc3339(result["Start"]) - parse_rfc3339(current.started_at)
        new = health.after(current.health, result, check, in_start_period=ran < check.start_period)
        engine.data.records.update(current, health=new)
    if new["Status"] != current.health["Status"]:
        lifetime.tell(engine, "health_status", current, new["Status"])


def _probe(engine: Engine, record: ContainerRecord, check: Healthcheck) -> Json:
    """Run the check once; one of Health.Log."""
    from pylab_container.engine.container import Container

    start = rfc3339(time.time_ns())
    words = health.command(check, record.config.shell or ("/bin/sh", "-c"))
    seconds = check.timeout / 10**9
    try:
        status, output = _run(Container(engine, record.id).exec_create(words), seconds)
        text = output.decode(errors="replace")
    except LabError as error:
        status, text = -1, error.message
    except TimeoutError as error:
        printed = b"".join(error.args).decode(errors="replace")
        status, text = -1, f"Health check exceeded timeout ({_span(check.timeout)})" + (printed and f": {printed}")
    return {"Start": start, "End": rfc3339(time.time_ns()), "ExitCode": status, "Output": text}


def _run(check: Exec, seconds: float) -> tuple[int, bytes]:
    """The exit status, and the first that it printed.

    Raises TimeoutError, with what it had printed, if it took too long; it is dead then.
    """
    deadline = time.monotonic() + seconds
    output = b""
    with check.start() as streams:
        while select.select([streams], [], [], max(0, deadline - time.monotonic()))[0]:
            piece = streams.receive()
            if piece is None:
                return check.wait(), output
            output += piece[1][: _KEPT_OUTPUT - len(output)]
    check.kill()
    check.wait()
    raise TimeoutError(output)


def _span(nanoseconds: int) -> str:
    """A span of time as Go prints it, roughly: "30s", "500ms"."""
    seconds = nanoseconds / 10**9
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"
