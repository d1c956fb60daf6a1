"""cp: files between the host and a container, by the rules of `docker cp`.

What the target is decides (docker's reference, "docker cp"):

    target                  a file goes                 a directory goes
    a directory             into it, by its own name    into it; only its content where SRC ends with /.
    a file                  over it                     nowhere: refused
    nothing yet             there, by that name         there, by that name
    nothing yet, with a /   nowhere: refused            there, by that name

Whatever a container holds, nothing outside the target directory is written on the host, and
nothing outside the container is read.
"""

from __future__ import annotations

import os
import posixpath
import stat
from pathlib import Path

from msgspec import Struct

from pylab_container.containers.root_filesystem import ContainerFiles
from pylab_container.errors import InvalidInput, NotFound
from pylab_container.oci import tar
from pylab_container.store.extraction import extract
from pylab_container.store.extractor import Extractor
from pylab_container.store.treetar import TreeReader


class _Target(Struct, frozen=True):
    """Where something is to go. path: without links at its end; exists and is_directory: what is there."""

    path: str
    exists: bool
    is_directory: bool

    def place(self, source: str, *, is_directory: bool) -> tuple[str, str]:
        """The directory to extract into, and the name to extract as. Raises InvalidInput."""
        if self.is_directory:
            return self.path, _base(source)
        if self.exists and is_directory:
            raise InvalidInput("cannot copy directory", hint=f"{self.path} is a file")
        if not self.exists and not is_directory and _says_directory(self.path):
            raise InvalidInput("no such directory", hint=f"make {self.path} first, or leave its last / away")
        directory, name = posixpath.split(self.path.rstrip("/").removesuffix("/."))
        return directory or "/", name


# ---- from a container ----------------------------------------------------------------


def to_host(
    files: ContainerFiles,
    source: str,
    target: str,
    *,
    keep_owners: bool = False,
    follow_link: bool = False,
) -> int:
    """Copy a path of a container to a path of the host; returns the bytes of tar.

    keep_owners  files get their owners, set-id bits, capabilities and device modes; without it
                 they are the caller's, and harmless
    follow_link  copy what a symbolic link at the end of source points to

    Raises NotFound, InvalidInput, InvalidArchive.
    """
    asked = _absolute(source, "/")
    found = _resolved(files, asked) if follow_link else asked
    status = files.path_status(found)
    directory, name = _host_target(target).place(asked, is_directory=stat.S_ISDIR(status.mode))
    with (
        files.members(found, name) as members,
        Extractor(Path(directory), whiteouts=False, keep_directories=True) as extractor,
    ):
        return extract(members, extractor, change=None if keep_owners else _make_harmless)


def _make_harmless(header: tar.Header) -> None:
    """Without this, a container's set-uid program would be one on the host, and its /dev/sda too."""
    header.uid, header.gid = os.getuid(), os.getgid()
    header.mode &= 0o600 if header.kind in (tar.CHARACTER, tar.BLOCK_DEVICE) else 0o1777
    header.xattrs = {name: value for name, value in header.xattrs.items() if name.startswith("user.")}


def _host_target(path: str) -> _Target:
    resolved = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(resolved)):
        raise InvalidInput(
            f'invalid output path: directory "{os.path.dirname(resolved)}" does not exist', hint="make it first"
        )
    is_directory, exists = os.path.isdir(resolved), os.path.exists(resolved)
    if exists and not is_directory and _says_directory(path):
        raise InvalidInput(f"{path}: not a directory", hint="leave its last / away to write over the file")
    if exists and not is_directory and not os.path.isfile(resolved):
        raise InvalidInput(
            f'invalid output path: "{path}" must be a directory or a regular file', hint="name another path"
        )
    return _Target(resolved + ("/" if _says_directory(path) and not exists else ""), exists, is_directory)


# ---- to a container ------------------------------------------------------------------


def to_container(files: ContainerFiles, source: str, target: str, *, follow_link: bool = False) -> int:
    """Copy a path of the host to a path of a container, owners as numbers; returns the bytes of tar.

    Raises NotFound, InvalidInput, InvalidArchive.
    """
    source = _absolute(source, os.getcwd())
    try:
        status = os.stat(source) if follow_link or source.endswith("/") else os.lstat(source)
    except OSError as error:
        raise NotFound(f"{source}: {(error.strerror or '').lower()}", hint="check the path") from error
    directory, name = _container_target(files, target).place(source, is_directory=stat.S_ISDIR(status.st_mode))
    where = os.path.realpath(source) if follow_link or source.endswith(("/", "/.")) else source
    members = TreeReader(Path(where), name=name, whiteouts=False)
    return files.put_members(directory, members, keep_directories=True)


def _container_target(files: ContainerFiles, path: str) -> _Target:
    path = _absolute(path, "/")
    try:
        path = _resolved(files, path)
        status = files.path_status(path)
    except (NotFound, InvalidInput):  # a file on the way is complained of when something is to be put there
        return _Target(path, exists=False, is_directory=False)
    return _Target(path, exists=True, is_directory=stat.S_ISDIR(status.mode))


def _resolved(files: ContainerFiles, path: str) -> str:
    """A path of a container, with the symbolic link at its end followed once, as docker does."""
    link = files.path_status(path).link
    return posixpath.join(posixpath.dirname(path), link) if link else path


def _absolute(path: str, directory: str) -> str:
    """A path from the root without dots in it; a slash or "/." at its end stays, for it says what is meant."""
    ending = "/." if path.endswith("/.") or path == "." else "/" if path.endswith("/") else ""
    return posixpath.normpath(posixpath.join(directory, path)).rstrip("/") + ending or "/"


def _base(path: str) -> str:
    """The last part of a path: "." where only what is in a directory is meant."""
    return posixpath.basename(path.rstrip("/")) or "."


def _says_directory(path: str) -> bool:
    return path.endswith(("/", "/.")) or path == "."
