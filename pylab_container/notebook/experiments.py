"""Two experiments with running containers: their processes as trees, and how long each takes to stop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from pylab_container.engine.containers import Container
from pylab_container.host.files import read_text_or_empty
from pylab_container.notebook.display import Table
from pylab_container.notebook.markup import Html

BAR_WIDTH = 20  # characters for the ten seconds that docker stop waits
GRACE_S = 10.0
EXECUTED_S = 5.0
SOON_S = 2.0  # a process that reacts to the signal needs less, also on a busy machine


class ProcessTrees(Struct, frozen=True):
    """The processes of several containers, side by side."""

    names: tuple[str, ...]
    trees: tuple[tuple[str, ...], ...]

    def table(self) -> Table:
        height = max(map(len, self.trees), default=0)
        padded = [tree + ("",) * (height - len(tree)) for tree in self.trees]
        return Table(self.names, tuple(zip(*padded, strict=True)))

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> Html:
        return self.table()._repr_html_()


def process_trees(containers: Sequence[Container]) -> ProcessTrees:
    """Return the processes of each container: process 1 first, below it its children.

    Children of one parent with the same title are shown once: their number depends on the machine's processors.
    """
    for container in containers:
        await_program(container)
    trees = tuple(tuple(_tree(container.pid, 0)) or ("not running",) for container in containers)
    return ProcessTrees(tuple(container.name for container in containers), trees)


def await_program(container: Container) -> None:
    """Wait until process 1 has executed the container's program, or has ended.

    A container counts as started as soon as runc has opened the gate for its init; the execve(2) comes a moment later.
    """
    deadline = time.monotonic() + EXECUTED_S
    while time.monotonic() < deadline:
        pid = container.pid
        if not pid or not read_text_or_empty(f"/proc/{pid}/comm").startswith("runc:"):
            return
        time.sleep(0.01)


def _tree(pid: int, depth: int) -> list[str]:
    title = _title(pid)
    if not title:
        return []
    lines = [f"1  {title}" if depth == 0 else f"{'   ' * depth}└─ {title}"]
    # proc(5): the children of a thread; a container's processes are children of its first thread in these labs.
    children = read_text_or_empty(f"/proc/{pid}/task/{pid}/children").split()
    seen: set[str] = set()
    for child in map(int, children):
        if (name := _title(child)) and name not in seen:
            seen.add(name)
            lines += _tree(child, depth + 1)
    return lines


def _title(pid: int) -> str:
    words = read_text_or_empty(f"/proc/{pid}/cmdline").split("\0") if pid else []
    return " ".join(filter(None, words))


class StopTimes(Struct, frozen=True):
    """How long each container took to stop, and its exit status."""

    rows: tuple[tuple[str, float, int], ...]

    def table(self) -> Table:
        return Table(("CONTAINER", "STOPPED AFTER", "", "STATUS"), tuple(map(_stop_row, self.rows)))

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> Html:
        return self.table()._repr_html_()

    @property
    def slowest(self) -> tuple[str, ...]:
        """The names of those that were killed after the grace period."""
        return tuple(name for name, seconds, _ in self.rows if seconds >= GRACE_S)


def stop_and_time(containers: Sequence[Container]) -> StopTimes:
    """Stop the containers at the same time, as docker stop does, and measure each."""
    with ThreadPoolExecutor(max(1, len(containers))) as pool:
        return StopTimes(tuple(pool.map(_stop, containers)))


def _stop(container: Container) -> tuple[str, float, int]:
    begin = time.monotonic()
    container.stop(timeout=GRACE_S)
    seconds = time.monotonic() - begin
    return container.name, seconds, container.wait()


def _stop_row(row: tuple[str, float, int]) -> tuple[str, str, str, str]:
    name, seconds, status = row
    bar = "█" * (1 if seconds < SOON_S else round(BAR_WIDTH * min(seconds, GRACE_S) / GRACE_S))
    # Whole seconds: the tenths differ from run to run, and do not matter.
    took = "less than 2 s" if seconds < SOON_S else f"{seconds:.0f} s" if seconds < GRACE_S else "10 s, then killed"
    return name, took, bar, str(status)
