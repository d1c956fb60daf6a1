"""RUN --mount: each kind of mount as one of Docker's Mounts entries, with a directory behind it.

<data root>/builder/cache/<digest>/       a cache mount's files; its lock is locks/cache-<digest>,
                                          and locks/caches that of whoever makes one
/run/pylab-container/…/secrets/<container id>/   secrets, in memory; gone with the container
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.build import copy_instruction
from pylab_container.dockerfile.runmount import RunMount
from pylab_container.errors import InvalidInput
from pylab_container.host import linux, programs
from pylab_container.host.files import locked, try_locked
from pylab_container.host.removal import discard_below
from pylab_container.oci.ids import EntryName
from pylab_container.oci.mounts import MountPoint

if TYPE_CHECKING:
    from pylab_container.build.builder import Build
    from pylab_container.build.context import BuildContext
    from pylab_container.store.data_root import DataRoot


def described(mount: RunMount, text: str, files: BuildContext | None) -> str:
    """How the history names a mount; where it brings files, with a digest of them, so that the cache sees a change."""
    if mount.kind != "bind" or files is None:
        return f"--mount={text}"
    sources = copy_instruction.gather(files, [mount.source or "."], [], copy_instruction.CopyOptions())
    return f"--mount={text},{sources.digest}"


class Mounts:
    """The mounts of one step while its container runs. What they need is given back when scope closes."""

    def __init__(self, build: Build, container_id: str, scope: contextlib.ExitStack) -> None:
        self._build = build
        self._engine = build.engine
        self._container_id = container_id
        self._scope = scope
        self.environment: list[str] = []
        """Secrets that the step asked for as variables."""

    def entry(self, mount: RunMount, target: str, files: BuildContext | None) -> MountPoint | None:
        """The mount at target, absolute; None for a secret that is only a variable, or not there and not required."""
        match mount.kind:
            case "bind":
                assert files is not None
                return _bind(self._source(mount, files), target, writable=not mount.readonly)
            case "cache":
                return _bind(self._cache(mount, files), target, writable=not mount.readonly)
            case "tmpfs":
                return _tmpfs(target, mount.size)
            case "secret":
                return self._secret(mount, target)

    def script(self, name: str, content: str, target: str) -> MountPoint:
        """A here-document that begins with #!: a program that the step runs."""
        return _bind(self._private_file(name, content.encode(), mode=0o755), target, writable=False)

    def _source(self, mount: RunMount, files: BuildContext) -> str:
        """A directory or file with what a bind mount shows. The files of a stage are there already, mounted."""
        if mount.stage:
            return _inside(files.directory, mount.source)
        scratch = self._scope.enter_context(self._engine.data.scratch())
        sources = copy_instruction.gather(files, [mount.source or "."], [], copy_instruction.CopyOptions())
        copy_instruction.copy(sources, "/files", scratch, copy_instruction.CopyOptions())
        return str(scratch / "files")

    def _cache(self, mount: RunMount, files: BuildContext | None) -> str:
        digest = hashlib.sha256(_cache_key(mount).encode()).hexdigest()[:32]
        directory = cache_root(self._engine.data) / self._locked(digest, mount)
        with locked(self._engine.data.locks / "caches"):  # steps that share a new one begin at the same time
            if not directory.is_dir():
                self._make_cache(directory, mount, files)
        os.utime(directory)  # when it was last used
        return str(directory) if files is not None else _inside(str(directory), mount.source)

    def _make_cache(self, directory: Path, mount: RunMount, files: BuildContext | None) -> None:
        """Make a cache's directory, whole or not at all."""
        directory.parent.mkdir(parents=True, exist_ok=True)
        with self._engine.data.scratch() as scratch:
            made = scratch / "cache"
            made.mkdir(mode=0o700)
            if files is not None:
                source = _inside(files.directory, mount.source)
                programs.run(["cp", "-a", "--", f"{source}/.", str(made)])
            os.chown(made, mount.uid, mount.gid)
            made.chmod(mount.mode)
            made.rename(directory)

    def _locked(self, digest: str, mount: RunMount) -> str:
        """The name of the directory that this step may use, held until scope closes."""
        locks = self._engine.data.locks
        if mount.sharing != "private":
            self._scope.enter_context(locked(locks / f"cache-{digest}", shared=mount.sharing == "shared"))
            return digest
        for number in range(1 << 16):
            name = f"{digest}-{number}" if number else digest
            (locks / f"cache-{name}").touch(mode=0o600)
            if self._scope.enter_context(try_locked(locks / f"cache-{name}")):
                return name
        raise InvalidInput(f"the cache {mount.id} is in use too often", hint="labctr builder prune")

    def _secret(self, mount: RunMount, target: str) -> MountPoint | None:
        secret = self._build.secret(mount.id)
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
        """A file in memory, gone when scope closes; after a crash, when the container is cleared."""
        directory = self._engine.runtime.secrets(self._container_id)
        if not directory.exists():
            directory.mkdir(parents=True, mode=0o700)
            self._scope.callback(discard_below, directory.parent, EntryName(directory.name))
        path = directory / name
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)


