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
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, overload

from pylab_container.errors import CorruptStore
from pylab_container.host import linux, reserve
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
"""What follows the first word of a line."""

_LARGEST = 16 << 10  # bytes; a claim has 80, and an image at most 127 layers
_LONGEST_EXEC = 10.0  # seconds, on a machine that is very busy


class Lease:
    """One maker's claims, as long as the file is open."""

    def __init__(self, path: Path, fd: int) -> None:
        """fd is the open file, locked by the caller."""
        self.path = path
        self._fd = fd

    def claim(self, kind: Kind, name: str) -> None:
        """Write a claim down; it counts from now on for every process."""
        self._write(f"{kind} {_FORMS[kind](name)}\n")

    def waive(self, kind: Kind, name: str) -> None:
        """Take a claim back: what was made is somebody else's now."""
        self._write(f"not {kind} {name}\n")

    def _write(self, line: str) -> None:
        """Append a line, or nothing: on a full disk part of one would join the next."""
        size, data = os.fstat(self._fd).st_size, line.encode()
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
        """What this lease claims, in the order of the claims. A line that is damaged claims nothing."""
        form = _FORMS[kind]
        return [form(name) for word, name in _claims(self.path) if word == kind]  # type: ignore[return-value]

    def check(self) -> None:
        """Raise CorruptStore if a line of the lease is not a claim, so that what it claims is unknown."""
        for line in _lines(self.path):
            word, _, name = line.removeprefix("not ").partition(" ")
            if word == "maker" and name.isdigit():
                continue
            if word not in _FORMS or _FORMS[word].match(name) is None:
                raise corrupt(self.path, f"{line[:80]!r} is not a claim")

    def set_aside(self) -> Path:
        """End a damaged lease; the file is kept under the name that is returned, for a person to read."""
        kept = self.path.with_name(f"damaged-{self.path.name}")
        self.path.rename(kept)
        self.leave()
        return kept

    def end(self) -> None:
        """Give all claims up."""
        self.path.unlink(missing_ok=True)
        self.leave()
        reserve.refill(self.path)

    def leave(self) -> None:
        """Let go of the lease, but leave its claims for the next one to clear."""
        os.close(self._fd)


class Leases:
    """All leases in one directory, which is the caller's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> Lease:
        """A new lease. On a read-only file system, where nothing can be removed, it is known to this process alone."""
        directory = self._directory
        if not os.access(directory, os.W_OK):
            import tempfile  # late, as every command would pay its 10 ms

            directory = Path(tempfile.gettempdir())
        while True:
            path = directory / f"lease-{secrets.token_hex(8)}"
            maker = f"maker {os.getpid()}\n".encode()
            try:
                fd = self._create(path, maker)
            except OSError as error:
                if not (reserve.is_full(error) and reserve.replace(path, maker, mode=0o600)):
                    raise
                try:
                    fd = _open(path)
                except FileNotFoundError:  # taken away, see below
                    continue
                with contextlib.suppress(OSError):  # it has a block at least
                    _keep_blocks(fd)
            # Before the lock is there, the file looks like a dead maker's and may be taken away.
            fcntl.flock(fd, fcntl.LOCK_EX)
            if path.exists():
                return Lease(path, fd)
            os.close(fd)

    @staticmethod
    def _create(path: Path, maker: bytes) -> int:
        fd = _open(path, os.O_CREAT | os.O_EXCL)
        try:
            os.write(fd, maker)
            _keep_blocks(fd)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(fd)
            raise
        return fd

    def abandoned(self) -> Iterator[Lease]:
        """The leases of makers that are dead, each locked until end() or leave()."""
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):
                fd = _open(path)
                if _lock(fd, path):
                    yield Lease(path, fd)
                else:
                    os.close(fd)

    def claimed(self, kind: Kind, *, without: Lease | None = None) -> set[str]:
        """What any lease claims, those of dead makers included; `without` does not count."""
        paths = (path for path in self._paths() if without is None or path != without.path)
        return {name for path in paths for word, name in _claims(path) if word == kind}

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._directory.glob("lease-*") if path.is_file() and not path.is_symlink())


def _open(path: Path, flags: int = 0) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)


def _keep_blocks(fd: int) -> None:
    """Allocate what a lease may come to need: on a disk that fills up, a removal must be able to claim what it removes.

    Raises OSError if there is no room.
    """
    try:
        linux.allocate(fd, _LARGEST)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise


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
            makers = [line.removeprefix("maker ") for line in _lines(path) if line.startswith("maker ")]
            alive = not makers or not makers[0].isdigit() or Path("/proc", makers[0]).exists()
            if alive or time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        else:
            return True


def _claims(path: Path) -> Iterator[tuple[str, str]]:
    """(first word, id) of each line that is a claim, and that no later one takes back."""
    lines = _lines(path)
    waived = {line.removeprefix("not ") for line in lines if line.startswith("not ")}
    for line in lines:
        word, _, name = line.partition(" ")
        if line not in waived and word in _FORMS and _FORMS[word].match(name) is not None:
            yield word, name


def _lines(path: Path) -> list[str]:
    """The whole lines of a lease; of one that was cut off while it was written, nothing was made yet."""
    try:
        text = read_bytes(path).decode(errors="replace")
    except (FileNotFoundError, CorruptStore):
        return []  # it has ended since the listing, or is not a file
    return text.split("\n")[:-1]
