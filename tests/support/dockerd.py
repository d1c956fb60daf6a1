"""A real dockerd: one that tests share, and others on data roots of a test's own."""

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

    pid  of the daemon, which may run in another network namespace than the test
    api_version  that the docker command uses; "": the newest one that both know
    """

    def __init__(self, data_root: Path, socket: Path, pid: int, api_version: str = "") -> None:
        self.data_root = data_root
        self.socket = socket
        self.pid = pid
        self.api = Api(socket)
        self._api_version = api_version

    def at(self, api_version: str) -> Docker:
        """The same daemon, in one version of its API."""
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
    """The environment in which the docker command uses one daemon, and the builder that is in the daemon."""
    own = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false"}
    return {**os.environ, **own}


@functools.cache
def client_version() -> tuple[int, ...]:
    """The version of the docker command that is installed, as numbers: (20, 10, 24)."""
    printed = programs.run(["docker", "--version"]).output  # "Docker version 20.10.24+dfsg1, build 297e128"
    return tuple(map(int, re.findall(r"[\d.]+", printed)[0].split(".")))


@functools.cache
def _peer() -> str:
    """The PATH for dockerd 20.10, the version that the engine imitates: the machine's own, or Debian 12's.

    Later versions word errors in other ways. runc is the machine's, as for our engine.
    """
    path = os.environ["PATH"]
    if programs.run(["dockerd", "--version"]).output.startswith("Docker version 20.10."):
        return path
    places = [unpacked(package, "bookworm") / "usr" for package in ("docker.io", "containerd")]
    return ":".join([*(f"{place}/{name}" for place in places for name in ("sbin", "bin")), path])


@contextlib.contextmanager
def run_dockerd(data_root: Path, storage_driver: str = "overlay2") -> Iterator[Docker]:
    """Run dockerd without a bridge for the length of the block, and remove all that it mounted."""
    with _running([], ["--bridge=none", "--iptables=false"], data_root, storage_driver) as docker:
        yield docker


@contextlib.contextmanager
def run_dockerd_with_bridge(data_root: Path) -> Iterator[Docker]:
    """The same with a bridge, in a network namespace of its own: dockerd changes the rules that it finds there."""
    enter = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    with _running(enter, ["--bip=172.31.98.1/24"], data_root, "overlay2") as docker:
        yield docker


@contextlib.contextmanager
def _running(enter: list[str], options: list[str], data_root: Path, storage_driver: str) -> Iterator[Docker]:
    # A folder with a short path: containerd's socket in it may have 107 bytes.
    scratch = Path(tempfile.mkdtemp(prefix="labctr-dockerd-"))
    options = [*options, f"--storage-driver={storage_driver}", f"--data-root={data_root}"]
    options += [f"--exec-root={scratch}/exec", f"--pidfile={scratch}/pid", f"--host=unix://{scratch}/socket"]
    with open(scratch / "log", "wb") as log:
        # dockerd starts itself again for each archive that it unpacks (chrootarchive), in which a third of the time
        # is garbage collection of what its packages allocate when they are initialized.
        command = ["env", "GOGC=400", f"PATH={_peer()}", *enter, "dockerd", *options]
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
    """Unmount everything in these directories."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if any(Path(point).is_relative_to(directory) for directory in directories):
            with contextlib.suppress(OSError):  # unmounted since the listing; remove_tree() finds what is still mounted
                linux.umount(point, linux.MNT_DETACH)


def remove_tree(directory: Path) -> None:
    """Remove what dockerd leaves. The shims of its last containers may still remove files in there."""

    def removed() -> bool:
        shutil.rmtree(directory)
        return True

    if directory.exists():
        eventually(removed, ignoring=(OSError,))


def wait_until_quiet(data_root: Path) -> None:
    """Wait for the exit commands of monitors, which change files in the data root, even of removed containers."""
    eventually(lambda: not [command for command in command_lines() if f"{data_root}\0" in command])


def copy_of(data_root: Path, target: Path) -> Path:
    """A copy of a data root that no process uses."""
    wait_until_quiet(data_root)
    programs.run(["cp", "-a", str(data_root), str(target)])
    return target
