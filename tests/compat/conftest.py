"""A real dockerd beside our engine, for all tests in this folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.host import programs
from tests.support.api import Api, serving
from tests.support.dockerd import Docker, remove_tree, run_dockerd, unmount_below, wait_until_quiet, wait_until_ready
from tests.support.pair import Pair, clear, populate


@pytest.fixture(scope="session", autouse=True)
def _isolated(isolation: None) -> None:
    """Also for tests that use no engine."""


@pytest.fixture(scope="session")
def dockerd() -> Callable[..., AbstractContextManager[Docker]]:
    """Runs dockerd on a data root for the length of a with statement."""
    return run_dockerd


@pytest.fixture(scope="session")
def docker_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """dockerd in a network namespace of its own, where its bridges and rules are nobody's business."""
    scratch = Path(tempfile.mkdtemp(prefix="labctr-dockerd-"))
    data_root = tmp_path_factory.mktemp("dockerd")
    docker = Docker(data_root, scratch / "socket")
    options = ["--bip=172.31.98.1/24", f"--data-root={data_root}", f"--exec-root={scratch}/exec"]
    options += [f"--pidfile={scratch}/pid", f"--host=unix://{scratch}/socket", "--storage-driver=overlay2"]
    start = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", "dockerd", *options]
    with open(scratch / "log", "wb") as log:
        process = programs.spawn(start, stdout=log.fileno(), stderr=log.fileno())
        try:
            wait_until_ready(docker, process, scratch / "log")
            yield Api(scratch / "socket")
        finally:
            process.terminate()
            process.wait(60)
            unmount_below(scratch, data_root)
            remove_tree(scratch)


@pytest.fixture(scope="module")
def populated(
    docker_api: Api, busybox_tar: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Our daemon and dockerd, with the same things in both; a module's tests share them."""
    engine = Engine(tmp_path_factory.mktemp("pair") / "root")
    clear(docker_api)
    with serving(engine.data_root, repository) as daemon:
        pair = Pair(daemon.api, docker_api)
        for api in (pair.ours, pair.docker):
            populate(api, busybox_tar)
        yield pair
        clear(daemon.api)
        clear(docker_api)
    wait_until_quiet(engine.data_root)
    shutil.rmtree(engine.run_root, ignore_errors=True)
