"""Extract the members of a tar into a directory, as if after chroot(2) into it.

An archive is data of unknown origin. Names with "..", absolute symbolic links and links that a running container swaps
between two system calls must not lead to a write outside the directory. The kernel resolves every path with the
directory as its root (openat2(2), RESOLVE_IN_ROOT), and each step then acts on one name in an open directory. moby
instead runs chroot(2) in a child process for each layer (pkg/chrootarchive); umoci resolves paths in user space
(filepath-securejoin), which a concurrent rename can race.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections import OrderedDict
from pathlib import Path
from types import TracebackType

from pylab_container.errors import InvalidArchive, RuntimeFailed
from pylab_container.host import linux
from pylab_container.host.descent import opened
from pylab_container.host.removal import remove_below
from pylab_container.oci import sparse, tar
from pylab_container.oci.ids import EntryName
from pylab_container.store.whiteouts import OPAQUE, OPAQUE_XATTR, WHITEOUT, is_bookkeeping

_HOLE_SIZE = 1 << 16  # bytes of zeros that become a hole, which takes no space on disk
_ZEROS = bytes(_HOLE_SIZE)
_MOST_OPEN_PARENTS = 200  # of the 1024 descriptors that a process may have open by default (getrlimit(2))
_LONGEST_SHOWN_NAME = 200  # characters of a member's name in an error


class Extractor:
    """Writes members into a directory, whiteouts in overlayfs's form. Use as a context manager.

    directory         a path, or a descriptor that stays the caller's; other processes may change it concurrently
    whiteouts         False: a name that starts with .wh. is an ordinary name, as in an archive that a Dockerfile ADDs
    keep_directories  refuse to replace a directory by another kind of file, or the other way round

    For each member call create(), write() for its content and complete(); call finish() after the last one.

    Owners, modes with set-id bits, extended attributes, devices and times are kept. The attributes trusted.overlay.*
    and user.overlay.* are dropped: a layer must not forge what overlayfs records for itself, such as a redirect to
    another directory. containerd drops the first kind; Docker 20.10 sets both.
    """

    def __init__(self, directory: Path | int, *, whiteouts: bool = True, keep_directories: bool = False) -> None:
        self._whiteouts = whiteouts
        self._keep_directories = keep_directories
        self._root = os.dup(directory) if isinstance(directory, int) else opened(directory)
        # A cache: consecutive members usually share a parent, and to resolve its path again costs a system call each.
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
        """Create the member and return a descriptor for its content, None if it has none.

        Raises InvalidArchive for a name outside the directory or one that cannot exist in it; RuntimeFailed if the
        disk is full.
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
            return None  # the root directory keeps the mode that the driver gave it, as in Docker
        try:
            self._writer = self._create(header, path)
        except (OSError, ValueError, OverflowError) as error:
            raise _refused(header.name, error) from error
        return self._writer

    def write(self, chunk: bytes) -> None:
        """Append content to the member that was just created.

        The pieces of a sparse file are written at their offsets.
        """
        if self._writer is None:
            return
        view = memoryview(chunk)
        try:
            while view and self._pieces:
                view = view[self._write_piece(view) :]
            for start in range(0, len(view), _HOLE_SIZE):
                self._write_or_skip(self._writer, bytes(view[start : start + _HOLE_SIZE]))
        except (OSError, OverflowError) as error:
            raise _refused(self._header.name, error) from error

    def complete(self, header: tar.Header) -> None:
        """Set owner, attributes, mode and times of the member that was just created."""
        if self._place is None:
            return
        parent, name = self._place
        try:
            if self._writer is not None:
                if header.pieces is not None or self._has_holes:
                    os.ftruncate(self._writer, header.file_size)  # for a hole at the end
                _finish_file(self._writer, header)
                os.close(self._writer)
                self._writer = None
            else:
                finish = _finish_link if header.kind == tar.LINK else _finish_other
                finish(parent, name, header)
        except (OSError, ValueError, OverflowError) as error:
            raise _refused(header.name, error) from error

    def finish(self) -> None:
        """Set the times of directories.

        Last, because each file that is created in one changes its mtime.
        """
        for path, mtime in reversed(self._directories):
            with contextlib.suppress(OSError):  # a later member replaced it
                parent, name = self._locate(path, create=False)
                try:
                    os.utime(name, ns=(mtime, mtime), dir_fd=parent, follow_symlinks=False)
                except OverflowError as error:
                    raise _refused(path, error) from error

    # ---- content ----

    def _write_or_skip(self, writer: int, block: bytes) -> None:
        if block == _ZEROS:
            os.lseek(writer, len(block), os.SEEK_CUR)
            self._has_holes = True
            return
        view = memoryview(block)
        while view:
            view = view[os.write(writer, view) :]

    def _write_piece(self, view: memoryview) -> int:
        """Write to the next piece of a sparse file and return the number of bytes written."""
        assert self._writer is not None
        offset, length = self._pieces.pop()
        written = os.pwrite(self._writer, view[:length], offset) if length else 0
        if written < length:
            self._pieces.append((offset + written, length - written))
        return written

    # ---- creating ----

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
            # A later member replaces an earlier one, as with tar(1). TarSplitWriter refuses that in a layer, so this is
            # for archives that a Dockerfile ADDs or `docker cp` uploads, and for files that exist already.
            if self._replace(header, parent, name):
                parent, name = self._locate(path)
                writer = self._make(header, parent, name)
            else:
                writer = None
        if _is_deep(posixpath.dirname(path)):  # finish() cannot reach it by a path, so restore its times now
            os.utime(f"/proc/self/fd/{parent}", ns=(before.st_atime_ns, before.st_mtime_ns))
        if header.kind == tar.DIRECTORY and not _is_deep(path):
            self._directories.append((path, header.mtime))
        self._place = (parent, name)
        return writer

    def _make(self, header: tar.Header, parent: int, name: str) -> int | None:
        """Create a file of any kind; complete() sets its final mode."""
        # A private mode until then: the content must not be readable for users who may not read the complete file. For
        # the same reason set-id bits come last, after the owner.
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
        # Never AT_SYMLINK_FOLLOW: a target that is a symbolic link would be followed out of the directory (link(2)).
        os.link(target_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def _replace(self, header: tar.Header, parent: int, name: str) -> bool:
        """Remove the existing entry of a member's name.

        Returns False if it is a directory that may stay.
        """
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
        self._forget_parents()  # one of them may be, or be reached through, the removed entry
        return True

    # ---- whiteouts ----

    def _hide(self, directory: str, base: str, header: tar.Header) -> None:
        if base == OPAQUE:
            self._hide_all(directory)
            return
        hidden = base.removeprefix(WHITEOUT)
        if hidden.startswith(WHITEOUT):
            return  # .wh..wh.plnk, .wh..wh.aufs: records of aufs's own, which moby skips as well (pkg/archive/diff.go)
        if hidden in ("", ".", ".."):
            raise InvalidArchive(
                f'the whiteout "{header.name}" hides nothing that can exist', hint="do not trust this file"
            )
        self._hide_name(directory, hidden, header)

    def _hide_all(self, directory: str) -> None:
        """Hide the content of a directory in lower layers."""
        os.setxattr(f"/proc/self/fd/{self._parent(directory)}", OPAQUE_XATTR, b"y")

    def _hide_name(self, directory: str, name: str, header: tar.Header) -> None:
        """Hide a name in lower layers."""
        parent = self._parent(directory)
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        except FileExistsError:
            return  # a whiteout applies to lower layers only; this layer's own file stays (layer.md, "Whiteouts")
        os.chown(name, header.uid, header.gid, dir_fd=parent, follow_symlinks=False)

    # ---- parents ----

    def _locate(self, path: str, *, create: bool = True) -> tuple[int, str]:
        """Return a descriptor of the directory of path, and the last name in path."""
        directory, name = posixpath.split(path)
        return self._parent(directory, create=create), name

    def _parent(self, path: str, *, create: bool = True) -> int:
        """Return a descriptor of the directory path inside the root, which is created if missing."""
        if path == "":
            return self._root
        if (known := self._parents.get(path)) is not None:
            self._parents.move_to_end(path)  # _link() holds two: the first must not be evicted for the second
            return known
        try:
            fd = self._open(path)
        except FileNotFoundError:
            if not create:
                raise
            if _is_deep(path):  # a name of one megabyte would otherwise create half a million directories
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path) from None
            fd = self._make_parents(path)
        self._parents[path] = fd
        if len(self._parents) > _MOST_OPEN_PARENTS:
            os.close(self._parents.popitem(last=False)[1])
        return fd

    def _open(self, path: str) -> int:
        flags = os.O_PATH | os.O_DIRECTORY
        above, _, name = path.rpartition("/")
        if _is_deep(path) and (known := self._parents.get(above)) is not None:
            return linux.openat2(known, name, flags, resolve=linux.RESOLVE_NO_SYMLINKS)
        return linux.open_inside(self._root, path, flags)

    def _make_parents(self, path: str) -> int:
        """Create the missing directories of path.

        Iterative: a hostile path is deeper than Python's stack.
        """
        fd = os.dup(self._root)
        above = ""
        for name in path.split("/"):
            above = posixpath.join(above, name)
            try:
                below = self._open(above)
            except FileNotFoundError:
                os.mkdir(name, 0o755, dir_fd=fd)
                below = self._open(above)
                os.chmod(f"/proc/self/fd/{below}", 0o755)  # mkdir(2) applies the umask
            finally:
                os.close(fd)
            fd = below
        return fd

    def _forget_parents(self) -> None:
        for fd in self._parents.values():
            os.close(fd)
        self._parents.clear()


