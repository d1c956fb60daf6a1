"""A real dockerd on data roots of the tests' own, beside our engine."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.host import linux, programs
from tests.compat.pair import Pair, clear, populate
from tests.root.api import Api, Daemon, serving

# The fixtures of the root tests are those of these tests too.
_spec = importlib.util.spec_from_file_location("root_fixtures", Path(__file__).parent.parent / "root/conftest.py")
assert _spec
assert _spec.loader
_root = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_root)
busybox_tar, engine, image = _root.busybox_tar, _root.engine, _root.image
command, labctr = _root.command, _root.labctr
commands: Callable[[], Iterator[str]] = _root._commands


class Docker:
    """The docker command, talking to one dockerd."""

    def __init__(self, data_root: Path, socket: Path) -> None:
        self.data_root = data_root
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0"}

    def run(self, *arguments: str | Path, input: bytes | None = None) -> bytes:
        """What `docker <arguments>` prints; a failure is one of the test."""
        command = ["docker", *map(str, arguments)]
        done = subprocess.run(command, input=input, capture_output=True, env=self.environment)
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
        return done.stdout

    def lines(self, *arguments: str | Path) -> list[str]:
        return self.run(*arguments).decode().splitlines()

    def json(self, *arguments: str | Path) -> Any:
        return json.loads(self.run(*arguments))

    def config(self, image_id: str) -> Any:
        """An image config as dockerd stored it."""
        return json.loads((self.data_root / "image/overlay2/imagedb/content/sha256" / image_id[7:]).read_bytes())


@pytest.fixture(scope="session")
def dockerd() -> Callable[..., AbstractContextManager[Docker]]:
    """Runs dockerd on a data root for the length of a with statement."""
    return run_dockerd


@contextlib.contextmanager
def run_dockerd(data_root: Path, storage_driver: str = "overlay2") -> Iterator[Docker]:
    """dockerd without a bridge. In the end it is gone, and all that it mounted."""
    # A folder with a short path: containerd's socket in it may have 107 bytes.
    scratch = Path(tempfile.mkdtemp(prefix="labctr-dockerd-"))
    docker = Docker(data_root, scratch / "socket")
    options = ["--bridge=none", "--iptables=false", f"--storage-driver={storage_driver}", f"--data-root={data_root}"]
    options += [f"--exec-root={scratch}/exec", f"--pidfile={scratch}/pid", f"--host=unix://{scratch}/socket"]
    with open(scratch / "log", "wb") as log:
        process = programs.spawn(["dockerd", *options], stdout=log.fileno(), stderr=log.fileno())
        try:
            wait_until_ready(docker, process, scratch / "log")
            yield docker
        finally:
            process.terminate()
            process.wait(60)
            unmount_below(scratch, data_root)
            remove_tree(scratch)


def wait_until_ready(docker: Docker, process: programs.Process[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while subprocess.run(["docker", "version"], capture_output=True, env=docker.environment).returncode:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def unmount_below(*directories: Path) -> None:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if any(Path(point).is_relative_to(directory) for directory in directories):
            with contextlib.suppress(OSError):  # gone meanwhile; what is still there cannot be removed
                linux.umount(point, linux.MNT_DETACH)


def remove_tree(directory: Path) -> None:
    """Remove what dockerd leaves. The monitors of its last containers (shims) may be tidying up in there still."""
    deadline = time.monotonic() + 30
    while directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def wait_until_quiet(data_root: Path) -> None:
    """The monitors of containers of ours that have ended have `labctr` note it, even of those that are removed by now.

    Until that is done files come and go in the data root.
    """
    deadline = time.monotonic() + 60
    while busy := [command for command in commands() if f"{data_root}\0" in command]:
        assert time.monotonic() < deadline, busy
        time.sleep(0.05)


def copy_of(data_root: Path, target: Path) -> Path:
    """A copy of a data root on which nobody works."""
    wait_until_quiet(data_root)
    programs.run(["cp", "-a", str(data_root), str(target)])
    return target


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


@pytest.fixture
def daemon(engine: Engine, repository: Path) -> Iterator[Daemon]:
    """A `labctr daemon` on the engine's data root."""
    with serving(engine.data_root, repository) as running:
        yield running
