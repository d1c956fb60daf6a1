"""A layer as a tar, a layer as a directory, and the way between them.

A layer is a *change*: files added or replaced, and files hidden. The two forms write
"hidden" differently (store/whiteouts.py).

Both forms are read as a `MemberSource`, one member after the other. So an import is
`store(TarReader(stream), Extractor(directory))`, a commit that copies is
`store(TreeReader(upper), Extractor(directory))`, and a commit that may keep the directory
is `store(TreeReader(upper), None)`. (TreeReader: store/treetar.py.)

Whatever a tar says, nothing is written, deleted or followed outside the directory: the
kernel itself resolves every path with the directory as root (openat2(2), RESOLVE_IN_ROOT).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import posixpath
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

from fastcrc import crc64
from msgspec import Struct

from pylab_container.errors import InvalidArchive, RuntimeFailed
from pylab_container.host import linux
from pylab_container.host.descent import opened
from pylab_container.host.removal import remove_below
from pylab_container.oci import sparse, tar
from pylab_container.oci.ids import EntryName
from pylab_container.store.tarsplit import TarSplitWriter
from pylab_container.store.whiteouts import OPAQUE, OPAQUE_XATTR, WHITEOUT, is_bookkeeping

_CHUNK = 1 << 20
_HOLE = 1 << 16
_MOST_EXTENSIONS = 100
"""Members in a row that say something of the next one; honest archives have three, and each is held in memory."""
_ZEROS = bytes(_HOLE)
"""So many zeros in a file's content become a hole, and take no space on the disk."""


class MemberSource(Protocol):
    """A layer's members in order.

    raw        the tar's bytes between the content before and this member's content
    content()  this member's content in pieces, header.size bytes in all
    trailer()  after the last member: the tar's remaining bytes in pieces
    """

    @property
    def raw(self) -> bytes: ...

    def __iter__(self) -> Iterator[tar.Header]: ...

    def content(self) -> Iterator[bytes]: ...

    def trailer(self) -> Iterator[bytes]: ...


class StoredLayer(Struct, frozen=True):
    """diff_id: digest of the uncompressed tar. size: bytes of content, a symbolic link's target included."""

    diff_id: str
    size: int


def store(
    members: MemberSource,
    extractor: Extractor | None,
    tar_split: TarSplitWriter,
    progress: Callable[[int], None] = lambda done: None,
) -> StoredLayer:
    """Read a layer once: hash it, record its tar-split, and extract it (None: it lies there already).

    progress is called with the bytes of tar so far. Raises InvalidArchive.
    """
    digest = hashlib.sha256()
    done = size = 0
    for header in members:
        digest.update(members.raw)
        tar_split.segment(members.raw)
        checksum, is_sparse = 0, header.pieces is not None
        if extractor:
            extractor.create(header)
        for chunk in members.content():
            digest.update(chunk)
            if is_sparse:  # the file on disk does not say which zeros were holes: keep what the tar has
                tar_split.segment(chunk)
            else:
                checksum = crc64.go_iso(chunk, checksum)
            if extractor:
                extractor.write(chunk)
        if extractor:
            extractor.complete(header)
        tar_split.file(header.name, 0 if is_sparse else header.size, checksum)
        size += len(os.fsencode(header.link)) if header.kind == tar.SYMLINK else header.file_size
        done += len(members.raw) + header.size
        progress(done)
    for chunk in members.trailer():
        digest.update(chunk)
        tar_split.segment(chunk)
    if extractor:
        extractor.finish()
    return StoredLayer("sha256:" + digest.hexdigest(), size)


# ---- from a tar ----------------------------------------------------------------------


