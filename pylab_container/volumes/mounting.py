"""Volumes with a file system of their own (`volume create --opt type=…`), which are mounted while somebody uses them.

The first container mounts one, the last one that ends unmounts it. Nobody counts: whoever comes or goes looks, under
the lock of all volumes, which other containers have a run of their own (a bundle, see lifetime.py) and this volume.
A container's bundle is there before it mounts and goes after it has unmounted, so that of whoever is killed between
the two a run is left, which the next one who reads the record gives back, volumes and all.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pylab_container.errors import InvalidInput, LabError, NotFound, RuntimeFailed
from pylab_container.host import linux
from pylab_container.host.descent import opened
from pylab_container.oci.mounts import MountPoint
from pylab_container.volumes.driver_options import VolumeMount, volume_mount

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.volumes import Volume
    from pylab_container.store.container_store import ContainerRecord


def mount(engine: Engine, record: ContainerRecord) -> frozenset[str]:
    """Mount what a container that starts needs; the names of those that nobody had mounted.

    Raises RuntimeFailed where the kernel refuses.
    """
    if not any(mount.type == "volume" for mount in record.mounts):
        return frozenset()
    (engine.runtime.path / record.id).mkdir(parents=True, exist_ok=True, mode=0o700)
    with engine.volumes.lock():
        fresh = [volume for volume in _with_options(engine, record) if not is_mounted(volume.path)]
        for volume in fresh:
            _mount(volume)
    return frozenset(volume.name for volume in fresh)


def unmount(engine: Engine, record: ContainerRecord) -> None:
    """Unmount what a container that has ended used and no other one uses."""
    if not any(mount.type == "volume" for mount in record.mounts):
        return
    with engine.volumes.lock():
        for volume in _with_options(engine, record):
            if not any(_runs(engine, user) for user in engine.volumes.users(volume) if user != record.id):
                detach(volume)


@contextlib.contextmanager
def present(engine: Engine, name: str) -> Iterator[None]:
    """A volume is mounted while the block runs, where it has something to mount and no container has it mounted."""
    try:
        volume = engine.volumes.get(name)
    except NotFound:
        yield
        return
    if not volume.options:
        yield
        return
    with engine.volumes.lock():  # whoever starts waits until we have unmounted
        fresh = not is_mounted(volume.path)
        if fresh:
            _mount(volume)
        try:
            yield
        finally:
            if fresh:
                detach(volume)


def open_part(mount: MountPoint) -> int:
    """A descriptor (O_PATH) of the part of a volume that one of a container's Mounts shows: its Subpath, or the whole.

    No link leads out of the volume. Raises InvalidInput if the volume has no such part.
    """
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


def detach(volume: Volume) -> None:
    """Unmount a volume that nobody uses; no error where it is not mounted. Under the lock of all volumes."""
    while volume.options and is_mounted(volume.path):
        try:
            linux.umount(str(volume.path), linux.MNT_DETACH)
        except OSError as error:
            raise RuntimeFailed(f"volume {volume.name} cannot be unmounted: {error.strerror}") from error


def is_mounted(path: Path) -> bool:
    """Whether something is mounted at a path (proc(5), mountinfo)."""
    point = str(path).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == point for line in lines)


def _with_options(engine: Engine, record: ContainerRecord) -> Iterator[Volume]:
    for entry in record.mounts:
        if entry.type == "volume":
            with contextlib.suppress(NotFound):
                volume = engine.volumes.get(entry.name)
                if volume.options:
                    yield volume


def _runs(engine: Engine, container_id: str) -> bool:
    return (engine.runtime.path / container_id).exists()


def _mount(volume: Volume) -> None:
    wanted = _with_number(volume_mount(volume.options))
    place = str(volume.path)
    try:
        linux.mount(wanted.device, place, wanted.kind, wanted.flags, wanted.data)
    except OSError as error:
        raise _failed(volume, wanted, error) from error
    if wanted.afterwards:
        try:
            linux.mount("", place, "", wanted.afterwards)
        except OSError as error:
            with contextlib.suppress(LabError):
                detach(volume)
            raise _failed(volume, wanted, error) from error


def _with_number(wanted: VolumeMount) -> VolumeMount:
    """The kernel's network file systems know their servers by address, not by name."""
    name = wanted.address
    if wanted.kind not in ("nfs", "nfs4", "cifs") or not name or _is_number(name):
        return wanted
    try:
        found = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
    except OSError as error:
        raise RuntimeFailed(f"error resolving passed in network volume address: {name}: {error}") from error
    return replace(wanted, data=wanted.data.replace(f"addr={name}", f"addr={found[0][4][0]}"))


def _is_number(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _failed(volume: Volume, wanted: VolumeMount, error: OSError) -> RuntimeFailed:
    """Without the mount's data: there may be a password in it."""
    return RuntimeFailed(
        f"error while mounting volume '{volume.path}': failed to mount local volume: mount "
        f"{wanted.device}:{volume.path}, type {wanted.kind}: {(error.strerror or '').lower()}",
        hint="labctr volume inspect shows its options; dmesg may tell more",
    )
