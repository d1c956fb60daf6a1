"""Leases: the layers, containers and volumes that running operations need.

    layerdb/tmp/lease-<random>     locked by the process that made it (its maker)

    maker <pid>
    layer sha256:…                 a layer that is being registered, or that an image is about to name
    container <id>                 a temporary container of a build
    writable <id>                  a container that is being created, and is to stay
    volume <name>                  an unnamed volume of such a container
    frozen <id>                    a container whose processes the maker has frozen
    not <line>                     takes an earlier line back

A new layer has no image yet, and a build's temporary container serves the build only. While the maker lives, all that
its lease claims is needed. When the maker dies, the kernel drops its lock, and the next process that looks for
abandoned leases deletes what nothing else needs. containerd has leases for the same purpose; dockerd counts references
in the memory of its single process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, overload

from pylab_container.errors import CorruptStore
from pylab_container.host import linux, reserve
from pylab_container.host.random_ids import random_hex
from pylab_container.oci.ids import ContainerId, Digest, EntryName, VolumeName
from pylab_container.store.reading import corrupt, read_bytes

Kind = Literal["layer", "container", "writable", "volume", "frozen"]
OfContainer = Literal["container", "writable", "frozen"]

_FORMS: dict[str, type[EntryName] | type[Digest]] = {
    "layer": Digest,
    "container": ContainerId,
    "writable": ContainerId,
    "volume": VolumeName,
    "frozen": ContainerId,
}
"""First word of a line → the type of the id that follows."""

_ALLOCATED_SIZE = 16 << 10  # bytes; a line has about 80, and an image at most 127 layers
_FORK_TO_EXEC_TIMEOUT = 10.0  # seconds, on a very busy machine
_LOCK_RETRY_INTERVAL = 0.005  # seconds


class Lease:
    """The claims of one process, in force as long as the file is open and locked."""

    def __init__(self, path: Path, fd: int) -> None:
        """fd is the open file, locked by the caller."""
        self.path = path
        self._fd = fd

    def claim(self, kind: Kind, name: str) -> None:
        """Append a claim, in force when this returns. Raises OSError on a full disk."""
        self._write(f"{kind} {_FORMS[kind](name)}\n")

    def waive(self, kind: Kind, name: str) -> None:
        """Take a claim back, for example because a record names the object from now on."""
        self._write(f"not {kind} {name}\n")

    def _write(self, line: str) -> None:
        """Append a line completely or not at all; half a line would merge with the next one."""
        size, data = os.fstat(self._fd).st_size, line.encode()
        # Not flushed to disk: after a power failure no maker lives, and every lease is abandoned. A reader that sees a
        # part of the line ignores it (_lines()).
        if os.write(self._fd, data) < len(data):
            os.ftruncate(self._fd, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    @overload
    def claimed(self, kind: OfContainer) -> list[ContainerId]: ...

    @overload
    def claimed(self, kind: Literal["layer"]) -> list[Digest]: ...

    @overload
    def claimed(self, kind: Literal["volume"]) -> list[VolumeName]: ...

    def claimed(self, kind: Kind) -> list[ContainerId] | list[Digest] | list[VolumeName]:
        """Return the ids that this lease claims, in order. A damaged line claims nothing."""
        form = _FORMS[kind]
        return [form(name) for word, name in _claims(self.path) if word == kind]  # type: ignore[return-value]

    def check(self) -> None:
        """Raise CorruptStore if a line is damaged, so that it is unknown what the lease claims."""
        for line in _lines(self.path):
            word, _, name = line.removeprefix("not ").partition(" ")
            if word == "maker" and name.isdigit():
                continue
            if word not in _FORMS or _FORMS[word].match(name) is None:
                raise corrupt(self.path, f"{line[:80]!r} is not a claim")

    def set_aside(self) -> Path:
        """End a damaged lease; keep its file under another name, and return that path."""
        # Under a name that _paths() does not list, and on the same file system, so that rename(2) needs no space.
        damaged = self.path.with_name(f"damaged-{self.path.name}")
        self.path.rename(damaged)
        self.leave()
        return damaged

    def end(self) -> None:
        """Give up all claims and delete the file."""
        # The file before the lock: an unlocked file is that of a dead maker, and another process would delete what it
        # claims.
        self.path.unlink(missing_ok=True)
        self.leave()
        reserve.refill(self.path)

    def leave(self) -> None:
        """Release the lock but keep the file, so that the next process clears what it claims."""
        os.close(self._fd)


class Leases:
    """All leases in one directory, which belongs to the caller."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> Lease:
        """Create a lease.

        On a read-only file system, where no process can delete anything, only this process sees it.

        Raises OSError.
        """
        directory = self._directory
        if not os.access(directory, os.W_OK):
            import tempfile  # late: its import takes 10 ms, and only a read-only data root needs it

            directory = Path(tempfile.gettempdir())
        while True:
            path = directory / f"lease-{random_hex(8)}"
            maker = f"maker {os.getpid()}\n".encode()
            try:
                fd = self._create(path, maker)
            except OSError as error:
                if not (reserve.is_full(error) and reserve.replace(path, maker, mode=0o600)):
                    raise
                try:
                    fd = _open(path)
                except FileNotFoundError:  # cleared as abandoned, see below
                    continue
                with contextlib.suppress(OSError):  # the reserve gave the file one block, enough for 50 lines
                    _allocate(fd)
            # Race: until flock(2) returns, the file looks like that of a dead maker and may be cleared. Then this
            # process has locked a deleted file, which no other process would see, and it tries again.
            fcntl.flock(fd, fcntl.LOCK_EX)
            if path.exists():
                return Lease(path, fd)
            os.close(fd)

    @staticmethod
    def _create(path: Path, maker: bytes) -> int:
        fd = _open(path, os.O_CREAT | os.O_EXCL)
        try:
            os.write(fd, maker)
            _allocate(fd)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(fd)
            raise
        return fd

    def abandoned(self) -> Iterator[Lease]:
        """Yield the leases of dead makers, each locked by this process until end() or leave()."""
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):
                fd = _open(path)
                if _try_lock(fd, path):
                    yield Lease(path, fd)
                else:
                    os.close(fd)

    def claimed(self, kind: Kind, *, without: Lease | None = None) -> set[str]:
        """Return the ids that any lease claims, except the lease `without`; dead makers count."""
        paths = (path for path in self._paths() if without is None or path != without.path)
        return {name for path in paths for word, name in _claims(path) if word == kind}

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._directory.glob("lease-*") if path.is_file() and not path.is_symlink())


