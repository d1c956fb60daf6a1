"""A `labctr daemon` beside dockerd, and the docker command for either of them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.api import Daemon, serving
from tests.support.dockerd import environment, wait_until_quiet
from tests.support.pair import clear

IMAGE = "busybox:1"


@contextlib.contextmanager
def ours(repository: Path) -> Iterator[Daemon]:
    """Run a `labctr daemon` on an empty data root while the block runs; then remove all of its objects."""
    root = Path(tempfile.mkdtemp(prefix="labctr-ours-"))
    try:
        with serving(root, repository) as daemon:
            yield daemon
            clear(daemon.api)
        wait_until_quiet(root)
    finally:
        shutil.rmtree(root)


def docker(socket: Path, *arguments: str, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the docker command against the daemon at a socket."""
    return subprocess.run(
        ["docker", *arguments], env=environment(socket), input=input, capture_output=True, timeout=300, check=False
    )
