"""A container's files from outside: what it changed, all of them as a tar, single ones in and out.

Every path is resolved by the kernel with the container's root as the root of everything
(openat2(2), RESOLVE_IN_ROOT), so a link that the container planted leads nowhere else,
whether it runs meanwhile or not.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import stat
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from msgspec import Struct

from pylab_container.engine.containers import launch, lifetime, remap
from pylab_container.errors import InvalidInput, NotFound
from pylab_container.formats import tar
from pylab_container.formats.etc import names_by_id
from pylab_container.host import linux
from pylab_container.host.spool import ahead
from pylab_container.store import compression
from pylab_container.store.changes import MODIFIED
from pylab_container.store.layertar import Extractor, MemberSource, TarReader, clamped, inside
from pylab_container.store.treetar import TreeReader

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.containers.container import Container


_PIECE = 1 << 20
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


# ---- diff ----------------------------------------------------------------------------


def changes(engine: Engine, container: Container) -> list[Change]:
    """What a container changed, sorted by path; every directory above a change counts as modified."""
    writable = engine.layers.writable(container.id)
    found = engine.driver.changes(writable.mount_id, writable.init_id)
    for path in list(found):
        for parent in Path(path).parents:
            if parent != Path("/"):
                found.setdefault(str(parent), MODIFIED)
    return [Change(path, kind) for path, kind in sorted(found.items())]


# ---- whole and single files ----------------------------------------------------------


def export(engine: Engine, container: Container) -> Iterator[bytes]:
    """A container's whole file system as a tar, in pieces: what `import_` takes.

    The container stands still only until all of it is read, not until somebody has taken the last piece.
    """
    return ahead(_exported(engine, container), lambda: _waiting_room(engine))


def _waiting_room(engine: Engine) -> BinaryIO:
    """A file without a name on the data root's disk."""
    return cast(BinaryIO, tempfile.TemporaryFile(dir=engine.spool_directory()))


def _exported(engine: Engine, container: Container) -> Generator[bytes, None, None]:
    with mounted(engine, container) as root:
        users, groups = (names_by_id(_read(root, f"etc/{name}")) for name in ("passwd", "group"))
        ids = remap.first_ids(container.record)
        members = TreeReader(root, users=users, groups=groups, whiteouts=False, first_ids=ids)
        for _ in members:
            yield members.raw
            yield from members.content()
        yield from members.trailer()


def get_archive(engine: Engine, container: Container, path: str) -> tuple[Iterator[bytes], PathStatus]:
    """A file or directory of a container as a tar, whose members start with its own name. Raises NotFound.

    A symbolic link at the end of the path is not followed, unless the path ends with a slash.
    """
    status = path_status(engine, container, path)
    return ahead(_archive(engine, container, path), lambda: _waiting_room(engine)), status


def _archive(engine: Engine, container: Container, path: str) -> Generator[bytes, None, None]:
    with members_of(engine, container, path) as members:
        for _ in members:
            yield members.raw
            yield from members.content()
        yield from members.trailer()


def path_status(engine: Engine, container: Container, path: str) -> PathStatus:
    """What is at a path of a container. Raises NotFound."""
    with _located(engine, container, path) as (root, inner), _opened(root, inner) as fd:
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
    """Extract a tar, compressed or not, into a directory of a container, once all of it has come.

    keep_directories  refuse to put a directory in the place of something else, or the other way
    as_user           everything belongs to the container's own user, where it names one

    Raises NotFound, InvalidInput where path is no directory, InvalidArchive.
    """
    with _waiting_room(engine) as whole:
        shutil.copyfileobj(archive, whole, _PIECE)
        whole.seek(0)
        owner = _user_of(engine, container) if as_user else None
        with compression.decompressed(whole) as plain:
            members = TarReader(plain)
            put_members(engine, container, path, members, keep_directories=keep_directories, owner=owner)


def _user_of(engine: Engine, container: Container) -> tuple[int, int] | None:
    """(uid, gid) of the container's own user, None where it names none."""
    name = str(container.record.config.get("User") or "")
    if not name:
        return None
    with mounted(engine, container) as root:
        user, _ = launch.find_user(name, root)
    return user.uid, user.gid


