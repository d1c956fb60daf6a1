"""A container's files, accessed from the host: changes, export, copies of single files in both directions.

The kernel resolves every path with the container's root as the root directory (openat2(2), RESOLVE_IN_ROOT). So a
symbolic link that the container created cannot point outside it, whether the container runs or not. The container is
not frozen: its processes, health checks and exit continue, as with Docker.

A transfer holds a descriptor of the file system that it reads or writes, so the container may exit and start again
during the transfer. If the container is removed, the transfer fails, and its archive has no trailer.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.containers import remap
from pylab_container.containers.change_events import emit_change
from pylab_container.containers.lookup import read
from pylab_container.containers.mounts import network_files_owner
from pylab_container.containers.process import find_user
from pylab_container.containers.settle import read_settled
from pylab_container.errors import Conflict, InvalidInput, NotFound
from pylab_container.host import linux
from pylab_container.host.descent import opened
from pylab_container.networks.container_files import NETWORK_FILES
from pylab_container.oci import tar
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.mounts import MountPoint
from pylab_container.runtime import Runtime
from pylab_container.runtime.etc import names_by_id
from pylab_container.store import compression
from pylab_container.store.changes import MODIFIED
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.store.extraction import extract
from pylab_container.store.extractor import Extractor
from pylab_container.store.layertar import MemberSource, TarReader
from pylab_container.store.treetar import TreeReader
from pylab_container.volumes import mounting as volume_mounting

_PIECE_SIZE = 1 << 20  # bytes
_HOLE_SIZE = 1 << 16  # bytes
_ZEROS = bytes(_HOLE_SIZE)
_LARGEST_LIST = 1 << 20  # bytes of /etc/passwd or /etc/group
MOST_PATH_PARTS = 4096
"""Limit of the parts of a path, with the parts of the links on it: a longer path is presumed to be a loop of links."""


class Change(Struct, frozen=True):
    """One path that differs from the image. kind: 0 modified, 1 added, 2 deleted, as in the Engine API."""

    path: str
    kind: int

    @property
    def letter(self) -> str:
        """The kind, as `docker diff` shows it."""
        return "CAD"[self.kind]


class PathStatus(Struct, frozen=True):
    """The status of a path of a container.

    size   in bytes
    mode   st_mode
    mtime  in nanoseconds since 1970
    link   the target of a symbolic link, "" for other files
    """

    name: str
    size: int
    mode: int
    mtime: int
    link: str


class _Root(Struct, frozen=True):
    """The directory in which paths are resolved: a container's own file system, or a volume.

    fd         a descriptor of it, valid only in the block that opened it
    first_ids  the uid and gid that the container's root has there
    is_own     whether it is the container's own file system
    """

    fd: int
    first_ids: tuple[int, int] = (0, 0)
    is_own: bool = False


class ContainerFiles:
    """The files of one container."""

    def __init__(self, data: DataRoot, runtime: Runtime, container_id: ContainerId) -> None:
        self._data, self._runtime, self._id = data, runtime, container_id

    def changes(self) -> list[Change]:
        """Return the container's changes, sorted by path. Every directory above a change counts as modified."""
        writable = self._data.layers.writable(self._id)
        kinds = self._data.driver.changes(writable.mount_id, writable.init_id)
        for path in list(kinds):
            while (path := posixpath.dirname(path)) != "/" and path not in kinds:
                kinds[path] = MODIFIED
        return [Change(path, kind) for path, kind in sorted(kinds.items())]

    # -- reading ---------------------------------------------------------------------------------

    def export(self) -> Iterator[bytes]:
        """Emit the event, and return the whole file system as a tar in pieces: the input of import_().

        The iterator reads the files only when a piece is requested. It raises Conflict if the container is removed
        before the last piece.
        """
        emit_change(self._data.emit, "exported", read(self._data.records, self._id))
        return self._export()

    def _export(self) -> Iterator[bytes]:
        with self._file_system() as root:
            users, groups = (names_by_id(_read(root, f"etc/{name}")) for name in ("passwd", "group"))
            members = TreeReader(root.fd, users=users, groups=groups, whiteouts=False, first_ids=root.first_ids)
            yield from self._packed(members)

    def get_archive(self, path: str) -> tuple[Iterator[bytes], PathStatus]:
        """Return a file or directory as a tar in pieces, and its status. The member names start with its name.

        A symbolic link at the end of the path is followed only if the path ends with a slash. The pieces are read as by
        export(). Raises NotFound.
        """
        return self._archive(path), self.path_status(path)

    def _archive(self, path: str) -> Iterator[bytes]:
        with self.members(path) as members:
            yield from self._packed(members)

    def _packed(self, members: TreeReader) -> Iterator[bytes]:
        for _ in members:
            yield members.raw
            yield from members.content()
        self._refuse_removed()  # before the trailer, which marks the archive as complete
        yield from members.trailer()

    def _refuse_removed(self) -> None:
        """Raise Conflict if the container was removed: its record is deleted before its files."""
        if self._data.records.load(self._id) is None:
            raise Conflict(
                f"container {self._id[:12]} was removed while its files were read", hint="copy before you remove it"
            )

    def path_status(self, path: str) -> PathStatus:
        """Return the status of a path. Raises NotFound."""
        with self._located(path) as (root, inner), _opened(root.fd, inner) as fd:
            return _status(path, fd)

    @contextlib.contextmanager
    def members(self, path: str, name: str = "") -> Iterator[TreeReader]:
        """Open a file or directory as tar members.

        name  the first part of the members' names, by default the name of the file or directory

        Raises NotFound. Raises Conflict at the end of the block if the container was removed during the block.
        """
        with self._located(path) as (root, inner), _opened(root.fd, inner) as fd:
            emit_change(self._data.emit, "archive-path", self._settled)
            name = name or posixpath.basename(path.rstrip("/")) or "/"  # "/" for the root directory, as in dockerd
            yield TreeReader(fd, name=name, whiteouts=False, first_ids=root.first_ids)
            self._refuse_removed()

    # -- writing ---------------------------------------------------------------------------------

    def put_archive(
        self, path: str, archive: BinaryIO, *, keep_directories: bool = False, as_user: bool = False
    ) -> None:
        """Extract a tar, compressed or not, into a directory.

        keep_directories  refuse to replace a directory by another kind of file, or another kind by a directory
        as_user           the files belong to the user in the container's configuration, if it has one

        Raises NotFound, InvalidInput if path is not a directory, InvalidArchive.
        """
        with contextlib.ExitStack() as stack:
            owner = self._user() if as_user else None
            if not self._data.driver.is_mounted(self._data.layers.writable(self._id).mount_id):
                # The extraction holds the container's lock, so a start waits for it. It must not wait for a slow
                # client.
                archive = stack.enter_context(self._spooled(archive))
            plain = stack.enter_context(compression.decompressed(archive))
            self.put_members(path, TarReader(plain), keep_directories=keep_directories, owner=owner)
            # Read the rest: a program that still writes into a pipe would otherwise be killed by SIGPIPE.
            while archive.read(_PIECE_SIZE):
                pass

    @contextlib.contextmanager
    def _spooled(self, archive: BinaryIO) -> Iterator[BinaryIO]:
        """Copy the rest of a stream to an unnamed file on the data root's disk. Blocks of zeros become holes."""
        with tempfile.TemporaryFile(dir=self._data.spool_directory()) as file:
            while piece := archive.read(_HOLE_SIZE):
                if piece == _ZEROS:
                    file.seek(len(piece), os.SEEK_CUR)
                else:
                    file.write(piece)
            file.truncate()
            file.seek(0)
            yield cast(BinaryIO, file)

    def _user(self) -> tuple[int, int] | None:
        """(uid, gid) of the user in the container's configuration, None if it has none."""
        name = self._settled.config.user
        if not name:
            return None
        with self._file_system() as root:
            user, _ = find_user(name, Path(f"/proc/self/fd/{root.fd}"))
        return user.uid, user.gid

    def put_members(
        self,
        path: str,
        members: MemberSource,
        *,
        keep_directories: bool = False,
        owner: tuple[int, int] | None = None,
    ) -> int:
        """Extract members into a directory; return the number of bytes of tar. Raises what put_archive() raises.

        keep_directories  as in put_archive()
        owner             (uid, gid) of all created files; None takes those of the members
        """
        with self._located(path, write=True) as (root, inner):
            if root.is_own and self._settled.host_config.readonly_rootfs:
                raise InvalidInput("container rootfs is marked read-only", hint="copy into a volume")
            _refuse_extraction_point(root.fd, inner)
            ids, below = root.first_ids, posixpath.normpath(f"/{inner}").strip("/")

            def change(header: tar.Header) -> None:
                uid, gid = owner or (header.uid, header.gid)
                header.uid, header.gid = uid + ids[0], gid + ids[1]

            with Extractor(root.fd, whiteouts=False, keep_directories=keep_directories) as extractor:
                size = remap.as_root_of(ids, lambda: extract(members, extractor, below, change))
        emit_change(self._data.emit, "extract-to-dir", self._settled)
        return size

    # -- resolving paths -------------------------------------------------------------------------

    @property
    def _settled(self) -> ContainerRecord:
        return read_settled(self._data, self._runtime, self._id)

    @contextlib.contextmanager
    def _file_system(self, *, write: bool = False) -> Iterator[_Root]:
        """Open the container's own file system.

        write  open it for writing. If the container does not run, it cannot start during the block: overlayfs does not
               allow two mounts with one upper directory (Documentation/filesystems/overlayfs.rst)
        """
        data, container_id = self._data, self._id
        with contextlib.ExitStack() as stack, contextlib.ExitStack() as locked:
            # The lock keeps the container from starting and exiting. On a read-only disk no container starts.
            if write or data.records.writable:
                locked.enter_context(data.records.lock(container_id))
            record, mount_id = read(data.records, container_id), data.layers.writable_to_change(container_id).mount_id
            was_mounted = data.driver.is_mounted(mount_id)
            fd = opened(data.driver.mount(mount_id)) if write else data.driver.open_view(mount_id)
            stack.callback(os.close, fd)
            if write and not was_mounted and data.driver.is_mounted(mount_id):
                # This mounted the file system: keep the lock until it is unmounted.
                stack.push(locked.pop_all())
                stack.callback(data.driver.unmount, mount_id)
            locked.close()
            yield _Root(fd, remap.first_ids(record) if was_mounted else (0, 0), is_own=True)

    @contextlib.contextmanager
    def _located(self, path: str, *, write: bool = False) -> Iterator[tuple[_Root, str]]:
        """Yield the root in which a path is resolved, and the path relative to it. A volume is a root of its own.

        write  whether the path is a directory to write into. A symbolic link at its end is then followed
        """
        mounts = self._mounts()
        target = posixpath.join(path, "") if write else path
        resolved = self._resolve_links(target, mounts) if mounts else path
        ending = path[len(path.rstrip("/.")) :] if path.endswith(("/", "/.")) else ""
        mount = _covering(mounts, resolved)
        if mount is None:
            with self._file_system(write=write) as root:
                yield root, resolved + ending
            return
        if write and not mount.writable:
            raise InvalidInput("mounted volume is marked read-only", hint="copy to another directory")
        with self._volume_present(mount):
            fd, inner = _in_source(mount, resolved)
        try:
            yield _Root(fd), inner + ending
        finally:
            os.close(fd)

    def _volume_present(self, mount: MountPoint) -> contextlib.AbstractContextManager[None]:
        if mount.type == "volume":
            return volume_mounting.present(self._data, mount.name)
        return contextlib.nullcontext()

    def _mounts(self) -> list[MountPoint]:
        """The mounts over the container's own files, deepest first, with the files that the engine writes.

        Mounts whose source does not exist on the host are left out.
        """
        record = self._settled
        directory = self._data.records.directory(network_files_owner(self._data, record))
        engine_files = [
            MountPoint(type="bind", source=str(directory / name), destination=f"/etc/{name}") for name in NETWORK_FILES
        ]
        requested = [mount for mount in record.mounts if mount.type in ("bind", "volume")]
        covered = {mount.destination for mount in requested}
        mounts = [*requested, *(mount for mount in engine_files if mount.destination not in covered)]
        present = [mount for mount in mounts if os.path.exists(mount.source)]
        return sorted(present, key=lambda mount: len(mount.destination), reverse=True)

    def _resolve_links(self, path: str, mounts: Sequence[MountPoint]) -> str:
        """Resolve the symbolic links of a path. A link at its end is followed only if the path ends with a slash."""
        # The kernel cannot do this: RESOLVE_IN_ROOT applies to one root, and a link may point from one mount to
        # another.
        resolved, waiting = "/", posixpath.normpath("/" + path.lstrip("/")).split("/")[:0:-1]
        is_directory = path.endswith(("/", "/."))
        with self._file_system() as root:
            for _ in range(MOST_PATH_PARTS):
                if not waiting:
                    break
                candidate = posixpath.normpath(posixpath.join(resolved, waiting.pop()))
                link = _link(root.fd, mounts, candidate) if waiting or is_directory else ""
                resolved = "/" if link.startswith("/") else resolved if link else candidate
                waiting += [part for part in reversed(link.split("/")) if part]
        return posixpath.join(resolved, *reversed(waiting))


