"""The daemon under load: it needs no more memory, files and threads afterwards. scripts/bench measures its speed."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.images.image import Image
from tests.support.api import Daemon
from tests.support.waiting import eventually

pytestmark = pytest.mark.shared_engine


class _KeptOpen:
    """A connection that is kept open for many requests."""

    def __init__(self, daemon: Daemon) -> None:
        self._socket = daemon.api.connect()
        self._file = self._socket.makefile("rb")

    def get(self, path: str) -> int:
        """Return the status of a request; the body is read and dropped."""
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


@pytest.fixture
def containers(engine: Engine, image: Image) -> None:
    """Three running and two exited containers."""
    for number in range(3):
        engine.containers.run_detached(image, ["sleep", "100"], name=f"runs{number}")
    for number in range(2):
        engine.containers.run(image, ["true"], name=f"ended{number}")


@pytest.mark.usefixtures("containers")
def test_one_connection_serves_hundreds_of_requests(daemon: Daemon) -> None:
    connections = daemon.connections()
    with contextlib.closing(_KeptOpen(daemon)) as connection:
        for _ in range(500):
            assert connection.get("/v1.41/containers/json") == 200
        assert daemon.connections() == connections + 1


@pytest.mark.usefixtures("containers")
def test_memory_files_and_threads_are_flat_over_thousands_of_requests(daemon: Daemon, *, stress: bool) -> None:
    paths = ["/_ping", "/v1.41/containers/json?all=1", "/v1.41/images/json", "/v1.41/nothing", "/_ping", "/_ping",
             "/v1.41/volumes", "/v1.41/containers/runs0/json", "/v1.41/containers/nosuch/json", "/version"]  # fmt: skip

    def ask(times: int) -> None:
        for _ in range(times):
            with contextlib.closing(_KeptOpen(daemon)) as connection:
                for path in paths:
                    connection.get(path)

    ask(200 if stress else 50)  # ten requests each; threads and caches exist afterwards
    memory, (files, threads) = daemon.memory(), daemon.resources()
    ask(1000 if stress else 200)
    eventually(lambda: daemon.resources()[0] <= files)
    assert daemon.memory() - memory < 3000, "kB"
    assert daemon.resources()[1] <= threads + 10  # a leak would be one for each connection


def test_the_command_line_does_not_load_the_daemon_s_libraries(command: list[str], repository: Path) -> None:
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:], "images"],
        cwd=repository, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "aiohttp" not in done.stderr
