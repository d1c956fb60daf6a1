"""The daemon under load: fast enough, and as small afterwards as before."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.engine.images.image import Image
from tests.support.api import Daemon
from tests.support.waiting import eventually

_TICKS = os.sysconf("SC_CLK_TCK")


class _KeptOpen:
    """One connection for many requests, as clients keep it."""

    def __init__(self, daemon: Daemon) -> None:
        self._socket = daemon.api.connect()
        self._file = self._socket.makefile("rb")

    def get(self, path: str) -> int:
        """The status; the body is read and forgotten."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
        status = int(self._file.readline().split()[1])
        length = 0
        while (line := self._file.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split()[1])
        assert len(self._file.read(length)) == length
        return status

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def _processor_seconds(daemon: Daemon) -> float:
    """What the daemon has used so far: other programs on the machine do not count."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@pytest.fixture
def containers(engine: Engine, image: Image) -> None:
    """Three that run, and two that have ended."""
    for number in range(3):
        engine.containers.run_detached(image, ["sleep", "100"], name=f"runs{number}")
    for number in range(2):
        engine.containers.run(image, ["true"], name=f"ended{number}")


@pytest.mark.usefixtures("containers")
def test_one_core_lists_the_containers_five_hundred_times_a_second(daemon: Daemon) -> None:
    with contextlib.closing(_KeptOpen(daemon)) as connection:
        for _ in range(50):
            connection.get("/v1.41/containers/json")
        before = _processor_seconds(daemon)
        for _ in range(500):
            assert connection.get("/v1.41/containers/json") == 200
        assert _processor_seconds(daemon) - before < 1


@pytest.mark.usefixtures("containers")
def test_memory_files_and_threads_are_flat_over_ten_thousand_requests(daemon: Daemon) -> None:
    paths = ["/_ping", "/v1.41/containers/json?all=1", "/v1.41/images/json", "/v1.41/nothing", "/_ping", "/_ping",
             "/v1.41/volumes", "/v1.41/containers/runs0/json", "/v1.41/containers/nobody/json", "/version"]  # fmt: skip

    def ask(times: int) -> None:
        for _ in range(times):
            with contextlib.closing(_KeptOpen(daemon)) as connection:
                for path in paths:
                    connection.get(path)

    ask(200)  # 2,000 requests warm it up
    memory, (files, threads) = daemon.memory(), daemon.resources()
    ask(1000)
    eventually(lambda: daemon.resources()[0] <= files)
    assert daemon.memory() - memory < 3000, "kB"
    assert daemon.resources()[1] <= threads + 2


def test_the_command_line_does_not_load_the_daemon_s_libraries(command: list[str], repository: Path) -> None:
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:], "images"],
        cwd=repository, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "aiohttp" not in done.stderr