def _refuse_extraction_point(root: int, path: str) -> None:
    """Raise NotFound or InvalidInput unless path below root is a directory, or a link to one."""
    with _opened(root, path) as fd:
        kind = os.fstat(fd).st_mode
    if not stat.S_ISDIR(kind) and not stat.S_ISLNK(kind):
        raise InvalidInput("extraction point is not a directory", hint="name the directory to extract into")
    with _opened(root, posixpath.join(path, "")):
        pass


def _covering(mounts: Sequence[MountPoint], path: str) -> MountPoint | None:
    """The mount that has a path, None for the container's own files. mounts: deepest first.

    path  without symbolic links
    """
    return next((mount for mount in mounts if Path(path).is_relative_to(mount.destination)), None)


def _in_source(mount: MountPoint, path: str) -> tuple[int, str]:
    """Open the host's directory in which a path of a mount is resolved; return it and the path relative to it.

    For a mount of a single file, that is the file's parent directory. The caller closes the descriptor. Raises
    InvalidInput.
    """
    source, inner = Path(mount.source), posixpath.relpath(path, mount.destination)
    part = volume_mounting.open_part(mount) if mount.subpath else os.open(source, os.O_PATH | os.O_CLOEXEC)
    if stat.S_ISDIR(os.fstat(part).st_mode):
        return part, inner
    os.close(part)
    if subpath := mount.subpath:
        part = volume_mounting.open_part(replace(mount, subpath=posixpath.dirname(subpath)))
        source = Path(subpath)
    else:
        part = opened(source.parent)
    return part, source.name if inner == "." else f"{source.name}/{inner}"


