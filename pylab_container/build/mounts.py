"""RUN --mount: each mount as an entry of Docker's Mounts, with a source on the host.

<data root>/builder/cache/<digest>/       the files of a cache mount; its lock is locks/cache-<digest>, and
                                          locks/caches is held while one is created
/run/pylab-container/…/secrets/<container id>/   secrets, in memory; removed with the container
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

from pylab_container.build import copy_instruction
from pylab_container.build.context import BuildContext
from pylab_container.build.workspace import Workspace
from pylab_container.dockerfile.runmount import RunMount
from pylab_container.errors import InvalidInput
from pylab_container.host import inside, programs
from pylab_container.host.files import locked, try_locked
from pylab_container.host.removal import discard_below
from pylab_container.oci.ids import ContainerId, EntryName
from pylab_container.oci.mounts import MountPoint

MAX_PRIVATE_CACHES = 1 << 16  # directories of one cache with sharing=private


def recorded_words(mount: RunMount, text: str, files: BuildContext | None) -> str:
    """Return the words of a mount for the history.

    The words of a bind mount contain a digest of its files, so that a changed file is a miss in the cache.
    """
    if mount.kind != "bind" or files is None:
        return f"--mount={text}"
    sources = copy_instruction.gather(files, [mount.source or "."], [], copy_instruction.CopyOptions())
    return f"--mount={text},{sources.digest}"


def cache_root(data_root: Path) -> Path:
    """Return the directory that contains the directories of cache mounts."""
    return data_root / "builder" / "cache"


class Mounts:
    """The mounts of one step; locks and files are released when scope is closed.

    environment  "NAME=value" of the secrets that the step requests as variables
    """

    def __init__(self, workspace: Workspace, container_id: ContainerId, scope: contextlib.ExitStack) -> None:
        self._workspace = workspace
        self._data = workspace.data
        self._container_id = container_id
        self._scope = scope
        self.environment: list[str] = []

    def entry(self, mount: RunMount, target: str, files: BuildContext | None) -> MountPoint | None:
        """Return the Mounts entry for a mount at target, which is absolute.

        files  the tree with the source of a bind mount, or with the initial content of a cache

        Returns None for a secret that is only a variable, or that is missing and not required. Raises InvalidInput.
        """
        match mount.kind:
            case "bind":
                assert files is not None
                return _bind(self._bind_source(mount, files), target, writable=not mount.readonly)
            case "cache":
                return _bind(self._cache_source(mount, files), target, writable=not mount.readonly)
            case "tmpfs":
                return _tmpfs(target, mount.size)
            case "secret":
                return self._secret(mount, target)

    def script(self, name: str, content: str, target: str) -> MountPoint:
        """Mount a here-document that begins with #!, which the step executes as a program."""
        return _bind(self._private_file(name, content.encode(), mode=0o755), target, writable=False)

    # -- bind --------------------------------------------------------------------------------------

    def _bind_source(self, mount: RunMount, files: BuildContext) -> str:
        """Return the source of a bind mount.

        The files of a stage are mounted already. Those of a context are copied: .dockerignore may exclude some of them,
        and a step must not write to the user's folder.
        """
        if mount.stage:
            return _resolve_inside(files.directory, mount.source)
        scratch = self._scope.enter_context(self._data.scratch())
        sources = copy_instruction.gather(files, [mount.source or "."], [], copy_instruction.CopyOptions())
        copy_instruction.copy(sources, "/files", scratch, copy_instruction.CopyOptions())
        return str(scratch / "files")

    # -- cache -------------------------------------------------------------------------------------

    def _cache_source(self, mount: RunMount, files: BuildContext | None) -> str:
        digest = hashlib.sha256(_cache_key(mount).encode()).hexdigest()[:32]
        directory = cache_root(self._data.path) / self._locked_cache(digest, mount)
        with locked(self._data.locks / "caches"):  # concurrent steps may both find a new cache missing
            if not directory.is_dir():
                self._create_cache(directory, mount, files)
        os.utime(directory)  # the time of the last use, for `builder prune`
        return str(directory) if files is not None else _resolve_inside(str(directory), mount.source)

    def _create_cache(self, directory: Path, mount: RunMount, files: BuildContext | None) -> None:
        """Create the directory of a cache atomically: a crash leaves no cache with half of its files."""
        directory.parent.mkdir(parents=True, exist_ok=True)
        with self._data.scratch() as scratch:
            staging = scratch / "cache"
            staging.mkdir(mode=0o700)
            if files is not None:
                source = _resolve_inside(files.directory, mount.source)
                programs.run(["cp", "-a", "--", f"{source}/.", str(staging)])
            os.chown(staging, mount.uid, mount.gid)
            staging.chmod(mount.mode)
            staging.rename(directory)

    def _locked_cache(self, digest: str, mount: RunMount) -> str:
        """Lock a cache until scope is closed; returns the name of its directory.

        sharing=shared   concurrent steps use the same directory
        sharing=locked   a step waits until no other step uses it
        sharing=private  a step takes a directory that no other step uses
        """
        locks = self._data.locks
        if mount.sharing != "private":
            self._scope.enter_context(locked(locks / f"cache-{digest}", shared=mount.sharing == "shared"))
            return digest
        for number in range(MAX_PRIVATE_CACHES):
            name = f"{digest}-{number}" if number else digest
            (locks / f"cache-{name}").touch(mode=0o600)
            if self._scope.enter_context(try_locked(locks / f"cache-{name}")):
                return name
        raise InvalidInput(f"the cache {mount.id} is in use too often", hint="labctr builder prune")

    # -- secrets -----------------------------------------------------------------------------------

    def _secret(self, mount: RunMount, target: str) -> MountPoint | None:
        secret = self._workspace.secret(mount.id)
        if secret is None:
            if mount.required:
                raise InvalidInput(
                    f"secret {mount.id}: not found", hint=f"give it to the build: --secret id={mount.id},src=FILE"
                )
            return None
        if mount.env:
            self.environment.append(f"{mount.env}={secret.decode(errors='surrogateescape')}")
        if not mount.target:
            return None
        name = hashlib.sha256(target.encode()).hexdigest()[:16]
        path = self._private_file(name, secret, mode=mount.mode)
        os.chown(path, mount.uid, mount.gid)
        return _bind(path, target, writable=False)

    def _private_file(self, name: str, content: bytes, *, mode: int) -> str:
        """Write a file in memory, so that a secret is never written to the data root.

        It is removed when the scope is closed; after a crash, when the container is discarded.
        """
        directory = self._workspace.services.runner.secrets_directory(self._container_id)
        if not directory.exists():
            directory.mkdir(parents=True, mode=0o700)
            self._scope.callback(discard_below, directory.parent, EntryName(directory.name))
        path = directory / name
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)


