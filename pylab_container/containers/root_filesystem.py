"""A container's files from outside: what it changed, all of them as a tar, single ones in and out.

Every path is resolved by the kernel with the container's root as the root of everything
(openat2(2), RESOLVE_IN_ROOT), so a link that the container planted leads nowhere else,
whether it runs or not. It is not frozen for that: its checks, commands and end go on, as with Docker.

A transfer holds a reference to the file system that it reads or writes: a descriptor. The container may stop, be
killed and start again during the transfer. If it is removed, the transfer fails: its archive then has no end.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.containers import launch, lifetime, remap
from pylab_container.errors import Conflict, InvalidInput, NotFound
from pylab_container.host import linux
from pylab_container.host.descent import opened
from pylab_container.oci import tar
from pylab_container.oci.mounts import MountPoint
from pylab_container.runtime.etc import names_by_id
from pylab_container.store import compression
from pylab_container.store.changes import MODIFIED
from pylab_container.store.extractor import Extractor, clamped, inside
from pylab_container.store.layertar import MemberSource, TarReader
from pylab_container.store.treetar import TreeReader
from pylab_container.volumes import mounting as volume_mounts

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container


_PIECE = 1 << 20
_HOLE = 1 << 16
_ZEROS = bytes(_HOLE)
_LONGEST_LIST = 1 << 20  # bytes of /etc/passwd or /etc/group
_MOST_PARTS = 4096
"""A path of so many parts, those of links counted, leads round and round."""


class Change(Struct, frozen=True):
    """One path that differs from the image; kind 0 is modified, 1 added, 2 deleted, as the Engine API has it."""

    path: str
    kind: int

    @property
    def letter(self) -> str:
        """As `docker diff` shows the kind."""
        return "CAD"[self.kind]


class PathStatus(Struct, frozen=True):
    """What is at a path of a container. mode as st_mode, mtime in nanoseconds; link: where a symbolic link points."""

    name: str
    size: int
    mode: int
    mtime: int
    link: str


class _Root(Struct, frozen=True):
    """A directory that paths are resolved in: a container's own file system, or one of its volumes.

    fd         a reference to it, valid in the block that it was made for
    first_ids  the owner and group that the container's root has there
    is_own     whether it is the container's own file system
    """

    fd: int
    first_ids: tuple[int, int] = (0, 0)
    is_own: bool = False


# ---- diff ----------------------------------------------------------------------------


def changes(engine: Engine, container: Container) -> list[Change]:
    """What a container changed, sorted by path; every directory above a change counts as modified."""
    writable = engine.data.layers.writable(container.id)
    found = engine.data.driver.changes(writable.mount_id, writable.init_id)
    for path in list(found):
        while (path := posixpath.dirname(path)) != "/" and path not in found:
            found[path] = MODIFIED
    return [Change(path, kind) for path, kind in sorted(found.items())]


# ---- whole and single files ----------------------------------------------------------


def export(engine: Engine, container: Container) -> Iterator[bytes]:
    """A container's whole file system as a tar, in pieces: what `import_` takes.

    The files are read as the pieces are taken. Raises Conflict if the container is removed before the end.
    """
    with _file_system(engine, container) as root:
        users, groups = (names_by_id(_read(root, f"etc/{name}")) for name in ("passwd", "group"))
        members = TreeReader(root.fd, users=users, groups=groups, whiteouts=False, first_ids=root.first_ids)
        yield from _packed(engine, container, members)


def get_archive(engine: Engine, container: Container, path: str) -> tuple[Iterator[bytes], PathStatus]:
    """A file or directory of a container as a tar, whose members start with its own name. Raises NotFound.

    A symbolic link at the end of the path is not followed, unless the path ends with a slash. The pieces are as those
    of export().
    """
    return _archive(engine, container, path), path_status(engine, container, path)


def _archive(engine: Engine, container: Container, path: str) -> Iterator[bytes]:
    with members_of(engine, container, path) as members:
        yield from _packed(engine, container, members)


def _packed(engine: Engine, container: Container, members: TreeReader) -> Iterator[bytes]:
    for _ in members:
        yield members.raw
        yield from members.content()
    _refuse_removed(engine, container)  # before the end, which says that the archive is whole
    yield from members.trailer()


def _refuse_removed(engine: Engine, container: Container) -> None:
    """Raise Conflict if the container was removed: its record goes first, and its files after that."""
    if engine.data.records.load(container.id) is None:
        raise Conflict(
            f"container {container.short_id} was removed while its files were read", hint="copy before you remove it"
        )


def path_status(engine: Engine, container: Container, path: str) -> PathStatus:
    """What is at a path of a container. Raises NotFound."""
    with _located(engine, container, path) as (root, inner), _opened(root.fd, inner) as fd:
        return _status(path, fd)


def put_archive(
    engine: Engine,
    container: Container,
    path: str,
    archive: BinaryIO,
    *,
    keep_directories: bool = False,
    as_user: bool = False,
) -> None:
    """Extract a tar, compressed or not, into a directory of a container.

    keep_directories  refuse to put a directory in the place of something else, or the other way
    as_user           everything belongs to the container's own user, where it names one

    Raises NotFound, InvalidInput where path is no directory, InvalidArchive.
    """
    with contextlib.ExitStack() as stack:
        owner = _user_of(engine, container) if as_user else None
        if not engine.data.driver.is_mounted(engine.data.layers.writable(container.id).mount_id):
            # A start has to wait for the extraction, which therefore must not wait for a slow client.
            archive = stack.enter_context(_spooled(engine, archive))
        plain = stack.enter_context(compression.decompressed(archive))
        put_members(engine, container, path, TarReader(plain), keep_directories=keep_directories, owner=owner)
        while archive.read(_PIECE):
            pass  # a program that still writes into a pipe would be killed


@contextlib.contextmanager
def _spooled(engine: Engine, archive: BinaryIO) -> Iterator[BinaryIO]:
    """What is left of a stream as a file without a name on the data root's disk, in which zeros take no space."""
    with tempfile.TemporaryFile(dir=engine.data.spool_directory()) as file:
        while piece := archive.read(_HOLE):
            if piece == _ZEROS:
                file.seek(len(piece), os.SEEK_CUR)
            else:
                file.write(piece)
        file.truncate()
        file.seek(0)
        yield cast(BinaryIO, file)


