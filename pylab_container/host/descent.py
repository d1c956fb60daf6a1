"""Walk a directory tree of any depth by descriptors.

A path has a limit (PATH_MAX, 4096 bytes) and a tree has none: a process makes one deeper with mkdirat(2). A path also
means another file as soon as a process renames a directory above it, or unmounts the file system. A descriptor is a
reference: the kernel keeps the mount behind it until it is closed (umount2(2), MNT_DETACH).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from types import TracebackType

from msgspec import Struct

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_LEVELS = 32
"""Directories above the current one that stay open; real trees are less deep."""


class Entry:
    """A file of any kind, held by a descriptor (O_PATH): every answer is about the same file.

    Opening it so follows no link, waits for no FIFO's writer and wakes no device. Use as a context manager.

    fd         becomes the entry's, which closes it
    name       in its directory
    directory  a descriptor of that, valid while a Descent stays there; -1: unknown
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
        """A path that leads to this very file, and through no link of its own (proc(5), /proc/PID/fd)."""
        return f"/proc/self/fd/{self.fd}"

    def link(self) -> str:
        """The target of a symbolic link."""
        return os.readlink("", dir_fd=self.fd)

    def open(self) -> int:
        """A descriptor to read a regular file from."""
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Entry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)


class _Level(Struct):
    """A directory on the way down. fd is -1 while it is closed."""

    fd: int
    identity: tuple[int, int]


class Descent:
    """A position in a tree, which moves one directory down or up. Use as a context manager.

    open_levels  directories above the position that stay open. Above those, leave() goes through ".." and checks
                 that it comes to the directory that it came from.
    """

    def __init__(self, top: int, *, open_levels: int = _OPEN_LEVELS) -> None:
        """top: a descriptor of the directory to begin in, which stays the caller's."""
        self._open_levels = open_levels
        self._levels: list[_Level] = []
        self._add(top)

    @property
    def fd(self) -> int:
        """A descriptor of the current directory, valid until the next move."""
        return self._levels[-1].fd

    def names(self) -> list[str]:
        """The names in the current directory, the last one first; none if the directory was removed."""
        try:
            return sorted(os.listdir(self.fd), key=os.fsencode, reverse=True)
        except FileNotFoundError:  # a removed directory lists nothing, or says so
            return []

    def entry(self, name: str) -> Entry:
        """A name in the current directory. Raises FileNotFoundError."""
        return Entry(os.open(name, _ENTRY, dir_fd=self.fd), name, self.fd)

    def enter(self, directory: Entry) -> None:
        """Move down into a directory."""
        self._add(directory.fd)
        farthest = len(self._levels) - 2 - self._open_levels
        if farthest > 0 and (level := self._levels[farthest]).fd >= 0:
            os.close(level.fd)
            level.fd = -1

    def try_to_enter(self, directory: Entry) -> bool:
        """Move down, unless the directory was removed; returns whether the position is in it."""
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
                parent = os.open("..", _DIRECTORY, dir_fd=left.fd)
                if _identity(parent) != above.identity:
                    os.close(parent)
                    raise OSError(errno.ESTALE, "a directory was moved while the tree was read")
                above.fd = parent
        finally:
            os.close(left.fd)

    def close(self) -> None:
        for level in self._levels:
            if level.fd >= 0:
                os.close(level.fd)
        self._levels.clear()

    def _add(self, directory: int) -> None:
        fd = os.open(".", _DIRECTORY, dir_fd=directory)
        self._levels.append(_Level(fd, _identity(fd)))

    def __enter__(self) -> Descent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def walk(top: int, inside: str = "") -> Iterator[tuple[str, Entry]]:
    """Everything below a directory with its path, each directory before its content, names sorted by their bytes.

    top     a descriptor of the directory
    inside  the beginning of every path

    No link is followed. An entry is open until the next one is asked for. What vanishes before its turn is left out.
    Raises OSError.
    """
    with Descent(top) as place:
        waiting, lengths = [place.names()], [len(inside)]
        while waiting:
            if not waiting[-1]:
                waiting.pop()
                lengths.pop()
                if waiting:
                    place.leave()
                    inside = inside[: lengths[-1]]
                continue
            try:
                entry = place.entry(waiting[-1].pop())
            except FileNotFoundError:
                continue
            with entry:
                path = inside + entry.name
                yield path, entry
                if entry.is_directory and place.try_to_enter(entry):
                    inside = path + "/"
                    waiting.append(place.names())
                    lengths.append(len(inside))


def opened(path: str | os.PathLike[str]) -> int:
    """A descriptor of a directory, to walk from. Raises OSError."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
