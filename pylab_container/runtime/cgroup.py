"""Find out which limits this machine's cgroups support.

Sources: docs.kernel.org, admin-guide/cgroup-v1 and admin-guide/cgroup-v2.
"""

from __future__ import annotations

from pathlib import Path

from pylab_container.runtime.runc import cgroup_version

_ROOT = Path("/sys/fs/cgroup")

# {attribute of HostConfig: (file in version 1, controller in version 2)}, "" for a limit that version 2 does not have.
# Version 1 is checked by file, because a kernel may have a controller without one of its limits: memsw depends on the
# boot option swapaccount=1, rt_period_us on CONFIG_RT_GROUP_SCHED. Version 2 is checked by controller, because its root
# cgroup has no files for limits.
_REQUIREMENTS = {
    "memory": ("memory/memory.limit_in_bytes", "memory"),
    "memory_swap": ("memory/memory.memsw.limit_in_bytes", "memory"),
    "memory_swappiness": ("memory/memory.swappiness", ""),
    "memory_reservation": ("memory/memory.soft_limit_in_bytes", "memory"),
    "kernel_memory": ("memory/memory.kmem.limit_in_bytes", ""),
    "oom_kill_disable": ("memory/memory.oom_control", ""),
    # The root cgroup has no pids.max in either version, so the mounted hierarchy has to do (cgroup-v1/pids.rst).
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
    """The attributes of HostConfig that have no effect on this machine."""
    if cgroup_version() == "1":
        return frozenset(field for field, (file, _) in _REQUIREMENTS.items() if not (_ROOT / file).exists())
    controllers = (_ROOT / "cgroup.controllers").read_text().split()
    lacking = {field for field, (_, controller) in _REQUIREMENTS.items() if controller not in controllers}
    return frozenset(lacking if swap_is_limited() else {*lacking, "memory_swap"})


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
