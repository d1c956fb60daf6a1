"""The mounts of a container: binds, volumes, tmpfs, the files of /etc, /dev/shm and the init program.

runc performs them in the container's mount namespace, as config.json lists them. oci/bundle.py adds Docker's defaults
(/proc, /sys, /dev …).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from pylab_container.containers import init_program, lookup, shared_memory, volume_parts
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

    Side effect: mounts the parts of volumes (volume-subpath) on the host, for runc to bind.

    ipc_owner  the container whose IPC namespace and /dev/shm it joins

    Raises InvalidInput.
    """
    directory = data.records.directory(network_files_owner(data, record))
    # The files are outside of the layers, so a read-only root would not cover them (moby, container/container_unix.go,
    # NetworkMounts).
    options = ("rbind", "rprivate", *(["ro"] if record.host_config.readonly_rootfs else []))
    network_files = [
        bundle.Mount(source=str(directory / name), destination=f"/etc/{name}", type="bind", options=options)
        for name in NETWORK_FILES
    ]
    requested = [_bundle_mount(mount, volume_parts.source_of(runtime, record, mount)) for mount in record.mounts]
    defaults = [
        *network_files,
        *shared_memory.bundle_mounts(runtime, record, ipc_owner or record),
        *init_program.init_mount(record),
    ]
    # A user's mount on the same path replaces ours (moby, daemon/oci_linux.go, WithMounts).
    replaced = {mount.destination for mount in requested}
    return [mount for mount in defaults if mount.destination not in replaced] + requested


def network_files_owner(data: DataRoot, record: ContainerRecord) -> str:
    """Return the id of the container whose hosts, hostname and resolv.conf are mounted.

    It is the container itself, or the one whose network it joins: addresses and names belong to the network namespace.
    """
    mode = record.host_config.network_mode
    if mode.startswith("container:"):
        with contextlib.suppress(ContainerNotFound):  # the other container was removed, or is not created yet
            return lookup.find(data.records, mode.removeprefix("container:")).id
    return record.id


def _bundle_mount(mount: MountPoint, source: str) -> bundle.Mount:
    if mount.type == "tmpfs":
        modes = [mount.mode] if mount.mode else []
        options = _tmpfs_options(mount.options) if mount.options is not None else ("nosuid", "nodev", *modes)
        return bundle.Mount(source="tmpfs", destination=mount.destination, type="tmpfs", options=options)
    # A read-only remount of a bind affects that mount only (mount(2), MS_REMOUNT | MS_BIND): mounts below it, which
    # rbind copies too, would stay writable. "rro" changes the whole tree by mount_setattr(2) with AT_RECURSIVE.
    is_flat = mount.non_recursive or mount.read_only_non_recursive
    is_recursive = mount.read_only_force_recursive or (not is_flat and linux.has_mount_setattr())
    read_only = "rro" if is_recursive else "ro"
    options = ("bind" if mount.non_recursive else "rbind", _propagation(mount), "rw" if mount.writable else read_only)
    return bundle.Mount(source=source, destination=mount.destination, type="bind", options=options)


def _propagation(mount: MountPoint) -> str:
    """The propagation type of a bind mount, by default rprivate. Raises InvalidInput."""
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
    """Docker's options of a tmpfs, replaced by the user's: exec replaces noexec (moby, mount.MergeTmpfsOptions)."""
    options_by_subject: dict[str, str] = {}
    for option in ("noexec", "nosuid", "nodev", *filter(None, text.split(","))):
        name = option.partition("=")[0]
        subject = "ro" if name == "rw" else name.removeprefix("no")
        options_by_subject[subject] = option
    options_by_subject.pop("defaults", None)
    return tuple(options_by_subject.values())


def _refuse_private_source(source: str, propagation: str) -> None:
    """Raise InvalidInput unless the mount that the source is on has the propagation type on the host."""
    # A bind mount joins the peer group of the mount that it copies (mount_namespaces(7), "SHARED SUBTREES"). The copy
    # of a private mount has no group, so no mount event would reach it.
    point, fields = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # Field 5 is the mount point; the optional fields before " - " hold "shared:N" and "master:N" (proc(5)).
        mount_point = line.split()[4]
        is_below = source == mount_point or source.startswith(mount_point.rstrip("/") + "/")
        # Of two mounts on one point, the later line is the mount on top.
        if is_below and len(mount_point) >= len(point):
            point, fields = mount_point, line.partition(" - ")[0]
    if "shared:" not in fields and (propagation == "shared" or "master:" not in fields):
        raise InvalidInput(
            f"path {source} is mounted on {point} but it is not a {propagation} mount",
            hint=f"mount --make-shared {point}",
        )
