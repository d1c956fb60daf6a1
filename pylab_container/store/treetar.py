"""A directory as the members of a tar: the other MemberSource, beside layertar's TarReader."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from pylab_container.errors import RuntimeFailed
from pylab_container.formats import tar
from pylab_container.host import linux
from pylab_container.store.whiteouts import OPAQUE, WHITEOUT, is_bookkeeping, is_opaque, is_whiteout

_CHUNK = 1 << 20
_FROZEN = "commit with the container paused"


class TreeReader:
    """The members of a directory in sorted order. Of an overlay upper directory: a layer's tar in the making.

    Equal trees give equal bytes: names sorted, owners as numbers, whole seconds (as
    `docker commit`), no access times.

    name           what the directory (or file) itself is called in the tar; "": only its content is in it
    users, groups  names of owners by number, for a tar that people look at
    whiteouts      False: what looks like a whiteout is a file like any other, as in a container's whole tree
    first_ids      the owner and group that are told as 0, and so on from there
    newest         may be set before reading: later times are told as this one, nanoseconds since the epoch
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "",
        users: Mapping[int, str] | None = None,
        groups: Mapping[int, str] | None = None,
        whiteouts: bool = True,
        first_ids: tuple[int, int] = (0, 0),
    ) -> None:
        self.raw = b""
        self.newest: int | None = None
        self._name = name
        self._users = users or {}
        self._groups = groups or {}
        self._whiteouts = whiteouts
        self._first_ids = first_ids
        self._directory = os.fsencode(directory)
        self._path = b""
        self._left = 0
        self._padding = 0
        self._linked: dict[tuple[int, int], str] = {}

    def __iter__(self) -> Iterator[tar.Header]:
        self._root = os.open(self._directory, os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if self._name else 0))
        try:
            yield from self._read()
        finally:
            os.close(self._root)

    def _read(self) -> Iterator[tar.Header]:
        for header, path in self._members():
            header.user, header.group = self._users.get(header.uid, ""), self._groups.get(header.gid, "")
            if self.newest is not None:
                header.mtime = min(header.mtime, self.newest)
            self._announce(header, path)
            yield header
        self.raw = bytes(self._padding)

    def content(self) -> Iterator[bytes]:
        if not self._left:
            return
        name = os.fsdecode(self._path)
        try:
            fd = self._open(self._path, os.O_RDONLY)
        except OSError as error:
            raise RuntimeFailed(f'"{name}" changed while it was read: {error.strerror}', hint=_FROZEN) from error
        with open(fd, "rb", buffering=0) as file:
            while self._left:
                chunk = file.read(min(self._left, _CHUNK))
                if not chunk:
                    raise RuntimeFailed(f'"{name}" shrank while it was read', hint=_FROZEN)
                self._left -= len(chunk)
                yield chunk

    def trailer(self) -> Iterator[bytes]:
        yield self.raw + tar.END

    def _announce(self, header: tar.Header, path: bytes) -> None:
        self._path = path
        self.raw = bytes(self._padding) + tar.build_header(header)
        self._left = header.size
        self._padding = tar.padding(header.size)

    def _open(self, path: bytes, flags: int) -> int:
        """Open what is below the directory, through no symbolic link.

        A container that is not frozen may put one in the place of what was listed a moment ago: it
        would lead to files of the host.
        """
        if path == self._directory:
            return os.open(f"/proc/self/fd/{self._root}", flags | os.O_CLOEXEC)
        below = path[len(self._directory) :].lstrip(b"/")
        return linux.openat2(self._root, below, flags, resolve=linux.RESOLVE_NO_SYMLINKS)

    def _members(self) -> Iterator[tuple[tar.Header, bytes]]:
        if not self._name:
            yield from self._walk(self._directory, "")
            return
        header = self._header(self._name, self._directory, os.lstat(self._directory))
        if header is not None:
            inside = header.name  # who reads may rename what he gets
            yield header, self._directory
            if header.kind == tar.DIRECTORY:
                yield from self._walk(self._directory, inside)

    def _walk(self, directory: bytes, inside: str) -> Iterator[tuple[tar.Header, bytes]]:
        # A stack of our own: trees may be deeper than Python's.
        waiting = self._entries(directory, inside)
        while waiting:
            name, path, status = waiting.pop()
            try:
                header = self._header(name, path, status)
            except FileNotFoundError:
                continue  # it went meanwhile
            if header is None:
                continue
            yield header, path
            if header.kind == tar.DIRECTORY:
                if self._whiteouts and is_opaque(path):
                    yield tar.Header(f"{name}/{OPAQUE}", mode=0o600), path
                waiting += self._entries(path, name + "/")

    def _entries(self, directory: bytes, inside: str) -> list[tuple[str, bytes, os.stat_result]]:
        """What is in a directory, the last name first: name in the tar, path, status. Nothing, if it went meanwhile."""
        try:
            fd = self._open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            if error.errno == errno.ELOOP:
                return []
            raise
        found = []
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        path = b"%b/%b" % (directory, os.fsencode(entry.name))
                        found.append((inside + entry.name, path, entry.stat(follow_symlinks=False)))
        finally:
            os.close(fd)
        return sorted(found, key=lambda one: one[1], reverse=True)

    def _header(self, name: str, path: bytes, status: os.stat_result) -> tar.Header | None:
        header = tar.Header(
            name=name,
            mode=stat.S_IMODE(status.st_mode),
            uid=_told(status.st_uid, self._first_ids[0]),
            gid=_told(status.st_gid, self._first_ids[1]),
            mtime=status.st_mtime_ns // 10**9 * 10**9,
        )
        if self._whiteouts and is_whiteout(path, status):
            directory, slash, base = name.rpartition("/")
            header.name, header.mode = f"{directory}{slash}{WHITEOUT}{base}", 0o600
            return header
        if stat.S_ISREG(status.st_mode):
            self._file(header, path, status)
        elif stat.S_ISDIR(status.st_mode):
            header.kind, header.name = tar.DIRECTORY, "/" if name == "/" else name + "/"
        elif stat.S_ISLNK(status.st_mode):
            header.kind, header.link = tar.SYMLINK, os.fsdecode(os.readlink(path))
        elif stat.S_ISFIFO(status.st_mode):
            header.kind = tar.FIFO
        elif stat.S_ISSOCK(status.st_mode):
            return None  # a socket without its process is nothing; tar has no kind for it
        else:
            header.kind = tar.CHARACTER if stat.S_ISCHR(status.st_mode) else tar.BLOCK_DEVICE
            header.major, header.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if header.kind != tar.LINK:
            header.xattrs = xattrs(path)
        return header

    def _file(self, header: tar.Header, path: bytes, status: os.stat_result) -> None:
        header.size = status.st_size
        if status.st_nlink > 1:
            first = self._linked.setdefault((status.st_dev, status.st_ino), header.name)
            if first != header.name:
                header.kind, header.link, header.size = tar.LINK, first, 0


def limit_times(directory: Path, newest: int) -> None:
    """Give what was changed after newest (nanoseconds since the epoch) in a tree that time instead."""
    for parent, directories, files in os.walk(os.fsencode(directory), topdown=False):
        for name in directories + files:
            path = os.path.join(parent, name)
            if os.lstat(path).st_mtime_ns > newest:
                os.utime(path, ns=(newest, newest), follow_symlinks=False)


def _told(number: int, first: int) -> int:
    return number - first if number >= first else number  # what has no mapping is nobody: 65534


def xattrs(path: bytes) -> dict[str, bytes]:
    """The extended attributes that layers keep: file capabilities and user.*, without overlayfs's own."""
    names = os.listxattr(path, follow_symlinks=False)
    kept = (name for name in names if name == "security.capability" or name.startswith("user."))
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(kept) if not is_bookkeeping(name)}