def _user_of(engine: Engine, container: Container) -> tuple[int, int] | None:
    """(uid, gid) of the container's own user, None where it names none."""
    name = container.record.config.user
    if not name:
        return None
    with _file_system(engine, container) as root:
        user, _ = launch.find_user(name, Path(f"/proc/self/fd/{root.fd}"))
    return user.uid, user.gid


@contextlib.contextmanager
def members_of(engine: Engine, container: Container, path: str, name: str = "") -> Iterator[TreeReader]:
    """A file or directory of a container as members that start with name, by default its own.

    Raises NotFound, and at the end Conflict if the container was removed in the block.
    """
    with _located(engine, container, path) as (root, inner), _opened(root.fd, inner) as fd:
        lifetime.tell(engine, "archive-path", container.record)
        name = name or posixpath.basename(path.rstrip("/")) or "/"  # of everything, as from dockerd
        yield TreeReader(fd, name=name, whiteouts=False, first_ids=root.first_ids)
        _refuse_removed(engine, container)


def put_members(
    engine: Engine,
    container: Container,
    path: str,
    members: MemberSource,
    *,
    keep_directories: bool = False,
    owner: tuple[int, int] | None = None,
) -> int:
    """Extract members into a directory of a container; returns the bytes of tar. Errors as for put_archive.

    keep_directories  refuse to put a directory in the place of something else, or the other way
    owner             uid and gid of all that is made, instead of the members' own
    """
    with _located(engine, container, path, write=True) as (root, inner):
        if root.is_own and container.record.host_config.readonly_rootfs:
            raise InvalidInput("container rootfs is marked read-only", hint="copy into a volume")
        with _opened(root.fd, inner) as fd:  # it must be there …
            kind = os.fstat(fd).st_mode
        if not stat.S_ISDIR(kind) and not stat.S_ISLNK(kind):
            raise InvalidInput("extraction point is not a directory", hint="name the directory to extract into")
        with _opened(root.fd, posixpath.join(inner, "")):  # … and be a directory, or lead to one
            pass
        ids, below = root.first_ids, posixpath.normpath(f"/{inner}").strip("/")

        def change(header: tar.Header) -> None:
            uid, gid = owner or (header.uid, header.gid)
            header.uid, header.gid = uid + ids[0], gid + ids[1]

        with Extractor(root.fd, whiteouts=False, keep_directories=keep_directories) as extractor:
            size = remap.as_root_of(ids, lambda: extract(members, extractor, below, change))
    lifetime.tell(engine, "extract-to-dir", container.record)
    return size


