"""Processes of the host by pid: what /proc says of them (proc(5)), and pidfds that hold them (pidfd_open(2)).

A process may exit between any two reads, so these functions return an empty result for one that has exited.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator, Sequence
from pathlib import Path


def command_line(pid: int) -> list[bytes]:
    """The arguments of a process; empty for a zombie, a kernel thread or an unknown pid."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def command_lines() -> Iterator[list[bytes]]:
    """The command lines of all processes that have one."""
    for process in Path("/proc").glob("[0-9]*"):
        # It may have exited since the listing; with hidepid (proc(5)) a process of another user cannot be read at all.
        with contextlib.suppress(OSError):
            if command := (process / "cmdline").read_bytes():
                yield command.split(b"\0")[:-1]


def children(pid: int) -> list[int]:
    """The pids of a process's children."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def parent(pid: int) -> int:
    """The parent of a process, 0 for an unknown pid."""
    fields = _stat_fields(pid)
    return int(fields[1]) if fields else 0


def state(pid: int) -> str:
    """The state of a process as one letter: R running, S sleeping, Z zombie …; "" for an unknown pid."""
    return next(iter(_stat_fields(pid)), "")


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on: state, parent, …"""
    try:
        # The second field is the program's name in parentheses. A process chooses its name (prctl(2), PR_SET_NAME),
        # and blanks and parentheses are allowed in it, so only the last parenthesis ends the field.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


@contextlib.contextmanager
def pidfd(pid: int) -> Iterator[int]:
    """Hold a process by a file descriptor, so that its pid is not reused while the block runs.

    The descriptor becomes readable when the process exits. Raises ProcessLookupError for an unknown pid.
    """
    if pid <= 0:
        raise ProcessLookupError
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def any_readable(fds: Sequence[int], timeout: float | None) -> bool:
    """Whether one of the descriptors becomes readable within timeout seconds; None waits without a limit."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(0, timeout) * 1000))