class TarReader:
    """The members of a tar stream, read once from front to back, never held in memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self.raw = b""
        self._stream = stream
        self._buffer = b""
        self._position = 0
        self._left = 0
        self._padding = 0
        self._name = ""

    def __iter__(self) -> Iterator[tar.Header]:
        while (header := self._next()) is not None:
            self._left = header.size
            self._padding = tar.padding(header.size)
            self._name = header.name
            yield header
            for _ in self.content():
                pass

    def content(self) -> Iterator[bytes]:
        while self._left:
            if self._position == len(self._buffer) and not self._fill():
                raise _cut_off(self._name)
            chunk = self._buffer[self._position : self._position + self._left]
            self._position += len(chunk)
            self._left -= len(chunk)
            yield chunk

    def trailer(self) -> Iterator[bytes]:
        yield self.raw
        while self._position < len(self._buffer) or self._fill():
            chunk = self._buffer[self._position :]
            self._position = len(self._buffer)
            yield chunk

    def _next(self) -> tar.Header | None:
        """The next member's header with its extensions applied; None at the end of the archive."""
        self.raw = self._last_padding()
        records: dict[str, str] = {}
        long_names: dict[str, str] = {}
        for number in range(_MOST_EXTENSIONS + 1):
            block = self._take(tar.BLOCK, may_end=not number)
            self.raw += block
            if not block.strip(b"\0"):
                self._check_end()
                return None
            header = tar.parse_header(block)
            if header.kind not in tar.EXTENSIONS:
                if header.kind == tar.GNU_SPARSE:
                    self._old_gnu_map(header, block)
                tar.apply_pax(header, records)
                tar.apply_pax(header, long_names)
                self._sparse(header, records)
                return header
            content = self._extension(header)
            # As Go's reader: of two pax members the second one counts, and GNU's long names count most. A member of
            # global records is a comment to Docker, which goes on behind it as if nothing had come before.
            if header.kind == tar.PAX:
                records = tar.parse_pax(content)
            elif header.kind == tar.PAX_GLOBAL:
                records, long_names = {}, {}
            else:
                keyword = "path" if header.kind == tar.GNU_LONG_NAME else "linkpath"
                long_names[keyword] = os.fsdecode(content.partition(b"\0")[0])
        raise InvalidArchive(
            f"more than {_MOST_EXTENSIONS} tar header extensions in a row",
            hint="the archive is hostile: do not trust it",
        )

    def _old_gnu_map(self, header: tar.Header, block: bytes) -> None:
        """Read the pieces of a sparse file that its header and the blocks after it list."""
        header.kind, header.real_size = tar.FILE, sparse.old_gnu_size(block)
        pieces, more = sparse.old_gnu_pieces(block, extension=False)
        while more:
            block = self._take(tar.BLOCK)
            self.raw += block
            self._limit_extension(len(pieces) * 24)
            listed, more = sparse.old_gnu_pieces(block, extension=True)
            pieces += listed
        header.pieces = tuple(pieces)

    def _sparse(self, header: tar.Header, records: Mapping[str, str]) -> None:
        """Read the map before a sparse file's content, where it is there, and check it."""
        if header.kind == tar.FILE and sparse.map_in_content(records):
            content, numbers = b"", None
            while numbers is None:
                if len(content) + tar.BLOCK > header.size:
                    raise InvalidArchive(
                        f'the map of the sparse file "{header.name}" is cut off', hint="the archive is damaged"
                    )
                self._limit_extension(len(content))
                content += self._take(tar.BLOCK)
                numbers = sparse.map_numbers(content)
            self.raw += content
            header.size -= len(content)
            header.pieces = tuple(sparse.map_pieces(numbers))
        if header.pieces is not None:
            sparse.check(header.pieces, stored=header.size, size=header.real_size, name=header.name)

    def _extension(self, header: tar.Header) -> bytes:
        self._limit_extension(header.size)
        content = self._take(header.size)
        self.raw += content + self._take(tar.padding(header.size))
        return content

    def _limit_extension(self, size: int) -> None:
        if size > tar.LONGEST_EXTENSION:
            raise InvalidArchive(
                f"a tar header extension of {size} bytes", hint="no honest one is so long; do not trust this file"
            )

    def _take(self, size: int, *, may_end: bool = False) -> bytes:
        while len(self._buffer) - self._position < size:
            if not self._fill():
                if may_end and self._position == len(self._buffer):
                    return b""
                raise _cut_off(self._name)
        taken = self._buffer[self._position : self._position + size]
        self._position += size
        return taken

    def _last_padding(self) -> bytes:
        """What fills the last member's block. The archive may end in it, or without it: the docker command leaves it
        out where it changes a context (`build -f -`), and Go's reader takes that for the end.
        """
        while len(self._buffer) - self._position < self._padding and self._fill():
            pass
        taken = self._buffer[self._position : self._position + self._padding]
        self._position += len(taken)
        return taken

    def _check_end(self) -> None:
        """Behind the first empty block comes another one, or nothing; not a part of one. Raises InvalidArchive."""
        while (held := len(self._buffer) - self._position) < tar.BLOCK:
            if not self._fill():
                if held:
                    raise _cut_off(self._name)
                return

    def _fill(self) -> bool:
        chunk = self._stream.read(_CHUNK)
        self._buffer = self._buffer[self._position :] + chunk
        self._position = 0
        return bool(chunk)