def extract(
    members: MemberSource, extractor: Extractor, directory: str = "", change: Callable[[tar.Header], None] | None = None
) -> int:
    """Extract members below a directory of the extractor's root; returns the bytes of tar.

    A name may climb as far as a path may: .. of the root is the root, and out of another directory it does not lead.

    change  may alter each header before its file is made

    Raises InvalidArchive.
    """
    relative, total = inside if directory else clamped, 0
    for header in members:
        total += len(members.raw) + header.size
        name = relative(header.name)
        if not name:
            continue
        header.name = posixpath.join(directory, name)
        if header.kind == tar.LINK:
            header.link = posixpath.join(directory, relative(header.link))
        if change:
            change(header)
        extractor.create(header)
        for chunk in members.content():
            extractor.write(chunk)
        extractor.complete(header)
    extractor.finish()
    return total + len(members.raw) + len(tar.END)


@contextlib.contextmanager
def _file_system(engine: Engine, container: Container, *, write: bool = False) -> Iterator[_Root]:
    """A reference to a container's own file system.

    write  it can be written through. A container that does not run cannot start in the block then: overlayfs does not
           allow two mounts with one upper directory (Documentation/filesystems/overlayfs.rst).
    """
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as locked:
        if write or engine.data.records.writable:  # on a read-only disk no container starts
            locked.enter_context(engine.data.records.lock(container.id))  # it neither starts nor ends now
        record, mount_id = lifetime.read(engine, container.id), engine.data.layers.own(container.id).mount_id
        was_mounted = engine.data.driver.is_mounted(mount_id)
        fd = opened(engine.data.driver.mount(mount_id)) if write else engine.data.driver.open_view(mount_id)
        stack.callback(os.close, fd)
        if write and not was_mounted and engine.data.driver.is_mounted(mount_id):
            stack.push(locked.pop_all())
            stack.callback(engine.data.driver.unmount, mount_id)
        locked.close()
        yield _Root(fd, remap.first_ids(record) if was_mounted else (0, 0), is_own=True)


@contextlib.contextmanager
def _located(engine: Engine, container: Container, path: str, *, write: bool = False) -> Iterator[tuple[_Root, str]]:
    """The root that a path of a container is to be resolved in, and the path in it: a volume is a root of its own.

    write  it is where something is put: a link there is followed, too
    """
    mounts = _mounts(engine, container)
    place = posixpath.join(path, "") if write else path
    wanted = _without_links(engine, container, place, mounts) if mounts else path
    ending = path[len(path.rstrip("/.")) :] if path.endswith(("/", "/.")) else ""
    mount = _covering(mounts, wanted)
    if mount is None:
        with _file_system(engine, container, write=write) as root:
            yield root, wanted + ending
        return
    if write and not mount.writable:
        raise InvalidInput("mounted volume is marked read-only", hint="copy to another directory")
    with _volume_present(engine, mount):
        fd, inner = _in_source(mount, wanted)
    try:
        yield _Root(fd), inner + ending
    finally:
        os.close(fd)


def _mounts(engine: Engine, container: Container) -> list[MountPoint]:
    """What lies over a container's own files and is to be found on the host: also the files that the engine keeps."""
    record = container.record
    directory = engine.data.records.directory(launch.files_of(engine, record))
    kept = [
        MountPoint(type="bind", source=str(directory / name), destination=f"/etc/{name}")
        for name in launch.NETWORK_FILES
    ]
    given = [mount for mount in record.mounts if mount.type in ("bind", "volume")]
    taken = {mount.destination for mount in given}
    found = [*given, *(mount for mount in kept if mount.destination not in taken)]
    present = [mount for mount in found if os.path.exists(mount.source)]
    return sorted(present, key=lambda mount: len(mount.destination), reverse=True)


