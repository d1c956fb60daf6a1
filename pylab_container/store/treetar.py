"""A directory as the members of a tar: the other MemberSource, beside layertar's TarReader."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from pylab_container.errors import RuntimeFailed
from pylab_container.host.descent import Entry, opened, walk
from pylab_container.oci import tar
from pylab_container.store.whiteouts import OPAQUE, WHITEOUT, is_bookkeeping, is_opaque, is_whiteout

_CHUNK = 1 << 17  # bytes: what a client of the daemon that reads nothing keeps in memory
_ZEROS = bytes(_CHUNK)


class TreeReader:
    """The members of a directory in sorted order. Of an overlay upper directory: a layer's tar in the making.

    Equal trees give equal bytes: names sorted, owners as numbers, whole seconds (as
    `docker commit`), no access times.

    directory      a path, or a descriptor, which stays the caller's
    name           what the directory (or file) itself is called in the tar; "": only its content is in it
    users, groups  names of owners by number, for a tar that people look at
    whiteouts      False: what looks like a whiteout is a file like any other, as in a container's whole tree
    first_ids      the owner and group that are told as 0, and so on from there
    newest         may be set before reading: later times are told as this one, nanoseconds since the epoch

    Other processes may change the tree while it is read. All of a member comes from one file (host/descent.py). A name
    that vanishes is left out. A file that grows is cut, and one that shrinks is filled with zeros, at the size that
    its header states, as GNU tar does. Everything else that fails is an error: no member is missing without one.
    """

    def __init__(
        self,
        directory: Path | int,
        *,
        name: str = "",
        users: Mapping[int, str] | None = None,
        groups: Mapping[int, str] | None = None,
        whiteouts: bool = True,
        first_ids: tuple[int, int] = (0, 0),
    ) -> None:
        self.newest: int | None = None
        self._name = name
        self._users = users or {}
        self._groups = groups or {}
        self._whiteouts = whiteouts
        self._first_ids = first_ids
        self._directory = directory
        self._announced: tuple[tar.Header, Entry | None] | None = None
        self._raw: bytes | None = None
        self._padding = 0
        self._linked: dict[tuple[int, int], str] = {}

    @property
    def raw(self) -> bytes:
        """See MemberSource. Built when it is asked for first, which is before the header may be changed."""
        if self._raw is None:
            self._raw = bytes(self._padding)
            if self._announced:
                self._raw += tar.build_header(self._announced[0])
        return self._raw

    def __iter__(self) -> Iterator[tar.Header]:
        for header, entry in self._members():
            header.user, header.group = self._users.get(header.uid, ""), self._groups.get(header.gid, "")
            if self.newest is not None:
                header.mtime = min(header.mtime, self.newest)
            size = header.size
            self._raw, self._announced = None, (header, entry)
            yield header
            self._raw, self._announced, self._padding = None, None, tar.padding(size)

    def content(self) -> Iterator[bytes]:
        header, entry = self._announced or (None, None)
        if header is None or entry is None or not header.size:
            return
        try:
            fd = entry.open()
            try:
                yield from file_content(fd, header.size)
            finally:
                os.close(fd)
        except OSError as error:
            raise RuntimeFailed(f'"{header.name}" cannot be read: {error.strerror}') from error

    def trailer(self) -> Iterator[bytes]:
        yield self.raw + tar.END

    def _members(self) -> Iterator[tuple[tar.Header, Entry | None]]:
        try:
            top = self._opened()
            try:
                yield from self._below(top)
            finally:
                os.close(top)
        except OSError as error:
            raise RuntimeFailed(
                f"the files cannot be read to the end: {error.strerror}", hint="try again, with the container paused"
            ) from error

    def _opened(self) -> int:
        if isinstance(self._directory, int):
            return os.dup(self._directory)
        return os.open(self._directory, os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if self._name else 0))

    def _below(self, top: int) -> Iterator[tuple[tar.Header, Entry | None]]:
        if not self._name:
            yield from self._walk(top, "")
            return
        with Entry(os.dup(top)) as entry:
            if (header := self._header(self._name, entry)) is not None:
                inside = header.name  # a reader may rename the members that it gets
                yield header, entry
                if header.kind == tar.DIRECTORY:
                    yield from self._walk(top, inside)

    def _walk(self, top: int, inside: str) -> Iterator[tuple[tar.Header, Entry]]:
        for path, entry in walk(top, inside):
            if (header := self._header(path, entry)) is not None:
                yield header, entry
                if self._whiteouts and entry.is_directory and is_opaque(entry):
                    yield tar.Header(f"{path}/{OPAQUE}", mode=0o600), entry

    def _header(self, name: str, entry: Entry) -> tar.Header | None:
        status = entry.status
        header = tar.Header(
            name=name,
            mode=stat.S_IMODE(status.st_mode),
            uid=_told(status.st_uid, self._first_ids[0]),
            gid=_told(status.st_gid, self._first_ids[1]),
            mtime=status.st_mtime_ns // 10**9 * 10**9,
        )
        if self._whiteouts and is_whiteout(entry):
            directory, slash, base = name.rpartition("/")
            header.name, header.mode = f"{directory}{slash}{WHITEOUT}{base}", 0o600
            return header
        if stat.S_ISREG(status.st_mode):
            self._file(header, status)
        elif stat.S_ISDIR(status.st_mode):
            header.kind, header.name = tar.DIRECTORY, "/" if name == "/" else name + "/"
        elif stat.S_ISLNK(status.st_mode):
            header.kind, header.link = tar.SYMLINK, entry.link()
        elif stat.S_ISFIFO(status.st_mode):
            header.kind = tar.FIFO
        elif stat.S_ISSOCK(status.st_mode):
            return None  # a socket without its process is nothing; tar has no kind for it
        else:
            header.kind = tar.CHARACTER if stat.S_ISCHR(status.st_mode) else tar.BLOCK_DEVICE
            header.major, header.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if header.kind != tar.LINK:
            header.xattrs = xattrs(entry.path, follow_links=True)  # the link of /proc alone
        return header

    def _file(self, header: tar.Header, status: os.stat_result) -> None:
        header.size = status.st_size
        if status.st_nlink > 1:
            first = self._linked.setdefault((status.st_dev, status.st_ino), header.name)
            if first != header.name:
                header.kind, header.link, header.size = tar.LINK, first, 0


def file_content(fd: int, size: int) -> Iterator[bytes]:
    """Exactly size bytes of a file in pieces, zeros where it is shorter.

    Holes of large files are not read (lseek(2), SEEK_DATA); in small ones it would cost more to look for them.
    """
    position = 0
    while position < size:
        data = position if size <= _CHUNK else min(_next(fd, position, os.SEEK_DATA), size)
        yield from _zeros(data - position)
        hole = size if size <= _CHUNK else min(_next(fd, data, os.SEEK_HOLE), size)
        while data < hole:
            chunk = os.pread(fd, min(_CHUNK, hole - data), data)
            if not chunk:  # another process has cut the file
                yield from _zeros(size - data)
                return
            data += len(chunk)
            yield chunk
        position = hole


def _next(fd: int, position: int, kind: int) -> int:
    """Where the next data or the next hole begins; 2**63 if none follows."""
    try:
        return os.lseek(fd, position, kind)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end, or behind the end
            return 1 << 63
        if error.errno == errno.EINVAL:  # a file system without holes
            return position if kind == os.SEEK_DATA else 1 << 63
        raise


def _zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // _CHUNK):
        yield _ZEROS
    if size % _CHUNK:
        yield bytes(size % _CHUNK)


def limit_times(directory: Path, newest: int) -> None:
    """Give what was changed after newest (nanoseconds since the epoch) in a tree that time instead."""
    top = opened(directory)
    try:
        for _, entry in walk(top):
            if entry.status.st_mtime_ns > newest:
                os.utime(entry.name, ns=(newest, newest), dir_fd=entry.directory, follow_symlinks=False)
    finally:
        os.close(top)


def _told(number: int, first: int) -> int:
    return number - first if number >= first else number  # what has no mapping is nobody: 65534


def xattrs(path: str | bytes, *, follow_links: bool = False) -> dict[str, bytes]:
    """The extended attributes that layers keep: file capabilities and user.*, without overlayfs's own."""
    names = os.listxattr(path, follow_symlinks=follow_links)
    kept = (name for name in names if name == "security.capability" or name.startswith("user."))
    return {
        name: os.getxattr(path, name, follow_symlinks=follow_links) for name in sorted(kept) if not is_bookkeeping(name)
    }