def _cache_key(mount: RunMount) -> str:
    """What steps that share a cache have in common: its id, and the owner and mode of its directory if one is chosen.

    A directory has one owner. BuildKit, too, makes another cache for another one (solver/llbsolver/mounts).
    """
    owner = (mount.uid, mount.gid, mount.mode)
    return mount.id if owner == (0, 0, 0o755) else f"{mount.id}\0{mount.uid}:{mount.gid}:{mount.mode:o}"


def cache_root(data: DataRoot) -> Path:
    """Return the directory of all cache mounts."""
    return data.path / "builder" / "cache"


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


def _inside(root: str, path: str) -> str:
    """A path below root on the host, with the links on it resolved as if root were /. Raises InvalidInput."""
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = linux.openat2(base, path.lstrip("/") or ".", os.O_PATH, resolve=linux.RESOLVE_IN_ROOT)
    except OSError as error:
        raise InvalidInput(f"the mount's source {path} is not there: {error.strerror}", hint="check source=") from error
    finally:
        os.close(base)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


class MountPoints:
    """What the runtime makes in the container's root to mount on, so that it can be taken away again.

    A mount's target that the image lacks is no change that the step made.
    """

    def __init__(self, root: Path, targets: Sequence[str]) -> None:
        """root is the mounted file system, before the container starts; targets are absolute."""
        self._missing: list[str] = []
        self._times: dict[str, int] = {}
        for target in targets:
            parent, missing = _first_missing(str(root), target)
            if missing:
                self._times.setdefault(parent, os.stat(root / parent).st_mtime_ns)
                self._missing += [posixpath.join(parent, *missing[: i + 1]) for i in range(len(missing))]

    def clear(self, upper: Path) -> None:
        """Remove those that the step left as they were: empty. upper is the layer's directory, unmounted."""
        for path in sorted(set(self._missing), key=len, reverse=True):
            with contextlib.suppress(OSError):
                if os.path.islink(upper / path) or not os.path.isdir(upper / path):
                    if os.lstat(upper / path).st_size == 0 and os.path.isfile(upper / path):
                        os.unlink(upper / path)
                else:
                    os.rmdir(upper / path)
        for parent, nanoseconds in self._times.items():
            with contextlib.suppress(OSError):
                if not os.listdir(upper / parent):  # nothing else was done there
                    os.utime(upper / parent, ns=(nanoseconds, nanoseconds))


def _first_missing(root: str, target: str) -> tuple[str, list[str]]:
    """The deepest directory on the way to target that exists, relative to root, and the names that do not."""
    names = [name for name in posixpath.normpath(target).split("/") if name]
    for count in range(len(names), -1, -1):
        with contextlib.suppress(InvalidInput):
            found = _inside(root, "/".join(names[:count]))
            return os.path.relpath(found, root), names[count:]
    return ".", names