def _cut_off(name: str) -> InvalidArchive:
    where = f'in or after "{name}"' if name else "in its first header"
    return InvalidArchive(f"the tar archive is cut off {where}", hint="copy or make the file again; is the disk full?")


class Extractor:
    """Writes members into a directory as chroot(2) would, with whiteouts in overlay's spelling.

    Use as a context manager. Owners, modes with set-id bits, xattrs, devices and times
    are kept. The directory is a path, or a descriptor, which stays the caller's. Other processes
    may change what is in it concurrently: every step acts on one name in an open directory, and follows no link there.

    The attributes trusted.overlay.* and user.overlay.* are dropped: a layer must not forge what
    overlayfs notes for itself, such as a redirect to another directory. containerd drops the first
    kind; Docker 20.10 sets both.

    whiteouts         False: a name that starts with .wh. is a name like any other, as in an
                      archive that a Dockerfile ADDs
    keep_directories  refuse to put a directory in the place of something else, or the other way
    """

    def __init__(self, directory: Path | int, *, whiteouts: bool = True, keep_directories: bool = False) -> None:
        self._whiteouts = whiteouts
        self._keep_directories = keep_directories
        self._root = os.dup(directory) if isinstance(directory, int) else opened(directory)
        # Open parents by name: a layer's members come directory by directory.
        self._parents: OrderedDict[str, int] = OrderedDict()
        self._directories: list[tuple[str, int]] = []
        self._place: tuple[int, str] | None = None
        self._writer: int | None = None
        self._header = tar.Header("")
        self._pieces: list[sparse.Piece] = []
        self._has_holes = False

    def __enter__(self) -> Extractor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            os.close(self._writer)
        self._forget_parents()
        os.close(self._root)

    def create(self, header: tar.Header) -> int | None:
        """Make the member and return a descriptor for its content, None where it has none.

        Raises InvalidArchive for a name that leads out of the layer or cannot exist in it.
        """
        self._place, self._header, self._has_holes = None, header, False
        self._pieces = list(reversed(header.pieces or ()))
        path = inside(header.name)
        is_whiteout = self._whiteouts and posixpath.basename(path).startswith(WHITEOUT)
        if header.size and (path == "" or is_whiteout):
            raise InvalidArchive(
                f'the member "{header.name}" has content that no file can hold',
                hint="the archive is damaged or hostile",
            )
        if path == "":
            return None  # the layer's own root: its mode is the driver's affair, as in Docker
        try:
            self._writer = self._create(header, path)
        except (OSError, ValueError, OverflowError) as error:
            raise _refused(header.name, error) from error
        return self._writer

    def write(self, chunk: bytes) -> None:
        """Write more content of the member that was just created; a sparse file's pieces go where they belong."""
        if self._writer is None:
            return
        view = memoryview(chunk)
        try:
            while view and self._pieces:
                view = view[self._write_piece(view) :]
            for start in range(0, len(view), _HOLE):
                self._write_or_skip(self._writer, bytes(view[start : start + _HOLE]))
        except (OSError, OverflowError) as error:
            raise _refused(self._header.name, error) from error

    def _write_or_skip(self, writer: int, block: bytes) -> None:
        if block == _ZEROS:
            os.lseek(writer, len(block), os.SEEK_CUR)
            self._has_holes = True
            return
        view = memoryview(block)
        while view:
            view = view[os.write(writer, view) :]

    def _write_piece(self, view: memoryview) -> int:
        assert self._writer is not None
        offset, length = self._pieces.pop()
        written = os.pwrite(self._writer, view[:length], offset) if length else 0
        if written < length:
            self._pieces.append((offset + written, length - written))
        return written

    def complete(self, header: tar.Header) -> None:
        """Give the member that was just created its owner, attributes, mode and times."""
        if self._place is None:
            return
        parent, name = self._place
        try:
            if self._writer is not None:
                if header.pieces is not None or self._has_holes:
                    os.ftruncate(self._writer, header.file_size)  # a hole at the end
                _finish_file(self._writer, header)
                os.close(self._writer)
                self._writer = None
            else:
                finish = _finish_link if header.kind == tar.LINK else _finish_other
                finish(parent, name, header)
        except (OSError, ValueError, OverflowError) as error:
            raise _refused(header.name, error) from error

    def finish(self) -> None:
        """Set the directories' times: making a file inside would have changed them earlier."""
        for path, mtime in reversed(self._directories):
            with contextlib.suppress(OSError):  # replaced by a later member
                parent, name = self._locate(path, create=False)
                try:
                    os.utime(name, ns=(mtime, mtime), dir_fd=parent, follow_symlinks=False)
                except OverflowError as error:
                    raise _refused(path, error) from error

    def _create(self, header: tar.Header, path: str) -> int | None:
        base = posixpath.basename(path)
        if self._whiteouts and base.startswith(WHITEOUT):
            self._hide(posixpath.dirname(path), base, header)
            return None
        parent, name = self._locate(path)
        before = os.fstat(parent)
        try:
            writer = self._make(header, parent, name)
        except FileExistsError:
            if self._replace(header, parent, name):
                parent, name = self._locate(path)
                writer = self._make(header, parent, name)
            else:
                writer = None
        if _is_deep(posixpath.dirname(path)):  # finish() does not come there
            os.utime(f"/proc/self/fd/{parent}", ns=(before.st_atime_ns, before.st_mtime_ns))
        if header.kind == tar.DIRECTORY and not _is_deep(path):
            self._directories.append((path, header.mtime))
        self._place = (parent, name)
        return writer

    def _make(self, header: tar.Header, parent: int, name: str) -> int | None:
        if header.kind == tar.FILE:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(name, flags, 0o600, dir_fd=parent)
        if header.kind == tar.DIRECTORY:
            os.mkdir(name, 0o700, dir_fd=parent)
        elif header.kind == tar.SYMLINK:
            os.symlink(header.link, name, dir_fd=parent)
        elif header.kind == tar.LINK:
            self._link(header, parent, name)
        elif header.kind == tar.FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif header.kind in (tar.CHARACTER, tar.BLOCK_DEVICE):
            kind = stat.S_IFCHR if header.kind == tar.CHARACTER else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(header.major, header.minor), dir_fd=parent)
        else:
            raise InvalidArchive(
                f'the member "{header.name}" is of a kind "{header.kind}" that layers cannot hold',
                hint="make the archive with GNU tar's --format=posix",
            )
        return None

    def _link(self, header: tar.Header, parent: int, name: str) -> None:
        target = inside(header.link)
        source, target_name = self._locate(target, create=False)
        os.link(target_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def _replace(self, header: tar.Header, parent: int, name: str) -> bool:
        """Clear the way for a member whose name is taken. False: a directory stays a directory."""
        is_directory = stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        if is_directory and header.kind == tar.DIRECTORY:
            return False
        if self._keep_directories and is_directory != (header.kind == tar.DIRECTORY):
            kinds = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
            raise InvalidArchive(
                f'cannot overwrite {kinds[0]} "{header.name}" with {kinds[1]}', hint="move away what is there"
            )
        if is_directory:
            remove_below(parent, EntryName(name))
        else:
            os.unlink(name, dir_fd=parent)
        self._forget_parents()
        return True

    def _hide(self, directory: str, base: str, header: tar.Header) -> None:
        if base == OPAQUE:
            self._hide_all(directory)
            return
        hidden = base.removeprefix(WHITEOUT)
        if hidden.startswith(WHITEOUT):
            return  # .wh..wh.plnk and the like: notes that aufs made for itself
        if hidden in ("", ".", ".."):
            raise InvalidArchive(
                f'the whiteout "{header.name}" hides nothing that can exist', hint="do not trust this file"
            )
        self._hide_name(directory, hidden, header)

    def _hide_all(self, directory: str) -> None:
        """Hide what lower layers have in a directory."""
        os.setxattr(f"/proc/self/fd/{self._parent(directory)}", OPAQUE_XATTR, b"y")

    def _hide_name(self, directory: str, name: str, header: tar.Header) -> None:
        """Hide what lower layers have at a name."""
        parent = self._parent(directory)
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        except FileExistsError:
            return  # a whiteout hides what lies below; the layer's own file stands (layer.md, "Whiteouts")
        os.chown(name, header.uid, header.gid, dir_fd=parent, follow_symlinks=False)

    def _locate(self, path: str, *, create: bool = True) -> tuple[int, str]:
        directory, name = posixpath.split(path)
        return self._parent(directory, create=create), name

    def _parent(self, path: str, *, create: bool = True) -> int:
        """A descriptor of the directory path inside the root, made if missing."""
        if path == "":
            return self._root
        if (known := self._parents.get(path)) is not None:
            self._parents.move_to_end(path)  # a hard link holds two at once: the one in use must not be closed
            return known
        try:
            fd = self._open(path)
        except FileNotFoundError:
            if not create:
                raise
            if _is_deep(path):  # one name of a megabyte would make half a million directories
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path) from None
            fd = self._make_parents(path)
        self._parents[path] = fd
        if len(self._parents) > 200:
            os.close(self._parents.popitem(last=False)[1])
        return fd

    def _open(self, path: str) -> int:
        flags = os.O_PATH | os.O_DIRECTORY
        above, _, name = path.rpartition("/")
        if _is_deep(path) and (known := self._parents.get(above)) is not None:
            return linux.openat2(known, name, flags, resolve=linux.RESOLVE_NO_SYMLINKS)
        return linux.open_inside(self._root, path, flags)

    def _make_parents(self, path: str) -> int:
        """Make the directories of path that are missing. A loop: a hostile path is deeper than Python's stack."""
        fd = os.dup(self._root)
        above = ""
        for name in path.split("/"):
            above = posixpath.join(above, name)
            try:
                below = self._open(above)
            except FileNotFoundError:
                os.mkdir(name, 0o755, dir_fd=fd)
                below = self._open(above)
                os.chmod(f"/proc/self/fd/{below}", 0o755)  # whatever the umask
            finally:
                os.close(fd)
            fd = below
        return fd

    def _forget_parents(self) -> None:
        for fd in self._parents.values():
            os.close(fd)
        self._parents.clear()


