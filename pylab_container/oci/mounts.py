"""What a user asks to be mounted into a container, as MountPoints.

Three spellings lead to the same MountPoints: `-v SOURCE:DESTINATION:MODE`, the documents of
`--mount` (docker-py's types.Mount), and `--tmpfs DESTINATION:OPTIONS`. Sources: the docker
command's reference, "docker run"; moby volume/mounts, 20.10, for what is refused and how.
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
from pylab_container.oci.document import Document, names

Json = dict[str, Any]

VOLUME_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
# z and Z relabel for SELinux, and the last three are for file sharing into a VM: here none of them has work to do.
_NO_EFFECT = ("z", "Z", "consistent", "cached", "delegated")

_DEFAULT_MODE = "z"  # moby's own choice for a volume, whatever it means without SELinux

_OPTIONS = {
    "bind": frozenset("Propagation NonRecursive CreateMountpoint ReadOnlyNonRecursive ReadOnlyForceRecursive".split()),
    "volume": frozenset({"NoCopy", "Labels", "DriverConfig", "Subpath"}),
    "tmpfs": frozenset({"SizeBytes", "Mode", "Options"}),
}

# tmpfs(5), and what mount(8) says of every file system.
_TMPFS_FLAGS = frozenset(
    "rw ro exec noexec dev nodev suid nosuid sync async dirsync atime noatime diratime nodiratime "
    "relatime norelatime strictatime nostrictatime defaults".split()
)
_TMPFS_PROPAGATIONS = (*_PROPAGATIONS, "unbindable", "runbindable")
_TMPFS_WORDS = ("exec", "noexec")
"""What TmpfsOptions.Options may say (moby, volume/mounts/linux_parser.go)."""
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

    missing: frozenset[str] = names(
        "Driver Options Hidden MustExist MayBePrivate NonRecursive ReadOnlyNonRecursive ReadOnlyForceRecursive NoCopy "
        "Anonymous Labels DriverOpts Subpath"
    )

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
    """`-v SOURCE:DESTINATION[:MODE]` or `-v DESTINATION`.

    A source that starts with / is a directory or file of the host, another one names a
    volume, and none asks for a volume without a name. MODE is a list of ro or rw, nocopy and a
    propagation. Raises InvalidInput.
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
    point = _mount_point(kind, source, destination, text=text, mode=mode, writable="ro" not in words)
    return replace(point, propagation=propagation, no_copy="nocopy" in words)


def declared_volume(path: str) -> MountPoint:
    """A volume without a name, as an image's VOLUME declares it: the whole text is a path. Raises InvalidInput."""
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
            hint="only directories of the host travel: -v /on/the/host:/in/the/container:rshared",
        )
    if not set(words) <= allowed or contradicts:
        raise InvalidInput(
            f"invalid mode: {mode}",
            hint=f'in "{text}": use ro or rw, nocopy with a volume, and rshared, rslave or rprivate with a bind',
        )
    return words


def parse_volumes(volumes: Sequence[str] | Mapping[str, Mapping[str, str]]) -> list[str]:
    """docker-py's `volumes`, which may be a mapping {source: {"bind": destination, "mode": "ro"}}, as -v texts."""
    if not isinstance(volumes, Mapping):
        return list(volumes)
    texts = []
    for source, where in volumes.items():
        if not isinstance(where, Mapping) or "bind" not in where or set(where) - {"bind", "mode", "propagation"}:
            raise InvalidInput(
                f"invalid volume: {where!r}", hint='write {"/source": {"bind": "/destination", "mode": "ro"}}'
            )
        mode = ",".join(filter(None, (where.get("mode"), where.get("propagation"))))
        texts.append(":".join(filter(None, (source, where["bind"], mode))))
    return texts


def parse_mount(document: Mapping[str, Any]) -> MountPoint:
    """One of HostConfig.Mounts (`--mount`), under the Engine API's field names. Raises InvalidInput, NotFound."""
    kind = str(document.get("Type") or "volume")
    text = ",".join(f"{name.lower()}={value}" for name, value in document.items() if value)
    _refuse_fields(document, kind)
    source, target = str(document.get("Source") or ""), str(document.get("Target") or "")
    if not target:
        raise _invalid_mount(kind, "field Target must not be empty")
    if kind == "bind" and not source:
        raise _invalid_mount(kind, "field Source must not be empty")
    if kind == "bind" and not source.startswith("/"):
        raise _invalid_mount(kind, f"invalid mount path: '{source}' mount path must be absolute")
    if kind == "tmpfs" and source:
        raise _invalid_mount(kind, "field Source must not be specified")
    mode = _DEFAULT_MODE if kind == "volume" else ""
    point = _mount_point(kind, source, target, text=text, mode=mode, writable=not document.get("ReadOnly"))
    if kind == "bind":
        return _with_bind_options(point, _bind_options(document))
    if kind == "volume":
        return _with_volume_options(point, document.get("VolumeOptions") or {}, _subpath(document, source))
    return replace(point, options=tmpfs_of_mount(document))


def _with_bind_options(point: MountPoint, options: Mapping[str, Any]) -> MountPoint:
    return replace(
        point,
        propagation=options.get("Propagation") or "",
        must_exist=not options.get("CreateMountpoint"),
        non_recursive=bool(options.get("NonRecursive")),
        read_only_non_recursive=bool(options.get("ReadOnlyNonRecursive")),
        read_only_force_recursive=bool(options.get("ReadOnlyForceRecursive")),
    )


