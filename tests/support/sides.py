"""Docker's daemon and ours side by side, each on a data root of its own, for the same clients."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.api import serving
from tests.support.dockerd import remove_tree, unmount_below, wait_until_quiet

IMAGE = "busybox:1"


@contextlib.contextmanager
def theirs() -> Iterator[Path]:
    """The socket of a dockerd with a bridge, in a network namespace of its own: it rewrites what it finds there."""
    scratch = Path(tempfile.mkdtemp(prefix="labctr-theirs-"))
    options = ["--bip=172.31.97.1/24", f"--host=unix://{scratch}/socket", f"--data-root={scratch}/root"]
    options += [f"--exec-root={scratch}/exec", f"--pidfile={scratch}/pid"]
    with open(scratch / "log", "wb") as log:
        command = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec dockerd "$@"', "sh", *options]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while docker(scratch / "socket", "version").returncode:
                assert process.poll() is None, (scratch / "log").read_text()
                assert time.monotonic() < deadline, (scratch / "log").read_text()
                time.sleep(0.1)
            yield scratch / "socket"
            remove_containers(scratch / "socket")
        finally:
            process.terminate()
            process.wait(60)
            unmount_below(scratch)
            remove_tree(scratch)


@contextlib.contextmanager
def ours(repository: Path) -> Iterator[Path]:
    """The socket of a `labctr daemon`."""
    root = Path(tempfile.mkdtemp(prefix="labctr-ours-"))
    try:
        with serving(root, repository) as daemon:
            yield daemon.socket
            remove_containers(daemon.socket)
        wait_until_quiet(root)
    finally:
        shutil.rmtree(root)


def docker(socket: Path, *arguments: str, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """The docker command against one of them."""
    return subprocess.run(
        ["docker", *arguments], env=environment(socket), input=input, capture_output=True, timeout=300, check=False
    )


def environment(socket: Path) -> dict[str, str]:
    """In which the docker command uses one of them, and the builder that is in the daemon."""
    own = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false"}
    return {**os.environ, **own}


def remove_containers(socket: Path) -> None:
    """Remove all that the tests have left. What removes itself may be on its way out: then it cannot be removed too."""
    deadline = time.monotonic() + 30
    while left := docker(socket, "ps", "-aq").stdout.decode().split():
        done = docker(socket, "rm", "-fv", *left)
        assert done.returncode == 0 or time.monotonic() < deadline, done.stderr