def _is_deep(path: str) -> bool:
    """Whether no system call takes a path: what it names can only be reached directory by directory."""
    return len(path) >= linux.PATH_MAX or (not path.isascii() and len(os.fsencode(path)) >= linux.PATH_MAX)


def inside(name: str) -> str:
    """A member's name relative to the layer's root, "" for the root. Raises InvalidArchive if it climbs out."""
    path = posixpath.normpath(name.lstrip("/") or ".")
    if path == ".." or path.startswith("../"):
        raise InvalidArchive(
            f'the member "{name}" would land outside the layer', hint="the archive is hostile or was made with tar -P"
        )
    return "" if path == "." else path


def clamped(name: str) -> str:
    """A member's name relative to a root in which it lands, "" for the root; .. of the root is the root."""
    return posixpath.normpath("/" + name).lstrip("/")


def _finish_file(fd: int, header: tar.Header) -> None:
    # In this order: chown(2) clears set-id bits and file capabilities.
    os.fchown(fd, header.uid, header.gid)
    for attribute, value in header.xattrs.items():
        _set_xattr(fd, attribute, value)
    os.fchmod(fd, header.mode)
    os.utime(fd, ns=(header.mtime, header.mtime))


def _finish_other(parent: int, name: str, header: tar.Header) -> None:
    os.chown(name, header.uid, header.gid, dir_fd=parent, follow_symlinks=False)
    for attribute, value in header.xattrs.items():
        _set_xattr(f"/proc/self/fd/{parent}/{name}", attribute, value)
    if header.kind != tar.SYMLINK:  # a symbolic link's mode means nothing on Linux
        _set_mode(parent, name, header.mode)
    os.utime(name, ns=(header.mtime, header.mtime), dir_fd=parent, follow_symlinks=False)


