"""Resource usage of containers: the documents and the figures of `docker stats`.

The counters are read from the kernel: the container's cgroup, /proc/stat and /proc/<pid>/net/dev. Sources: the
kernel's Documentation/admin-guide/cgroup-v1 (cpuacct, memory, blkio-controller, pids) and cgroup-v2.rst; proc(5).
The document is Docker's (Engine API 1.41, "ContainerStats").
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pylab_container.host.files import read_text_or_empty
from pylab_container.oci.image import Json
from pylab_container.runtime.runc import cgroup_path, cgroup_version
from pylab_container.store.container_store import ContainerRecord
from pylab_container.text.timestamps import rfc3339

ReadRecord = Callable[[], ContainerRecord]
"""Returns a container's settled record. Raises ContainerNotFound once the container is removed."""

SNAPSHOT_INTERVAL = 0.5  # seconds between the two measurements of a snapshot

CGROUP_ROOT = Path("/sys/fs/cgroup")
# Docker's fields for the counters of cgroup v1's blkio controller. docker shows the first only, so no other is filled.
BLOCK_FIELDS = (
    "io_service_bytes_recursive io_serviced_recursive io_queue_recursive io_service_time_recursive "
    "io_wait_time_recursive io_merged_recursive io_time_recursive sectors_recursive"
).split()
NETWORK_FIELDS = (
    *("rx_bytes", "rx_packets", "rx_errors", "rx_dropped"),
    *("tx_bytes", "tx_packets", "tx_errors", "tx_dropped"),
)
NETWORK_COLUMNS = (0, 1, 2, 3, 8, 9, 10, 11)  # the columns of NETWORK_FIELDS in /proc/<pid>/net/dev, after the name


def sample(record: ContainerRecord) -> Json:
    """Return what a container has used since its start. All counters are 0 unless it runs.

    record  settled: its pid is 0 if the process has exited
    """
    document: Json = {
        "read": rfc3339(time.time_ns()),
        "preread": "0001-01-01T00:00:00Z",
        "id": record.id,
        "name": f"/{record.name}",
        "num_procs": 0,
        "storage_stats": {},
        "pids_stats": {},
        "blkio_stats": dict.fromkeys(BLOCK_FIELDS),
        "cpu_stats": _no_cpu(),
        "precpu_stats": _no_cpu(),
        "memory_stats": {},
    }
    if record.pid:
        document.update(_measured(record))
    return document


def snapshot(read: ReadRecord, *, seconds: float = SNAPSHOT_INTERVAL) -> Json:
    """Take two samples, and return the second with the first as its precpu_stats.

    The share of the CPU is computed from the difference. Raises ContainerNotFound.
    """
    before = sample(read())
    time.sleep(seconds)
    return following(before, sample(read()))


def stream(read: ReadRecord, *, seconds: float = 1, stop: threading.Event | None = None) -> Iterator[Json]:
    """Yield a sample every `seconds`, each with the previous one, until a thread sets stop.

    Raises ContainerNotFound once the container is removed.
    """
    stop = stop or threading.Event()
    before = sample(read())
    while not stop.wait(seconds):
        before = following(before, sample(read()))
        yield before


def following(before: Json, now: Json) -> Json:
    """Return the sample `now` with the CPU times of the previous one, for computing shares."""
    return {**now, "preread": before["read"], "precpu_stats": before["cpu_stats"]}


# -- shares and sums, as docker's client computes them -------------------------------------------