class TreeExtractor(Extractor):
    """Applies a layer to a whole tree: a whiteout deletes what other layers extracted.

    Files are replaced and never written into, so the tree may share them with other trees as hard links.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._extracted = {_identity(self._root)}  # device and inode of all that this layer holds

    def create(self, header: tar.Header) -> int | None:
        writer = super().create(header)
        if path := inside(header.name):
            self._note(*self._locate(path))
        return writer

    def _note(self, parent: int, name: str) -> None:
        """Record an entry and the directories above it as this layer's.

        They are recorded by inode, not by path: a symbolic link gives one directory several paths.
        """
        with contextlib.suppress(FileNotFoundError):  # the member was a whiteout
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            self._extracted.add((status.st_dev, status.st_ino))
        above = os.dup(parent)
        while (identity := _identity(above)) not in self._extracted:
            self._extracted.add(identity)
            below, above = above, os.open("..", os.O_PATH | os.O_CLOEXEC, dir_fd=above)
            os.close(below)
        os.close(above)

    def _hide_all(self, directory: str) -> None:
        for name in os.listdir(f"/proc/self/fd/{self._parent(directory)}"):
            self._delete(directory, name)

    def _hide_name(self, directory: str, name: str, header: tar.Header) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._delete(directory, name)

    def _delete(self, directory: str, name: str) -> None:
        parent = self._parent(directory)
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if (status.st_dev, status.st_ino) in self._extracted:
            return
        if stat.S_ISDIR(status.st_mode):
            remove_below(parent, EntryName(name))
            self._forget_parents()
        else:
            os.unlink(name, dir_fd=parent)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


# ---- names ----


def inside(name: str) -> str:
    """Return a member's name relative to the root, "" for the root.

    Raises InvalidArchive if it climbs out.
    """
    path = posixpath.normpath(name.lstrip("/") or ".")
    if path == ".." or path.startswith("../"):
        raise InvalidArchive(
            f'the member "{name}" would land outside the layer', hint="the archive is hostile or was made with tar -P"
        )
    return "" if path == "." else path


def clamped(name: str) -> str:
    """Return a member's name relative to the root, whose parent is the root; "" for the root."""
    return posixpath.normpath("/" + name).lstrip("/")


