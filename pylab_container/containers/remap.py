"""--userns=remap: root in a container is a user without rights on the machine.

    <run root>/mapped/<id>/root    the container's file system, where that user can get to it
                           0, 1 …  its volumes

Files stay on the disk as they are, owned by 0 where the container's root owns them: the layers are
mounted with their owners mapped (host/idmap.py), so commit, diff and later containers notice nothing.
Directories of the host that are bound in are not mapped: there the container has that user's rights.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pylab_container.containers import sandbox
from pylab_container.errors import Conflict, InvalidInput
from pylab_container.host import idmap, linux
from pylab_container.host.idmap import IdMap
from pylab_container.oci import bundle
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.lifecycle import State

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.store.container_store import ContainerRecord

Result = TypeVar("Result")


def refuse(host_config: HostConfig) -> None:
    """Raises InvalidInput for a UsernsMode that there is not, Conflict for one that does not go with the rest."""
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
    """Who a container's users are on the machine; None: the same."""
    return idmap.subordinate_ids() if record.host_config.userns_mode == "remap" else None


def first_ids(record: ContainerRecord) -> tuple[int, int]:
    """Who a container's root is, seen through its merged directory now: (0, 0) unless it runs remapped."""
    ids = id_map(record) if record.state in (State.RUNNING, State.PAUSED) else None
    return (ids.uid, ids.gid) if ids else (0, 0)


def mount_root(engine: Engine, record: ContainerRecord) -> Path:
    """Mount a container's layers; where the result is. Raises InvalidInput from a driver without mounts."""
    mount_id = engine.data.layers.own(record.id).mount_id
    ids = id_map(record)
    if ids is None:
        return engine.data.driver.mount(mount_id)
    if engine.data.driver.name != "overlay2":
        raise InvalidInput("--userns=remap needs the storage driver overlay2", hint=f"not {engine.data.driver.name}")
    return engine.data.driver.mount(mount_id, ids)


def apply(engine: Engine, record: ContainerRecord, config: dict[str, Any]) -> None:
    """Change a config.json so that its container is remapped, and mount what it then names. Raises RuntimeFailed."""
    ids = id_map(record)
    if ids is None:
        return
    unmount(engine, record.id)  # what a killed start left
    bundle.map_users(config, uid=ids.uid, gid=ids.gid, size=ids.size)
    places = _places(engine, record.id)
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
        os.chown(engine.data.records.directory(record.id) / name, ids.uid, ids.gid)


def _bind_renamed_devices(record: ContainerRecord, config: dict[str, Any]) -> None:
    """Mount the devices that have another name in the container.

    Nobody makes device nodes in a user namespace. runc mounts the host's instead, but looks for each under the
    name that it is to have inside.
    """
    for entry in record.host_config.devices:
        for path, inside in sandbox.device_places(entry.path_on_host, entry.path_in_container):
            if str(path) != inside:
                options = ["bind", "nosuid", "noexec"]
                config["mounts"].append(
                    {"destination": inside, "type": "bind", "source": str(path), "options": options}
                )
                config["linux"]["devices"] = [one for one in config["linux"]["devices"] if one["path"] != inside]


def unmount(engine: Engine, container_id: str) -> None:
    """Take away what apply() mounted. Nothing there is deleted: behind a mount there are files of a volume."""
    places = _places(engine, container_id)
    if not places.is_dir():
        return
    for place in list(places.iterdir()):
        with contextlib.suppress(OSError):  # nothing is mounted there any more
            while True:
                linux.umount(str(place), linux.MNT_DETACH)
        place.rmdir()
    for directory in (places, places.parent):
        with contextlib.suppress(OSError):  # another container's
            directory.rmdir()


def as_root_of(ids: tuple[int, int], action: Callable[[], Result]) -> Result:
    """Run action so that what it makes belongs to a container's root: in a thread, as these ids are a thread's own."""
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


def _places(engine: Engine, container_id: str) -> Path:
    return engine.runtime.path / "mapped" / container_id


def _new(place: Path) -> Path:
    """A mount point that any user can get to."""
    for directory in (place.parent.parent, place.parent, place):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711)
    return place