@contextlib.contextmanager
def members_of(engine: Engine, container: Container, path: str, name: str = "") -> Iterator[TreeReader]:
    """A file or directory of a container as members that start with name, by default its own. Raises NotFound."""
    with _located(engine, container, path) as (root, inner), _opened(root, inner) as fd:
        lifetime.tell(engine, "archive-path", container.record)
        where = Path(os.readlink(f"/proc/self/fd/{fd}"))
        name = name or posixpath.basename(path.rstrip("/")) or "/"  # of everything, as from dockerd
        yield TreeReader(where, name=name, whiteouts=False, first_ids=_first_ids(container, root))


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
        if root == container.merged and container.record.host_config.get("ReadonlyRootfs"):
            raise InvalidInput("container rootfs is marked read-only", hint="copy into a volume")
        with _opened(root, inner) as fd:  # it must be there …
            kind = os.fstat(fd).st_mode
        if not stat.S_ISDIR(kind) and not stat.S_ISLNK(kind):
            raise InvalidInput("extraction point is not a directory", hint="name the directory to extract into")
        with _opened(root, posixpath.join(inner, "")):  # … and be a directory, or lead to one
            pass
        ids, below = _first_ids(container, root), posixpath.normpath(f"/{inner}").strip("/")

        def change(header: tar.Header) -> None:
            uid, gid = owner or (header.uid, header.gid)
            header.uid, header.gid = uid + ids[0], gid + ids[1]

        with Extractor(root, whiteouts=False, keep_directories=keep_directories) as extractor:
            size = remap.as_root_of(ids, lambda: extract(members, extractor, below, change))
    lifetime.tell(engine, "extract-to-dir", container.record)
    return size


def _first_ids(container: Container, root: Path) -> tuple[int, int]:
    """Who the container's root is in a root that _located() gave: a volume's files are not mapped there."""
    return remap.first_ids(container.record) if root == container.merged else (0, 0)


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
def mounted(engine: Engine, container: Container) -> Iterator[Path]:
    """A container's root: where it is mounted while it runs, else mounted for this block.

    One that runs is frozen meanwhile: nobody in it can put a link in the place of a directory
    between a look at the path and its use.
    """
    writable = engine.layers.own(container.id)
    with contextlib.ExitStack() as stack:
        with engine.records.lock(container.id):
            runs = engine.driver.is_mounted(writable.mount_id)
            root = engine.driver.mount(writable.mount_id)
            if not runs:
                try:
                    yield root
                finally:
                    engine.driver.unmount(writable.mount_id)
                return
        stack.enter_context(container.frozen())
        yield root


@contextlib.contextmanager
def _located(engine: Engine, container: Container, path: str, *, write: bool = False) -> Iterator[tuple[Path, str]]:
    """The root that a path of a container is to be resolved in, and the path in it: a volume is a root of its own.

    write  it is where something is put: a link there is followed, too
    """
    mounts = _mounts(engine, container)
    place = posixpath.join(path, "") if write else path
    wanted = _without_links(engine, container, place, mounts) if mounts else path
    ending = path[len(path.rstrip("/.")) :] if path.endswith(("/", "/.")) else ""
    mount = _covering(mounts, wanted)
    if mount is None:
        with mounted(engine, container) as root:
            yield root, wanted + ending
        return
    if write and not mount.get("RW", True):
        raise InvalidInput("mounted volume is marked read-only", hint="copy to another directory")
    with _volume_present(engine, mount), _sharers_frozen(engine, mount["Source"]):
        root, inner = _in_source(mount, wanted)
        yield root, inner + ending


def _mounts(engine: Engine, container: Container) -> list[Mapping[str, Any]]:
    """What lies over a container's own files and is to be found on the host: also the files that the engine keeps."""
    record = container.record
    directory = engine.records.directory(launch.files_of(engine, record))
    kept = [
        {"Type": "bind", "Source": str(directory / name), "Destination": f"/etc/{name}", "RW": True}
        for name in launch.NETWORK_FILES
    ]
    given = [mount for mount in record.mounts if mount["Type"] in ("bind", "volume")]
    taken = {mount["Destination"] for mount in given}
    found = [*given, *(mount for mount in kept if mount["Destination"] not in taken)]
    present = [mount for mount in found if os.path.exists(mount["Source"])]
    return sorted(present, key=lambda mount: len(mount["Destination"]), reverse=True)


