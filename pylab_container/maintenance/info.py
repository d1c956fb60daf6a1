"""What `docker info` tells: the engine, its storage, the machine under it."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from pylab_container import __version__
from pylab_container.errors import LabError
from pylab_container.host import linux, programs
from pylab_container.oci.lifecycle import State
from pylab_container.runtime.runc import cgroup_version

if TYPE_CHECKING:
    from pylab_container.engine import Engine

# Docker calls the family of file systems by its oldest member.
_BACKING_NAMES = {"ext4": "extfs", "ext3": "extfs", "ext2": "extfs"}


# What limits need: the controller in cgroup version 2, the file in version 1 (docs.kernel.org, admin-guide, cgroups).
_LIMITS = {
    "MemoryLimit": ("memory", "memory/memory.limit_in_bytes"),
    "SwapLimit": ("memory", "memory/memory.memsw.limit_in_bytes"),
    "CpuCfsPeriod": ("cpu", "cpu/cpu.cfs_period_us"),
    "CpuCfsQuota": ("cpu", "cpu/cpu.cfs_quota_us"),
    "CPUShares": ("cpu", "cpu/cpu.shares"),
    "CPUSet": ("cpuset", "cpuset/cpuset.cpus"),
    "PidsLimit": ("pids", "pids"),
    "OomKillDisable": ("", "memory/memory.oom_control"),
}


class Info(Struct, frozen=True):
    """One engine at one moment. Field for field what the docker command prints.

    id          of the data root; it stays the same
    limits      Docker's names for what cgroups can limit here
    forwarding  whether this machine passes packets on between its networks (IPv4)
    """

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
    id: str
    os_version: str
    limits: Mapping[str, bool]
    forwarding: bool


def describe(engine: Engine) -> Info:
    """Look at the engine's store and at the machine."""
    states = [container.record.state for container in engine.containers.list(all=True)]
    backing = linux.filesystem_type(engine.data.path)
    d_type = linux.supports_d_type(engine.data.path)
    machine = os.uname()
    return Info(
        containers=len(states),
        running=states.count(State.RUNNING),
        paused=states.count(State.PAUSED),
        stopped=states.count(State.EXITED) + states.count(State.CREATED),
        images=len(engine.images.list(all=True)),
        server_version=__version__,
        storage_driver=engine.data.driver.name,
        backing_filesystem=_BACKING_NAMES.get(backing, backing),
        supports_d_type=d_type,
        # Our mounts switch off what would make upper directories incomplete (store/overlayfs.py).
        native_overlay_diff=engine.data.driver.name == "overlay2",
        driver_status=_driver_status(engine.data.driver.name, _BACKING_NAMES.get(backing, backing), d_type=d_type),
        logging_driver="json-file",
        cgroup_driver="cgroupfs",
        cgroup_version=cgroup_version(),
        runtime="runc",
        kernel_version=machine.release,
        operating_system=_os_release().get("PRETTY_NAME", "Linux"),
        architecture=machine.machine,
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        name=platform.node(),
        root_dir=str(engine.data.path),
        id=_identity(engine.data.path),
        os_version=_os_release().get("VERSION_ID", ""),
        limits=_limits(),
        forwarding=Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1",
    )


@functools.cache
def program_version(name: str) -> str:
    """The version of a program that the engine drives, "" where it is not installed; asked for once."""
    try:
        told = programs.run([programs.find(name), "--version"]).output
    except LabError:
        return ""
    found = re.search(r"\d+\.\S+", told)
    return found[0] if found else ""


def _identity(data_root: Path) -> str:
    """Twelve groups of four letters, made of where the data root is on which file system."""
    status = data_root.stat()
    digest = hashlib.sha256(f"{data_root} {status.st_dev} {status.st_ino}".encode()).digest()
    text = base64.b32encode(digest).decode()[:48]
    return ":".join(text[start : start + 4] for start in range(0, 48, 4))


def _limits() -> dict[str, bool]:
    top = Path("/sys/fs/cgroup")
    if cgroup_version() == "1":
        return {name: bool(file) and (top / file).exists() for name, (_, file) in _LIMITS.items()}
    controllers = (top / "cgroup.controllers").read_text().split()
    return {name: controller in controllers for name, (controller, _) in _LIMITS.items()}


def _driver_status(name: str, backing: str, *, d_type: bool) -> tuple[tuple[str, str], ...]:
    """What Docker says below the storage driver's name: of vfs there is nothing to say."""
    if name == "vfs":
        return ()
    status = (("Backing Filesystem", backing), ("Supports d_type", str(d_type).lower()))
    return (*status, ("Native Overlay Diff", "true")) if name == "overlay2" else status


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}
