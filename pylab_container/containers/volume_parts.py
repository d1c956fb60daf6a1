"""Parts of volumes (--mount volume-subpath=…), mounted on the host before the start.

    <bundle>/parts/<digest of the destination>    a bind mount of the part

The part is mounted by its descriptor. runc would mount it by its path, in which another container with the same
volume could place a symbolic link in between (TOCTOU).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from pylab_container.errors import InvalidInput
from pylab_container.host import linux
from pylab_container.oci.mounts import MountPoint
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.volumes.mounting import open_part


def source_of(runtime: Runtime, record: ContainerRecord, mount: MountPoint) -> str:
    """Return the path on the host to bind for a mount of a container; mounts a part of a volume there first.

    Raises InvalidInput if the volume has no such part.
    """
    if not mount.subpath:
        return mount.source
    if record.host_config.userns_mode == "remap":
        raise InvalidInput("--userns=remap cannot map a part of a volume", hint="mount the whole volume")
    part = open_part(mount)
    try:
        mount_point = _directory(runtime, record.id) / hashlib.sha256(mount.destination.encode()).hexdigest()
        mount_point.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if stat.S_ISDIR(os.fstat(part).st_mode):
            mount_point.mkdir()
        else:
            mount_point.touch(exist_ok=False)
        linux.mount(f"/proc/self/fd/{part}", str(mount_point), "", linux.MS_BIND)
    finally:
        os.close(part)
    return str(mount_point)


def unmount(runtime: Runtime, container_id: str) -> None:
    """Unmount the parts on the host. The running container has its own mounts of them."""
    directory = _directory(runtime, container_id)
    for mount_point in list(directory.iterdir()) if directory.is_dir() else ():
        with contextlib.suppress(OSError):  # it is not mounted
            linux.umount(str(mount_point), linux.MNT_DETACH)
        if mount_point.is_dir():
            mount_point.rmdir()
        else:
            mount_point.unlink()


def _directory(runtime: Runtime, container_id: str) -> Path:
    return runtime.bundle(container_id) / "parts"
