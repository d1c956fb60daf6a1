"""Discard limits that the kernel does not support, with Docker's warnings.

The order of the limits and the words are those of moby daemon/daemon_unix.go, verifyPlatformContainerResources (20.10).
runtime/cgroup.py finds out which limits a machine supports.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from pylab_container.errors import InvalidInput
from pylab_container.oci.host_config import HostConfig

_NO_CGROUP = "or the cgroup is not mounted"
_CFS = "CPU CFS scheduler. CPU period/quota discarded"
_CPUSET = f"cpuset {_NO_CGROUP}. Cpuset discarded"

# {attribute: (its value after it is discarded, the words of the warning)}
_DISCARDED: Mapping[str, tuple[Any, str]] = {
    "memory": (0, f"memory limit capabilities {_NO_CGROUP}. Limitation discarded"),
    "memory_swap": (-1, f"swap limit capabilities {_NO_CGROUP}. Memory limited without swap"),
    "memory_swappiness": (None, f"memory swappiness capabilities {_NO_CGROUP}. Memory swappiness discarded"),
    "memory_reservation": (0, f"memory soft limit capabilities {_NO_CGROUP}. Limitation discarded"),
    "kernel_memory": (0, f"kernel memory limit capabilities {_NO_CGROUP}. Limitation discarded"),
    "oom_kill_disable": (None, "OomKillDisable. OomKillDisable discarded"),
    "pids_limit": (None, f"PIDs limit capabilities {_NO_CGROUP}. PIDs limit discarded"),
    "cpu_shares": (0, f"CPU shares {_NO_CGROUP}. Shares discarded"),
    "cpu_period": (0, _CFS),
    "cpu_quota": (0, _CFS),
    "cpuset_cpus": ("", _CPUSET),
    "cpuset_mems": ("", _CPUSET),
    "blkio_weight": (0, f"Block I/O weight {_NO_CGROUP}. Weight discarded"),
    "blkio_weight_device": ((), f"Block I/O weight_device {_NO_CGROUP}. Weight-device discarded"),
    "blkio_device_read_bps": ((), f"BPS Block I/O read limit {_NO_CGROUP}. Block I/O BPS read limit discarded"),
    "blkio_device_write_bps": ((), f"BPS Block I/O write limit {_NO_CGROUP}. Block I/O BPS write limit discarded"),
    "blkio_device_read_iops": ((), f"IOPS Block read limit {_NO_CGROUP}. Block I/O IOPS read limit discarded"),
    "blkio_device_write_iops": ((), f"IOPS Block write limit {_NO_CGROUP}. Block I/O IOPS write limit discarded"),
}

# {attribute: the error on a machine that does not support it}
_NEEDED = {
    "nano_cpus": f"NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler {_NO_CGROUP}",
    "cpu_realtime_period": "Your kernel does not support CPU real-time scheduler",
    "cpu_realtime_runtime": "Your kernel does not support CPU real-time scheduler",
}
_KERNEL_MEMORY = "Specifying a kernel memory limit is deprecated and will be removed in a future release."
_ENDLESS_OOM = (
    "OOM killer is disabled for the container, but no memory limit is set, "
    "this can result in the system running out of resources."
)
_PERCENT = "linux does not support CPU percent. Percent discarded."
_SMALLEST_KERNEL_MEMORY = 6 << 20
_WEIGHTS = (10, 1000)


def discard(requested: HostConfig, unsupported: Collection[str]) -> tuple[HostConfig, list[str]]:
    """Return the HostConfig without the limits in `unsupported` (attribute names), and warnings.

    Raises InvalidInput.
    """
    for attribute, words in _NEEDED.items():
        if getattr(requested, attribute) and attribute in unsupported:
            raise InvalidInput(words, hint="leave it out")
    config = requested
    warnings: dict[str, None] = {}
    for attribute, (nothing, words) in _DISCARDED.items():
        if attribute == "kernel_memory" and config.kernel_memory > 0:
            warnings[_KERNEL_MEMORY] = None
        if attribute in unsupported and _is_requested(config, attribute):
            swap = {"memory_swap": -1} if attribute == "memory" else {}
            config = replace(config, **{attribute: nothing}, **swap)
            warnings[f"Your kernel does not support {words}."] = None
        warnings |= dict.fromkeys(_remarks_after(config, attribute))
    if config.cpu_percent:
        config = replace(config, cpu_percent=0)  # only Windows has it
    _check(config)
    return config, list(warnings)


def _is_requested(config: HostConfig, attribute: str) -> bool:
    """Return whether the limit is set. A swap limit without a memory limit has no effect."""
    if attribute == "memory_swap":
        return bool(config.memory) and config.memory_swap != -1
    value = getattr(config, attribute)
    return value is not None if attribute == "memory_swappiness" else bool(value)


def _remarks_after(config: HostConfig, attribute: str) -> Iterator[str]:
    """Yield moby's warnings about a limit that stays, and about those that depend on it."""
    if attribute == "oom_kill_disable" and config.oom_kill_disable and not config.memory:
        yield _ENDLESS_OOM
    if attribute == "cpu_quota" and config.cpu_percent:
        yield _PERCENT


def _check(config: HostConfig) -> None:
    """Raise InvalidInput for a remaining limit that is out of range."""
    if config.blkio_weight and not _WEIGHTS[0] <= config.blkio_weight <= _WEIGHTS[1]:
        raise InvalidInput("Range of blkio weight is from 10 to 1000", hint="choose a weight such as 500")
    if 0 < config.kernel_memory < _SMALLEST_KERNEL_MEMORY:
        raise InvalidInput(
            "Minimum kernel memory limit allowed is 6MB",
            hint="leave it out: Linux has not supported it since 5.16",
        )
    period, runtime = config.cpu_realtime_period, config.cpu_realtime_runtime
    if period and runtime > period:
        raise InvalidInput(
            "cpu real-time runtime cannot be higher than cpu real-time period",
            hint="lower the runtime, or raise the period",
        )
