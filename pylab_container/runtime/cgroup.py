"""Find out which limits this machine's cgroups support.

Sources: docs.kernel.org, admin-guide/cgroup-v1 and admin-guide/cgroup-v2.
"""

from __future__ import annotations

from pathlib import Path

from pylab_container.runtime.runc import cgroup_version

_ROOT = Path("/sys/fs/cgroup")

# {field of HostConfig: (file in version 1, controller in version 2)}, "" for a limit that version 2 does not have.
# Version 1 is checked by file, because a kernel may have a controller without one of its limits: memsw depends on the
# boot option swapaccount=1, rt_period_us on CONFIG_RT_GROUP_SCHED. Version 2 is checked by controller, because its root
# cgroup has no files for limits.
_REQUIREMENTS = {
    "Memory": ("memory/memory.limit_in_bytes", "memory"),
    "MemorySwap": ("memory/memory.memsw.limit_in_bytes", "memory"),
    "MemorySwappiness": ("memory/memory.swappiness", ""),
    "MemoryReservation": ("memory/memory.soft_limit_in_bytes", "memory"),
    "KernelMemory": ("memory/memory.kmem.limit_in_bytes", ""),
    "OomKillDisable": ("memory/memory.oom_control", ""),
    # The root cgroup has no pids.max in either version, so the mounted hierarchy has to do (cgroup-v1/pids.rst).
    "PidsLimit": ("pids", "pids"),
    "CpuShares": ("cpu/cpu.shares", "cpu"),
    "CpuPeriod": ("cpu/cpu.cfs_quota_us", "cpu"),
    "CpuQuota": ("cpu/cpu.cfs_quota_us", "cpu"),
    "NanoCpus": ("cpu/cpu.cfs_quota_us", "cpu"),
    "CpuRealtimePeriod": ("cpu/cpu.rt_period_us", ""),
    "CpuRealtimeRuntime": ("cpu/cpu.rt_period_us", ""),
    "CpusetCpus": ("cpuset/cpuset.cpus", "cpuset"),
    "CpusetMems": ("cpuset/cpuset.cpus", "cpuset"),
    "BlkioWeight": ("blkio/blkio.weight", "io"),
    "BlkioWeightDevice": ("blkio/blkio.weight_device", "io"),
    "BlkioDeviceReadBps": ("blkio/blkio.throttle.read_bps_device", "io"),
    "BlkioDeviceWriteBps": ("blkio/blkio.throttle.write_bps_device", "io"),
    "BlkioDeviceReadIOps": ("blkio/blkio.throttle.read_iops_device", "io"),
    "BlkioDeviceWriteIOps": ("blkio/blkio.throttle.write_iops_device", "io"),
}


def unsupported_limits() -> frozenset[str]:
    """The fields of HostConfig that have no effect on this machine."""
    if cgroup_version() == "1":
        return frozenset(field for field, (file, _) in _REQUIREMENTS.items() if not (_ROOT / file).exists())
    controllers = (_ROOT / "cgroup.controllers").read_text().split()
    lacking = {field for field, (_, controller) in _REQUIREMENTS.items() if controller not in controllers}
    return frozenset(lacking if swap_is_limited() else {*lacking, "MemorySwap"})


def swap_is_limited() -> bool:
    """Whether the kernel accounts swap to cgroups."""
    if cgroup_version() == "2":
        # The file exists in every cgroup but the root, if the kernel was built with CONFIG_SWAP and swap accounting is
        # not disabled at boot (cgroup-v2.rst, memory.swap.max). So any child of the root will do.
        return any(_ROOT.glob("*/memory.swap.max"))
    return (_ROOT / "memory/memory.memsw.limit_in_bytes").exists()


def memory_nodes() -> str:
    """The online memory nodes of the machine as a list of ranges, such as "0-1"."""
    # Described in Documentation/ABI/stable/sysfs-devices-node. A kernel without CONFIG_NUMA has no such directory.
    try:
        return Path("/sys/devices/system/node/online").read_text().strip()
    except OSError:
        return "0"
