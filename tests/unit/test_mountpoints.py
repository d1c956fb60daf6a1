"""Mounts on disk: an entry becomes one of Docker's MountPoints and comes back as it was."""

from __future__ import annotations

from typing import Any

import pytest

from pylab_container.oci.mounts import declared_volume, parse_mount, parse_tmpfs, parse_volume, with_propagation
from pylab_container.store.mountpoints import mount_entries, mount_points

Json = dict[str, Any]


def placed(entry: Json) -> Json:
    """An entry as a container has it: the volume has a name, the bind a propagation."""
    if entry["Type"] == "bind":
        return with_propagation(entry, "/root")
    if entry["Type"] == "volume":
        anonymous, name = not entry["Name"], entry["Name"] or "f" * 64
        place = {"Name": name, "Source": f"/root/volumes/{name}/_data"}
        return {**entry, **place, "Anonymous": anonymous, "Driver": "local"}
    return entry


READ_ONLY = {"Type": "bind", "Source": "/s", "Target": "/t", "ReadOnly": True}
ENTRIES = {
    "named": parse_volume("data:/data"),
    "read-only": parse_volume("data:/data:ro"),
    "not filled": parse_volume("data:/data:nocopy,ro"),
    "unnamed": parse_volume("/data"),
    "declared": declared_volume("/a b"),
    "bind": parse_volume("/srv:/srv:ro"),
    "shared bind": parse_volume("/srv:/srv:rshared"),
    "bind of the data root": parse_volume("/root:/srv"),
    "chosen propagation": parse_volume("/root:/srv:rslave"),
    "mount": parse_mount({"Type": "bind", "Source": "/s", "Target": "/t", "ReadOnly": True}),
    "not recursive": parse_mount(
        {
            "Type": "bind",
            "Source": "/s",
            "Target": "/t",
            "BindOptions": {"NonRecursive": True, "CreateMountpoint": True},
        }
    ),
    "options": parse_mount(
        {
            "Type": "volume",
            "Source": "v",
            "Target": "/t",
            "VolumeOptions": {
                "NoCopy": True,
                "Labels": {"a": "b"},
                "DriverConfig": {"Options": {"type": "tmpfs", "device": "tmpfs"}},
            },
        }
    ),
    "a part": parse_mount({"Type": "volume", "Source": "v", "Target": "/t", "VolumeOptions": {"Subpath": "a/b"}}),
    "read-only alone": parse_mount({**READ_ONLY, "BindOptions": {"ReadOnlyNonRecursive": True}}),
    "read-only with all below": parse_mount({**READ_ONLY, "BindOptions": {"ReadOnlyForceRecursive": True}}),
    "tmpfs": parse_mount({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o1777}}),
    "executable tmpfs": parse_mount({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"Options": [["exec"]]}}),
    "read-only tmpfs": parse_mount({"Type": "tmpfs", "Target": "/t", "ReadOnly": True}),
    "hidden tmpfs": parse_tmpfs("/t", "size=1m,exec,ro"),
}
ONLY_AT_CREATION = ("MustExist",)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_comes_back_from_what_dockerd_reads(entry: Json) -> None:
    whole = {name: value for name, value in placed(entry).items() if name not in ONLY_AT_CREATION}
    tmpfs = {entry["Destination"]: entry["Options"]} if entry.get("Hidden") else {}
    (again,) = mount_entries(mount_points([whole]), tmpfs)
    if whole["Type"] == "volume":
        again["Source"] = whole["Source"]  # where it is follows from its name
        whole = {name: value for name, value in whole.items() if (name, value) != ("Labels", {})}
    assert again == whole


def test_the_order_of_mounts_stays() -> None:
    entries = [placed(parse_volume(f"/srv:{destination}")) for destination in ("/z", "/a", "/a/b")]
    assert [entry["Destination"] for entry in mount_entries(mount_points(entries), {})] == ["/z", "/a", "/a/b"]


def test_a_mount_point_of_an_old_dockerd_has_no_type() -> None:
    old = {
        "/a": {"Destination": "/a", "RW": True, "Name": "v"},
        "/b": {"Destination": "/b", "RW": False, "Source": "/s"},
    }
    assert [entry["Type"] for entry in mount_entries(old, {})] == ["volume", "bind"]
