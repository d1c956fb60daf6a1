"""Read a directory as the members of a tar: a MemberSource (store/layertar.py).

An overlay upper directory becomes a layer's tar, a container's root file system becomes that of `docker export`.
"""

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

_PIECE_SIZE = 1 << 17  # bytes; the daemon holds one piece in memory for each client that has stopped reading
_ZEROS = bytes(_PIECE_SIZE)
_NO_MORE = 1 << 63  # an offset after the end of any file


class TreeReader:
    """The members of a directory, sorted by name. A MemberSource.

    directory      a path, or a descriptor that stays the caller's
    name           name of the directory (or file) itself in the tar; "": its content only
    users, groups  names of owners by number, for a tar that people read
    whiteouts      False: an entry that looks like a whiteout is an ordinary file, as in a container's whole tree
    first_ids      owner and group that are written as 0; higher numbers follow (the inverse of an ID map)
    newest         an attribute, to be set before reading: later times are clamped to it (nanoseconds since the epoch)

    Equal trees give equal bytes: names are sorted, owners are numbers, times are whole seconds (as in
    `docker commit`), and access times are left out.

    Other processes may change the tree while it is read. Status, attributes and content of a member come from the same
    file (host/descent.py). A name that is removed concurrently is left out. A file that grows is cut at the size in its
    header, and one that shrinks is padded with zeros, as GNU tar does. Every other failure raises RuntimeFailed, so no
    member is left out silently.
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
        """See MemberSource. Built on first use and cached: read it before the header is changed."""
        if self._raw is None:
            self._raw = bytes(self._padding)
            if self._announced:
                self._raw += tar.build_header(self._announced[0])
        return self._raw

    def __iter__(self) -> Iterator[tar.Header]:
        for header, entry in self._members():
            # Layers name owners by number only: the names of the machine would be wrong in another image.
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

    # ---- members ----

    def _members(self) -> Iterator[tuple[tar.Header, Entry | None]]:
        try:
            top = self._opened()
            try:
                yield from self._members_of(top)
            finally:
                os.close(top)
        except OSError as error:
            raise RuntimeFailed(
                f"the files cannot be read to the end: {error.strerror}", hint="try again, with the container paused"
            ) from error

    def _opened(self) -> int:
        if isinstance(self._directory, int):
            return os.dup(self._directory)
        # With a name the top is a member itself: a symbolic link is then archived as a link (docker cp).
        return os.open(self._directory, os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if self._name else 0))

    def _members_of(self, top: int) -> Iterator[tuple[tar.Header, Entry | None]]:
        if not self._name:
            yield from self._walk(top, "")
            return
        with Entry(os.dup(top)) as entry:
            if (header := self._header(self._name, entry)) is not None:
                inside = header.name  # before the yield: the caller may rename the member
                yield header, entry
                if header.kind == tar.DIRECTORY:
                    yield from self._walk(top, inside)

    def _walk(self, top: int, inside: str) -> Iterator[tuple[tar.Header, Entry]]:
        for path, entry in walk(top, inside):
            if (header := self._header(path, entry)) is not None:
                yield header, entry
                # Before the entries of the directory, so that a reader which applies members in order keeps them.
                if self._whiteouts and entry.is_directory and is_opaque(entry):
                    yield tar.Header(f"{path}/{OPAQUE}", mode=0o600), entry

    def _header(self, name: str, entry: Entry) -> tar.Header | None:
        """Return the header of an entry; None for a socket, for which tar has no type."""
        status = entry.status
        # Whole seconds, as moby truncates them (pkg/archive, FileInfoHeader): a ustar header holds no fractions, and a
        # pax record takes 1 KiB for each member.
        header = tar.Header(
            name=name,
            mode=stat.S_IMODE(status.st_mode),
            uid=_mapped(status.st_uid, self._first_ids[0]),
            gid=_mapped(status.st_gid, self._first_ids[1]),
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
            return None
        else:
            header.kind = tar.CHARACTER if stat.S_ISCHR(status.st_mode) else tar.BLOCK_DEVICE
            header.major, header.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if header.kind != tar.LINK:
            header.xattrs = xattrs(entry.path, follow_links=True)  # follows the magic link in /proc, and no other
        return header

    def _file(self, header: tar.Header, status: os.stat_result) -> None:
        """Describe a regular file: its size, or a hard link to a member with the same inode."""
        header.size = status.st_size
        # By device and inode: links to files outside the tree have a count, too, but no earlier member.
        if status.st_nlink > 1:
            first = self._linked.setdefault((status.st_dev, status.st_ino), header.name)
            if first != header.name:
                header.kind, header.link, header.size = tar.LINK, first, 0


def file_content(fd: int, size: int) -> Iterator[bytes]:
    """Yield exactly size bytes of a file in pieces, with zeros after its end."""
    position = 0
    while position < size:
        # Skip holes without reading them (lseek(2), SEEK_DATA). In a small file two system calls cost more than that.
        is_small = size <= _PIECE_SIZE
        data = position if is_small else min(_next(fd, position, os.SEEK_DATA), size)
        yield from _zeros(data - position)
        hole = size if is_small else min(_next(fd, data, os.SEEK_HOLE), size)
        while data < hole:
            chunk = os.pread(fd, min(_PIECE_SIZE, hole - data), data)
            if not chunk:  # another process has truncated the file, but its header with the size is written already
                yield from _zeros(size - data)
                return
            data += len(chunk)
            yield chunk
        position = hole


def _next(fd: int, position: int, kind: int) -> int:
    """Return the offset of the next data or hole, _NO_MORE if none follows."""
    try:
        return os.lseek(fd, position, kind)
    except OSError as error:
        if error.errno == errno.ENXIO:  # only a hole follows, or position is after the end of the file
            return _NO_MORE
        if error.errno == errno.EINVAL:  # a file system without support for holes
            return position if kind == os.SEEK_DATA else _NO_MORE
        raise


def _zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // _PIECE_SIZE):
        yield _ZEROS
    if size % _PIECE_SIZE:
        yield bytes(size % _PIECE_SIZE)


def limit_times(directory: Path, newest: int) -> None:
    """Clamp the modification times in a tree to newest, in nanoseconds since the epoch."""
    top = opened(directory)
    try:
        for _, entry in walk(top):
            if entry.status.st_mtime_ns > newest:
                os.utime(entry.name, ns=(newest, newest), dir_fd=entry.directory, follow_symlinks=False)
    finally:
        os.close(top)


def _mapped(number: int, first: int) -> int:
    """Return an owner's number in the container; `first` is that of its root on the machine."""
    return number - first if number >= first else number  # unmapped: overflowuid, 65534 (user_namespaces(7))


def xattrs(path: str | bytes, *, follow_links: bool = False) -> dict[str, bytes]:
    """Return the attributes that layers keep: file capabilities and user.*."""
    # Not security.selinux, which the host's policy sets, and not the ACLs in system.*: docker keeps neither.
    names = os.listxattr(path, follow_symlinks=follow_links)
    layer_names = [name for name in sorted(names) if name == "security.capability" or name.startswith("user.")]
    return {
        name: os.getxattr(path, name, follow_symlinks=follow_links) for name in layer_names if not is_bookkeeping(name)
    }
