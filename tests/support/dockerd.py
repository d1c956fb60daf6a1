"""A real dockerd on a data root of the test's own, and the docker command to control it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pylab_container.host import linux, programs
from tests.support.api import Api
from tests.support.debian import unpacked
from tests.support.processes import command_lines
from tests.support.waiting import PATIENCE, eventually


class Docker:
    """The docker command, talking to one dockerd.

    pid          of the daemon, which may run in another network namespace than the test
    api_version  requested by the docker command; "" lets client and daemon negotiate it
    """

    def __init__(self, data_root: Path, socket: Path, pid: int, api_version: str = "") -> None:
        self.data_root = data_root
        self.socket = socket
        self.pid = pid
        self.api = Api(socket)
        self._api_version = api_version

    def at(self, api_version: str) -> Docker:
        """Return a client of the same daemon for one version of the API."""
        return Docker(self.data_root, self.socket, self.pid, api_version)

    @property
    def environment(self) -> dict[str, str]:
        version = {"DOCKER_API_VERSION": self._api_version} if self._api_version else {}
        return environment(self.socket) | version

    def run(self, *arguments: str | Path, input: bytes | None = None) -> bytes:
        """Return what `docker <arguments>` prints. Raises AssertionError if it fails."""
        command = ["docker", *map(str, arguments)]
        done = subprocess.run(command, input=input, capture_output=True, env=self.environment)
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
        return done.stdout

    def lines(self, *arguments: str | Path) -> list[str]:
        return self.run(*arguments).decode().splitlines()

    def json(self, *arguments: str | Path) -> Any:
        return json.loads(self.run(*arguments))

    def config(self, image_id: str) -> Any:
        """Return an image config as dockerd stored it."""
        return json.loads((self.data_root / "image/overlay2/imagedb/content/sha256" / image_id[7:]).read_bytes())

    def bundle(self, container_id: str) -> Any:
        """Return the config.json that dockerd gave its runtime for a running container."""
        # Not `**`: the directories of other containers appear and disappear below this one.
        (config,) = self.socket.parent.glob(f"exec/containerd/daemon/*/moby/{container_id}/config.json")
        return json.loads(config.read_bytes())


def environment(socket: Path) -> dict[str, str]:
    """Return the environment in which the docker command uses one daemon, and the daemon's builder."""
    variables = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false"}
    return {**os.environ, **variables}


@functools.cache
def client_version() -> tuple[int, ...]:
    """Return the version of the installed docker command as numbers: (20, 10, 24)."""
    printed = programs.run(["docker", "--version"]).output  # "Docker version 20.10.24+dfsg1, build 297e128"
    return tuple(map(int, re.findall(r"[\d.]+", printed)[0].split(".")))


@functools.cache
def _search_path() -> str:
    """Return the PATH that leads to dockerd 20.10, the version that the engine imitates.

    It is the installed one, or else Debian 12's: later versions have other error messages. runc is always the
    machine's, as for our engine.
    """
    path = os.environ["PATH"]
    if programs.run(["dockerd", "--version"]).output.startswith("Docker version 20.10."):
        return path
    places = [unpacked(package, "bookworm") / "usr" for package in ("docker.io", "containerd")]
    return ":".join([*(f"{place}/{name}" for place in places for name in ("sbin", "bin")), path])


@contextlib.contextmanager
def run_dockerd(data_root: Path, storage_driver: str = "overlay2") -> Iterator[Docker]:
    """Run dockerd without a bridge while the block runs, and remove its mounts afterwards."""
    with _running([], ["--bridge=none", "--iptables=false"], data_root, storage_driver) as docker:
        yield docker


@contextlib.contextmanager
def run_dockerd_with_bridge(data_root: Path) -> Iterator[Docker]:
    """Run dockerd with a bridge. It gets its own network namespace, because it changes the packet filter's rules."""
    enter = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    with _running(enter, ["--bip=172.31.98.1/24"], data_root, "overlay2") as docker:
        yield docker


@contextlib.contextmanager
def _running(enter: list[str], options: list[str], data_root: Path, storage_driver: str) -> Iterator[Docker]:
    # A short path: containerd's socket is below it, and sun_path holds 107 bytes (unix(7)).
    scratch = Path(tempfile.mkdtemp(prefix="labctr-dockerd-"))
    options = [*options, f"--storage-driver={storage_driver}", f"--data-root={data_root}"]
    options += [f"--exec-root={scratch}/exec", f"--pidfile={scratch}/pid", f"--host=unix://{scratch}/socket"]
    with open(scratch / "log", "wb") as log:
        # dockerd executes itself again for each archive that it unpacks (chrootarchive). A third of that process's
        # time is garbage collection during package initialization; GOGC=400 makes collections rarer.
        command = ["env", "GOGC=400", f"PATH={_search_path()}", *enter, "dockerd", *options]
        process = programs.spawn(command, stdout=log.fileno(), stderr=log.fileno())
        try:
            docker = Docker(data_root, scratch / "socket", process.pid)
            _wait_until_ready(docker, process, scratch / "log")
            yield docker
        finally:
            process.terminate()
            process.wait(PATIENCE)
            unmount_below(scratch, data_root)
            remove_tree(scratch)


def _wait_until_ready(docker: Docker, process: programs.Process[bytes], log: Path) -> None:
    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        return docker.api.get("/_ping").status == 200

    eventually(answers, ignoring=(OSError,))


def unmount_below(*directories: Path) -> None:
    """Unmount all mount points in these directories, the latest mount first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if any(Path(point).is_relative_to(directory) for directory in directories):
            with contextlib.suppress(OSError):  # unmounted since the listing; remove_tree() finds what is still mounted
                linux.umount(point, linux.MNT_DETACH)


def remove_tree(directory: Path) -> None:
    """Remove a directory of dockerd. Retries, because shims of exited containers concurrently remove files in it."""

    def removed() -> bool:
        shutil.rmtree(directory)
        return True

    if directory.exists():
        eventually(removed, ignoring=(OSError,))


def wait_until_quiet(data_root: Path) -> None:
    """Wait until no process has the data root in its command line.

    Monitors run exit commands, which change files in the data root, even for containers that have been removed.
    """
    eventually(lambda: not [command for command in command_lines() if f"{data_root}\0" in command])


def copy_of(data_root: Path, target: Path) -> Path:
    """Wait until no process uses a data root, and copy it to target."""
    wait_until_quiet(data_root)
    programs.run(["cp", "-a", str(data_root), str(target)])
    return target