def _covering(mounts: Sequence[MountPoint], path: str) -> MountPoint | None:
    """The mount that a path without links lies in, None for the container's own files. mounts: the deepest first."""
    return next((mount for mount in mounts if Path(path).is_relative_to(mount.destination)), None)


def _in_source(mount: MountPoint, path: str) -> tuple[int, str]:
    """The directory of the host that a path in a mount is to be resolved in, and the path in it.

    The directory as a descriptor, which the caller closes. Raises InvalidInput.
    """
    source, inner = Path(mount.source), posixpath.relpath(path, mount.destination)
    part = volume_mounts.open_part(mount) if mount.subpath else os.open(source, os.O_PATH | os.O_CLOEXEC)
    if stat.S_ISDIR(os.fstat(part).st_mode):
        return part, inner
    os.close(part)
    if subpath := mount.subpath:
        part = volume_mounts.open_part(replace(mount, subpath=posixpath.dirname(subpath)))
        source = Path(subpath)
    else:
        part = opened(source.parent)
    return part, source.name if inner == "." else f"{source.name}/{inner}"


def _without_links(engine: Engine, container: Container, path: str, mounts: Sequence[MountPoint]) -> str:
    """A path with the links followed on the way to its last part, from one mount into another, too.

    The last part is followed where the path says that it is a directory.
    """
    found, waiting = "/", posixpath.normpath("/" + path.lstrip("/")).split("/")[:0:-1]
    is_directory = path.endswith(("/", "/."))
    with _file_system(engine, container) as root:
        for _ in range(_MOST_PARTS):
            if not waiting:
                break
            candidate = posixpath.normpath(posixpath.join(found, waiting.pop()))
            link = _link(root.fd, mounts, candidate) if waiting or is_directory else ""
            found = "/" if link.startswith("/") else found if link else candidate
            waiting += [part for part in reversed(link.split("/")) if part]
    return posixpath.join(found, *reversed(waiting))


def _link(root: int, mounts: Sequence[MountPoint], path: str) -> str:
    """Where the link at a path points, "" where there is none; root: of the container's own files."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(NotFound, InvalidInput))
        if (mount := _covering(mounts, path)) is not None:
            root, path = _in_source(mount, path)
            stack.callback(os.close, root)
        fd = stack.enter_context(_opened(root, path))
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            return os.readlink("", dir_fd=fd)
    return ""


def _volume_present(engine: Engine, mount: MountPoint) -> contextlib.AbstractContextManager[None]:
    return volume_mounts.present(engine, mount.name) if mount.type == "volume" else contextlib.nullcontext()


@contextlib.contextmanager
def _opened(root: int, path: str) -> Iterator[int]:
    """A path inside root, as a descriptor that only says where it is (O_PATH)."""
    flags = os.O_PATH | (0 if path.endswith("/") else os.O_NOFOLLOW)
    try:
        fd = linux.openat2(root, path.lstrip("/") or ".", flags, resolve=linux.RESOLVE_IN_ROOT)
    except NotADirectoryError as error:
        raise InvalidInput(f"lstat {path}: not a directory", hint="leave what stands behind the file away") from error
    except OSError as error:
        raise NotFound(
            f"Could not find the file {path} in the container: {error.strerror}", hint="check the path"
        ) from error
    try:
        yield fd
    finally:
        os.close(fd)


def _status(path: str, fd: int) -> PathStatus:
    found = os.fstat(fd)
    link = os.readlink("", dir_fd=fd) if stat.S_ISLNK(found.st_mode) else ""
    name = posixpath.basename(path.rstrip("/")) or "/"
    return PathStatus(name, found.st_size, found.st_mode, found.st_mtime_ns, link)


def _read(root: _Root, path: str) -> str:
    with contextlib.suppress(OSError):
        return linux.read_regular(root.fd, path, _LONGEST_LIST).decode(errors="replace")
    return ""
