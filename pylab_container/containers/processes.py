"""The processes of a container, as ps(1) on the host shows them."""

from __future__ import annotations

from collections.abc import Sequence

from pylab_container.containers.change_events import emit_change
from pylab_container.errors import Conflict, InvalidInput, RuntimeFailed
from pylab_container.host import programs
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot


def top(
    data: DataRoot, runtime: Runtime, record: ContainerRecord, arguments: Sequence[str] = ()
) -> tuple[list[str], list[list[str]]]:
    """Run `ps ARGUMENTS` (default: -ef) on the host.

    Return its titles and one row for each process of the container.

    record  settled

    Raises Conflict if the container does not run, InvalidInput for options that ps rejects, RuntimeFailed for options
    that hide the pid (dockerd, too, reports that as a failure of its own).
    """
    if not record.state_document()["Running"]:
        raise Conflict(f"Container {record.id} is not running", hint=f"labctr start {record.name}")
    pids = set(map(str, runtime.runc.processes(record.id)))
    head, *lines = _ps(arguments or ["-ef"])
    titles = head.split()
    if "PID" not in titles:
        raise RuntimeFailed("Couldn't find PID field in ps output", hint="write -o pid,comm")
    column = titles.index("PID")
    rows = [line.split(None, len(titles) - 1) for line in lines]
    emit_change(data.emit, "top", record)
    return titles, [row for row in rows if len(row) == len(titles) and row[column] in pids]


def _ps(arguments: Sequence[str]) -> list[str]:
    """The lines that ps prints.

    Raises InvalidInput with the first line of its error, as dockerd does.
    """
    done = programs.run(["ps", *arguments], check=False)
    if done.status != 0:
        words = done.errors.partition("\n")[0]
        hint = "options of ps(1): aux, -eo pid,comm"
        raise InvalidInput(words, hint=hint) if words else RuntimeFailed(f"ps: exit status {done.status}", hint=hint)
    return done.output.splitlines() or [""]
