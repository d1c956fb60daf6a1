"""The OCI runtime: runc, driven through its command line.

Source: runc(8) and its sub-pages, and the OCI Runtime Specification 1.0.2, runtime.md
(the operations state, create, start, kill and delete). To create and to exec are the monitor's
affair (conmon.py): it must be the parent of what runc starts, to learn how it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import re
import signal
import time
from pathlib import Path
from typing import Any, cast

from pylab_container.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    ContainerNotFound,
    LabError,
    RuntimeFailed,
)
from pylab_container.events import Emit, ignore
from pylab_container.host import programs

# What runc says when it refuses. It has no other channel than text: its exit status is
# 1 or 255 for everything. Looked up in this order, in the text that follows `exec: "…":` …
_EXEC_FAILURES: tuple[tuple[str, type[LabError], str], ...] = (
    (
        "executable file not found in $PATH",
        CommandNotFound,
        "check the spelling, and that the image has the package with this program",
    ),
    ("no such file or directory", CommandNotFound, "look for it in the image: the path starts at the container's root"),
    ("permission denied", CommandNotExecutable, "it must be a regular file with the x bit: chmod +x in the image"),
    ("is a directory", CommandNotExecutable, "name the program inside the directory"),
    ("exec format error", CommandNotExecutable, "it is for another processor, or a script without a #! line"),
)
# … and these anywhere in the message.
_STATE_FAILURES: tuple[tuple[str, type[LabError], str], ...] = (
    ("container does not exist", ContainerNotFound, ""),
    ("container not running", Conflict, "start it first"),
    ("container that has stopped", Conflict, "start it first"),
    ("stopped container", Conflict, "start it first"),
    ("already running container", Conflict, ""),
    ("paused container", Conflict, "unpause it first"),
    ("paused state", Conflict, "unpause it first"),
    ("container not paused", Conflict, ""),
    ("that is not stopped", Conflict, "stop it first, or force its removal"),
)
_GAVE_UP_FREEZING = "unable to freeze"
CGROUP_PARENT = "labctr"
_PATIENCE = 10.0  # seconds that the kernel gets to end or to freeze processes
_EXEC_MESSAGE = re.compile(r'exec: "(?:[^"\\]|\\.)*": .*')


def runtime_error(text: str) -> LabError:
    """What runc said, as the error that it means. A text that is not in the tables is a RuntimeFailed."""
    message = text.strip().replace("\n", "; ") or "runc failed without saying why"
    command = _EXEC_MESSAGE.search(message)
    if command is not None:
        for words, kind, hint in _EXEC_FAILURES:
            if words in command[0]:
                return kind(command[0], hint=hint)
    for words, kind, hint in _STATE_FAILURES:
        if words in message:
            return kind(message, hint=hint)
    return RuntimeFailed(message)


class Runc:
    """Operations on containers that exist already.

        <state_root>/<id>/state.json      runc's own record of a container; a tmpfs is its place,
                                          since after a reboot nothing in it is true

    An operation on an unknown id raises ContainerNotFound, one that the container's state
    forbids raises Conflict, anything else that runc refuses RuntimeFailed.
    """

    def __init__(self, state_root: Path, *, emit: Emit = ignore) -> None:
        self.state_root = state_root.absolute()
        self._emit = emit

    def state(self, container_id: str) -> dict[str, Any] | None:
        """The container's state (runtime.md, "State": status, pid, bundle), or None if runc has no such container."""
        if not (self.state_root / container_id).is_dir():
            return None
        return cast(dict[str, Any], json.loads(self._run("state", container_id)))

    def start(self, container_id: str) -> None:
        """Let a created container's own process go."""
        self._run("start", container_id)

    def kill(self, container_id: str, signal_number: int, *, all: bool = False) -> None:
        """Send a signal to the container's first process, or to all its processes."""
        self._run("kill", *(["--all"] if all else []), container_id, str(signal_number))

    def delete(self, container_id: str, *, force: bool = False) -> None:
        """Forget a stopped container and remove its cgroup. With force: kill it first; an unknown id is no error."""
        self._run("delete", *(["--force"] if force else []), container_id)
        if force:
            _remove_cgroup(container_id)

    def pause(self, container_id: str) -> None:
        """Freeze all processes (the freezer cgroup).

        A process is frozen when it next runs. On a busy machine runc gives up before that, after a thousand looks at
        the cgroup, and thaws what is frozen already (libcontainer/cgroups/fs/freezer.go): then it is asked again.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._run("pause", container_id)
                return
            except RuntimeFailed as error:
                if _GAVE_UP_FREEZING not in error.message or time.monotonic() > deadline:
                    raise

    def resume(self, container_id: str) -> None:
        """Thaw all processes."""
        self._run("resume", container_id)

    def update(self, container_id: str, resources: dict[str, Any]) -> None:
        """Change the limits of the container's cgroup; `linux.resources` of config.json, the devices left out."""
        done = programs.run(
            self.command("update", "--resources", "-", container_id),
            input=json.dumps(resources).encode(),
            check=False,
            emit=self._emit,
        )
        if done.status != 0:
            raise runtime_error(done.errors)

    def processes(self, container_id: str) -> list[int]:
        """The pids of the container's processes, as the host numbers them."""
        return cast(list[int], json.loads(self._run("ps", "--format", "json", container_id)) or [])

    def statistics(self, container_id: str) -> dict[str, Any]:
        """The counters of the container's cgroup: cpu in nanoseconds, memory in bytes, pids (runc-events(8))."""
        return cast(dict[str, Any], json.loads(self._run("events", "--stats", container_id))["data"])

    def command(self, *arguments: str) -> list[str]:
        """The command line of one operation.

        Without a log file runc wraps what it says on stderr in its own log format; with one, be it
        /dev/null, stderr is the bare message.
        """
        return ["runc", "--root", str(self.state_root), "--log", "/dev/null", *arguments]

    def _run(self, *arguments: str) -> str:
        done = programs.run(self.command(*arguments), check=False, emit=self._emit)
        if done.status != 0:
            raise runtime_error(done.errors)
        return done.output


def cgroup_version() -> str:
    """ "2" where the unified hierarchy is the only one, else "1" (cgroups(7))."""
    return "2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1"


def cgroup_path(container_id: str, *, parent: str = "") -> str:
    """A container's cgroup, as a path in each hierarchy; parent: another one than all containers have."""
    return posixpath.normpath(f"/{parent or CGROUP_PARENT}/{container_id}")


def _remove_cgroup(container_id: str) -> None:
    """Remove the cgroup that a killed `runc create` left: runc itself does not know of it. What runs in it is ours.

    In every hierarchy of cgroup v1, and in the one of v2 (cgroups(7)). Other containers' cgroups come and go
    meanwhile: os.walk() passes by what has gone.
    """
    found = [Path(top, container_id) for top, names, _ in os.walk("/sys/fs/cgroup") if container_id in names]
    deadline = time.monotonic() + _PATIENCE
    for directory in found:
        while not _try_to_remove(directory) and time.monotonic() < deadline:
            time.sleep(0.001)


def _try_to_remove(cgroup: Path) -> bool:
    """Kill what runs in a cgroup, and remove it: False while something of that has not come to its end (EBUSY)."""
    try:
        for pid in map(int, (cgroup / "cgroup.procs").read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        cgroup.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
