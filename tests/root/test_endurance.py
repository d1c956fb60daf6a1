"""Many containers, at once and one after the other: all run, and nothing piles up.

--stress does a thousand cycles; else there are fifty.
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
from pylab_container.engine.images.image import Image
from pylab_container.host import programs


@pytest.fixture
def cycles(pytestconfig: pytest.Config) -> int:
    return 1000 if pytestconfig.getoption("--stress") else 50


def _start_some(data_root: str, count: int) -> list[tuple[str, str]]:
    """Runs in a process of its own: start so many containers; their ids and addresses."""
    engine = Engine(data_root)
    started = [engine.containers.run_detached("busybox:1", ["sleep", "600"]) for _ in range(count)]
    return [(container.id, container.address) for container in started]


def test_fifty_containers_started_by_eight_processes_run_and_go(engine: Engine, image: Image) -> None:
    engine.containers.run(image, ["true"], remove=True)  # what the first one makes for all stays
    before = at_rest(engine)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(8, mp_context=context) as processes:
        futures = [processes.submit(_start_some, str(engine.data_root), 6 + (number < 2)) for number in range(8)]
        started = [pair for future in futures for pair in future.result(600)]
    assert len({container_id for container_id, _ in started}) == 50
    assert len({address for _, address in started}) == 50
    running = engine.containers.list()
    assert {container.id for container in running} == {container_id for container_id, _ in started}
    probe = engine.containers.run(
        image,
        [
            "sh",
            "-c",
            f"for a in {' '.join(a for _, a in started)}; do ping -c1 -W20 $a; done | grep -c ' 0% packet loss'",
        ],
    )
    assert probe == b"50\n"
    for container in engine.containers.list(all=True):
        container.remove(force=True)
    assert settled(engine, before) == before


def test_cycles_of_run_and_remove_leave_the_machine_as_it_was(engine: Engine, image: Image, cycles: int) -> None:
    for _ in range(10):
        engine.containers.run(image, ["true"], remove=True)
    before, memory, inodes = at_rest(engine), resident(), used_inodes(engine.data_root)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(cycles):
        engine.containers.run(image, ["true"], remove=True)
    assert settled(engine, before) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert resident() - memory < 8 << 20
    assert abs(used_inodes(engine.data_root) - inodes) <= 2


def at_rest(engine: Engine) -> dict[str, int]:
    """The counts once no monitor ends and no veth goes any more: the same twice, with a second between."""
    for _ in range(60):
        before = machine(engine)
        time.sleep(1)
        if machine(engine) == before and not before["monitors"]:
            return before
    raise AssertionError(f"the machine does not come to rest: {before}")


def settled(engine: Engine, before: dict[str, int], seconds: float = 60) -> dict[str, int]:
    """The counts once they are as before, or after a while: the kernel takes veths away in the background."""
    deadline = time.monotonic() + seconds
    while (now := machine(engine)) != before and time.monotonic() < deadline:
        time.sleep(0.2)
    return now


def machine(engine: Engine) -> dict[str, int]:
    """How many there are of what containers need from the kernel."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    links = json.loads(programs.run(["ip", "-json", "link"]).output)
    monitors = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(engine.run_root) in _read(path)]
    top = Path("/sys/fs/cgroup")  # one hierarchy, or with cgroup v1 one below it for each controller
    cgroups = [*top.glob("labctr/*"), *top.glob("*/labctr/*")]
    return {
        "mounts": len([line for line in mounts if str(engine.data_root) in line or str(engine.run_root) in line]),
        "links": len(links),
        "rules": programs.run(["nft", "--json", "list", "ruleset"]).output.count('"rule"'),
        "cgroups": len(made(engine).intersection(path.name for path in cgroups)),
        "monitors": len(monitors),
    }


def made(engine: Engine) -> set[str]:
    """The ids of all containers that there ever were on this data root: others on the machine come and go as well."""
    told = engine.event_log.read(since=0, until=time.time(), filters={"type": "container", "event": "create"})
    return {event["Actor"]["ID"] for event in told}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def resident() -> int:
    """Bytes of this process in memory (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def used_inodes(top: Path) -> int:
    return sum(1 for _ in top.rglob("*"))
