"""--userns=remap: root in a container is an unprivileged user on the host.

Source: user_namespaces(7).

    <run root>/mapped/<id>/root    the container's file system, mounted where that user can reach it
                           0, 1 …  its volumes

The owners of files on disk do not change: a file of the container's root belongs to uid 0. The layers are mounted
with mapped owners (idmapped mounts, host/idmap.py), so commit, diff and other containers see the usual owners.
Bind mounts of host directories are not mapped: there the container has the rights of the unprivileged user.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pylab_container.containers import devices
from pylab_container.errors import Conflict, InvalidInput
from pylab_container.host import idmap, linux
from pylab_container.host.idmap import IdMap
from pylab_container.oci import bundle
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.lifecycle import State
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot

Result = TypeVar("Result")


def refuse(host_config: HostConfig) -> None:
    """Raise InvalidInput for an unknown UsernsMode, Conflict for one that contradicts other fields."""
    mode = host_config.userns_mode
    if mode not in ("", "host", "remap"):
        raise InvalidInput(f"--userns: invalid USER mode: {mode}", hint="use --userns=remap or --userns=host")
    if mode != "remap":
        return
    if host_config.privileged:
        raise Conflict("privileged mode is incompatible with user namespaces", hint="leave one of the two out")
    for kind, shared in (
        ("network", host_config.network_mode),
        ("PID", host_config.pid_mode),
        ("IPC", host_config.ipc_mode),
    ):
        if shared == "host" or shared.startswith("container:"):
            raise Conflict(
                f"cannot share the {kind} namespace of {shared} when user namespaces are enabled",
                hint="leave one of the two out",
            )


def id_map(record: ContainerRecord) -> IdMap | None:
    """Return the host ids of a container's users; None if they are the same."""
    return idmap.subordinate_ids() if record.host_config.userns_mode == "remap" else None


def first_ids(record: ContainerRecord) -> tuple[int, int]:
    """Return (uid, gid) of root's files in the merged directory: (0, 0) unless the container runs remapped."""
    ids = id_map(record) if record.state in (State.RUNNING, State.PAUSED) else None
    return (ids.uid, ids.gid) if ids else (0, 0)


def mount_root(data: DataRoot, record: ContainerRecord) -> Path:
    """Mount a container's layers and return the mount point. Raises InvalidInput for remap with another driver."""
    mount_id = data.layers.writable_to_change(record.id).mount_id
    ids = id_map(record)
    if ids is None:
        return data.driver.mount(mount_id)
    if data.driver.name != "overlay2":
        raise InvalidInput("--userns=remap needs the storage driver overlay2", hint=f"not {data.driver.name}")
    return data.driver.mount(mount_id, ids)


def apply(data: DataRoot, runtime: Runtime, record: ContainerRecord, config: dict[str, Any]) -> None:
    """With --userns=remap, add the user namespace to a config.json and mount its sources with mapped owners.

    Raises RuntimeFailed.
    """
    ids = id_map(record)
    if ids is None:
        return
    unmount(runtime, record.id)  # mounts of a start that was killed
    bundle.map_users(config, uid=ids.uid, gid=ids.gid, size=ids.size)
    places = _places(runtime, record.id)
    root = _new(places / "root")
    linux.mount(config["root"]["path"], str(root), "", linux.MS_BIND)
    config["root"]["path"] = str(root)
    volumes = [mount.source for mount in record.mounts if mount.type == "volume"]
    for number, mount in enumerate(config["mounts"]):
        if mount["source"] in volumes:
            place = _new(places / str(number))
            idmap.bind_mapped(Path(mount["source"]), place, ids)
            mount["source"] = str(place)
    _bind_renamed_devices(record, config)
    for name in ("hostname", "hosts", "resolv.conf"):
        os.chown(data.records.directory(record.id) / name, ids.uid, ids.gid)


def _bind_renamed_devices(record: ContainerRecord, config: dict[str, Any]) -> None:
    """Bind-mount the devices that have another name in the container than on the host."""
    # Device nodes cannot be created in a user namespace (mknod(2)). runc bind-mounts those of the host instead, but
    # looks for them by their name in the container.
    for entry in record.host_config.devices:
        for path, inside in devices.device_places(entry.path_on_host, entry.path_in_container):
            if str(path) != inside:
                options = ["bind", "nosuid", "noexec"]
                config["mounts"].append(
                    {"destination": inside, "type": "bind", "source": str(path), "options": options}
                )
                config["linux"]["devices"] = [
                    device for device in config["linux"]["devices"] if device["path"] != inside
                ]


def unmount(runtime: Runtime, container_id: str) -> None:
    """Undo the mounts of apply(). Idempotent."""
    # rmdir(2) and no recursive removal: a mount that is left shows the files of a volume, which would be deleted.
    places = _places(runtime, container_id)
    if not places.is_dir():
        return
    for place in list(places.iterdir()):
        with contextlib.suppress(OSError):  # all its mounts are undone
            while True:
                linux.umount(str(place), linux.MNT_DETACH)
        place.rmdir()
    for directory in (places, places.parent):
        with contextlib.suppress(OSError):  # another container's
            directory.rmdir()


def as_root_of(ids: tuple[int, int], action: Callable[[], Result]) -> Result:
    """Run action so that its files belong to a container's root.

    It runs in a thread, because setfsuid(2) is per thread.
    """
    if ids == (0, 0):
        return action()
    results: list[Result] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            linux.set_filesystem_ids(*ids)
            results.append(action())
        except BaseException as error:  # noqa: BLE001 (raised again below, in the caller's thread)
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _places(runtime: Runtime, container_id: str) -> Path:
    return runtime.path / "mapped" / container_id


def _new(place: Path) -> Path:
    """Create a mount point that any user can reach."""
    for directory in (place.parent.parent, place.parent, place):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711)
    return place
