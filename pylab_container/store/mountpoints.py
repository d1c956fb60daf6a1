"""A container's mounts as dockerd records them: MountPoints in config.v2.json.

The engine works with Docker's Mounts entries (oci/mounts.py). On disk are MountPoints, an object by destination,
whose Spec says what was asked for: from these every field of an entry can be derived, so a record that dockerd wrote
and one of ours are read by the same code. A tmpfs of --tmpfs is in HostConfig.Tmpfs alone.
Source: moby volume/mounts/mounts.go, 20.10.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pylab_container.oci.mounts import RECURSION, parse_tmpfs, tmpfs_of_mount

Json = dict[str, Any]


def mount_points(mounts: Iterable[Mapping[str, Any]]) -> Json:
    """MountPoints for Mounts entries. Their order stays; dockerd has none."""
    return {mount["Destination"]: _mount_point(mount) for mount in mounts if not mount.get("Hidden")}


def _mount_point(mount: Mapping[str, Any]) -> Json:
    point = {
        "Source": mount["Source"],
        "Destination": mount["Destination"],
        "RW": mount["RW"],
        "Name": mount.get("Name") or "",
        "Driver": mount.get("Driver") or "",
        "Type": mount["Type"],
        "Relabel": mount.get("Mode") or "",  # moby's name on disk for what its API calls Mode
        "Propagation": mount.get("Propagation") or "",
        "Spec": _spec(mount),
        "SkipMountpointCreation": False,
    }
    return {name: value for name, value in point.items() if value != "" or name not in ("Relabel", "Propagation")}


def _spec(mount: Mapping[str, Any]) -> Json:
    """What was asked for, in the words of --mount. An unnamed volume has no source there."""
    source = {"bind": mount["Source"], "volume": "" if mount.get("Anonymous") else mount.get("Name")}.get(mount["Type"])
    spec = {"Type": mount["Type"], "Source": source, "Target": mount["Destination"], "ReadOnly": not mount["RW"]}
    if mount["Type"] == "bind":
        chosen = "" if mount.get("MayBePrivate") else mount.get("Propagation")
        options = {"Propagation": chosen, **{name: mount.get(name) for name in RECURSION}}
        spec["BindOptions"] = _set(options)
    elif mount["Type"] == "volume":
        driver = {"Name": "local", "Options": mount["DriverOpts"]} if mount.get("DriverOpts") else None
        options = {name: mount.get(name) for name in ("NoCopy", "Labels", "Subpath")}
        spec["VolumeOptions"] = _set({**options, "DriverConfig": driver})
    else:
        spec["TmpfsOptions"], spec["ReadOnly"] = _tmpfs_options(mount.get("Options") or "")
    return _set(spec)


def _set(options: Mapping[str, Any]) -> Json:
    return {name: value for name, value in options.items() if value}


_OWN_FIELDS = ("size", "mode", "ro")
"""Options of a tmpfs that have fields of their own."""


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


def mount_entries(points: Mapping[str, Any], tmpfs: Mapping[str, str]) -> Iterator[Json]:
    """The Mounts entries of a container, from its MountPoints and its HostConfig.Tmpfs.

    Raises KeyError, TypeError, ValueError or InvalidInput for documents of another shape.
    """
    for point in points.values():
        yield _entry(point)
    for destination, options in tmpfs.items():
        yield parse_tmpfs(destination, options)


def _entry(point: Mapping[str, Any]) -> Json:
    spec, kind, name = point.get("Spec") or {}, str(point.get("Type") or ""), str(point.get("Name") or "")
    kind = kind or ("volume" if name else "bind")  # records from before Docker 1.13 have no type
    entry = {
        "Type": kind,
        "Name": name,
        "Source": str(point.get("Source") or ""),
        "Destination": str(point["Destination"]),
        "Mode": str(point.get("Relabel") or ""),
        "RW": bool(point["RW"]),
        "Propagation": str(point.get("Propagation") or ""),
    }
    if kind == "bind":
        options = spec.get("BindOptions") or {}
        entry |= {flag: True for flag in RECURSION if options.get(flag)}
        # moby, too, takes rslave by itself for a source that holds the data root.
        if entry["Propagation"] == "rslave" and not options.get("Propagation"):
            entry["MayBePrivate"] = True
    elif kind == "volume":
        entry |= _volume(spec)
    else:
        entry["Options"] = tmpfs_of_mount(spec)
    return entry


def _volume(spec: Mapping[str, Any]) -> Json:
    options = spec.get("VolumeOptions") or {}
    driver = (options.get("DriverConfig") or {}).get("Options")
    return {
        "Driver": "local",
        "NoCopy": bool(options.get("NoCopy")),
        "Anonymous": not spec.get("Source"),
        **({"Labels": dict(options["Labels"])} if options.get("Labels") else {}),
        **({"DriverOpts": dict(driver)} if driver else {}),
        **({"Subpath": str(options["Subpath"])} if options.get("Subpath") else {}),
    }
