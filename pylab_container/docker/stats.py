"""What running containers use: `docker stats`.

Everything is read where the kernel keeps it: the container's cgroup, /proc/stat and
/proc/<pid>/net/dev. Sources: the kernel's Documentation/admin-guide/cgroup-v1 (cpuacct, memory,
blkio-controller, pids) and cgroup-v2.rst; proc(5). The document is Docker's (Engine API 1.41,
"ContainerStats").
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pylab_container.oci.ids import ContainerId
from pylab_container.runtime.runc import cgroup_path, cgroup_version
from pylab_container.text.timestamps import rfc3339

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.store.container_store import ContainerRecord

Json = dict[str, Any]

SNAPSHOT_INTERVAL = 0.5  # seconds between the two measurements of a snapshot

_CGROUPS = Path("/sys/fs/cgroup")
# Of all that cgroup v1 counted of block devices, the first is what docker shows, and what is read here.
_BLOCK_FIELDS = (
    "io_service_bytes_recursive io_serviced_recursive io_queue_recursive io_service_time_recursive "
    "io_wait_time_recursive io_merged_recursive io_time_recursive sectors_recursive"
).split()
NETWORK_FIELDS = (
    *("rx_bytes", "rx_packets", "rx_errors", "rx_dropped"),
    *("tx_bytes", "tx_packets", "tx_errors", "tx_dropped"),
)
_NETWORK_COLUMNS = (0, 1, 2, 3, 8, 9, 10, 11)  # of /proc/<pid>/net/dev, after the name


def sample(engine: Engine, container_id: ContainerId) -> Json:
    """What one container has used so far; all zero while it does not run. Raises ContainerNotFound."""
    from pylab_container.engine.container import Container

    record = Container(engine, container_id).record
    document: Json = {
        "read": rfc3339(time.time_ns()),
        "preread": "0001-01-01T00:00:00Z",
        "id": record.id,
        "name": f"/{record.name}",
        "num_procs": 0,
        "storage_stats": {},
        "pids_stats": {},
        "blkio_stats": dict.fromkeys(_BLOCK_FIELDS),
        "cpu_stats": _no_cpu(),
        "precpu_stats": _no_cpu(),
        "memory_stats": {},
    }
    if record.pid:
        document.update(_measured(record))
    return document


def snapshot(engine: Engine, container_id: ContainerId, *, seconds: float = SNAPSHOT_INTERVAL) -> Json:
    """A sample with the one from some seconds before as its precpu_stats: what a share of the CPU is computed from."""
    before = sample(engine, container_id)
    time.sleep(seconds)
    return following(before, sample(engine, container_id))


def stream(
    engine: Engine, container_id: ContainerId, *, seconds: float = 1, stop: threading.Event | None = None
) -> Iterator[Json]:
    """Samples, one every so many seconds, each with the one before, until another thread sets stop.

    Raises ContainerNotFound once it is gone.
    """
    stop = stop or threading.Event()
    before = sample(engine, container_id)
    while not stop.wait(seconds):
        before = following(before, sample(engine, container_id))
        yield before


def following(before: Json, now: Json) -> Json:
    """A sample that knows the one before it."""
    return {**now, "preread": before["read"], "precpu_stats": before["cpu_stats"]}


# ---- shares and sums, as docker's client computes them -----------------------------------------


def cpu_percent(document: Json) -> float:
    """The share of one processor that it used between the two samples; 200 is two of them."""
    now, before = document["cpu_stats"], document["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    return 100.0 * now.get("online_cpus", 0) * used / passed if used > 0 and passed > 0 else 0.0


def memory_usage(document: Json) -> int:
    """Bytes without those of files that nobody has used lately, which the kernel takes back at once."""
    memory = document["memory_stats"]
    counters: Mapping[str, int] = memory.get("stats") or {}
    usage = int(memory.get("usage", 0))
    inactive = counters.get("total_inactive_file", counters.get("inactive_file", 0))
    return usage - inactive if inactive < usage else usage


def network_bytes(document: Json) -> tuple[int, int]:
    """(received, sent) on all interfaces."""
    networks = (document.get("networks") or {}).values()
    return sum(one["rx_bytes"] for one in networks), sum(one["tx_bytes"] for one in networks)


def block_bytes(document: Json) -> tuple[int, int]:
    """(read, written) on all block devices."""
    entries = document["blkio_stats"]["io_service_bytes_recursive"] or []
    read, written = (sum(entry["value"] for entry in entries if entry["op"] == op) for op in ("read", "write"))
    return read, written


# ---- reading -------------------------------------------------------------------------------------


def _measured(record: ContainerRecord) -> Json:
    unified = cgroup_version() == "2"
    own = cgroup_path(record.id, parent=record.host_config.cgroup_parent)
    read = _unified(_CGROUPS / own[1:]) if unified else _separate(own)
    read["blkio_stats"] = {name: [] for name in _BLOCK_FIELDS} | read["blkio_stats"]
    read["cpu_stats"] |= {"system_cpu_usage": _system_cpu(), "online_cpus": os.cpu_count() or 1}
    with contextlib.suppress(OSError, ValueError):
        read["networks"] = _networks(record.pid)
    return read


def _unified(cgroup: Path) -> Json:
    """cgroup v2: one directory for everything."""
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


def _separate(own: str) -> Json:
    """cgroup v1: one hierarchy for each controller."""

    def place(controller: str) -> Path:
        return _CGROUPS / controller / own[1:]

    ticks = 10**9 // os.sysconf("SC_CLK_TCK")
    modes = _table(place("cpuacct") / "cpuacct.stat")
    memory = place("memory")
    return {
        "cpu_stats": {
            "cpu_usage": {
                "total_usage": _number(place("cpuacct") / "cpuacct.usage"),
                "percpu_usage": _numbers(place("cpuacct") / "cpuacct.usage_percpu"),
                "usage_in_kernelmode": modes.get("system", 0) * ticks,
                "usage_in_usermode": modes.get("user", 0) * ticks,
            },
            "throttling_data": _throttling(_table(place("cpu") / "cpu.stat"), time_scale=1, time_name="throttled_time"),
        },
        "memory_stats": {
            "usage": _number(memory / "memory.usage_in_bytes"),
            "max_usage": _number(memory / "memory.max_usage_in_bytes"),
            "stats": _table(memory / "memory.stat"),
            "limit": _memory_limit(_number(memory / "memory.limit_in_bytes")),
        },
        "pids_stats": _pids(place("pids")),
        "blkio_stats": {
            "io_service_bytes_recursive": _blkio(place("blkio") / "blkio.throttle.io_service_bytes_recursive")
        },
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
    """No limit, and one larger than the machine, are what the machine has."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(limit, machine) if limit else machine