def _open(path: Path, flags: int = 0) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)


def _allocate(fd: int) -> None:
    """Allocate the blocks that a lease may need, so that claims succeed on a full disk.

    Raises OSError if the disk has no room.
    """
    try:
        linux.allocate(fd, _ALLOCATED_SIZE)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):  # the file system cannot allocate in advance
            raise


def _try_lock(fd: int, path: Path) -> bool:
    """Lock a lease if its maker is dead; return whether it is locked.

    A flock(2) belongs to the open file, which fork(2) shares. If the maker is killed between fork(2) and exec(2) of a
    child, the child holds the lock until O_CLOEXEC closes the file, some milliseconds later. So a lock of a dead maker
    is waited for.
    """
    deadline = time.monotonic() + _FORK_TO_EXEC_TIMEOUT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            makers = [line.removeprefix("maker ") for line in _lines(path) if line.startswith("maker ")]
            alive = not makers or not makers[0].isdigit() or Path("/proc", makers[0]).exists()
            if alive or time.monotonic() > deadline:
                return False
            time.sleep(_LOCK_RETRY_INTERVAL)
        else:
            return True


def _claims(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (first word, id) of each claim that no "not" line takes back."""
    lines = _lines(path)
    waived = {line.removeprefix("not ") for line in lines if line.startswith("not ")}
    for line in lines:
        word, _, name = line.partition(" ")
        if line not in waived and word in _FORMS and _FORMS[word].match(name) is not None:
            yield word, name


def _lines(path: Path) -> list[str]:
    """Return the complete lines of a lease. An incomplete last line claims nothing."""
    try:
        text = read_bytes(path).decode(errors="replace")
    except (FileNotFoundError, CorruptStore):
        return []  # the lease ended after the listing, or its file was replaced by a directory
    return text.split("\n")[:-1]