def _link(root: int, mounts: Sequence[MountPoint], path: str) -> str:
    """The target of the symbolic link at a path, "" if it is not a link.

    root  a descriptor of the container's own file system
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(NotFound, InvalidInput))
        if (mount := _covering(mounts, path)) is not None:
            root, path = _in_source(mount, path)
            stack.callback(os.close, root)
        fd = stack.enter_context(_opened(root, path))
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            return os.readlink("", dir_fd=fd)
    return ""


@contextlib.contextmanager
def _opened(root: int, path: str) -> Iterator[int]:
    """Open a path below root with O_PATH. A symbolic link at its end is followed only if it ends with a slash."""
    flags = os.O_PATH | (0 if path.endswith("/") else os.O_NOFOLLOW)
    try:
        fd = linux.openat2(root, path.lstrip("/") or ".", flags, resolve=linux.RESOLVE_IN_ROOT)
    except NotADirectoryError as error:
        raise InvalidInput(f"lstat {path}: not a directory", hint="end the path at the file") from error
    except OSError as error:
        raise NotFound(
            f"Could not find the file {path} in the container: {error.strerror}", hint="check the path"
        ) from error
    try:
        yield fd
    finally:
        os.close(fd)


def _status(path: str, fd: int) -> PathStatus:
    status = os.fstat(fd)
    link = os.readlink("", dir_fd=fd) if stat.S_ISLNK(status.st_mode) else ""
    name = posixpath.basename(path.rstrip("/")) or "/"
    return PathStatus(name, status.st_size, status.st_mode, status.st_mtime_ns, link)


def _read(root: _Root, path: str) -> str:
    with contextlib.suppress(OSError):
        return linux.read_regular(root.fd, path, _LARGEST_LIST).decode(errors="replace")
    return ""
