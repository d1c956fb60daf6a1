"""stats: the resources that containers use, read from their cgroups and network namespaces."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.docker import stats
from pylab_container.errors import ContainerNotFound
from pylab_container.images.image import Image
from tests.support.commands import Labctr
from tests.support.waiting import eventually


def test_a_busy_container_uses_its_quota_and_is_throttled(engine: Engine, image: Image) -> None:
    """The quota is so small that also a busy machine grants it; the exact share is computed in the next test."""
    container = engine.containers.run_detached(image, ["sh", "-c", "while :; do :; done"], nano_cpus=20_000_000)
    eventually(lambda: stats.sample(container.record)["cpu_stats"]["throttling_data"]["throttled_periods"] > 0)

    def busy() -> dict[str, Any] | None:
        document = stats.snapshot(lambda: container.record, seconds=0.3)
        return document if stats.cpu_percent(document) > 0 else None

    document = eventually(busy)
    assert document
    assert stats.cpu_percent(document) < 50  # the quota is 2 % of a processor
    assert document["preread"] < document["read"]
    container.remove(force=True)
    with pytest.raises(ContainerNotFound):
        stats.sample(container.record)


@pytest.mark.parametrize(("used", "passed", "percent"), [(5, 20, 50.0), (20, 20, 200.0), (0, 20, 0.0), (5, 0, 0.0)])
def test_the_share_of_processors_is_dockers(used: int, passed: int, percent: float) -> None:
    before = {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000, "online_cpus": 2}
    now = {"cpu_usage": {"total_usage": 100 + used}, "system_cpu_usage": 1000 + passed, "online_cpus": 2}
    assert stats.cpu_percent({"cpu_stats": now, "precpu_stats": before}) == percent


def test_memory_pids_network_and_disk_are_counted(engine: Engine, image: Image) -> None:
    script = "head -c 20m /dev/zero > /file; sync; sleep 60 & sleep 60 & echo ready; wait"
    container = engine.containers.run_detached(image, ["sh", "-c", script], mem_limit=64 << 20, pids_limit=20)
    eventually(lambda: container.logs() == b"ready\n")
    document = stats.sample(container.record)
    assert document["pids_stats"] == {"current": 3, "limit": 20}
    assert document["memory_stats"]["limit"] == 64 << 20
    assert 100_000 < stats.memory_usage(document) < 64 << 20
    assert document["networks"]["eth0"]["rx_bytes"] >= 0
    assert set(document["networks"]) == {"eth0"}
    assert document["name"] == f"/{container.name}"


def test_a_container_that_does_not_run_uses_nothing(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, ["true"])
    document = stats.following(stats.sample(container.record), stats.sample(container.record))
    assert (stats.cpu_percent(document), stats.memory_usage(document)) == (0, 0)
    assert (stats.network_bytes(document), stats.block_bytes(document)) == ((0, 0), (0, 0))


def test_the_files_of_both_cgroup_versions_are_understood(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_throttled 1\nthrottled_usec 7\n")
    (tmp_path / "memory.current").write_text("4096\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 96\n")
    (tmp_path / "pids.current").write_text("2\n")
    (tmp_path / "pids.max").write_text("max\n")
    (tmp_path / "io.stat").write_text("8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n")
    document = {"networks": {}, **stats._unified(tmp_path)}
    assert document["cpu_stats"]["cpu_usage"]["total_usage"] == 5000
    assert document["cpu_stats"]["throttling_data"]["throttled_time"] == 7000
    assert document["pids_stats"] == {"current": 2}
    assert (stats.memory_usage(document), stats.block_bytes(document)) == (4000, (10, 20))
    assert document["memory_stats"]["limit"] > 1 << 20  # the machine's
    (tmp_path / "blkio").write_text("8:0 Read 1\n8:0 Write 2\n8:16 Read 4\n8:0 Total 3\nTotal 7\n")
    entries = stats._blkio(tmp_path / "blkio")
    assert stats.block_bytes({"blkio_stats": {"io_service_bytes_recursive": entries}}) == (5, 2)


@pytest.mark.usefixtures("image")
def test_the_table_is_dockers(labctr: Labctr, cli: Labctr) -> None:
    container_id = cli("run", "-d", "--name", "web", "busybox:1", "sleep", "100").stdout.strip()
    cli("create", "--name", "off", "busybox:1", "true")
    heading, row = labctr("stats", "--no-stream").stdout.splitlines()
    assert re.split(r"\s{2,}", heading) == [
        *("CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS")
    ]
    assert re.fullmatch(
        rf"{container_id[:12]} +web +\d+\.\d\d% +[\d.]+[KM]iB / [\d.]+GiB +\d\.\d\d% +\S+ / \S+ +\S+ / \S+ +1", row
    )
    names = cli("stats", "--no-stream", "-a", "--format", "{{.Name}} {{.PIDs}}").stdout.split("\n")
    assert sorted(filter(None, names)) == ["off 0", "web 1"]
    document = json.loads(cli("stats", "--no-stream", "--no-trunc", "--format", "json", "web").stdout)
    assert document["ID"] == container_id
    assert cli("stats", "--no-stream", "nosuch", check=False).returncode == 1