def _with_volume_options(point: MountPoint, options: Mapping[str, Any], subpath: str) -> MountPoint:
    return replace(
        point,
        no_copy=bool(options.get("NoCopy") or subpath),
        subpath=subpath,
        labels=dict(options.get("Labels") or {}),
        driver_opts=dict((options.get("DriverConfig") or {}).get("Options") or {}),
    )


def _refuse_fields(document: Mapping[str, Any], kind: str) -> None:
    options = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions"}
    if kind not in options:
        raise _invalid_mount(kind, "mount type unknown")
    for name, value in document.items():
        foreign = name in options.values() and name != options[kind]
        strict = name == "BindOptions" or (name, kind) == ("VolumeOptions", "bind")  # as moby is: not even empty ones
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
    """BindOptions. Raises InvalidInput."""
    options: Json = dict(document.get("BindOptions") or {})
    propagation = options.get("Propagation") or "rprivate"
    if propagation not in _PROPAGATIONS:
        raise _invalid_mount("bind", f"invalid propagation mode: {propagation}")
    for name in ("ReadOnlyNonRecursive", "ReadOnlyForceRecursive"):
        if options.get(name) and not document.get("ReadOnly"):
            raise _invalid_mount("bind", f"mode {name} needs ReadOnly")
    if options.get("ReadOnlyForceRecursive"):
        if options.get("ReadOnlyNonRecursive") or options.get("NonRecursive"):
            raise _invalid_mount("bind", "ReadOnlyForceRecursive contradicts what else was asked for")
        if propagation != "rprivate":
            raise _invalid_mount("bind", "ReadOnlyForceRecursive needs the propagation rprivate")
    return options


def _subpath(document: Mapping[str, Any], source: str) -> str:
    """The directory or file of a volume that is mounted instead of the whole. Raises InvalidInput."""
    path = str((document.get("VolumeOptions") or {}).get("Subpath") or "")
    if path and not source:
        raise _invalid_mount("volume", "must not set Subpath when using anonymous volumes")
    if path and (path.startswith("/") or posixpath.normpath(path).split("/")[0] == ".."):
        raise _invalid_mount("volume", "subpath must be a relative path within the volume")
    return path


def tmpfs_of_mount(document: Mapping[str, Any]) -> str:
    """The options for mount(8) of a tmpfs that --mount asks for."""
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
    """`--tmpfs DESTINATION[:OPTIONS]`; options as mount(8) takes them for a tmpfs. Raises InvalidInput."""
    for word in filter(None, options.split(",")):
        name, equals, value = word.partition("=")
        if name not in (_TMPFS_VALUES if equals else (*_TMPFS_FLAGS, *_TMPFS_PROPAGATIONS)):
            told = f'"{name}" "{value}"' if equals else f'"{name}"'
            raise InvalidInput(f"invalid tmpfs option [{told}]", hint="such as size=64m,mode=1777,uid=0,exec,ro")
    point = _mount_point("tmpfs", "", destination, text=f"{destination}:{options}", mode="", writable=True)
    return replace(point, options=options, hidden=True)


def invalid_name(name: str) -> str:
    """Docker's words for a volume's name that cannot be one."""
    return (
        f'"{name}" includes invalid characters for a local volume name, only "{VOLUME_NAME[:-1]}" are allowed. '
        "If you intended to pass a host directory, use absolute path"
    )


def _mount_point(kind: str, source: str, destination: str, *, text: str, mode: str, writable: bool) -> MountPoint:
    if kind == "volume" and source and not re.fullmatch(VOLUME_NAME, source):
        raise InvalidInput(
            f"create {source}: {invalid_name(source)}",
            hint="a directory of the host is written with its whole path: /…",
        )
    if not destination.startswith("/"):
        raise InvalidInput(
            f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": "
            f"invalid mount path: '{destination}' mount path must be absolute",
            hint=_VOLUME_HINT,
        )
    # normpath keeps two leading slashes, as POSIX allows; the kernel knows one root only.
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
    """Return a bind with its propagation: the requested one, else rprivate. Raises InvalidInput.

    root  the data root. If the source contains it, or is stored in it, the propagation is rslave instead: a mount
          that the engine unmounts there must not stay mounted in the container.
    """
    source, requested = PurePosixPath(bind.source), bind.propagation
    if not (source.is_relative_to(root) or PurePosixPath(root).is_relative_to(source)):
        return replace(bind, propagation=requested or "rprivate")
    if requested not in ("", "rslave", "rshared"):
        raise InvalidInput(
            'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within '
            f'the daemon root, daemon root: "{root}", bind mount source: "{source}", propagation: "{requested}"',
            hint="leave the propagation out",
        )
    return bind if requested else replace(bind, propagation="rslave", may_be_private=True)


def refuse_duplicates(points: Iterable[MountPoint]) -> None:
    """Raise InvalidInput if two mounts have the same destination."""
    seen: set[str] = set()
    for point in points:
        if point.destination in seen:
            raise InvalidInput(
                f"Duplicate mount point: {point.destination}", hint="one mount hides the other: leave one out"
            )
        seen.add(point.destination)


def borrow(points: Iterable[MountPoint], mode: str) -> list[MountPoint]:
    """The binds and volumes of another container for --volumes-from CONTAINER[:ro|rw]. Raises InvalidInput."""
    if mode not in ("", "ro", "rw", "z", "Z"):
        raise InvalidInput(f"invalid mode: {mode}", hint="use ro or rw")
    return [
        replace(
            point,
            writable=point.writable and mode != "ro",
            mode="",  # as in moby, a borrowed mount has none
            no_copy=point.no_copy or point.type == "volume",  # the container that it was created with fills it
        )
        for point in points
        if point.type in ("bind", "volume")
    ]
