"""Many containers, at once and one after the other: all run, and nothing piles up.

--stress starts fifty containers in eight processes and does a thousand cycles, otherwise sixteen in four and ten.
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.host import programs
from pylab_container.images.image import Image
from tests.support.processes import command_lines
from tests.support.waiting import eventually


@pytest.fixture
def cycles(*, stress: bool) -> int:
    return 1000 if stress else 10


@pytest.fixture
def shares(*, stress: bool) -> list[int]:
    """The number of containers that each process starts."""
    return [7, 7, 6, 6, 6, 6, 6, 6] if stress else [4, 4, 4, 4]


def _start_some(data_root: str, count: int) -> list[tuple[str, str]]:
    """Start a number of containers, and return their ids and addresses. Runs in a child process."""
    engine = Engine(data_root)
    started = [engine.containers.run_detached("busybox:1", ["sleep", "600"]) for _ in range(count)]
    return [(container.id, container.address) for container in started]


def test_containers_started_by_several_processes_run_and_leave_nothing(
    engine: Engine, image: Image, shares: list[int]
) -> None:
    engine.containers.run(image, ["true"], remove=True)  # what the first one makes for all stays
    before, count = at_rest(engine), sum(shares)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(len(shares), mp_context=context) as processes:
        futures = [processes.submit(_start_some, str(engine.data_root), share) for share in shares]
        started = [pair for future in futures for pair in future.result()]
    assert len({container_id for container_id, _ in started}) == count
    assert len({address for _, address in started}) == count
    running = engine.containers.list()
    assert {container.id for container in running} == {container_id for container_id, _ in started}
    pings = f"for a in {' '.join(a for _, a in started)}; do ping -c1 -W20 $a; done | grep -c ' 0% packet loss'"
    assert engine.containers.run(image, ["sh", "-c", pings]) == f"{count}\n".encode()
    for container in engine.containers.list(all=True):
        container.remove(force=True)
    assert at_rest(engine) == before


def test_cycles_of_run_and_remove_leave_the_machine_as_it_was(engine: Engine, image: Image, cycles: int) -> None:
    for _ in range(3):
        engine.containers.run(image, ["true"], remove=True)
    before, memory, inodes = at_rest(engine), resident(), used_inodes(engine.data_root)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(cycles):
        engine.containers.run(image, ["true"], remove=True)
    assert at_rest(engine) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert resident() - memory < 8 << 20
    assert abs(used_inodes(engine.data_root) - inodes) <= 2


def at_rest(engine: Engine) -> dict[str, int]:
    """Return the counts as soon as no monitor, cgroup or veth is left: the kernel removes them asynchronously."""

    def rest() -> dict[str, int]:
        counts = machine(engine)
        return {} if counts["monitors"] or counts["cgroups"] or counts["veths"] else counts

    return eventually(rest)


def machine(engine: Engine) -> dict[str, int]:
    """Count the objects of the kernel that containers need."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    links = json.loads(programs.run(["ip", "-json", "link"]).output)
    monitors = [command for command in command_lines() if str(engine.runtime.path) in command]
    top = Path("/sys/fs/cgroup")  # one hierarchy, or with cgroup v1 one below it for each controller
    cgroups = [*top.glob("labctr/*"), *top.glob("*/labctr/*")]
    return {
        "mounts": len([line for line in mounts if str(engine.data_root) in line or str(engine.runtime.path) in line]),
        "links": len(links),
        "veths": len([link for link in links if link["ifname"].startswith("veth")]),
        "rules": programs.run(["nft", "--json", "list", "ruleset"]).output.count('"rule"'),
        "cgroups": len(made(engine).intersection(path.name for path in cgroups)),
        "monitors": len(monitors),
    }


def made(engine: Engine) -> set[str]:
    """The ids of all containers that this data root ever had: other engines' cgroups come and go as well."""
    created = engine.event_log.read(since=0, until=time.time(), filters={"type": "container", "event": "create"})
    return {event["Actor"]["ID"] for event in created}


def resident() -> int:
    """Bytes of this process in memory (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def used_inodes(top: Path) -> int:
    return sum(1 for _ in top.rglob("*"))