def _finish_link(parent: int, name: str, header: tar.Header) -> None:
    """What a header says of another name of a file holds for the file, as in moby; most say what is so already."""
    status = os.lstat(name, dir_fd=parent)
    if (status.st_uid, status.st_gid) != (header.uid, header.gid):  # else file capabilities would go
        os.chown(name, header.uid, header.gid, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode) and stat.S_IMODE(status.st_mode) != header.mode:
        _set_mode(parent, name, header.mode)
    os.utime(name, ns=(header.mtime, header.mtime), dir_fd=parent, follow_symlinks=False)


def _set_mode(parent: int, name: str, mode: int) -> None:
    """chmod(2) that follows no link: a container that runs may have put one there a moment ago."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{fd}", mode)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # a link's own mode means nothing
            raise
    finally:
        os.close(fd)


def _set_xattr(path: int | str, attribute: str, value: bytes) -> None:
    if is_bookkeeping(attribute):
        return
    try:
        if isinstance(path, int):
            os.setxattr(path, attribute, value)
        else:
            os.setxattr(path, attribute, value, follow_symlinks=False)
    except OSError as error:
        # The file system or the kind of file cannot hold it; Docker goes on as well.
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise


def _refused(name: str, error: Exception) -> InvalidArchive | RuntimeFailed:
    shown = name if len(name) < 200 else name[:200] + "…"
    if not isinstance(error, OSError):
        is_number = isinstance(error, OverflowError)
        reason = "an owner, a time or a device of it is out of range" if is_number else "its name has a NUL character"
        return InvalidArchive(f'the member "{shown}" cannot exist: {reason}', hint="the archive is damaged or hostile")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RuntimeFailed(
            f'no space left on the disk while writing "{shown}"', hint="labctr system df shows what is used"
        )
    reasons = {
        errno.ENOTDIR: "lies below something that is no directory",
        errno.ELOOP: "lies behind a loop of symbolic links",
        errno.ENAMETOOLONG: "has a name longer than the kernel allows",
        errno.ENOENT: "points to something that the archive does not hold",
        errno.EPERM: "is a link to a directory or may not be made",
        errno.EEXIST: "lies behind a symbolic link to nowhere",
    }
    reason = reasons.get(error.errno or 0, f"cannot be made: {error.strerror}")
    return InvalidArchive(f'the member "{shown}" {reason}', hint="the archive is damaged or hostile; nothing was kept")
