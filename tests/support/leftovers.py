"""Resources of an engine that remain: mounts, monitors, files in /run, cgroups and interfaces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pylab_container import Engine
from tests.support.processes import command_lines
from tests.support.waiting import eventually


def of_engine(engine: Engine) -> list[str]:
    """Return the mount points, monitors and files in /run of one engine."""
    return [*_mounts(engine), *_monitors(engine), *_files(engine.runtime.path)]


def ownerless() -> set[str]:
    """Return orphans: cgroups without a process on this machine, veths without a monitor in this network namespace."""
    top = Path("/sys/fs/cgroup")  # the hierarchy of cgroup v2; with cgroup v1 it has a subdirectory per controller
    cgroups = [path for path in (*top.glob("labctr/*"), *top.glob("*/labctr/*")) if path.is_dir()]
    empty = {str(path) for path in cgroups if not _populated(path)}
    veths = list(_veths())
    commands = list(command_lines()) if veths else []
    return empty | {name for name, owner in veths if not any(owner in command for command in commands)}


def assert_removed(list_leftovers: Callable[[], Iterable[str]]) -> None:
    """Wait until every entry that is listed now has been removed: the kernel removes veths and cgroups asynchronously.

    Entries that appear later are ignored: they belong to other test processes.
    """
    first = set(list_leftovers())

    def removed() -> bool:
        first.intersection_update(list_leftovers())
        return not first

    try:
        eventually(removed)
    except AssertionError:
        raise AssertionError(f"left behind: {sorted(first)}") from None


def _mounts(engine: Engine) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith((f"{engine.data_root}/", f"{engine.runtime.path}/"))]


def _monitors(engine: Engine) -> list[str]:
    """The command lines of the monitors of this engine's containers."""
    commands = (command for command in command_lines() if command.startswith("conmon\0") or "/conmon\0" in command)
    return [command.replace("\0", " ") for command in commands if str(engine.runtime.path) in command]


def _files(directory: Path) -> list[str]:
    return [os.path.join(top, name) for top, _, names in os.walk(directory) for name in names]


def _veths() -> Iterator[tuple[str, str]]:
    """Yield (interface, container id) of the veths' host ends.

    The engine writes "<bridge> <container id> <address> <interface>" into a veth's alias.
    """
    for path in Path("/sys/class/net").glob("veth*/ifalias"):
        try:
            words = path.read_text().split()
        except OSError:
            continue
        if len(words) == 4 and words[0] == "labctr0":
            yield path.parent.name, words[1]


def _populated(cgroup: Path) -> bool:
    try:
        return bool((cgroup / "cgroup.procs").read_text())
    except OSError:
        return True  # it is being removed, or it is threaded: reading cgroup.procs fails then (cgroups(7))
