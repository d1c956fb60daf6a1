"""The content of `docker info`: the engine, its storage, and the machine."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from pylab_container.containers.settle import all_settled
from pylab_container.errors import LabError
from pylab_container.host import linux, programs
from pylab_container.images import lookup
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import State
from pylab_container.runtime import Runtime
from pylab_container.runtime.runc import cgroup_version
from pylab_container.store.data_root import DataRoot

BACKING_NAMES = {"ext4": "extfs", "ext3": "extfs", "ext2": "extfs"}
"""File systems that Docker calls by another name."""

# Docker's name of a limit → (its controller in cgroup version 2, its file in version 1).
# Source: docs.kernel.org, admin-guide, cgroup-v1 and cgroup-v2.
LIMIT_SOURCES = {
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
    """The state of one engine: the fields that the docker command prints.

    memory      in bytes
    id          identifies the data root; it never changes
    limits      Docker's name of a limit → whether this machine's cgroups support it
    forwarding  whether the machine forwards IPv4 packets between its networks
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

    def document(self) -> Json:
        """Return the fields under the names of Docker's `GET /info` (SystemInfo)."""
        return {
            "Containers": self.containers,
            "ContainersRunning": self.running,
            "ContainersPaused": self.paused,
            "ContainersStopped": self.stopped,
            "Images": self.images,
            "Driver": self.storage_driver,
            "DriverStatus": [list(pair) for pair in self.driver_status],
            "LoggingDriver": self.logging_driver,
            "CgroupDriver": self.cgroup_driver,
            "CgroupVersion": self.cgroup_version,
            "KernelVersion": self.kernel_version,
            "OperatingSystem": self.operating_system,
            "OSType": "linux",
            "Architecture": self.architecture,
            "NCPU": self.cpus,
            "MemTotal": self.memory,
            "DockerRootDir": self.root_dir,
            "Name": self.name,
            "ServerVersion": self.server_version,
            "DefaultRuntime": self.runtime,
            "Runtimes": {self.runtime: {"path": self.runtime}},
        }


def describe(data: DataRoot, runtime: Runtime, *, server_version: str) -> Info:
    """Describe an engine and its machine. server_version: the version of this package."""
    states = [record.state for record in all_settled(data, runtime)]
    file_system = linux.filesystem_type(data.path)
    backing = BACKING_NAMES.get(file_system, file_system)
    supports_d_type = linux.supports_d_type(data.path)
    machine, release = os.uname(), _os_release()
    return Info(
        containers=len(states),
        running=states.count(State.RUNNING),
        paused=states.count(State.PAUSED),
        stopped=states.count(State.EXITED) + states.count(State.CREATED),
        images=len(lookup.list_ids(data, all=True)),
        server_version=server_version,
        storage_driver=data.driver.name,
        backing_filesystem=backing,
        supports_d_type=supports_d_type,
        # Mounts disable the overlay features with which upper directories would be incomplete (store/overlayfs.py).
        native_overlay_diff=data.driver.name == "overlay2",
        driver_status=_driver_status(data.driver.name, backing, supports_d_type=supports_d_type),
        logging_driver="json-file",
        cgroup_driver="cgroupfs",
        cgroup_version=cgroup_version(),
        runtime="runc",
        kernel_version=machine.release,
        operating_system=release.get("PRETTY_NAME", "Linux"),
        architecture=machine.machine,
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        name=platform.node(),
        root_dir=str(data.path),
        id=_identity(data.path),
        os_version=release.get("VERSION_ID", ""),
        limits=_limits(),
        forwarding=Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1",
    )


@functools.cache
def program_version(name: str) -> str:
    """Return the version of a program that the engine runs; "" if it is not installed. Cached."""
    try:
        output = programs.run([programs.find(name), "--version"]).output
    except LabError:
        return ""
    match = re.search(r"\d+\.\S+", output)
    return match[0] if match else ""


def _identity(data_root: Path) -> str:
    """Return twelve groups of four letters: a digest of the data root's path, device and inode."""
    status = data_root.stat()
    digest = hashlib.sha256(f"{data_root} {status.st_dev} {status.st_ino}".encode()).digest()
    text = base64.b32encode(digest).decode()[:48]
    return ":".join(text[start : start + 4] for start in range(0, 48, 4))


def _limits() -> dict[str, bool]:
    root = Path("/sys/fs/cgroup")
    if cgroup_version() == "1":
        return {name: bool(file) and (root / file).exists() for name, (_, file) in LIMIT_SOURCES.items()}
    controllers = (root / "cgroup.controllers").read_text().split()
    return {name: controller in controllers for name, (controller, _) in LIMIT_SOURCES.items()}


def _driver_status(name: str, backing: str, *, supports_d_type: bool) -> tuple[tuple[str, str], ...]:
    """Return the lines that Docker prints below the storage driver's name; vfs has no line."""
    if name == "vfs":
        return ()
    status = (("Backing Filesystem", backing), ("Supports d_type", str(supports_d_type).lower()))
    return (*status, ("Native Overlay Diff", "true")) if name == "overlay2" else status


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}
