"""The mounts of a container, as its bundle lists them.

Binds, volumes, tmpfs, the files of /etc, /dev/shm, the init program.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from pylab_container.containers import lookup, sandbox, shared_memory, volume_parts
from pylab_container.errors import ContainerNotFound, InvalidInput
from pylab_container.host import linux
from pylab_container.networks.container_files import NETWORK_FILES
from pylab_container.oci import bundle
from pylab_container.oci.mounts import MountPoint
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot


def bundle_mounts(
    data: DataRoot, runtime: Runtime, record: ContainerRecord, ipc_owner: ContainerRecord | None
) -> list[bundle.Mount]:
    """Return all mounts besides Docker's defaults.

    Parts of volumes are mounted on the host by this.

    ipc_owner  the container whose IPC namespace and /dev/shm it joins

    Raises InvalidInput.
    """
    directory = data.records.directory(network_files_owner(data, record))
    options = ("rbind", "rprivate", *(["ro"] if record.host_config.readonly_rootfs else []))
    own = [
        bundle.Mount(source=str(directory / name), destination=f"/etc/{name}", type="bind", options=options)
        for name in NETWORK_FILES
    ]
    requested = [_bundle_mount(mount, volume_parts.source_of(runtime, record, mount)) for mount in record.mounts]
    covered = {mount.destination for mount in requested}
    defaults = [*own, *shared_memory.bundle_mounts(runtime, record, ipc_owner or record), *sandbox.init_mount(record)]
    return [mount for mount in defaults if mount.destination not in covered] + requested


def network_files_owner(data: DataRoot, record: ContainerRecord) -> str:
    """Return the id of the container whose hosts, hostname and resolv.conf are mounted.

    It is the container itself, or the one whose network it uses.
    """
    mode = record.host_config.network_mode
    if mode.startswith("container:"):
        with contextlib.suppress(ContainerNotFound):  # it was removed, or is not created yet
            return lookup.find(data.records, mode.removeprefix("container:")).id
    return record.id


def _bundle_mount(mount: MountPoint, source: str) -> bundle.Mount:
    if mount.type == "tmpfs":
        words = [mount.mode] if mount.mode else []
        options = _tmpfs_options(mount.options) if mount.options is not None else ("nosuid", "nodev", *words)
        return bundle.Mount(source="tmpfs", destination=mount.destination, type="tmpfs", options=options)
    flat = mount.non_recursive or mount.read_only_non_recursive
    # rro makes the mounts below it read-only too, by mount_setattr(2).
    recursive = mount.read_only_force_recursive or (not flat and linux.has_mount_setattr())
    reading = "rro" if recursive else "ro"
    options = ("bind" if mount.non_recursive else "rbind", _propagation(mount), "rw" if mount.writable else reading)
    return bundle.Mount(source=source, destination=mount.destination, type="bind", options=options)


def _propagation(mount: MountPoint) -> str:
    propagation = mount.propagation or "rprivate"
    if propagation.removeprefix("r") in ("shared", "slave"):
        try:
            _refuse_private_source(mount.source, propagation.removeprefix("r"))
        except InvalidInput:
            if not mount.may_be_private:
                raise
            return "rprivate"
    return propagation


def _tmpfs_options(text: str) -> tuple[str, ...]:
    """Docker's options of a tmpfs with the user's on top: exec replaces noexec."""
    chosen: dict[str, str] = {}
    for word in ("noexec", "nosuid", "nodev", *filter(None, text.split(","))):
        key = word.partition("=")[0]
        opposite = {"rw": "ro", "ro": "ro"}.get(key, key.removeprefix("no"))
        chosen[opposite] = word
    chosen.pop("defaults", None)
    return tuple(chosen.values())


def _refuse_private_source(source: str, propagation: str) -> None:
    """Raise InvalidInput unless the source's mount has the propagation on the host.

    Source: mount_namespaces(7).
    """
    point, fields = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        inside = source == words[4] or source.startswith(words[4].rstrip("/") + "/")
        if inside and len(words[4]) >= len(point):
            point, fields = words[4], line.partition(" - ")[0]
    if "shared:" not in fields and (propagation == "shared" or "master:" not in fields):
        raise InvalidInput(
            f"path {source} is mounted on {point} but it is not a {propagation} mount",
            hint=f"mount --make-shared {point}",
        )
