"""Leases: what is in the making, so that a crash leaves nothing that belongs to nobody.

    layerdb/tmp/lease-<random>     locked by its maker; "maker <pid>", and one line a thing that it
                                   makes: "layer sha256:…", "container <id>", or for a container that is
                                   to stay "writable <id>" and "volume <name>" for each unnamed volume;
                                   "frozen <id>" for a container whose processes its maker has frozen;
                                   "not <line>" takes an earlier line back

A new layer is nobody's until an image names it, and a build's temporary container only serves
the build. While the maker lives, what its lease names is needed. When it dies, however it
dies, the kernel drops the lock, and whoever comes next clears what nobody else needs by then.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Kind = Literal["layer", "container", "writable", "volume", "frozen"]

_LONGEST_EXEC = 10.0  # seconds, on a machine that is very busy


class Lease:
    """One maker's claims, as long as the file is open."""

    def __init__(self, path: Path, fd: int) -> None:
        """fd is the open file, locked by the caller."""
        self.path = path
        self._fd = fd

    def claim(self, kind: Kind, name: str) -> None:
        """Write a claim down; it counts from now on for every process."""
        os.write(self._fd, f"{kind} {name}\n".encode())

    def waive(self, kind: Kind, name: str) -> None:
        """Take a claim back: what was made is somebody else's now."""
        os.write(self._fd, f"not {kind} {name}\n".encode())

    def claimed(self, kind: Kind) -> list[str]:
        """What this lease claims, in the order of the claims."""
        return _claimed(self.path, kind)

    def end(self) -> None:
        """Give all claims up."""
        self.path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Let go of the lease, but leave its claims for the next one to clear."""
        os.close(self._fd)


class Leases:
    """All leases in one directory, which is the caller's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> Lease:
        """A new lease."""
        while True:
            path = self._directory / f"lease-{secrets.token_hex(8)}"
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            # Before the lock is there, the file looks like a dead maker's and may be taken away.
            fcntl.flock(fd, fcntl.LOCK_EX)
            if path.exists():
                os.write(fd, f"maker {os.getpid()}\n".encode())
                return Lease(path, fd)
            os.close(fd)

    def abandoned(self) -> Iterator[Lease]:
        """The leases of makers that are dead, each locked until end() or leave()."""
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
                if _lock(fd, path):
                    yield Lease(path, fd)
                else:
                    os.close(fd)

    def claimed(self, kind: Kind, *, without: Lease | None = None) -> set[str]:
        """What any lease claims, those of dead makers included; `without` does not count."""
        paths = (path for path in self._paths() if without is None or path != without.path)
        return {name for path in paths for name in _claimed(path, kind)}

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob("lease-*"))


def _lock(fd: int, path: Path) -> bool:
    """Lock a lease unless its maker lives.

    A program that the maker was just about to start has the lock, too, until its exec(2):
    that it ends is a matter of milliseconds.
    """
    deadline = time.monotonic() + _LONGEST_EXEC
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            makers = _claimed(path, "maker")
            if not makers or Path("/proc", makers[0]).exists() or time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        else:
            return True


def _claimed(path: Path, kind: str) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []  # it ended meanwhile
    waived = {line.removeprefix("not ") for line in lines if line.startswith("not ")}
    claims = (line.partition(" ") for line in lines if line not in waived)
    return [name for word, _, name in claims if word == kind]
