"""A container's files from outside: what it changed, all of them as a tar, single ones in and out.

Every path is resolved by the kernel with the container's root as the root of everything
(openat2(2), RESOLVE_IN_ROOT), so a link that the container planted leads nowhere else,
whether it runs meanwhile or not.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pylab_container.errors import InvalidInput, NotFound
from pylab_container.formats import tar
from pylab_container.formats.etc import names_by_id
from pylab_container.host import linux
from pylab_container.store import compression
from pylab_container.store.layertar import Extractor, TarReader, TreeReader, inside, is_opaque, is_whiteout, write

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container

MODIFIED, ADDED, DELETED = 0, 1, 2


@dataclass(frozen=True)
class Change:
    """One path that differs from the image; kind 0 is modified, 1 added, 2 deleted, as the Engine API has it."""

    path: str
    kind: int

    @property
    def letter(self) -> str:
        """As `docker diff` shows the kind."""
        return "CAD"[self.kind]


@dataclass(frozen=True)
class PathStatus:
    """What is at a path of a container. mode as st_mode, mtime in nanoseconds; link: where a symbolic link points."""

    name: str
    size: int
    mode: int
    mtime: int
    link: str


# ---- diff ----------------------------------------------------------------------------


def changes(engine: Engine, container: Container) -> list[Change]:
    """What a container changed, sorted by path; every directory above a change counts as modified."""
    driver = engine.driver
    writable = engine.layers.writable(container.id)
    lowers = [driver.root / lower for lower in driver.lowers(writable.mount_id)]
    found: dict[str, int] = {}
    _compare(driver.diff_path(writable.mount_id), lowers, "", found)
    for path in list(found):
        for parent in Path(path).parents:
            if parent != Path("/"):
                found.setdefault(str(parent), MODIFIED)
    return [Change(path, kind) for path, kind in sorted(found.items())]


def _compare(upper: Path, lowers: list[Path], directory: str, found: dict[str, int]) -> None:
    """Compare what an upper layer has in a directory with what lies below it."""
    for entry in os.scandir(upper / directory):
        path = posixpath.join(directory, entry.name)
        status, below = entry.stat(follow_symlinks=False), _below(lowers, path)
        if is_whiteout(status):
            if below is not None:
                found[f"/{path}"] = DELETED
            continue
        if below is None:
            found[f"/{path}"] = ADDED
        elif _differs(status, below):
            found[f"/{path}"] = MODIFIED
        is_directory = stat.S_ISDIR(status.st_mode)
        if below is not None and stat.S_ISDIR(below.st_mode) and (not is_directory or is_opaque(entry.path)):
            hidden = _names_below(lowers, path) - (set(os.listdir(entry.path)) if is_directory else set())
            found.update({f"/{path}/{name}": DELETED for name in hidden})
        if is_directory:
            _compare(upper, lowers, path, found)


def _below(lowers: list[Path], path: str) -> os.stat_result | None:
    """What the image has at a path, None where it has nothing."""
    for lower in lowers:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = os.lstat(lower / path)
            return None if is_whiteout(status) else status
    return None


def _names_below(lowers: list[Path], directory: str) -> set[str]:
    """What the image has in a directory: the layers' entries, up to the first layer that hides those under it."""
    names: set[str] = set()
    for lower in lowers:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            names |= set(os.listdir(lower / directory))
            if is_opaque(str(lower / directory)):
                break
    return {name for name in names if _below(lowers, posixpath.join(directory, name)) is not None}


def _differs(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether a path changed itself; a directory's time does not count, it tells of what is inside."""
    same = (one.st_mode, one.st_uid, one.st_gid, one.st_rdev) == (
        other.st_mode,
        other.st_uid,
        other.st_gid,
        other.st_rdev,
    )
    if same and not stat.S_ISDIR(one.st_mode):
        return (one.st_mtime_ns, one.st_size) != (other.st_mtime_ns, other.st_size)
    return not same


# ---- whole and single files ----------------------------------------------------------


def export(engine: Engine, container: Container) -> Iterator[bytes]:
    """A container's whole file system as a tar, in pieces: what `import_` takes."""
    with mounted(engine, container) as root:
        users, groups = (names_by_id(_read(root, f"etc/{name}")) for name in ("passwd", "group"))
        members = TreeReader(root, users=users, groups=groups)
        for _ in members:
            yield members.raw
            yield from members.content()
        yield from members.trailer()


def get_archive(engine: Engine, container: Container, path: str) -> tuple[Iterator[bytes], PathStatus]:
    """A file or directory of a container as a tar, whose members start with its own name. Raises NotFound.

    A symbolic link at the end of the path is not followed, unless the path ends with a slash.
    """
    with mounted(engine, container) as root, _opened(root, path) as fd:
        status = _status(path, fd)
    return _members(engine, container, path), status


def path_status(engine: Engine, container: Container, path: str) -> PathStatus:
    """What is at a path of a container. Raises NotFound."""
    with mounted(engine, container) as root, _opened(root, path) as fd:
        return _status(path, fd)


def put_archive(engine: Engine, container: Container, path: str, archive: BinaryIO) -> None:
    """Extract a tar, compressed or not, into a directory of a container.

    Raises NotFound, InvalidInput where path is no directory, InvalidArchive.
    """
    with mounted(engine, container) as root, Extractor(root, whiteouts=False) as extractor:
        with _opened(root, posixpath.join(path, "")) as fd:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                raise InvalidInput(
                    f"{path} in the container is not a directory", hint="name the directory to extract into"
                )
        members = TarReader(compression.decompressed(archive))
        for header in members:
            name = inside(header.name)
            if not name:
                continue
            header.name = posixpath.join(path.strip("/"), name)
            if header.kind == tar.LINK:
                header.link = posixpath.join(path.strip("/"), inside(header.link))
            writer = extractor.create(header)
            for chunk in members.content():
                if writer is not None:
                    write(writer, chunk)
            extractor.complete(header)
        extractor.finish()


@contextlib.contextmanager
def mounted(engine: Engine, container: Container) -> Iterator[Path]:
    """A container's root: where it is mounted while it runs, else mounted for this block."""
    writable = engine.layers.writable(container.id)
    with engine.records.lock(container.id):
        runs = engine.driver.is_mounted(writable.mount_id)
        root = engine.driver.mount(writable.mount_id)
        if not runs:
            try:
                yield root
            finally:
                engine.driver.unmount(writable.mount_id)
            return
    yield root


def _members(engine: Engine, container: Container, path: str) -> Iterator[bytes]:
    with mounted(engine, container) as root, _opened(root, path) as fd:
        where = Path(os.readlink(f"/proc/self/fd/{fd}"))
        members = TreeReader(where, name=posixpath.basename(path.rstrip("/")) or ".")
        for _ in members:
            yield members.raw
            yield from members.content()
        yield from members.trailer()


@contextlib.contextmanager
def _opened(root: Path, path: str) -> Iterator[int]:
    """A path inside root, as a descriptor that only says where it is (O_PATH)."""
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    flags = os.O_PATH | (0 if path.endswith("/") else os.O_NOFOLLOW)
    try:
        fd = linux.openat2(base, path.lstrip("/") or ".", flags, resolve=linux.RESOLVE_IN_ROOT)
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
