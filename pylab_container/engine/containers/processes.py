"""The processes of a container, as ps(1) on the host tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pylab_container.engine.containers import lifetime
from pylab_container.errors import Conflict, InvalidInput, RuntimeFailed
from pylab_container.host import programs

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.containers.container import Container


def top(engine: Engine, container: Container, arguments: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """(titles, one row a process) of `ps ARGUMENTS`, by default `ps -ef`; pids are the host's.

    Raises Conflict while it does not run, InvalidInput for options that ps refuses or that hide the pid.
    """
    record = container.record
    if not record.state_document()["Running"]:
        raise Conflict(f"Container {record.id} is not running", hint=f"labctr start {record.name}")
    pids = set(map(str, engine.runc.processes(container.id)))
    try:
        printed = programs.run(["ps", *(arguments or ["-ef"])]).output.splitlines()
    except RuntimeFailed as error:
        raise InvalidInput(error.message, hint="options of ps(1): aux, -eo pid,comm") from None
    titles = printed[0].split()
    if "PID" not in titles:
        raise InvalidInput("Couldn't find PID field in ps output", hint="write -o pid,comm")
    column = titles.index("PID")
    rows = [line.split(None, len(titles) - 1) for line in printed[1:]]
    lifetime.tell(engine, "top", record)
    return titles, [row for row in rows if len(row) == len(titles) and row[column] in pids]
