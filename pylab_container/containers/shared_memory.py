"""/dev/shm of a container: its own, none, the host's, or one that containers share with their IPC namespace.

<bundle>/shm    the tmpfs of a container with --ipc shareable, mounted on the host while the container runs
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from pylab_container.host import linux
from pylab_container.oci import bundle
from pylab_container.oci.host_config import DEFAULT_SHM_SIZE
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot


def _directory(runtime: Runtime, container_id: str) -> Path:
    return runtime.bundle(container_id) / "shm"


def bundle_mounts(runtime: Runtime, record: ContainerRecord, owner: ContainerRecord) -> list[bundle.Mount]:
    """Return the mount of /dev/shm, or no mount.

    owner  the container whose IPC namespace it uses: itself, or the one that it joins
    """
    mode, size = record.host_config.ipc_mode or "private", record.host_config.shm_size
    if mode == "none":
        return []
    if mode == "host":
        return [_bind("/dev/shm")]
    if mode == "shareable" or owner.id != record.id:
        is_host = owner.host_config.ipc_mode == "host"
        return [_bind("/dev/shm" if is_host else str(_directory(runtime, owner.id)))]
    options = ("nosuid", "noexec", "nodev", "mode=1777", f"size={size or DEFAULT_SHM_SIZE}")
    return [bundle.Mount(source="shm", destination="/dev/shm", type="tmpfs", options=options)] if size else []


def _bind(source: str) -> bundle.Mount:
    options = ("rbind", "rprivate", "nosuid", "noexec", "nodev")
    return bundle.Mount(source=source, destination="/dev/shm", type="bind", options=options)


def mount(runtime: Runtime, record: ContainerRecord) -> None:
    """Mount the /dev/shm of a container with --ipc shareable on the host, where other containers can bind it."""
    if record.host_config.ipc_mode != "shareable":
        return
    directory = _directory(runtime, record.id)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    size = record.host_config.shm_size or DEFAULT_SHM_SIZE
    linux.mount("shm", str(directory), "tmpfs", flags, f"mode=1777,size={size}")


def unmount(data: DataRoot, runtime: Runtime, container_id: str) -> None:
    """Detach the shared /dev/shm from the host. A running container that joined it keeps its own mount."""
    # dockerd mounts it at mounts/shm in the container's directory, where it stays if dockerd was killed.
    for directory in (_directory(runtime, container_id), data.records.directory(container_id) / "mounts/shm"):
        if directory.is_dir():
            with contextlib.suppress(OSError):  # it is not mounted
                linux.umount(str(directory), linux.MNT_DETACH)
