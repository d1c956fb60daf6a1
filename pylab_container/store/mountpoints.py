"""A container's mounts as dockerd records them: MountPoints in config.v2.json.

The engine works with oci.mounts.MountPoint. On disk is an object by destination, whose Spec holds what was requested in
the words of --mount. Every attribute can be derived from it, so records of dockerd and of this engine are read by the
same code. A tmpfs of --tmpfs is recorded in HostConfig.Tmpfs only.
Source: moby volume/mounts/mounts.go, 20.10.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from pylab_container.host.random_ids import random_hex
from pylab_container.oci.image import Json
from pylab_container.oci.mounts import MountPoint, parse_tmpfs, tmpfs_of_mount, with_propagation


def mount_points(mounts: Iterable[MountPoint]) -> Json:
    """The object MountPoints, in the order of mounts; dockerd writes it in no order."""
    return {mount.destination: _document(mount) for mount in mounts if not mount.hidden}


def _document(mount: MountPoint) -> Json:
    document = {
        "Source": mount.source,
        "Destination": mount.destination,
        "RW": mount.writable,
        "Name": mount.name,
        "Driver": mount.driver,
        "Type": mount.type,
        "Relabel": mount.mode,  # moby's name on disk for what its API calls Mode
        "Propagation": mount.propagation,
        "Spec": _spec(mount),
        "SkipMountpointCreation": False,
    }
    return {name: value for name, value in document.items() if value != "" or name not in ("Relabel", "Propagation")}


def _spec(mount: MountPoint) -> Json:
    """What was requested, in the words of --mount. An unnamed volume has no source there."""
    source = {"bind": mount.source, "volume": "" if mount.anonymous else mount.name}.get(mount.type)
    spec: Json = {"Type": mount.type, "Source": source, "Target": mount.destination, "ReadOnly": not mount.writable}
    if mount.type == "bind":
        spec["BindOptions"] = _without_empty(
            {
                "Propagation": "" if mount.may_be_private else mount.propagation,
                "NonRecursive": mount.non_recursive,
                "ReadOnlyNonRecursive": mount.read_only_non_recursive,
                "ReadOnlyForceRecursive": mount.read_only_force_recursive,
            }
        )
    elif mount.type == "volume":
        spec["VolumeOptions"] = _without_empty(
            {
                "NoCopy": mount.no_copy,
                "Labels": mount.labels,
                "Subpath": mount.subpath,
                "DriverConfig": {"Name": "local", "Options": mount.driver_opts} if mount.driver_opts else None,
            }
        )
    else:
        spec["TmpfsOptions"], spec["ReadOnly"] = _tmpfs_options(mount.options or "")
    return _without_empty(spec)


def _without_empty(options: Mapping[str, Any]) -> Json:
    return {name: value for name, value in options.items() if value}


def place_mounts(mounts: Iterable[MountPoint], data_root: Path) -> Iterator[MountPoint]:
    """Give volumes their names and directories, and binds their propagation.

    Raises InvalidInput.
    """
    for mount in mounts:
        if mount.type == "bind":
            yield with_propagation(mount, str(data_root))
        elif mount.type == "volume" and not mount.driver:
            name = mount.name or random_hex(32)
            source = str(data_root / "volumes" / name / "_data")
            yield replace(mount, anonymous=not mount.name, name=name, source=source, driver="local")
        else:
            yield mount


_OWN_FIELDS = ("size", "mode", "ro")
"""Options of a tmpfs that have fields of their own in TmpfsOptions."""


def _tmpfs_options(text: str) -> tuple[Json, bool]:
    """TmpfsOptions and ReadOnly, the inverse of tmpfs_of_mount()."""
    words = dict(word.partition("=")[::2] for word in text.split(",") if word)
    options: Json = {}
    if "size" in words:
        options["SizeBytes"] = int(words["size"])
    if "mode" in words:
        options["Mode"] = int(words["mode"], 8)
    if others := [[name, value] if value else [name] for name, value in words.items() if name not in _OWN_FIELDS]:
        options["Options"] = others
    return options, "ro" in words


def parse_mount_points(points: Mapping[str, Any], tmpfs: Mapping[str, str]) -> Iterator[MountPoint]:
    """The mounts of a container, from its MountPoints and its HostConfig.Tmpfs.

    Raises KeyError, TypeError, ValueError or InvalidInput for documents of another shape.
    """
    for point in points.values():
        yield _parse(point)
    for destination, options in tmpfs.items():
        yield parse_tmpfs(destination, options)


def _parse(point: Mapping[str, Any]) -> MountPoint:
    spec, name = point.get("Spec") or {}, str(point.get("Name") or "")
    mount = MountPoint(
        # Records from before Docker 1.13 have no type.
        type=str(point.get("Type") or ("volume" if name else "bind")),
        name=name,
        source=str(point.get("Source") or ""),
        destination=str(point["Destination"]),
        mode=str(point.get("Relabel") or ""),
        writable=bool(point["RW"]),
        propagation=str(point.get("Propagation") or ""),
    )
    if mount.type == "bind":
        return _with_bind_options(mount, spec.get("BindOptions") or {})
    if mount.type == "volume":
        return _with_volume_options(mount, spec)
    return replace(mount, options=tmpfs_of_mount(spec))


def _with_bind_options(mount: MountPoint, options: Mapping[str, Any]) -> MountPoint:
    return replace(
        mount,
        non_recursive=bool(options.get("NonRecursive")),
        read_only_non_recursive=bool(options.get("ReadOnlyNonRecursive")),
        read_only_force_recursive=bool(options.get("ReadOnlyForceRecursive")),
        # moby, too, chooses rslave for a source that contains the data root.
        may_be_private=mount.propagation == "rslave" and not options.get("Propagation"),
    )


def _with_volume_options(mount: MountPoint, spec: Mapping[str, Any]) -> MountPoint:
    options = spec.get("VolumeOptions") or {}
    return replace(
        mount,
        driver="local",
        no_copy=bool(options.get("NoCopy")),
        anonymous=not spec.get("Source"),
        labels=dict(options.get("Labels") or {}),
        driver_opts=dict((options.get("DriverConfig") or {}).get("Options") or {}),
        subpath=str(options.get("Subpath") or ""),
    )
