"""COPY and ADD: copy sources into a root file system; paths resolve as after chroot(2).

The results are those of Docker's classic builder (moby 20.10, builder/dockerfile/copy.go). It tars a source and
extracts the tar at the destination: an existing directory gets the mode, owner and time of the directory that is copied
over it, and any other existing file is replaced. Flags that the classic builder does not know have the results of
BuildKit (Dockerfile reference, "COPY").
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.build.context import ContextEntry
from pylab_container.build.sources import CAPABILITY, UNNAMED, CopySource
from pylab_container.build.sources import CopyOptions as CopyOptions  # with copy(), the interface of the instruction
from pylab_container.build.sources import Sources as Sources
from pylab_container.build.sources import gather as gather
from pylab_container.dockerfile.filemode import FileMode
from pylab_container.errors import InvalidArchive, InvalidInput, RuntimeFailed
from pylab_container.host import inside, linux
from pylab_container.host.removal import remove_below
from pylab_container.oci import tar
from pylab_container.oci.ids import EntryName
from pylab_container.store import compression
from pylab_container.store.extractor import Extractor, clamped
from pylab_container.store.layertar import TarReader
from pylab_container.store.whiteouts import WHITEOUT

MAX_LINKS = 255  # symbolic links that are followed in one path
SECOND = 10**9  # nanoseconds


class Owner(Struct, frozen=True):
    """The numeric ids of a user and a group."""

    uid: int = 0
    gid: int = 0


ROOT = Owner()


def copy(sources: Sources, destination: str, root: Path, options: CopyOptions) -> None:
    """Copy sources to destination below root.

    destination  absolute; a slash at its end makes it a directory
    root         the mounted file system of the image so far; with options.link it may be an empty directory, because
                 the image's files at the destination are not looked at

    Raises InvalidInput for an impossible destination or an unknown user of --chown, InvalidArchive for a damaged
    archive of ADD, RuntimeFailed for a full disk or a file that changes while it is copied.
    """
    owner = find_owner(options.owner, root) if options.owner else None
    mode = FileMode.parse(options.mode) if options.mode else None
    with _Tree(root, follow_links=not options.link) as tree:
        for source in sources.items:
            with _errors_explained(source, destination):
                _Copy(tree, destination, owner, mode, keeps_owners=sources.keeps_owners).copy(source)


def refuse_file(root: Path, path: str) -> None:
    """Raise InvalidInput if a file is at the path of a volume, which needs a directory."""
    with _Tree(root) as tree:
        if tree.exists(resolved := tree.resolve(path)) and not tree.is_directory(resolved):
            message = f"cannot mount volume over existing file, file exists {root}/{resolved}"
            raise InvalidInput(message, hint="choose another VOLUME")


def make_directory(root: Path, path: str) -> None:
    """Create a directory and its missing parents, mode 0755.

    Raises InvalidInput if a part of path is a file.
    """
    try:
        inside.make_directories(root, path)
    except NotADirectoryError as error:
        raise InvalidInput(f"cannot mkdir: {path} is not a directory", hint="choose another WORKDIR") from error


# -- --chown ---------------------------------------------------------------------------------------


def find_owner(text: str, root: Path) -> Owner:
    """Resolve the value of --chown, "user" or "user:group".

    Names are those of the image's /etc/passwd and /etc/group; numbers need no entry there.

    Without a group, the group with the user's name or number is taken, not the user's primary group: the classic
    builder does the same. Raises InvalidInput.
    """
    user, colon, group = text.partition(":")
    if ":" in group:
        raise InvalidInput(f"invalid chown string format: {text}", hint="write --chown=user:group")
    group = group if colon else user
    return Owner(_number(user, root, "user", "uid", "passwd"), _number(group, root, "group", "gid", "group"))


def _id(digits: str, kind: str) -> int:
    """Parse the number of a user or a group. Raises InvalidInput."""
    if len(digits) > 10 or int(digits) >= 2**32 - 1:
        raise InvalidInput(f"the {kind} id {digits[:20]} is too large", hint="the largest is 4294967294")
    return int(digits)


def _number(name: str, root: Path, kind: str, number: str, file: str) -> int:
    """Resolve a name or a number by a file of /etc. Raises InvalidInput."""
    if name.isascii() and name.isdigit():
        return _id(name, kind)
    for line in inside.read_text(root, f"etc/{file}", errors="surrogateescape").splitlines():
        fields = line.strip().split(":")
        if fields[0] == name and len(fields) > 2 and fields[2].isascii() and fields[2].isdigit():
            return _id(fields[2], kind)
    hint = f"make the {kind} in a RUN before (adduser, addgroup), or use numbers as --chown=1000:1000"
    if kind == "group" and name:
        hint = f"a --chown without a group means a group of the user's name; {hint}"
    raise InvalidInput(
        f"unable to convert uid/gid chown string to host mapping: can't find {number} for {kind} {name}: "
        f"no such {kind}: {name}",
        hint=hint,
    )


# -- one source ------------------------------------------------------------------------------------


class _Copy:
    """Copies one source. owner and mode are the values of --chown and --chmod."""

    def __init__(
        self, tree: _Tree, destination: str, owner: Owner | None, mode: FileMode | None, *, keeps_owners: bool
    ) -> None:
        self._tree = tree
        self._destination = destination
        self._owner = owner
        self._mode = mode
        self._keeps_owners = keeps_owners and owner is None
        # Docker changes the owner after the mode, and chown(2) clears the set-user-id and set-group-id bits.
        self._clears_set_id = mode is None and not self._keeps_owners

    def copy(self, source: CopySource) -> None:
        """Copy the source to the destination."""
        target = self._tree.resolve(self._destination)
        if source.entry.is_directory:
            self._copy_directory(source, target)
        elif source.unpack and _is_archive(source.entry):
            self._tree.make_directories(target, ROOT)
            _unpack(source.entry, self._tree, target)
        else:
            if self._destination.endswith("/") or self._tree.is_directory(target):
                target = posixpath.join(target, self._name(source))
            self._tree.make_directories(posixpath.dirname(target), self._owner or ROOT)
            with self._tree.opened(posixpath.dirname(target)) as parent:
                # Docker copies a single file without its capabilities, and files in a directory with them.
                self._write(parent, posixpath.basename(target), replace(source.entry, xattrs={}))

    def _name(self, source: CopySource) -> str:
        if not source.name and self._destination.endswith("/"):
            raise InvalidInput(
                f"cannot determine filename for source {source.shown}", hint="let the destination be a file's name"
            )
        return source.name or UNNAMED

    def _copy_directory(self, source: CopySource, target: str) -> None:
        """Copy the content of a directory. An existing destination keeps its attributes, a new one has mode 0755."""
        tree = self._tree
        if not tree.is_directory(target):
            tree.make_directories(posixpath.dirname(target), ROOT)
            try:
                tree.make_directories(target, self._owner or ROOT)
            except NotADirectoryError as error:
                raise InvalidInput(
                    f"cannot copy to non-directory: {self._destination}: not a directory",
                    hint="choose another destination",
                ) from error
        with tree.opened(target) as top:
            self._write_all(top, source.entries[1:])

    def _write_all(self, top: int, entries: tuple[ContextEntry, ...]) -> None:
        """Write entries below a directory; each directory precedes its content."""
        parent, parent_name = os.dup(top), ""
        try:
            for entry in entries:
                directory, _, name = entry.name.rpartition("/")
                if directory != parent_name:
                    os.close(parent)
                    parent = -1
                    # Against a symlink race: every directory in the path was created or checked before.
                    flags = os.O_PATH | os.O_DIRECTORY
                    parent = linux.openat2(top, directory or ".", flags, resolve=linux.RESOLVE_NO_SYMLINKS)
                    parent_name = directory
                if entry.link and stat.S_ISREG(entry.mode):
                    _write_link(top, parent, name, entry)
                else:
                    self._write(parent, name, entry)
        finally:
            if parent >= 0:
                os.close(parent)
        for entry in reversed(entries):  # last: creating a file changes the time of its directory
            if entry.is_directory:
                _set_time(top, entry.name, entry)

    def _write(self, parent: int, name: str, entry: ContextEntry) -> None:
        """Create one entry with its owner, mode, attributes and time; an existing file is replaced."""
        kind = stat.S_IFMT(entry.mode)
        if name.startswith(WHITEOUT):
            _hide(parent, name)
        elif kind == stat.S_IFREG:
            self._write_file(parent, name, entry)
        else:
            if kind == stat.S_IFDIR:
                inside.ensure_directory(parent, name)
            elif kind == stat.S_IFLNK:
                _replacing(parent, name, lambda: os.symlink(entry.link, name, dir_fd=parent))
            else:
                _replacing(parent, name, lambda: os.mknod(name, kind | 0o600, entry.device, dir_fd=parent))
            os.chown(name, *self._owner_of(entry), dir_fd=parent, follow_symlinks=False)
            if kind != stat.S_IFLNK:
                os.chmod(name, self._mode_of(entry), dir_fd=parent)
            _set_time(parent, name, entry)

    def _write_file(self, parent: int, name: str, entry: ContextEntry) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, 0o600, dir_fd=parent)
        except FileExistsError:
            _clear(parent, name)
            fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            _write_content(fd, entry)
            os.fchown(fd, *self._owner_of(entry))
            if self._keeps_owners:
                for attribute, value in entry.xattrs.items():
                    os.setxattr(fd, attribute, value)
            os.fchmod(fd, self._mode_of(entry))
            os.utime(fd, ns=_times(entry))
        finally:
            os.close(fd)

    def _owner_of(self, entry: ContextEntry) -> tuple[int, int]:
        if self._keeps_owners:
            return entry.uid, entry.gid
        return (self._owner.uid, self._owner.gid) if self._owner else (0, 0)

    def _mode_of(self, entry: ContextEntry) -> int:
        mode = stat.S_IMODE(entry.mode)
        if self._mode is not None:
            return self._mode.apply(mode, is_directory=entry.is_directory)
        if self._clears_set_id and not entry.is_directory:
            mode &= ~stat.S_ISUID
            if mode & stat.S_IXGRP:
                mode &= ~stat.S_ISGID
        return mode


def _write_content(fd: int, entry: ContextEntry) -> None:
    if entry.content is not None:
        view = memoryview(entry.content)
        while view:
            view = view[os.write(fd, view) :]
        return
    with open(entry.path, "rb", buffering=0, opener=_no_follow) as file:
        copied = 0
        while count := os.sendfile(fd, file.fileno(), copied, 1 << 30):
            copied += count
        if copied != entry.size:
            raise RuntimeFailed(
                f"{entry.path} changed while it was copied", hint="do not change the folder while it is built"
            )


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def _write_link(top: int, parent: int, name: str, entry: ContextEntry) -> None:
    """Create a hard link to a file that was written before."""
    _replacing(
        parent,
        name,
        lambda: os.link(entry.link, name, src_dir_fd=top, dst_dir_fd=parent, follow_symlinks=False),
    )


def _replacing(parent: int, name: str, make: Callable[[], None]) -> None:
    """Call make to create a file; an existing file is removed first."""
    try:
        make()
    except FileExistsError:
        _clear(parent, name)
        make()


def _clear(parent: int, name: str) -> None:
    """Remove an existing file, or a directory with its content, as Docker does."""
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        remove_below(parent, EntryName(name))
    else:
        os.unlink(name, dir_fd=parent)


def _hide(parent: int, name: str) -> None:
    """Apply a file with the name of a whiteout: the classic builder extracts sources as layers, so it removes files."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        hidden = name.removeprefix(WHITEOUT)
        if hidden and not hidden.startswith(WHITEOUT):
            _clear(parent, hidden)


