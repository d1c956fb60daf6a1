"""A real dockerd on data roots of the tests' own."""

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
from tests.support.processes import command_lines
from tests.support.waiting import eventually


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


@functools.cache
def client_version() -> tuple[int, ...]:
    """The version of the docker command that is installed, as numbers: (20, 10, 24)."""
    printed = programs.run(["docker", "--version"]).output  # "Docker version 20.10.24+dfsg1, build 297e128"
    return tuple(map(int, re.findall(r"[\d.]+", printed)[0].split(".")))


@contextlib.contextmanager
def run_dockerd(data_root: Path, storage_driver: str = "overlay2") -> Iterator[Docker]:
    """Run dockerd without a bridge for the length of the block, and remove all that it mounted."""
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
    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        done = subprocess.run(["docker", "version"], capture_output=True, env=docker.environment, check=False)
        return done.returncode == 0

    eventually(answers)


def unmount_below(*directories: Path) -> None:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if any(Path(point).is_relative_to(directory) for directory in directories):
            with contextlib.suppress(OSError):  # gone meanwhile; what is still there cannot be removed
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
    """A copy of a data root on which nobody works."""
    wait_until_quiet(data_root)
    programs.run(["cp", "-a", str(data_root), str(target)])
    return target
