"""Parse requested mounts into MountPoints.

    -v SOURCE:DESTINATION[:MODE]      parse_volume()
    --mount type=…,source=…,target=…  parse_mount(), from the JSON form that clients and docker-py send
    --tmpfs DESTINATION[:OPTIONS]     parse_tmpfs()

Sources: the docker command's reference, "docker run"; moby 20.10, volume/mounts, for refusals and their messages.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from msgspec import field
from msgspec.structs import replace

from pylab_container.errors import InvalidInput, NotFound
from pylab_container.oci.document import Document
from pylab_container.oci.image import Json

VOLUME_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
# z and Z relabel files for SELinux; the others are for file sharing with a VM on macOS. None has an effect on Linux
# without SELinux, but scripts use them.
_NO_EFFECT = ("z", "Z", "consistent", "cached", "delegated")

_DEFAULT_MODE = "z"  # moby records it for a named volume (linux_parser.go), also without SELinux

_OPTIONS = {
    "bind": frozenset("Propagation NonRecursive CreateMountpoint ReadOnlyNonRecursive ReadOnlyForceRecursive".split()),
    "volume": frozenset({"NoCopy", "Labels", "DriverConfig", "Subpath"}),
    "tmpfs": frozenset({"SizeBytes", "Mode", "Options"}),
}

# Options of tmpfs(5), and those that mount(8) lists for all file systems.
_TMPFS_FLAGS = frozenset(
    "rw ro exec noexec dev nodev suid nosuid sync async dirsync atime noatime diratime nodiratime "
    "relatime norelatime strictatime nostrictatime defaults".split()
)
_TMPFS_PROPAGATIONS = (*_PROPAGATIONS, "unbindable", "runbindable")
_TMPFS_WORDS = ("exec", "noexec")  # valid in TmpfsOptions.Options: moby, volume/mounts/linux_parser.go
_TMPFS_VALUES = frozenset("size mode uid gid nr_blocks nr_inodes mpol huge".split())
_VOLUME_HINT = "write -v /on/the/host:/in/the/container[:ro] or -v NAME:/in/the/container[:ro]"


class MountPoint(Document, frozen=True):
    """A mount in a container, as Docker's Mounts show it, with what the engine needs besides.

    name            of a volume; driver is then "local"
    source          path on the host; of a volume whose directory is not known yet, its name
    mode            the options of -v as they were written, or "z" for a volume
    options         of a tmpfs, as mount(8) takes them; None if the default ones are meant
    hidden          `inspect` shows a --tmpfs in HostConfig.Tmpfs instead
    must_exist      --mount does not create a missing source of a bind, -v does
    may_be_private  the engine chose the propagation; the source need not be a shared mount
    non_recursive   mounts below the source of a bind are left out
    read_only_non_recursive, read_only_force_recursive   whether mounts below a read-only source are read-only
    no_copy         a new volume is not filled with the files of the image
    anonymous       the volume has a random name and is removed with its container
    labels, driver_opts   of a volume that is created with the container
    subpath         the part of a volume that is mounted
    """

    type: str = ""
    name: str = ""
    source: str = ""
    destination: str = ""
    driver: str = ""
    mode: str = ""
    writable: bool = field(default=True, name="RW")
    propagation: str = ""
    options: str | None = None
    hidden: bool = False
    must_exist: bool = False
    may_be_private: bool = False
    non_recursive: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False
    no_copy: bool = False
    anonymous: bool = False
    labels: Mapping[str, str] = {}
    driver_opts: Mapping[str, str] = {}
    subpath: str = ""

    def shown(self) -> Json:
        """The entry of Mounts that `inspect` shows; only a volume has a name and a driver."""
        volume = self.type == "volume"
        return {
            "Type": self.type,
            **({"Name": self.name} if volume else {}),
            "Source": self.source,
            "Destination": self.destination,
            **({"Driver": self.driver} if volume else {}),
            "Mode": self.mode,
            "RW": self.writable,
            "Propagation": self.propagation,
        }


def parse_volume(text: str) -> MountPoint:
    """Parse `-v SOURCE:DESTINATION[:MODE]` or `-v DESTINATION`. Raises InvalidInput.

    SOURCE  a path of the host if it starts with /, else a volume's name; without it the volume is anonymous
    MODE    ro or rw, nocopy and a propagation type, separated by commas
    """
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise InvalidInput(f"invalid volume specification: '{text}'", hint=_VOLUME_HINT)
    mode = parts[2] if len(parts) == 3 else ""
    source, destination = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    kind = "bind" if source.startswith("/") else "volume"
    words = _mode_words(mode, kind, text)
    propagation = next((word for word in words if word in _PROPAGATIONS), "")
    if kind == "volume" and source:
        mode = mode or _DEFAULT_MODE
    mount = _mount_point(kind, source, destination, text=text, mode=mode, writable="ro" not in words)
    return replace(mount, propagation=propagation, no_copy="nocopy" in words)


def declared_volume(path: str) -> MountPoint:
    """Return an anonymous volume for a path that an image's VOLUME declares.

    A colon in path is part of the path, unlike in -v.

    Raises InvalidInput.
    """
    return _mount_point("volume", "", posixpath.join("/", path), text=path, mode="", writable=True)


def _mode_words(mode: str, kind: str, text: str) -> list[str]:
    words = mode.split(",") if mode else []
    allowed = {"ro", "rw", *_NO_EFFECT, *(_PROPAGATIONS if kind == "bind" else ("nocopy",))}
    exclusive = (("ro", "rw"), _PROPAGATIONS, ("z", "Z"))
    contradicts = any(len([word for word in words if word in group]) > 1 for group in exclusive)
    if kind == "volume" and not contradicts and set(words) - allowed and set(words) <= allowed | {*_PROPAGATIONS}:
        problem = _invalid_mount(kind, "field BindOptions must not be specified").message
        raise InvalidInput(
            f"invalid volume specification: '{text}': {problem}",
            hint="only a bind has a propagation type: -v /on/the/host:/in/the/container:rshared",
        )
    if not set(words) <= allowed or contradicts:
        raise InvalidInput(
            f"invalid mode: {mode}",
            hint=f'in "{text}": use ro or rw, nocopy with a volume, and rshared, rslave or rprivate with a bind',
        )
    return words


def parse_volumes(volumes: Sequence[str] | Mapping[str, Mapping[str, str]]) -> list[str]:
    """Convert docker-py's `volumes` into values of -v. Raises InvalidInput.

    volumes  such values, or {source: {"bind": destination, "mode": "ro", "propagation": …}}
    """
    if not isinstance(volumes, Mapping):
        return list(volumes)
    texts = []
    for source, volume in volumes.items():
        if not isinstance(volume, Mapping) or "bind" not in volume or set(volume) - {"bind", "mode", "propagation"}:
            raise InvalidInput(
                f"invalid volume: {volume!r}", hint='write {"/source": {"bind": "/destination", "mode": "ro"}}'
            )
        mode = ",".join(filter(None, (volume.get("mode"), volume.get("propagation"))))
        texts.append(":".join(filter(None, (source, volume["bind"], mode))))
    return texts


def parse_mount(document: Mapping[str, Any]) -> MountPoint:
    """Parse an entry of HostConfig.Mounts (`--mount`).

    Raises InvalidInput, NotFound for another volume driver.
    """
    kind = str(document.get("Type") or "volume")
    text = ",".join(f"{name.lower()}={value}" for name, value in document.items() if value)
    _refuse_fields(document, kind)
    source, target = str(document.get("Source") or ""), str(document.get("Target") or "")
    _check_paths(kind, source, target)
    mode = _DEFAULT_MODE if kind == "volume" else ""
    mount = _mount_point(kind, source, target, text=text, mode=mode, writable=not document.get("ReadOnly"))
    if kind == "bind":
        return _with_bind_options(mount, _bind_options(document))
    if kind == "volume":
        return _with_volume_options(mount, document.get("VolumeOptions") or {}, _subpath(document, source))
    return replace(mount, options=tmpfs_of_mount(document))


def _with_bind_options(mount: MountPoint, options: Mapping[str, Any]) -> MountPoint:
    return replace(
        mount,
        propagation=options.get("Propagation") or "",
        must_exist=not options.get("CreateMountpoint"),
        non_recursive=bool(options.get("NonRecursive")),
        read_only_non_recursive=bool(options.get("ReadOnlyNonRecursive")),
        read_only_force_recursive=bool(options.get("ReadOnlyForceRecursive")),
    )


def _with_volume_options(mount: MountPoint, options: Mapping[str, Any], subpath: str) -> MountPoint:
    return replace(
        mount,
        no_copy=bool(options.get("NoCopy") or subpath),
        subpath=subpath,
        labels=dict(options.get("Labels") or {}),
        driver_opts=dict((options.get("DriverConfig") or {}).get("Options") or {}),
    )


def _check_paths(kind: str, source: str, target: str) -> None:
    if not target:
        raise _invalid_mount(kind, "field Target must not be empty")
    if kind == "bind" and not source:
        raise _invalid_mount(kind, "field Source must not be empty")
    if kind == "bind" and not source.startswith("/"):
        raise _invalid_mount(kind, f"invalid mount path: '{source}' mount path must be absolute")
    if kind == "tmpfs" and source:
        raise _invalid_mount(kind, "field Source must not be specified")


def _refuse_fields(document: Mapping[str, Any], kind: str) -> None:
    """Raise InvalidInput or NotFound for fields of another type, unknown fields and another volume driver.

    An option that is ignored would surprise the user later; so what this engine does not implement is an error.
    """
    options = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions"}
    if kind not in options:
        raise _invalid_mount(kind, "mount type unknown")
    for name, value in document.items():
        foreign = name in options.values() and name != options[kind]
        # moby compares these two with nil, so that even an empty object is refused (validate.go).
        strict = name == "BindOptions" or (name, kind) == ("VolumeOptions", "bind")
        if foreign and (value or (strict and value is not None)):
            raise _invalid_mount(kind, f"field {name} must not be specified")
        if name not in ("Type", "Source", "Target", "ReadOnly", "Consistency", *options.values()):
            raise _invalid_mount(kind, f"unknown field {name}")
    for name, value in (document.get(options[kind]) or {}).items():
        if name not in _OPTIONS[kind] and value:
            raise _invalid_mount(kind, f"{options[kind]}.{name} is not supported")
    driver = ((document.get("VolumeOptions") or {}).get("DriverConfig") or {}).get("Name") or "local"
    if driver != "local":
        raise NotFound(f'error looking up volume plugin {driver}: plugin "{driver}" not found', hint="use local")


def _bind_options(document: Mapping[str, Any]) -> Json:
    """Return the validated BindOptions. Raises InvalidInput."""
    options: Json = dict(document.get("BindOptions") or {})
    propagation = options.get("Propagation") or "rprivate"
    if propagation not in _PROPAGATIONS:
        raise _invalid_mount("bind", f"invalid propagation mode: {propagation}")
    for name in ("ReadOnlyNonRecursive", "ReadOnlyForceRecursive"):
        if options.get(name) and not document.get("ReadOnly"):
            raise _invalid_mount("bind", f"mode {name} needs ReadOnly")
    if options.get("ReadOnlyForceRecursive"):
        if options.get("ReadOnlyNonRecursive") or options.get("NonRecursive"):
            raise _invalid_mount("bind", "ReadOnlyForceRecursive contradicts NonRecursive and ReadOnlyNonRecursive")
        if propagation != "rprivate":
            # With another type, a later mount on the host would appear in the container, and be writable.
            raise _invalid_mount("bind", "ReadOnlyForceRecursive needs the propagation rprivate")
    return options


def _subpath(document: Mapping[str, Any], source: str) -> str:
    """Return the path in the volume that is mounted instead of its root; "" for the root. Raises InvalidInput."""
    path = str((document.get("VolumeOptions") or {}).get("Subpath") or "")
    if path and not source:
        raise _invalid_mount("volume", "must not set Subpath when using anonymous volumes")
    if path and (path.startswith("/") or posixpath.normpath(path).split("/")[0] == ".."):
        raise _invalid_mount("volume", "subpath must be a relative path within the volume")
    return path


def tmpfs_of_mount(document: Mapping[str, Any]) -> str:
    """Return the options of mount(8) for a tmpfs of --mount. Raises InvalidInput."""
    options = document.get("TmpfsOptions") or {}
    words = ["ro"] if document.get("ReadOnly") else []
    if options.get("SizeBytes"):
        words.append(f"size={int(options['SizeBytes'])}")
    if options.get("Mode"):
        words.append(f"mode={int(options['Mode']):o}")
    for option in options.get("Options") or ():
        if len(option or ()) not in (1, 2):
            raise _invalid_mount("tmpfs", "invalid option array length")
        if option[0] not in _TMPFS_WORDS:
            raise _invalid_mount("tmpfs", f"invalid option: {option[0]}")
        words.append("=".join(option))
    return ",".join(words)


def _invalid_mount(kind: str, problem: str) -> InvalidInput:
    return InvalidInput(
        f'invalid mount config for type "{kind}": {problem}', hint="write --mount type=bind,source=/host,target=/there"
    )


def parse_tmpfs(destination: str, options: str) -> MountPoint:
    """Parse `--tmpfs DESTINATION[:OPTIONS]`. options: those of mount(8) for a tmpfs.

    Raises InvalidInput.
    """
    # The options reach mount(2) as they are, so only known ones may pass.
    for word in filter(None, options.split(",")):
        name, equals, value = word.partition("=")
        if name not in (_TMPFS_VALUES if equals else (*_TMPFS_FLAGS, *_TMPFS_PROPAGATIONS)):
            shown = f'"{name}" "{value}"' if equals else f'"{name}"'
            raise InvalidInput(f"invalid tmpfs option [{shown}]", hint="write for example size=64m,mode=1777,exec")
    mount = _mount_point("tmpfs", "", destination, text=f"{destination}:{options}", mode="", writable=True)
    return replace(mount, options=options, hidden=True)


def invalid_name(name: str) -> str:
    """Return dockerd's message for a malformed volume name."""
    return (
        f'"{name}" includes invalid characters for a local volume name, only "{VOLUME_NAME[:-1]}" are allowed. '
        "If you intended to pass a host directory, use absolute path"
    )