def _cache_key(mount: RunMount) -> str:
    """Return the key of a cache: its id, and the owner and mode of its directory if they are not the default.

    A directory has one owner, so another owner needs another cache, as in BuildKit (solver/llbsolver/mounts).
    """
    owner = (mount.uid, mount.gid, mount.mode)
    return mount.id if owner == (0, 0, 0o755) else f"{mount.id}\0{mount.uid}:{mount.gid}:{mount.mode:o}"


def _bind(source: str, target: str, *, writable: bool) -> MountPoint:
    return MountPoint(
        type="bind",
        source=source,
        destination=target,
        mode="" if writable else "ro",
        writable=writable,
        propagation="rprivate",
    )


def _tmpfs(target: str, size: int | None) -> MountPoint:
    options = f"exec,size={size}" if size else "exec"
    return MountPoint(type="tmpfs", destination=target, options=options)


def _resolve_inside(root: str, path: str) -> str:
    """Return a path below root as a path on the host; links are resolved as if root were /. Raises InvalidInput."""
    try:
        fd = inside.open_path(root, path.lstrip("/") or ".", os.O_PATH)
    except OSError as error:
        raise InvalidInput(f"the mount's source {path} is not there: {error.strerror}", hint="check source=") from error
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


class MountPoints:
    """Mount points that the runtime creates in the container's root and that are removed after the step.

    Otherwise a mount point that the image lacks would become a part of the step's layer.
    """

    def __init__(self, root: Path, targets: Sequence[str]) -> None:
        """root is the mounted file system before the container starts; targets are absolute paths in it."""
        self._missing: list[str] = []
        self._times: dict[str, int] = {}
        for target in targets:
            parent, missing = _first_missing(str(root), target)
            if missing:
                self._times.setdefault(parent, os.stat(root / parent).st_mtime_ns)
                self._missing += [posixpath.join(parent, *missing[: i + 1]) for i in range(len(missing))]

    def clear(self, upper: Path) -> None:
        """Remove the mount points that are still empty, and restore their parents' times.

        upper  the directory of the unmounted layer
        """
        for path in sorted(set(self._missing), key=len, reverse=True):
            with contextlib.suppress(OSError):
                if os.path.islink(upper / path) or not os.path.isdir(upper / path):
                    if os.lstat(upper / path).st_size == 0 and os.path.isfile(upper / path):
                        os.unlink(upper / path)
                else:
                    os.rmdir(upper / path)
        for parent, nanoseconds in self._times.items():
            with contextlib.suppress(OSError):
                if not os.listdir(upper / parent):  # the step changed nothing else in it
                    os.utime(upper / parent, ns=(nanoseconds, nanoseconds))


def _first_missing(root: str, target: str) -> tuple[str, list[str]]:
    """Return the deepest existing directory on the path to target, relative to root, and the missing names below it."""
    names = [name for name in posixpath.normpath(target).split("/") if name]
    for count in range(len(names), -1, -1):
        with contextlib.suppress(InvalidInput):
            directory = _resolve_inside(root, "/".join(names[:count]))
            return os.path.relpath(directory, root), names[count:]
    return ".", names
