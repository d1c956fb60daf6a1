"""What `docker info` tells: the engine, its storage, the machine under it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pylab_container import __version__
from pylab_container.formats.lifecycle import State
from pylab_container.host import linux
from pylab_container.runtime.runc import cgroup_version

if TYPE_CHECKING:
    from pylab_container.engine import Engine

# Docker calls the family of file systems by its oldest member.
_BACKING_NAMES = {"ext4": "extfs", "ext3": "extfs", "ext2": "extfs"}


@dataclass(frozen=True)
class Info:
    """One engine at one moment. Field for field what the docker command prints."""

    containers: int
    running: int
    paused: int
    stopped: int
    images: int
    server_version: str
    storage_driver: str
    backing_filesystem: str
    supports_d_type: bool
    native_overlay_diff: bool
    driver_status: tuple[tuple[str, str], ...]
    logging_driver: str
    cgroup_driver: str
    cgroup_version: str
    runtime: str
    kernel_version: str
    operating_system: str
    architecture: str
    cpus: int
    memory: int
    name: str
    root_dir: str


def describe(engine: Engine) -> Info:
    """Look at the engine's store and at the machine."""
    states = [container.record.state for container in engine.containers.list(all=True)]
    backing = linux.filesystem_type(engine.data_root)
    d_type = linux.supports_d_type(engine.data_root)
    machine = os.uname()
    return Info(
        containers=len(states),
        running=states.count(State.RUNNING),
        paused=states.count(State.PAUSED),
        stopped=states.count(State.EXITED) + states.count(State.CREATED),
        images=len(engine.images.list(all=True)),
        server_version=__version__,
        storage_driver=engine.driver.name,
        backing_filesystem=_BACKING_NAMES.get(backing, backing),
        supports_d_type=d_type,
        # Our mounts switch off what would make upper directories incomplete (store/overlayfs.py).
        native_overlay_diff=engine.driver.name == "overlay2",
        driver_status=_driver_status(engine.driver.name, _BACKING_NAMES.get(backing, backing), d_type=d_type),
        logging_driver="k8s-file",
        cgroup_driver="cgroupfs",
        cgroup_version=cgroup_version(),
        runtime="runc",
        kernel_version=machine.release,
        operating_system=_pretty_name(),
        architecture=machine.machine,
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        name=platform.node(),
        root_dir=str(engine.data_root),
    )


def _driver_status(name: str, backing: str, *, d_type: bool) -> tuple[tuple[str, str], ...]:
    """What Docker says below the storage driver's name: of vfs there is nothing to say."""
    if name == "vfs":
        return ()
    status = (("Backing Filesystem", backing), ("Supports d_type", str(d_type).lower()))
    return (*status, ("Native Overlay Diff", "true")) if name == "overlay2" else status


def _pretty_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
