"""Which limits the kernel's cgroups have (docs.kernel.org, admin-guide: cgroup-v1 and cgroup-v2)."""

from __future__ import annotations

from pathlib import Path

from pylab_container.runtime.runc import cgroup_version

_TOP = Path("/sys/fs/cgroup")

# {attribute of HostConfig: (its file in cgroup v1, its controller in v2 or "")}
_NEEDS = {
    "memory": ("memory/memory.limit_in_bytes", "memory"),
    "memory_swap": ("memory/memory.memsw.limit_in_bytes", "memory"),
    "memory_swappiness": ("memory/memory.swappiness", ""),
    "memory_reservation": ("memory/memory.soft_limit_in_bytes", "memory"),
    "kernel_memory": ("memory/memory.kmem.limit_in_bytes", ""),
    "oom_kill_disable": ("memory/memory.oom_control", ""),
    "pids_limit": ("pids", "pids"),
    "cpu_shares": ("cpu/cpu.shares", "cpu"),
    "cpu_period": ("cpu/cpu.cfs_quota_us", "cpu"),
    "cpu_quota": ("cpu/cpu.cfs_quota_us", "cpu"),
    "nano_cpus": ("cpu/cpu.cfs_quota_us", "cpu"),
    "cpu_realtime_period": ("cpu/cpu.rt_period_us", ""),
    "cpu_realtime_runtime": ("cpu/cpu.rt_period_us", ""),
    "cpuset_cpus": ("cpuset/cpuset.cpus", "cpuset"),
    "cpuset_mems": ("cpuset/cpuset.cpus", "cpuset"),
    "blkio_weight": ("blkio/blkio.weight", "io"),
    "blkio_weight_device": ("blkio/blkio.weight_device", "io"),
    "blkio_device_read_bps": ("blkio/blkio.throttle.read_bps_device", "io"),
    "blkio_device_write_bps": ("blkio/blkio.throttle.write_bps_device", "io"),
    "blkio_device_read_iops": ("blkio/blkio.throttle.read_iops_device", "io"),
    "blkio_device_write_iops": ("blkio/blkio.throttle.write_iops_device", "io"),
}


def unsupported_limits() -> frozenset[str]:
    """The attributes of HostConfig that this machine does not support."""
    if cgroup_version() == "1":
        return frozenset(field for field, (file, _) in _NEEDS.items() if not (_TOP / file).exists())
    controllers = (_TOP / "cgroup.controllers").read_text().split()
    lacking = {field for field, (_, controller) in _NEEDS.items() if controller not in controllers}
    return frozenset(lacking if swap_is_limited() else {*lacking, "memory_swap"})


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
