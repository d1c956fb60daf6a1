"""Mounts on disk: an entry becomes one of Docker's MountPoints and comes back as it was."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pylab_container.oci.mounts import (
    MountPoint,
    declared_volume,
    parse_mount,
    parse_tmpfs,
    parse_volume,
    with_propagation,
)
from pylab_container.store.mountpoints import mount_points, parse_mount_points


def placed(mount: MountPoint) -> MountPoint:
    """A mount as a container has it: the volume has a name, the bind a propagation."""
    if mount.type == "bind":
        return with_propagation(mount, "/root")
    if mount.type == "volume":
        name = mount.name or "f" * 64
        source = f"/root/volumes/{name}/_data"
        return replace(mount, anonymous=not mount.name, name=name, source=source, driver="local")
    return mount


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


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_comes_back_from_what_dockerd_reads(entry: MountPoint) -> None:
    whole = replace(placed(entry), must_exist=False)  # it matters at the creation only
    tmpfs = {entry.destination: entry.options or ""} if entry.hidden else {}
    (again,) = parse_mount_points(mount_points([whole]), tmpfs)
    if whole.type == "volume":
        again = replace(again, source=whole.source)  # the directory follows from the name
    assert again == whole


def test_the_order_of_mounts_stays() -> None:
    entries = [placed(parse_volume(f"/srv:{destination}")) for destination in ("/z", "/a", "/a/b")]
    assert [entry.destination for entry in parse_mount_points(mount_points(entries), {})] == ["/z", "/a", "/a/b"]


def test_a_mount_point_of_an_old_dockerd_has_no_type() -> None:
    old = {
        "/a": {"Destination": "/a", "RW": True, "Name": "v"},
        "/b": {"Destination": "/b", "RW": False, "Source": "/s"},
    }
    assert [entry.type for entry in parse_mount_points(old, {})] == ["volume", "bind"]
