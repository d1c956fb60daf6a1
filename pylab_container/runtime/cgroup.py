"""Which limits the kernel's cgroups have (docs.kernel.org, admin-guide: cgroup-v1 and cgroup-v2)."""

from __future__ import annotations

from pathlib import Path

from pylab_container.runtime.runc import cgroup_version

_TOP = Path("/sys/fs/cgroup")

# {HostConfig's field: (the file in version 1, the controller in version 2, "" where there is none)}
_NEEDS = {
    "Memory": ("memory/memory.limit_in_bytes", "memory"),
    "MemorySwap": ("memory/memory.memsw.limit_in_bytes", "memory"),
    "MemorySwappiness": ("memory/memory.swappiness", ""),
    "MemoryReservation": ("memory/memory.soft_limit_in_bytes", "memory"),
    "KernelMemory": ("memory/memory.kmem.limit_in_bytes", ""),
    "OomKillDisable": ("memory/memory.oom_control", ""),
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
    """The fields of HostConfig that cannot be put into effect on this machine."""
    if cgroup_version() == "1":
        return frozenset(field for field, (file, _) in _NEEDS.items() if not (_TOP / file).exists())
    controllers = (_TOP / "cgroup.controllers").read_text().split()
    lacking = {field for field, (_, controller) in _NEEDS.items() if controller not in controllers}
    return frozenset(lacking if swap_is_limited() else {*lacking, "MemorySwap"})


def swap_is_limited() -> bool:
    """Whether the kernel counts swap for a cgroup (version 1: memory.memsw; 2: where there is memory.swap.max)."""
    if cgroup_version() == "2":
        return any(_TOP.glob("*/memory.swap.max"))
    return (_TOP / "memory/memory.memsw.limit_in_bytes").exists()


def memory_nodes() -> str:
    """The memory nodes of the machine, as "0-1" (Documentation/ABI/stable/sysfs-devices-node)."""
    try:
        return Path("/sys/devices/system/node/online").read_text().strip()
    except OSError:
        return "0"
