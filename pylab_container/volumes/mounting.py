"""Volumes with a file system of their own (`volume create --opt type=…`), mounted while a container uses them.

The first container to start mounts the file system, and the last one to exit unmounts it. A stored reference count
would be wrong after a process was killed. So each exit counts the other containers that use the volume and have a
bundle (runtime/), under the lock of all volumes.

A bundle exists from before its container mounts a volume until after the unmount. A process that is killed in between
leaves the bundle, and the next reader of that container's record releases the volume with it (containers/settle.py).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import replace

from pylab_container.errors import InvalidInput, LabError, NotFound, RuntimeFailed
from pylab_container.host import linux
from pylab_container.host.descent import opened
from pylab_container.oci.mounts import MountPoint
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.store.volume_store import StoredVolume
from pylab_container.volumes.driver_options import VolumeMount, volume_mount


def mount(data: DataRoot, record: ContainerRecord) -> frozenset[str]:
    """Mount the volumes of a container that starts; return the names of those that were not mounted before.

    The container has a bundle already. Raises RuntimeFailed if the kernel refuses a mount.
    """
    if not _has_volumes(record):
        return frozenset()
    with data.volumes.lock():
        unmounted = [volume for volume in _with_options(data, record) if not is_mounted(volume.path)]
        for volume in unmounted:
            _mount(volume)
    return frozenset(volume.name for volume in unmounted)


def unmount(data: DataRoot, record: ContainerRecord, has_bundle: Callable[[str], bool]) -> None:
    """Unmount the volumes of an exited container that no other container uses.

    has_bundle  whether the container with this id has a bundle: it runs, it is starting, or its start was killed
    """
    if not _has_volumes(record):
        return
    with data.volumes.lock():
        for volume in _with_options(data, record):
            users = [
                other.id
                for other in data.records.all()
                if other.id != record.id and volume.name in _volume_names(other)
            ]
            if not any(map(has_bundle, users)):
                detach(volume)


@contextlib.contextmanager
def present(data: DataRoot, name: str) -> Iterator[None]:
    """Keep a volume's file system mounted while the block runs. A volume that does not exist is ignored."""
    try:
        volume = data.volumes.get(name)
    except NotFound:
        yield
        return
    if not volume.options:
        yield
        return
    # A container that starts concurrently would take the volume for mounted, and lose it by our unmount.
    with data.volumes.lock():
        was_mounted = is_mounted(volume.path)
        if not was_mounted:
            _mount(volume)
        try:
            yield
        finally:
            if not was_mounted:
                detach(volume)


def open_part(mount: MountPoint) -> int:
    """Open (O_PATH) the part of a volume that a container mounts: the Subpath of the mount, or the whole volume.

    The caller closes the descriptor. Raises InvalidInput if the volume has no such part.
    """
    # Containers write into the volume. RESOLVE_BENEATH makes the kernel refuse a symbolic link or ".." that leads out
    # of it (openat2(2)), and the descriptor keeps its target if the path changes afterwards (TOCTOU).
    top = opened(mount.source)
    path = mount.subpath or "."
    try:
        return linux.openat2(top, path, os.O_PATH, resolve=linux.RESOLVE_BENEATH)
    except OSError as error:
        raise InvalidInput(
            f"cannot access path {mount.source}/{path}: {(error.strerror or '').lower()}",
            hint="make it in the volume first",
        ) from error
    finally:
        os.close(top)


def detach(volume: StoredVolume) -> None:
    """Unmount an unused volume. Idempotent. The caller holds the lock of all volumes."""
    while volume.options and is_mounted(volume.path):
        try:
            linux.umount(str(volume.path), linux.MNT_DETACH)
        except OSError as error:
            raise RuntimeFailed(f"volume {volume.name} cannot be unmounted: {error.strerror}") from error


def is_mounted(path: Path) -> bool:
    """Whether path is a mount point (proc(5), mountinfo)."""
    # mountinfo writes these four characters in octal.
    point = str(path).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == point for line in lines)


def _has_volumes(record: ContainerRecord) -> bool:
    return bool(_volume_names(record))


def _volume_names(record: ContainerRecord) -> set[str]:
    return {mount.name for mount in record.mounts if mount.type == "volume"}


def _with_options(data: DataRoot, record: ContainerRecord) -> Iterator[StoredVolume]:
    """The volumes of a container that have a file system to mount."""
    for entry in record.mounts:
        if entry.type == "volume":
            with contextlib.suppress(NotFound):
                volume = data.volumes.get(entry.name)
                if volume.options:
                    yield volume


def _mount(volume: StoredVolume) -> None:
    arguments = _with_number(volume_mount(volume.options))
    mount_point = str(volume.path)
    try:
        linux.mount(arguments.device, mount_point, arguments.kind, arguments.flags, arguments.data)
    except OSError as error:
        raise _failed(volume, arguments, error) from error
    # The call that creates a bind mount ignores flags such as MS_RDONLY, and a remount sets them (mount(2), "Creating a
    # bind mount").
    if arguments.remount_flags:
        try:
            linux.mount("", mount_point, "", arguments.remount_flags)
        except OSError as error:
            with contextlib.suppress(LabError):
                detach(volume)
            raise _failed(volume, arguments, error) from error


def _with_number(arguments: VolumeMount) -> VolumeMount:
    """Resolve the server's name in the mount's data (addr=…)."""
    # The kernel cannot query DNS itself. mount.nfs(8) and mount.cifs(8) resolve the name, and mount(2) has no helper.
    name = arguments.address
    if arguments.kind not in ("nfs", "nfs4", "cifs") or not name or _is_number(name):
        return arguments
    try:
        addresses = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
    except OSError as error:
        raise RuntimeFailed(f"error resolving passed in network volume address: {name}: {error}") from error
    return replace(arguments, data=arguments.data.replace(f"addr={name}", f"addr={addresses[0][4][0]}"))


def _is_number(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _failed(volume: StoredVolume, arguments: VolumeMount, error: OSError) -> RuntimeFailed:
    """Build the error of a refused mount, without the mount's data, which may contain a password."""
    return RuntimeFailed(
        f"error while mounting volume '{volume.path}': failed to mount local volume: mount "
        f"{arguments.device}:{volume.path}, type {arguments.kind}: {(error.strerror or '').lower()}",
        hint="labctr volume inspect shows its options; dmesg may show the cause",
    )