def _set_time(parent: int, name: str, entry: ContextEntry) -> None:
    os.utime(name, ns=_times(entry), dir_fd=parent, follow_symlinks=False)


def _times(entry: ContextEntry) -> tuple[int, int]:
    """Access and modification time in whole seconds, as in a layer's tar; Docker clamps times before 1970."""
    seconds = max(entry.mtime // SECOND, 0) * SECOND
    return seconds, seconds


# -- archives --------------------------------------------------------------------------------------


def _is_archive(entry: ContextEntry) -> bool:
    """Whether a file is a tar, compressed or not; as in Docker, its first header decides."""
    if not stat.S_ISREG(entry.mode):
        return False
    with open(entry.path, "rb", buffering=0) as file, compression.decompressed(file) as plain:
        try:
            return next(iter(TarReader(plain)), None) is not None
        except InvalidArchive:
            return False


def _unpack(entry: ContextEntry, tree: _Tree, target: str) -> None:
    """Extract an archive with its owners; symbolic links are resolved as if the destination were /."""
    with open(entry.path, "rb", buffering=0) as file, tree.opened(target) as top:
        plain = compression.decompressed(file)
        archive = TarReader(plain)
        with plain, Extractor(Path(f"/proc/self/fd/{top}"), whiteouts=False) as extractor:
            for header in archive:
                _extract(extractor, archive, header, top)
            extractor.finish()


def _extract(extractor: Extractor, archive: TarReader, header: tar.Header, top: int) -> None:
    header.name = clamped(header.name)
    directory, name = posixpath.split(header.name)
    if name.startswith(WHITEOUT):
        with contextlib.suppress(FileNotFoundError), _inside(top, directory or ".") as parent:
            _hide(parent, name)
        return
    header.mtime = max(header.mtime, 0)
    header.xattrs = {name: value for name, value in header.xattrs.items() if name == CAPABILITY}
    if header.kind == tar.LINK:
        header.link = clamped(header.link)
    extractor.create(header)
    for chunk in archive.content():
        extractor.write(chunk)
    extractor.complete(header)


@contextlib.contextmanager
def _inside(top: int, path: str) -> Iterator[int]:
    """Open a path below top, with symbolic links in its parents resolved as if top were /."""
    fd = linux.openat2(top, path, os.O_PATH | os.O_NOFOLLOW, resolve=linux.RESOLVE_IN_ROOT)
    try:
        yield fd
    finally:
        os.close(fd)


# -- the destination's file system -----------------------------------------------------------------


class _Tree:
    """A root file system; paths are relative to it. A resolve()d path has no symbolic link.

    follow_links  False: a file in the path to a destination is replaced by a directory, also if it is a link
    """

    def __init__(self, root: Path, *, follow_links: bool = True) -> None:
        self.root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._follow_links = follow_links

    def __enter__(self) -> _Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.root)

    def resolve(self, path: str) -> str:
        """Resolve the symbolic links of a path as if root were /.

        The path need not exist. Raises OSError.
        """
        path = posixpath.normpath("/" + path).lstrip("/")
        if not self._follow_links:
            return path
        names, resolved, links = deque(path.split("/")), "", 0
        while names:
            name = names.popleft()
            if name == "..":
                resolved = posixpath.dirname(resolved)
            if name in ("", ".", ".."):
                continue
            target = self._link(posixpath.join(resolved, name))
            if target is None:
                resolved = posixpath.join(resolved, name)
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            resolved = "" if target.startswith("/") else resolved
            names.extendleft(reversed(target.split("/")))
        return resolved

    def _link(self, path: str) -> str | None:
        """The target of a symbolic link; None for another file, or a path that does not exist."""
        try:
            return os.readlink(path, dir_fd=self.root)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None
            raise

    def is_directory(self, path: str) -> bool:
        """Report whether a resolved path is a directory."""
        try:
            status = os.stat(path or ".", dir_fd=self.root, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.S_ISDIR(status.st_mode)

    def exists(self, path: str) -> bool:
        """Report whether a resolved path exists."""
        try:
            os.stat(path or ".", dir_fd=self.root, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def make_directories(self, path: str, owner: Owner) -> None:
        """Create the missing directories of a resolved path.

        Raises NotADirectoryError if a file is in the path.
        """
        directory = ""
        for name in path.split("/") if path else []:
            directory = posixpath.join(directory, name)
            try:
                os.mkdir(directory, 0o700, dir_fd=self.root)
            except FileExistsError:
                if self.is_directory(directory):
                    continue
                if self._follow_links:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory) from None
                os.unlink(directory, dir_fd=self.root)
                os.mkdir(directory, 0o700, dir_fd=self.root)
            os.chown(directory, owner.uid, owner.gid, dir_fd=self.root)
            os.chmod(directory, 0o755, dir_fd=self.root)

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """Open the directory at a resolved path while the block runs; yields its descriptor."""
        fd = linux.openat2(
            self.root,
            path or ".",
            os.O_PATH | os.O_DIRECTORY,
            resolve=linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_SYMLINKS,
        )
        try:
            yield fd
        finally:
            os.close(fd)


@contextlib.contextmanager
def _errors_explained(source: CopySource, destination: str) -> Iterator[None]:
    """Raise errors of system calls as LabErrors that name the source and the destination."""
    try:
        yield
    except ValueError as error:  # a NUL character in a name
        raise InvalidInput(
            f"failed to copy {source.shown} to {destination!r}: {error}", hint="use another name"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RuntimeFailed(
                f"no space left on the disk while {source.shown} was copied",
                hint="labctr system df shows what is used",
            ) from error
        reasons = {
            errno.ENOTDIR: "something on the way is not a directory",
            errno.ELOOP: "its symbolic links go round in a circle",
        }
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
        raise InvalidInput(
            f"failed to copy {source.shown} to {destination}: {reason}", hint="check what the image has there"
        ) from error
