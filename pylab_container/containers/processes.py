"""The processes of a container, as ps(1) on the host tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pylab_container.containers import lifetime
from pylab_container.errors import Conflict, InvalidInput, RuntimeFailed
from pylab_container.host import programs

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container


def top(engine: Engine, container: Container, arguments: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """(titles, one row a process) of `ps ARGUMENTS`, by default `ps -ef`; pids are the host's.

    Raises Conflict while it does not run, InvalidInput for options that ps refuses, RuntimeFailed for those that
    hide the pid (as in dockerd, a failure of its own).
    """
    record = container.record
    if not record.state_document()["Running"]:
        raise Conflict(f"Container {record.id} is not running", hint=f"labctr start {record.name}")
    pids = set(map(str, engine.runtime.runc.processes(container.id)))
    head, *lines = _ps(arguments or ["-ef"])
    titles = head.split()
    if "PID" not in titles:
        raise RuntimeFailed("Couldn't find PID field in ps output", hint="write -o pid,comm")
    column = titles.index("PID")
    rows = [line.split(None, len(titles) - 1) for line in lines]
    lifetime.tell(engine, "top", record)
    return titles, [row for row in rows if len(row) == len(titles) and row[column] in pids]


def _ps(arguments: Sequence[str]) -> list[str]:
    """The lines that ps prints. Raises InvalidInput with the first line of its error, as dockerd does."""
    done = programs.run(["ps", *arguments], check=False)
    if done.status != 0:
        words = done.errors.partition("\n")[0]
        hint = "options of ps(1): aux, -eo pid,comm"
        raise InvalidInput(words, hint=hint) if words else RuntimeFailed(f"ps: exit status {done.status}", hint=hint)
    return done.output.splitlines() or [""]