def cpu_percent(document: Json) -> float:
    """Return the CPU time between the two samples in percent of one processor: 200 is two."""
    now, before = document["cpu_stats"], document["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    return 100.0 * now.get("online_cpus", 0) * used / passed if used > 0 and passed > 0 else 0.0


def memory_usage(document: Json) -> int:
    """Return the memory in bytes without the inactive page cache, which is reclaimed first.

    Source: docker/cli, cli/command/container/stats_helpers.go.
    """
    memory = document["memory_stats"]
    counters: Mapping[str, int] = memory.get("stats") or {}
    usage = int(memory.get("usage", 0))
    inactive = counters.get("total_inactive_file", counters.get("inactive_file", 0))
    return usage - inactive if inactive < usage else usage


def network_bytes(document: Json) -> tuple[int, int]:
    """Return (bytes received, bytes sent) on all interfaces."""
    networks = (document.get("networks") or {}).values()
    return sum(counters["rx_bytes"] for counters in networks), sum(counters["tx_bytes"] for counters in networks)


def block_bytes(document: Json) -> tuple[int, int]:
    """Return (bytes read, bytes written) on all block devices."""
    entries = document["blkio_stats"]["io_service_bytes_recursive"] or []
    read, written = (sum(entry["value"] for entry in entries if entry["op"] == op) for op in ("read", "write"))
    return read, written


# -- the kernel's counters -----------------------------------------------------------------------


def _measured(record: ContainerRecord) -> Json:
    """Return the counters of a running container, which replace the zeros of sample()."""
    path = cgroup_path(record.id, parent=record.host_config.cgroup_parent)
    counters = _unified(CGROUP_ROOT / path[1:]) if cgroup_version() == "2" else _separate(path)
    counters["blkio_stats"] = {name: [] for name in BLOCK_FIELDS} | counters["blkio_stats"]
    counters["cpu_stats"] |= {"system_cpu_usage": _system_cpu(), "online_cpus": os.cpu_count() or 1}
    with contextlib.suppress(OSError, ValueError):  # the process has exited since
        counters["networks"] = _networks(record.pid)
    return counters


def _unified(cgroup: Path) -> Json:
    """Read cgroup version 2, which has one directory for all controllers."""
    cpu = _table(cgroup / "cpu.stat")
    usage = {
        "total_usage": cpu.get("usage_usec", 0) * 1000,
        "usage_in_kernelmode": cpu.get("system_usec", 0) * 1000,
        "usage_in_usermode": cpu.get("user_usec", 0) * 1000,
    }
    return {
        "cpu_stats": {
            "cpu_usage": usage,
            "throttling_data": _throttling(cpu, time_scale=1000, time_name="throttled_usec"),
        },
        "memory_stats": {
            "usage": _number(cgroup / "memory.current"),
            "stats": _table(cgroup / "memory.stat"),
            "limit": _memory_limit(_number(cgroup / "memory.max")),
        },
        "pids_stats": _pids(cgroup),
        "blkio_stats": {"io_service_bytes_recursive": _io_stat(cgroup / "io.stat")},
    }


def _separate(path: str) -> Json:
    """Read cgroup version 1, which has one hierarchy for each controller. path: below each hierarchy's root."""

    def directory(controller: str) -> Path:
        return CGROUP_ROOT / controller / path[1:]

    memory, block_io = directory("memory"), directory("blkio")
    return {
        "cpu_stats": {
            "cpu_usage": _separate_cpu_usage(directory("cpuacct")),
            "throttling_data": _throttling(
                _table(directory("cpu") / "cpu.stat"), time_scale=1, time_name="throttled_time"
            ),
        },
        "memory_stats": {
            "usage": _number(memory / "memory.usage_in_bytes"),
            "max_usage": _number(memory / "memory.max_usage_in_bytes"),
            "stats": _table(memory / "memory.stat"),
            "limit": _memory_limit(_number(memory / "memory.limit_in_bytes")),
        },
        "pids_stats": _pids(directory("pids")),
        "blkio_stats": {"io_service_bytes_recursive": _blkio(block_io / "blkio.throttle.io_service_bytes_recursive")},
    }


def _separate_cpu_usage(cpuacct: Path) -> Json:
    """Return CPU times in nanoseconds; cpuacct.stat has them in clock ticks."""
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    modes = _table(cpuacct / "cpuacct.stat")
    return {
        "total_usage": _number(cpuacct / "cpuacct.usage"),
        "percpu_usage": _numbers(cpuacct / "cpuacct.usage_percpu"),
        "usage_in_kernelmode": modes.get("system", 0) * tick,
        "usage_in_usermode": modes.get("user", 0) * tick,
    }


def _throttling(table: Mapping[str, int], *, time_scale: int, time_name: str) -> Json:
    return {
        "periods": table.get("nr_periods", 0),
        "throttled_periods": table.get("nr_throttled", 0),
        "throttled_time": table.get(time_name, 0) * time_scale,
    }


def _no_cpu() -> Json:
    usage = {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}
    return {
        "cpu_usage": usage,
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


def _pids(cgroup: Path) -> Json:
    limit = _number(cgroup / "pids.max")
    return {"current": _number(cgroup / "pids.current"), **({"limit": limit} if limit else {})}


def _memory_limit(limit: int) -> int:
    """Return the limit in bytes; the machine's memory if there is no limit (0), or a larger one."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(limit, machine) if limit else machine


def _blkio(path: Path) -> list[Json]:
    """Parse lines "8:0 Read 4096". Other operations and the sum in the last line are left out."""
    entries = []
    for words in (line.split() for line in read_text_or_empty(path).splitlines()):
        if len(words) == 3 and words[1] in ("Read", "Write"):
            major, _, minor = words[0].partition(":")
            entries.append({"major": int(major), "minor": int(minor), "op": words[1].lower(), "value": int(words[2])})
    return entries


def _io_stat(path: Path) -> list[Json]:
    """Parse lines "8:0 rbytes=4096 wbytes=0 …"."""
    entries = []
    for device, *fields in (line.split() for line in read_text_or_empty(path).splitlines()):
        major, _, minor = device.partition(":")
        counters = dict(field.split("=", 1) for field in fields if "=" in field)
        for name, op in (("rbytes", "read"), ("wbytes", "write")):
            value = int(counters.get(name, 0))
            entries.append({"major": int(major), "minor": int(minor), "op": op, "value": value})
    return entries


def _networks(pid: int) -> Json:
    """Return the counters of each interface in the process's network namespace, except loopback."""
    interfaces = {}
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = rest.split()
        if name.strip() != "lo":
            counters = (int(numbers[column]) for column in NETWORK_COLUMNS)
            interfaces[name.strip()] = dict(zip(NETWORK_FIELDS, counters, strict=True))
    return interfaces


def _system_cpu() -> int:
    """Return the nanoseconds that all processors have spent, idle time included (proc(5), /proc/stat)."""
    ticks = sum(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    return ticks * (10**9 // os.sysconf("SC_CLK_TCK"))


def _table(path: Path) -> dict[str, int]:
    """Parse lines "name number"."""
    pairs = (line.split() for line in read_text_or_empty(path).splitlines())
    return {words[0]: int(words[1]) for words in pairs if len(words) == 2 and words[1].isdigit()}


def _number(path: Path) -> int:
    """Read a file with one number. Return 0 for "max", and if the file does not exist."""
    text = read_text_or_empty(path).strip()
    return int(text) if text.isdigit() else 0


def _numbers(path: Path) -> list[int]:
    return [int(text) for text in read_text_or_empty(path).split()]
