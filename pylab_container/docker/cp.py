"""cp: copy files between the host and a container, by the rules of `docker cp`.

The type of the target decides where a source is copied to (docker's reference, "docker cp"):

    target                  source is a file            source is a directory
    directory               TARGET/NAME                 TARGET/NAME; if SOURCE ends with /., its content to TARGET
    file                    replaces the file           refused
    does not exist          TARGET                      TARGET
    does not exist, ends    refused                     TARGET
    with /

A container is not trusted. Its files and links cannot cause a write outside the target directory on the host, or a read
outside the container.
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
    """The target of a copy.

    path          its last part is not a symbolic link
    exists        whether the path exists
    is_directory  whether the path is a directory; False if it does not exist
    """

    path: str
    exists: bool
    is_directory: bool

    def place(self, source: str, *, is_directory: bool) -> tuple[str, str]:
        """Return the directory into which to extract the source, and the name there. Raises InvalidInput.

        is_directory  whether the source is a directory
        """
        if self.is_directory:
            return self.path, _last_part(source)
        if self.exists and is_directory:
            raise InvalidInput("cannot copy directory", hint=f"{self.path} is a file")
        if not self.exists and not is_directory and _is_marked_as_directory(self.path):
            raise InvalidInput("no such directory", hint=f"create {self.path} first, or omit its last /")
        directory, name = posixpath.split(self.path.rstrip("/").removesuffix("/."))
        return directory or "/", name


# -- from a container ----------------------------------------------------------------------------


def to_host(
    files: ContainerFiles,
    source: str,
    target: str,
    *,
    keep_owners: bool = False,
    follow_link: bool = False,
) -> int:
    """Copy a path of a container to a path of the host; return the number of bytes of tar.

    keep_owners  keep owners, set-id bits, capabilities and the modes of devices. By default all files belong to the
                 caller, without set-id bits and capabilities, and only the caller may use the devices
    follow_link  if source is a symbolic link, copy its target

    Raises NotFound, InvalidInput, InvalidArchive.
    """
    source = _absolute(source, "/")
    path = _follow_link(files, source) if follow_link else source
    status = files.path_status(path)
    directory, name = _host_target(target).place(source, is_directory=stat.S_ISDIR(status.mode))
    with (
        files.members(path, name) as members,
        Extractor(Path(directory), whiteouts=False, keep_directories=True) as extractor,
    ):
        return extract(members, extractor, change=None if keep_owners else _make_harmless)


def _make_harmless(header: tar.Header) -> None:
    """Remove rights that a container could use on the host: set-id programs, capabilities, access to devices."""
    header.uid, header.gid = os.getuid(), os.getgid()
    header.mode &= 0o600 if header.kind in (tar.CHARACTER, tar.BLOCK_DEVICE) else 0o1777
    header.xattrs = {name: value for name, value in header.xattrs.items() if name.startswith("user.")}


def _host_target(path: str) -> _Target:
    resolved = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(resolved)):
        raise InvalidInput(
            f'invalid output path: directory "{os.path.dirname(resolved)}" does not exist', hint="create it first"
        )
    is_directory, exists = os.path.isdir(resolved), os.path.exists(resolved)
    if exists and not is_directory and _is_marked_as_directory(path):
        raise InvalidInput(f"{path}: not a directory", hint="omit its last / to replace the file")
    if exists and not is_directory and not os.path.isfile(resolved):
        raise InvalidInput(
            f'invalid output path: "{path}" must be a directory or a regular file', hint="name another path"
        )
    return _Target(resolved + ("/" if _is_marked_as_directory(path) and not exists else ""), exists, is_directory)


# -- to a container ------------------------------------------------------------------------------


def to_container(files: ContainerFiles, source: str, target: str, *, follow_link: bool = False) -> int:
    """Copy a path of the host to a path of a container; return the number of bytes of tar.

    Owners are copied as numbers.

    follow_link  if source is a symbolic link, copy its target

    Raises NotFound, InvalidInput, InvalidArchive.
    """
    source = _absolute(source, os.getcwd())
    try:
        status = os.stat(source) if follow_link or source.endswith("/") else os.lstat(source)
    except OSError as error:
        raise NotFound(f"{source}: {(error.strerror or '').lower()}", hint="check the path") from error
    directory, name = _container_target(files, target).place(source, is_directory=stat.S_ISDIR(status.st_mode))
    path = os.path.realpath(source) if follow_link or source.endswith(("/", "/.")) else source
    members = TreeReader(Path(path), name=name, whiteouts=False)
    return files.put_members(directory, members, keep_directories=True)


def _container_target(files: ContainerFiles, path: str) -> _Target:
    path = _absolute(path, "/")
    try:
        path = _follow_link(files, path)
        status = files.path_status(path)
    except (NotFound, InvalidInput):  # if a parent does not exist or is not a directory, the copy itself raises
        return _Target(path, exists=False, is_directory=False)
    return _Target(path, exists=True, is_directory=stat.S_ISDIR(status.mode))


def _follow_link(files: ContainerFiles, path: str) -> str:
    """Return a container's path with a symbolic link at its end followed once, as docker does."""
    link = files.path_status(path).link
    return posixpath.join(posixpath.dirname(path), link) if link else path


def _absolute(path: str, directory: str) -> str:
    """Return an absolute, normalized path. A "/" or "/." at its end is kept: it marks a directory (see above)."""
    ending = "/." if path.endswith("/.") or path == "." else "/" if path.endswith("/") else ""
    return posixpath.normpath(posixpath.join(directory, path)).rstrip("/") + ending or "/"


def _last_part(path: str) -> str:
    """Return the last part of a path; "." if only the content of a directory is to be copied."""
    return posixpath.basename(path.rstrip("/")) or "."


def _is_marked_as_directory(path: str) -> bool:
    return path.endswith(("/", "/.")) or path == "."