def _mount_point(kind: str, source: str, destination: str, *, text: str, mode: str, writable: bool) -> MountPoint:
    """Return a mount with normalized paths. text: the option's value, for messages. Raises InvalidInput."""
    if kind == "volume" and source and not re.fullmatch(VOLUME_NAME, source):
        raise InvalidInput(
            f"create {source}: {invalid_name(source)}",
            hint="write a directory of the host as an absolute path: /…",
        )
    if not destination.startswith("/"):
        raise InvalidInput(
            f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": "
            f"invalid mount path: '{destination}' mount path must be absolute",
            hint=_VOLUME_HINT,
        )
    # normpath() keeps two leading slashes, whose meaning POSIX leaves to the system (XBD 4.13). On Linux they are the
    # same as one.
    normal = "/" + posixpath.normpath(destination).lstrip("/")
    if normal == "/":
        raise InvalidInput(
            f"invalid volume specification: '{text}': invalid specification: destination can't be '/'",
            hint="mount it at a directory below /",
        )
    return MountPoint(
        type=kind,
        name=source if kind == "volume" else "",
        source="/" + posixpath.normpath(source).lstrip("/") if kind == "bind" else source,
        destination=normal,
        mode=mode,
        writable=writable,
    )


def with_propagation(bind: MountPoint, root: str) -> MountPoint:
    """Return a bind with its propagation type set. Raises InvalidInput. root: the data root.

    The default is rprivate. It is rslave if the source contains the data root or is inside it: a private copy of
    another container's root file system would stay mounted here after it was unmounted there, and its directory could
    not be removed (EBUSY). Source: moby, daemon/volumes_linux.go, validateBindDaemonRoot().
    """
    source, requested = PurePosixPath(bind.source), bind.propagation
    if not (source.is_relative_to(root) or PurePosixPath(root).is_relative_to(source)):
        return replace(bind, propagation=requested or "rprivate")
    if requested not in ("", "rslave", "rshared"):
        raise InvalidInput(
            'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within '
            f'the daemon root, daemon root: "{root}", bind mount source: "{source}", propagation: "{requested}"',
            hint="omit the propagation type",
        )
    return bind if requested else replace(bind, propagation="rslave", may_be_private=True)


def refuse_duplicates(mounts: Iterable[MountPoint]) -> None:
    """Raise InvalidInput if two mounts have the same destination."""
    seen: set[str] = set()
    for mount in mounts:
        if mount.destination in seen:
            raise InvalidInput(
                f"Duplicate mount point: {mount.destination}", hint="one mount would hide the other: remove one"
            )
        seen.add(mount.destination)


def borrow(mounts: Iterable[MountPoint], mode: str) -> list[MountPoint]:
    """Return the binds and volumes of another container for --volumes-from CONTAINER[:ro|rw].

    The result is never more writable than the original.

    Raises InvalidInput.
    """
    if mode not in ("", "ro", "rw", "z", "Z"):
        raise InvalidInput(f"invalid mode: {mode}", hint="use ro or rw")
    return [
        replace(
            mount,
            writable=mount.writable and mode != "ro",
            mode="",  # moby records no mode for these (daemon/volumes.go, registerMountPoints)
            # The first container has already initialized a volume from its image.
            no_copy=mount.no_copy or mount.type == "volume",
        )
        for mount in mounts
        if mount.type in ("bind", "volume")
    ]
