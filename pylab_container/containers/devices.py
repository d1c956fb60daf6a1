"""The devices of a container: those of --device, or all of the machine with --privileged."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pylab_container.errors import InvalidInput, RuntimeFailed
from pylab_container.oci import bundle
from pylab_container.store.container_store import ContainerRecord

# Directories of /dev that --privileged skips: a container has its own pts, shm and mqueue, fd is a link to /proc, and
# the others belong to LXC and udev (containerd, oci/utils_unix.go, HostDevices()).
_OWN_DIRECTORIES = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"))


def bundle_devices(record: ContainerRecord) -> list[bundle.Device]:
    """Return the devices of --device, or all of the machine with --privileged.

    Raises InvalidInput for a path without devices, RuntimeFailed for --gpus.
    """
    for request in record.host_config.device_requests:
        _refuse_request(request)
    if record.host_config.privileged:
        return [device for device in map(_device, _device_files(Path("/dev"))) if device is not None]
    devices: list[bundle.Device] = []
    for entry in record.host_config.devices:
        devices += _named_devices(entry.path_on_host, entry.path_in_container, entry.cgroup_permissions)
    return devices


def _refuse_request(request: Mapping[str, Any]) -> None:
    """Raise RuntimeFailed for --gpus: the engine has no device driver. dockerd without one fails with these words."""
    sets = " ".join(f"[{' '.join(names)}]" for names in request.get("Capabilities") or ())
    raise RuntimeFailed(
        f'could not select device driver "{request.get("Driver") or ""}" with capabilities: [{sets}]',
        hint="name the devices themselves: --device",
    )


def _named_devices(source: str, target: str, access: str) -> list[bundle.Device]:
    """The devices of one --device option, which names a device or a directory of devices."""
    places = device_places(source, target)
    devices = [device for file, inside in places if (device := _device(file, inside, access))]
    if not devices:
        reason = "not a device node" if Path(source).exists() else "no such file or directory"
        raise InvalidInput(
            f'error gathering device information while adding custom device "{source}": {reason}',
            hint="ls -l /dev lists the machine's devices",
        )
    return devices


def device_places(source: str, target: str) -> list[tuple[Path, str]]:
    """Return (path on the host, path in the container) of each device of a --device option.

    source  a device, or a directory whose devices are all meant
    target  the path in the container that replaces source
    """
    path = Path(source).resolve()
    files = sorted(_device_files(path)) if path.is_dir() else [path]
    return [(file, f"{target}{str(file).removeprefix(str(path))}") for file in files]


def _device(path: Path, inside: str = "", access: str = "rwm") -> bundle.Device | None:
    """The device at path; None if the file is not a device or does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    kinds = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}
    kind = kinds.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    return bundle.Device(
        path=inside or str(path),
        kind=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        access=access,
    )


def _device_files(top: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if name not in _OWN_DIRECTORIES]
        for name in files:
            # The container has its own console, ptmx and tty. A link leads to a device that the walk finds itself.
            path = Path(directory) / name
            if name not in ("console", "ptmx", "tty") and not path.is_symlink():
                yield path