def _is_deep(path: str) -> bool:
    """Report whether a path is too long for a system call (PATH_MAX)."""
    return len(path) >= linux.PATH_MAX or (not path.isascii() and len(os.fsencode(path)) >= linux.PATH_MAX)


# ---- owners, modes and times ----


def _finish_file(fd: int, header: tar.Header) -> None:
    # The order matters: chown(2) clears set-id bits and file capabilities, so the owner comes first.
    os.fchown(fd, header.uid, header.gid)
    for attribute, value in header.xattrs.items():
        _set_xattr(fd, attribute, value)
    os.fchmod(fd, header.mode)
    os.utime(fd, ns=(header.mtime, header.mtime))


def _finish_other(parent: int, name: str, header: tar.Header) -> None:
    os.chown(name, header.uid, header.gid, dir_fd=parent, follow_symlinks=False)
    for attribute, value in header.xattrs.items():
        _set_xattr(f"/proc/self/fd/{parent}/{name}", attribute, value)
    if header.kind != tar.SYMLINK:  # Linux ignores the mode of a symbolic link (symlink(7))
        _set_mode(parent, name, header.mode)
    os.utime(name, ns=(header.mtime, header.mtime), dir_fd=parent, follow_symlinks=False)


def _finish_link(parent: int, name: str, header: tar.Header) -> None:
    """Apply the header of a hard link to the file itself, as moby does."""
    # Most headers repeat what is set already, and a chown(2) to the same owner would clear file capabilities.
    status = os.lstat(name, dir_fd=parent)
    if (status.st_uid, status.st_gid) != (header.uid, header.gid):
        os.chown(name, header.uid, header.gid, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode) and stat.S_IMODE(status.st_mode) != header.mode:
        _set_mode(parent, name, header.mode)
    os.utime(name, ns=(header.mtime, header.mtime), dir_fd=parent, follow_symlinks=False)


