"""The limits of a container's cgroup, as its HostConfig requests them.

Sources: admin-guide/cgroup-v1/ and admin-guide/cgroup-v2.rst of the kernel's documentation.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from pylab_container.errors import InvalidInput
from pylab_container.oci import blockio, bundle
from pylab_container.oci.host_config import HostConfig
from pylab_container.runtime import cgroup
from pylab_container.runtime.runc import cgroup_version


def bundle_limits(host_config: HostConfig) -> bundle.Limits:
    """Return the cgroup limits of a HostConfig; 0 and null set no limit. Raises InvalidInput."""
    # Without swap accounting the cgroup has no file for the swap limit, and runc would fail when it writes the limit.
    memory_swap = host_config.memory_swap if host_config.memory and cgroup.swap_is_limited() else 0
    return bundle.Limits(
        memory=host_config.memory or None,
        memory_swap=memory_swap or None,
        memory_reservation=host_config.memory_reservation or None,
        cpus=host_config.nano_cpus / 10**9 if host_config.nano_cpus else None,
        swappiness=_swappiness(host_config),
        cpu_period=host_config.cpu_period or None,
        cpu_quota=host_config.cpu_quota or None,
        cpu_shares=host_config.cpu_shares or None,
        cpuset_cpus=host_config.cpuset_cpus,
        cpuset_mems=host_config.cpuset_mems,
        pids=host_config.pids_limit or None,
        kernel_memory=host_config.kernel_memory or None,
        kernel_memory_tcp=host_config.kernel_memory_tcp or None,
        realtime_period=host_config.cpu_realtime_period or None,
        realtime_runtime=host_config.cpu_realtime_runtime or None,
        block_weight=host_config.blkio_weight or None,
        throttles=tuple(_throttles(host_config)),
        oom_kill_disabled=_oom_kill_disabled(host_config),
    )


def _throttles(host_config: HostConfig) -> Iterator[blockio.Throttle]:
    for kind, devices in (
        ("throttleReadBpsDevice", host_config.blkio_device_read_bps),
        ("throttleReadIOPSDevice", host_config.blkio_device_read_iops),
        ("throttleWriteBpsDevice", host_config.blkio_device_write_bps),
        ("throttleWriteIOPSDevice", host_config.blkio_device_write_iops),
    ):
        for device in devices:
            yield blockio.Throttle(kind, *_disk_numbers(device.path), device.rate)
    for weighted in host_config.blkio_weight_device:
        yield blockio.Throttle("weightDevice", *_disk_numbers(weighted.path), weighted.weight)


def _disk_numbers(path: str) -> tuple[int, int]:
    """The major and minor number of the block device at path. Raises InvalidInput."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise InvalidInput(f"stat {path}: {error.strerror}", hint="lsblk -p lists the disks") from None
    if not stat.S_ISBLK(status.st_mode):
        raise InvalidInput(f"{path} is not a disk", hint="lsblk -p lists the disks")
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def _oom_kill_disabled(host_config: HostConfig) -> bool:
    disabled = bool(host_config.oom_kill_disable)
    if disabled and cgroup_version() == "2":
        raise InvalidInput(
            "the OOM killer cannot be disabled on this machine", hint="leave it out: cgroup v2 does not support it"
        )
    return disabled


def _swappiness(host_config: HostConfig) -> int | None:
    if host_config.memory_swappiness is not None and cgroup_version() == "2":
        raise InvalidInput(
            "memory swappiness cannot be chosen on this machine", hint="leave it out: cgroup v2 does not support it"
        )
    return host_config.memory_swappiness
