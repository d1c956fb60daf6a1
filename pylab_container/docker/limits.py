"""Limits that the kernel does not have: they are discarded with a warning, as Docker does it.

HostConfig's fields, their order and the words are those of moby daemon/daemon_unix.go, verifyPlatformContainerResources
(20.10). Which of them a machine can put into effect is runtime/cgroup.py's to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pylab_container.errors import InvalidInput

Json = dict[str, Any]

_NO_CGROUP = "or the cgroup is not mounted"
_CFS = "CPU CFS scheduler. CPU period/quota discarded"
_CPUSET = f"cpuset {_NO_CGROUP}. Cpuset discarded"

# {field: (its value where it is discarded, the words: what the kernel does not support, and what becomes of it)}
_DISCARDED: Mapping[str, tuple[Any, str]] = {
    "Memory": (0, f"memory limit capabilities {_NO_CGROUP}. Limitation discarded"),
    "MemorySwap": (-1, f"swap limit capabilities {_NO_CGROUP}. Memory limited without swap"),
    "MemorySwappiness": (None, f"memory swappiness capabilities {_NO_CGROUP}. Memory swappiness discarded"),
    "MemoryReservation": (0, f"memory soft limit capabilities {_NO_CGROUP}. Limitation discarded"),
    "KernelMemory": (0, f"kernel memory limit capabilities {_NO_CGROUP}. Limitation discarded"),
    "OomKillDisable": (None, "OomKillDisable. OomKillDisable discarded"),
    "PidsLimit": (None, f"PIDs limit capabilities {_NO_CGROUP}. PIDs limit discarded"),
    "CpuShares": (0, f"CPU shares {_NO_CGROUP}. Shares discarded"),
    "CpuPeriod": (0, _CFS),
    "CpuQuota": (0, _CFS),
    "CpusetCpus": ("", _CPUSET),
    "CpusetMems": ("", _CPUSET),
    "BlkioWeight": (0, f"Block I/O weight {_NO_CGROUP}. Weight discarded"),
    "BlkioWeightDevice": ([], f"Block I/O weight_device {_NO_CGROUP}. Weight-device discarded"),
    "BlkioDeviceReadBps": ([], f"BPS Block I/O read limit {_NO_CGROUP}. Block I/O BPS read limit discarded"),
    "BlkioDeviceWriteBps": ([], f"BPS Block I/O write limit {_NO_CGROUP}. Block I/O BPS write limit discarded"),
    "BlkioDeviceReadIOps": ([], f"IOPS Block read limit {_NO_CGROUP}. Block I/O IOPS read limit discarded"),
    "BlkioDeviceWriteIOps": ([], f"IOPS Block write limit {_NO_CGROUP}. Block I/O IOPS write limit discarded"),
}

# What a machine without it cannot do instead.
_NEEDED = {
    "NanoCpus": f"NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler {_NO_CGROUP}",
    "CpuRealtimePeriod": "Your kernel does not support CPU real-time scheduler",
    "CpuRealtimeRuntime": "Your kernel does not support CPU real-time scheduler",
}
_KERNEL_MEMORY = "Specifying a kernel memory limit is deprecated and will be removed in a future release."
_ENDLESS_OOM = (
    "OOM killer is disabled for the container, but no memory limit is set, "
    "this can result in the system running out of resources."
)
_PERCENT = "linux does not support CPU percent. Percent discarded."
_SMALLEST_KERNEL_MEMORY = 6 << 20
_WEIGHTS = (10, 1000)


def discard(host_config: Mapping[str, Any], unsupported: Collection[str]) -> tuple[Json, list[str]]:
    """A HostConfig without the limits in `unsupported`, and what is to be said of it. Raises InvalidInput."""
    kept = dict(host_config)
    for field, words in _NEEDED.items():
        if kept.get(field) and field in unsupported:
            raise InvalidInput(words, hint="leave it out")
    told: dict[str, None] = {}
    for field, (nothing, words) in _DISCARDED.items():
        told |= dict.fromkeys(_remarks(kept, field))
        if field in unsupported and _is_asked(kept, field):
            kept[field] = nothing
            if field == "Memory":
                kept["MemorySwap"] = -1
            told[f"Your kernel does not support {words}."] = None
        told |= dict.fromkeys(_remarks_after(kept, field))
    if kept.get("CpuPercent"):
        kept["CpuPercent"] = 0  # Windows alone has it
    _check(kept)
    return kept, list(told)


def _is_asked(host_config: Mapping[str, Any], field: str) -> bool:
    """Whether there is something to discard; of memory, swap is a part."""
    if field == "MemorySwap":
        return bool(host_config.get("Memory")) and host_config.get(field) != -1
    value = host_config.get(field)
    return value is not None if field == "MemorySwappiness" else bool(value)


def _remarks(host_config: Mapping[str, Any], field: str) -> Iterator[str]:
    """What moby says of a field as it was asked for."""
    if field == "KernelMemory" and (host_config.get(field) or 0) > 0:
        yield _KERNEL_MEMORY


def _remarks_after(host_config: Mapping[str, Any], field: str) -> Iterator[str]:
    """What moby says once it is known whether the field stays."""
    if field == "OomKillDisable" and host_config.get(field) and not host_config.get("Memory"):
        yield _ENDLESS_OOM
    if field == "CpuQuota" and host_config.get("CpuPercent"):
        yield _PERCENT


def _check(host_config: Mapping[str, Any]) -> None:
    """What is wrong with those that are left."""
    weight = host_config.get("BlkioWeight") or 0
    if weight and not _WEIGHTS[0] <= weight <= _WEIGHTS[1]:
        raise InvalidInput("Range of blkio weight is from 10 to 1000", hint="500 is usual")
    if 0 < (host_config.get("KernelMemory") or 0) < _SMALLEST_KERNEL_MEMORY:
        raise InvalidInput("Minimum kernel memory limit allowed is 6MB", hint="the kernel has done away with it")
    period, runtime = host_config.get("CpuRealtimePeriod") or 0, host_config.get("CpuRealtimeRuntime") or 0
    if period and runtime > period:
        raise InvalidInput(
            "cpu real-time runtime cannot be higher than cpu real-time period", hint="it is a part of each period"
        )