def _set_mode(parent: int, name: str, mode: int) -> None:
    """Change a mode, but never that of a symbolic link's target."""
    # A running container may replace the file by a link between two system calls (TOCTOU), so it is opened first.
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        # fchmodat2(2) with AT_SYMLINK_NOFOLLOW would do, but needs Linux 6.6; through /proc it works on all kernels.
        os.chmod(f"/proc/self/fd/{fd}", mode)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # it is a symbolic link
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
        # The file system or this kind of file cannot hold it: ignored, as in moby (pkg/archive/archive.go).
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise


# ---- errors ----

_REASONS = {
    errno.ENOTDIR: "is below a file that is not a directory",
    errno.ELOOP: "is behind a loop of symbolic links",
    errno.ENAMETOOLONG: "has a name longer than the kernel allows",
    errno.ENOENT: "refers to a file that the archive does not hold",
    errno.EPERM: "is a link to a directory or may not be created",
    errno.EEXIST: "is behind a symbolic link to a missing file",
}


def _refused(name: str, error: Exception) -> InvalidArchive | RuntimeFailed:
    """Return the error about a member that cannot be created."""
    shown = name if len(name) < _LONGEST_SHOWN_NAME else name[:_LONGEST_SHOWN_NAME] + "…"
    if not isinstance(error, OSError):
        is_number = isinstance(error, OverflowError)
        reason = "an owner, a time or a device of it is out of range" if is_number else "its name has a NUL character"
        return InvalidArchive(f'the member "{shown}" cannot exist: {reason}', hint="the archive is damaged or hostile")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RuntimeFailed(
            f'no space left on the disk while writing "{shown}"', hint="labctr system df shows what is used"
        )
    reason = _REASONS.get(error.errno or 0, f"cannot be created: {error.strerror}")
    return InvalidArchive(f'the member "{shown}" {reason}', hint="the archive is damaged or hostile; nothing was kept")
