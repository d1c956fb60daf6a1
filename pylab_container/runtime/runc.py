"""The OCI runtime: runc, driven through its command line.

The monitor (conmon.py) calls `runc create` and `runc exec`, because only the parent of a process learns its exit status
(wait(2)). This module has all other operations.

Sources: runc(8) and its sub-pages; OCI Runtime Specification 1.0.2, runtime.md (state, create, start, kill, delete).
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

# runc reports every failure with exit status 1 or 255, so only the message distinguishes the kinds. The messages are
# those of Go's os/exec and of runc (libcontainer/error.go). This table is searched in order, in the text that begins
# with `exec: "…":`, because other messages contain the same words about other files.
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
# This table is searched in the whole message, after the other one.
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
_CGROUP_ROOT = "/sys/fs/cgroup"
_KERNEL_TIMEOUT = 10.0  # seconds that the kernel gets to kill or to freeze processes
_REMOVE_POLL_INTERVAL = 0.001  # seconds between two attempts to remove a cgroup
_EXEC_MESSAGE = re.compile(r'exec: "(?:[^"\\]|\\.)*": .*')


def runtime_error(text: str) -> LabError:
    """Build the error for a message of runc's: RuntimeFailed for a message that is not in the tables."""
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
    """Operations on containers that have been created.

        <state_root>/<id>/state.json      runc's own record of a container. The directory must be on a tmpfs:
                                          a reboot ends all processes, and the records with them

    An operation raises ContainerNotFound for an unknown id, Conflict in a state that forbids it, and RuntimeFailed for
    every other refusal of runc's.
    """

    def __init__(self, state_root: Path, *, emit: Emit = ignore) -> None:
        self.state_root = state_root.absolute()
        self._emit = emit

    def state(self, container_id: str) -> dict[str, Any] | None:
        """The container's state (runtime.md, "State": status, pid, bundle), or None for an unknown id."""
        # Saves the 10 ms that runc needs to report the same, at each start of a container.
        if not (self.state_root / container_id).is_dir():
            return None
        return cast(dict[str, Any], json.loads(self._run("state", container_id)))

    def start(self, container_id: str) -> None:
        """Start the process of a created container: until now `runc init` waits in its place."""
        self._run("start", container_id)

    def kill(self, container_id: str, signal_number: int, *, all: bool = False) -> None:
        """Send a signal to the container's first process, or to all its processes."""
        self._run("kill", *(["--all"] if all else []), container_id, str(signal_number))

    def delete(self, container_id: str, *, force: bool = False) -> None:
        """Delete a stopped container's state and cgroup. With force, kill it first and ignore an unknown id."""
        self._run("delete", *(["--force"] if force else []), container_id)
        if force:
            # A `runc create` that was killed before it wrote state.json leaves a cgroup that runc does not know.
            _remove_cgroup(container_id)

    def pause(self, container_id: str) -> None:
        """Freeze all processes of the container (cgroups(7), freezer)."""
        # The kernel freezes a process when it is scheduled next. On a busy machine that may take longer than the
        # thousand polls after which runc gives up and thaws the cgroup (libcontainer/cgroups/fs/freezer.go). Then
        # nothing has changed, and another attempt is safe.
        deadline = time.monotonic() + _KERNEL_TIMEOUT
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
        """Change the limits of the container's cgroup. resources: `linux.resources` of config.json without devices."""
        # On stdin ("-"): a file would have to be removed after a crash.
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
        """Build the command line of one operation."""
        # Without --log runc writes log records to stderr ("time=… level=error msg=…"). With a log file, even /dev/null,
        # stderr holds the bare message, which runtime_error() parses.
        return ["runc", "--root", str(self.state_root), "--log", "/dev/null", *arguments]

    def _run(self, *arguments: str) -> str:
        done = programs.run(self.command(*arguments), check=False, emit=self._emit)
        if done.status != 0:
            raise runtime_error(done.errors)
        return done.output


def cgroup_version() -> str:
    """The cgroup version that runc uses: "2" if the unified hierarchy is the only one, else "1" (cgroups(7))."""
    # On a hybrid system the unified hierarchy is mounted elsewhere and has no controllers, so this file is missing.
    return "2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1"


def cgroup_path(container_id: str, *, parent: str = "") -> str:
    """A container's cgroup, as a path within each hierarchy. parent: another parent than the engine's ("" for that)."""
    return posixpath.normpath(f"/{parent or CGROUP_PARENT}/{container_id}")


def _remove_cgroup(container_id: str) -> None:
    """Remove a container's cgroup in each hierarchy of cgroup v1, or in the one of v2, and kill its processes."""
    # Other containers' cgroups appear and disappear during the walk. os.walk() skips a directory that it cannot list.
    cgroups = [Path(top, container_id) for top, names, _ in os.walk(_CGROUP_ROOT) if container_id in names]
    deadline = time.monotonic() + _KERNEL_TIMEOUT
    for cgroup in cgroups:
        while not _try_to_remove(cgroup) and time.monotonic() < deadline:
            time.sleep(_REMOVE_POLL_INTERVAL)


def _try_to_remove(cgroup: Path) -> bool:
    """Kill the processes of a cgroup and remove it. False while a process has not exited yet."""
    try:
        # A process may fork between the read and the kill; the caller's next attempt kills the child.
        for pid in map(int, (cgroup / "cgroup.procs").read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # EBUSY until the last process has exited: the kernel removes only empty cgroups (cgroups(7)).
        cgroup.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