def _blkio(path: Path) -> list[Json]:
    """Lines "8:0 Read 4096"; the last one is a sum of its own form."""
    entries = []
    for words in (line.split() for line in _text(path).splitlines()):
        if len(words) == 3 and words[1] in ("Read", "Write"):
            major, _, minor = words[0].partition(":")
            entries.append({"major": int(major), "minor": int(minor), "op": words[1].lower(), "value": int(words[2])})
    return entries


def _io_stat(path: Path) -> list[Json]:
    """Lines "8:0 rbytes=4096 wbytes=0 …"."""
    entries = []
    for device, *fields in (line.split() for line in _text(path).splitlines()):
        major, _, minor = device.partition(":")
        counters = dict(field.split("=", 1) for field in fields if "=" in field)
        for name, op in (("rbytes", "read"), ("wbytes", "write")):
            value = int(counters.get(name, 0))
            entries.append({"major": int(major), "minor": int(minor), "op": op, "value": value})
    return entries


def _networks(pid: int) -> Json:
    """The interfaces of the process's network namespace, but for loopback."""
    found = {}
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = rest.split()
        if name.strip() != "lo":
            picked = (int(numbers[column]) for column in _NETWORK_COLUMNS)
            found[name.strip()] = dict(zip(NETWORK_FIELDS, picked, strict=True))
    return found


def _system_cpu() -> int:
    """Nanoseconds that all processors together have spent, idle ones too (proc(5), /proc/stat)."""
    ticks = sum(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    return ticks * (10**9 // os.sysconf("SC_CLK_TCK"))


def _table(path: Path) -> dict[str, int]:
    """Lines "name number"."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {words[0]: int(words[1]) for words in pairs if len(words) == 2 and words[1].isdigit()}


def _number(path: Path) -> int:
    """A file with one number; 0 for "max", and where there is no such file."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _numbers(path: Path) -> list[int]:
    return [int(text) for text in _text(path).split()]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # the container has just ended, or the kernel has no such controller
