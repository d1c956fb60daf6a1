"""A directory as the members of a tar: the other MemberSource, beside layertar's TarReader."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from pylab_container.errors import RuntimeFailed
from pylab_container.formats import tar
from pylab_container.store.whiteouts import OPAQUE, WHITEOUT, is_bookkeeping, is_opaque, is_whiteout

_CHUNK = 1 << 20


class TreeReader:
    """The members of a directory in sorted order. Of an overlay upper directory: a layer's tar in the making.

    Equal trees give equal bytes: names sorted, owners as numbers, whole seconds (as
    `docker commit`), no access times.

    name           what the directory (or file) itself is called in the tar; "": only its content is in it
    users, groups  names of owners by number, for a tar that people look at
    whiteouts      False: what looks like a whiteout is a file like any other, as in a container's whole tree
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
    ) -> None:
        self.raw = b""
        self.newest: int | None = None
        self._name = name
        self._users = users or {}
        self._groups = groups or {}
        self._whiteouts = whiteouts
        self._directory = os.fsencode(directory)
        self._path = b""
        self._left = 0
        self._padding = 0
        self._linked: dict[tuple[int, int], str] = {}

    def __iter__(self) -> Iterator[tar.Header]:
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
        with open(self._path, "rb", buffering=0) as file:
            while self._left:
                chunk = file.read(min(self._left, _CHUNK))
                if not chunk:
                    name = os.fsdecode(self._path)
                    raise RuntimeFailed(f'"{name}" shrank while it was read', hint="commit with the container paused")
                self._left -= len(chunk)
                yield chunk

    def trailer(self) -> Iterator[bytes]:
        yield self.raw + tar.END

    def _announce(self, header: tar.Header, path: bytes) -> None:
        self._path = path
        self.raw = bytes(self._padding) + tar.build_header(header)
        self._left = header.size
        self._padding = tar.padding(header.size)

    def _members(self) -> Iterator[tuple[tar.Header, bytes]]:
        if not self._name:
            yield from self._walk(self._directory, "")
            return
        header = self._header(self._name, self._directory, os.lstat(self._directory))
        if header is not None:
            yield header, self._directory
            if header.kind == tar.DIRECTORY:
                yield from self._walk(self._directory, self._name + "/")

    def _walk(self, directory: bytes, inside: str) -> Iterator[tuple[tar.Header, bytes]]:
        # A stack of our own: trees may be deeper than Python's.
        waiting = [(inside, entry) for entry in _sorted_backwards(directory)]
        while waiting:
            inside, entry = waiting.pop()
            name = inside + os.fsdecode(entry.name)
            header = self._header(name, entry.path, entry.stat(follow_symlinks=False))
            if header is None:
                continue
            yield header, entry.path
            if header.kind == tar.DIRECTORY:
                if self._whiteouts and is_opaque(entry.path):
                    yield tar.Header(f"{name}/{OPAQUE}", mode=0o600), entry.path
                waiting += [(name + "/", below) for below in _sorted_backwards(entry.path)]

    def _header(self, name: str, path: bytes, status: os.stat_result) -> tar.Header | None:
        header = tar.Header(
            name=name,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime=status.st_mtime_ns // 10**9 * 10**9,
        )
        if self._whiteouts and is_whiteout(path, status):
            directory, slash, base = name.rpartition("/")
            header.name, header.mode = f"{directory}{slash}{WHITEOUT}{base}", 0o600
            return header
        if stat.S_ISREG(status.st_mode):
            self._file(header, path, status)
        elif stat.S_ISDIR(status.st_mode):
            header.kind, header.name = tar.DIRECTORY, name + "/"
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


def _sorted_backwards(directory: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(directory) as entries:
        return sorted(entries, key=lambda entry: entry.name, reverse=True)


def xattrs(path: bytes) -> dict[str, bytes]:
    """The extended attributes that layers keep: file capabilities and user.*, without overlayfs's own."""
    names = os.listxattr(path, follow_symlinks=False)
    kept = (name for name in names if name == "security.capability" or name.startswith("user."))
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(kept) if not is_bookkeeping(name)}
