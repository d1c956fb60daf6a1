"""Walk a directory tree of any depth by descriptors.

Paths do not suffice. They are limited to 4096 bytes (PATH_MAX), while mkdirat(2) makes a tree of any depth. And a path
leads to another file as soon as a process renames a directory above it or unmounts the file system. A descriptor is a
reference: it stays on its file, and the kernel keeps the mount until it is closed (umount2(2), MNT_DETACH).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from types import TracebackType

from msgspec import Struct

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTRY_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_LEVELS = 32  # directories above the current one that stay open; few real trees are deeper


class Entry:
    """A file of any kind, held by a descriptor (O_PATH): all its properties are those of one file.

    fd         the descriptor; the entry owns it
    name       its name in its directory
    directory  a descriptor of that directory, valid until the Descent moves; -1: unknown

    Opening with O_PATH follows no link, does not block on a FIFO and does not activate a device (open(2)). Use as a
    context manager.
    """

    __slots__ = ("directory", "fd", "is_directory", "name", "status")

    def __init__(self, fd: int, name: str = "", directory: int = -1) -> None:
        self.fd = fd
        self.name = name
        self.directory = directory
        self.status = os.fstat(fd)
        self.is_directory = stat.S_ISDIR(self.status.st_mode)

    @property
    def path(self) -> str:
        """A path to this very file, even if it is a symbolic link or was renamed (proc(5))."""
        return f"/proc/self/fd/{self.fd}"

    def link(self) -> str:
        """Return the target of a symbolic link."""
        return os.readlink("", dir_fd=self.fd)  # an empty path: the link behind the descriptor (readlink(2))

    def open(self) -> int:
        """Return a descriptor for reading a regular file; the caller closes it."""
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Entry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)


class _Level(Struct):
    """A directory between the top and the position. fd is -1 while it is closed."""

    fd: int
    identity: tuple[int, int]


class Descent:
    """A position in a tree that moves down or up by one directory. Use as a context manager."""

    def __init__(self, top: int, *, open_levels: int = _OPEN_LEVELS) -> None:
        """Start in a directory.

        top          its descriptor, which stays the caller's
        open_levels  directories above the position that stay open; leave() reopens the others with ".."
        """
        self._open_levels = open_levels
        self._levels: list[_Level] = []
        self._add(top)

    @property
    def fd(self) -> int:
        """Descriptor of the current directory, valid until the next move."""
        return self._levels[-1].fd

    def names(self) -> list[str]:
        """Return the names in the current directory in descending order; [] if the directory was removed."""
        try:
            # By bytes, not by locale, so that equal trees give equal tars. Descending, because callers pop() the last.
            return sorted(os.listdir(self.fd), key=os.fsencode, reverse=True)
        except FileNotFoundError:  # file systems differ: a removed directory is empty, or getdents(2) fails
            return []

    def entry(self, name: str) -> Entry:
        """Open a name in the current directory. Raises FileNotFoundError."""
        return Entry(os.open(name, _ENTRY_FLAGS, dir_fd=self.fd), name, self.fd)

    def enter(self, directory: Entry) -> None:
        """Move down into a directory."""
        self._add(directory.fd)
        # A hostile tree is deeper than the limit of open descriptors (RLIMIT_NOFILE, 1024 by default).
        farthest = len(self._levels) - 2 - self._open_levels
        if farthest > 0 and (level := self._levels[farthest]).fd >= 0:
            os.close(level.fd)
            level.fd = -1

    def try_to_enter(self, directory: Entry) -> bool:
        """Move down into a directory; return False if it was removed."""
        try:
            self.enter(directory)
        except FileNotFoundError:
            return False
        return True

    def leave(self) -> None:
        """Move up. Raises OSError (ESTALE) if another process has moved the directory elsewhere."""
        left, above = self._levels.pop(), self._levels[-1]
        try:
            if above.fd < 0:
                # If another process has moved the directory, ".." is outside the tree. A removal that continued there
                # would delete foreign files, so the parent must be the directory that was left.
                parent = os.open("..", _DIRECTORY_FLAGS, dir_fd=left.fd)
                if _identity(parent) != above.identity:
                    os.close(parent)
                    raise OSError(errno.ESTALE, "a directory was moved while the tree was read")
                above.fd = parent
        finally:
            os.close(left.fd)

    def close(self) -> None:
        """Close all descriptors. Idempotent."""
        for level in self._levels:
            if level.fd >= 0:
                os.close(level.fd)
        self._levels.clear()

    def _add(self, directory: int) -> None:
        # "." turns the O_PATH descriptor of an Entry into one that listdir() can read, on the same directory.
        fd = os.open(".", _DIRECTORY_FLAGS, dir_fd=directory)
        self._levels.append(_Level(fd, _identity(fd)))

    def __enter__(self) -> Descent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def walk(top: int, inside: str = "") -> Iterator[tuple[str, Entry]]:
    """Yield (path, entry) for everything below a directory, parents first, sorted by bytes.

    top     a descriptor of the directory
    inside  prefix of every path

    Symbolic links are not followed. An entry is closed when the next one is requested. An entry that is removed
    concurrently is left out. Raises OSError.
    """
    with Descent(top) as position:
        # A stack in a list instead of recursion, and one path that grows and shrinks instead of one for each level: a
        # hostile tree is deeper than Python's stack, and its paths together would need memory quadratic in its depth.
        pending, lengths = [position.names()], [len(inside)]
        while pending:
            if not pending[-1]:
                pending.pop()
                lengths.pop()
                if pending:
                    position.leave()
                    inside = inside[: lengths[-1]]
                continue
            try:
                entry = position.entry(pending[-1].pop())
            except FileNotFoundError:  # removed after names()
                continue
            with entry:
                path = inside + entry.name
                # The caller may change or delete the entry now; try_to_enter() below then finds an empty directory.
                yield path, entry
                if entry.is_directory and position.try_to_enter(entry):
                    inside = path + "/"
                    pending.append(position.names())
                    lengths.append(len(inside))


def opened(path: str | os.PathLike[str]) -> int:
    """Return a descriptor of a directory, for Descent and walk(); the caller closes it. Raises OSError."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