def _covering(mounts: Sequence[Mapping[str, Any]], path: str) -> Mapping[str, Any] | None:
    """The mount that a path without links lies in, None for the container's own files. mounts: the deepest first."""
    return next((mount for mount in mounts if Path(path).is_relative_to(mount["Destination"])), None)


def _in_source(mount: Mapping[str, Any], path: str) -> tuple[Path, str]:
    """The directory of the host that a path in a mount is to be resolved in, and the path in it."""
    source, inner = Path(mount["Source"]), posixpath.relpath(path, mount["Destination"])
    if source.is_dir():
        return source, inner
    return source.parent, source.name if inner == "." else f"{source.name}/{inner}"


def _without_links(engine: Engine, container: Container, path: str, mounts: Sequence[Mapping[str, Any]]) -> str:
    """A path with the links followed on the way to its last part, from one mount into another, too.

    The last part is followed where the path says that it is a directory.
    """
    found, waiting = "/", posixpath.normpath("/" + path.lstrip("/")).split("/")[:0:-1]
    is_directory = path.endswith(("/", "/."))
    with mounted(engine, container) as root:
        for _ in range(_MOST_PARTS):
            if not waiting:
                break
            candidate = posixpath.normpath(posixpath.join(found, waiting.pop()))
            link = _link(root, mounts, candidate) if waiting or is_directory else ""
            found = "/" if link.startswith("/") else found if link else candidate
            waiting += [part for part in reversed(link.split("/")) if part]
    return posixpath.join(found, *reversed(waiting))


def _link(root: Path, mounts: Sequence[Mapping[str, Any]], path: str) -> str:
    """Where the link at a path points, "" where there is none; root: of the container's own files."""
    mount = _covering(mounts, path)
    where, inner = (root, path) if mount is None else _in_source(mount, path)
    with contextlib.suppress(NotFound, InvalidInput), _opened(where, inner) as fd:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            return os.readlink("", dir_fd=fd)
    return ""


def _volume_present(engine: Engine, mount: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    from pylab_container.engine.volumes import mounts as volume_mounts

    return volume_mounts.present(engine, mount["Name"]) if mount["Type"] == "volume" else contextlib.nullcontext()


@contextlib.contextmanager
def _sharers_frozen(engine: Engine, source: str) -> Iterator[None]:
    """All containers that see a directory of the host stand still while the block runs."""
    with contextlib.ExitStack() as stack:
        for container in engine.containers.list():
            shown = (str(mount["Source"]) for mount in container.record.mounts)
            if any(_overlap(source, other) for other in shown):
                stack.enter_context(container.frozen())
        yield


def _overlap(one: str, other: str) -> bool:
    """Whether one of two directories is the other, or in it, whatever links lead to them."""
    first, second = Path(one).resolve(), Path(other).resolve()
    return first.is_relative_to(second) or second.is_relative_to(first)


@contextlib.contextmanager
def _opened(root: Path, path: str) -> Iterator[int]:
    """A path inside root, as a descriptor that only says where it is (O_PATH)."""
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    flags = os.O_PATH | (0 if path.endswith("/") else os.O_NOFOLLOW)
    try:
        fd = linux.openat2(base, path.lstrip("/") or ".", flags, resolve=linux.RESOLVE_IN_ROOT)
    except NotADirectoryError as error:
        raise InvalidInput(f"lstat {path}: not a directory", hint="leave what stands behind the file away") from error
    except OSError as error:
        raise NotFound(
            f"Could not find the file {path} in the container: {error.strerror}", hint="check the path"
        ) from error
    finally:
        os.close(base)
    try:
        yield fd
    finally:
        os.close(fd)


def _status(path: str, fd: int) -> PathStatus:
    found = os.fstat(fd)
    link = os.readlink("", dir_fd=fd) if stat.S_ISLNK(found.st_mode) else ""
    name = posixpath.basename(path.rstrip("/")) or "/"
    return PathStatus(name, found.st_size, found.st_mode, found.st_mtime_ns, link)


def _read(root: Path, path: str) -> str:
    with contextlib.suppress(NotFound, OSError), _opened(root, f"/{path}/"[:-1]) as fd:
        return Path(f"/proc/self/fd/{fd}").read_text(errors="replace")
    return ""
