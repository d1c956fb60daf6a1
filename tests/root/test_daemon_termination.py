"""SIGTERM, a second SIGTERM and SIGKILL for a daemon in the middle of long requests.

Containers run on, clients see their connections end, nothing is logged, and the data root is consistent; after
SIGKILL it is once the next engine has recovered. All tests use one data root and restart the daemon on it.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from tests.support.api import Api, Daemon
from tests.support.waiting import PATIENCE, eventually


def _context() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        text = b"FROM busybox:1\nRUN sleep 1000\n"
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return archive.getvalue()


class Silent:
    """A registry that accepts connections and never answers."""

    def __init__(self, server: socket.socket) -> None:
        self.name = f"127.0.0.1:{server.getsockname()[1]}"
        self.accepted: list[socket.socket] = []
        self._server = server

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.accepted.append(self._server.accept()[0])


@pytest.fixture(scope="module")
def silent(isolation: None) -> Iterator[Silent]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        registry = Silent(server)
        accepting = threading.Thread(target=registry.accept)
        accepting.start()
        yield registry
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for connection in registry.accepted:
            connection.close()


@pytest.fixture(scope="module")
def engine(module_engine: Engine, busybox_tar: Path) -> Engine:
    """The module's engine, with the image busybox:1."""
    module_engine.images.import_(busybox_tar, "busybox:1")
    return module_engine


@pytest.fixture
def daemon(engine: Engine, module_daemon: Daemon) -> Daemon:
    """The module's daemon, started again if the last test ended it."""
    if module_daemon.process.poll() is not None:
        module_daemon.start()
    return module_daemon


@pytest.fixture
def api(daemon: Daemon) -> Api:
    """A client of a daemon with two running containers, one of them with a terminal, and one that was never started."""
    for name, more in (("runs", {}), ("types", {"Tty": True, "OpenStdin": True}), ("waits", {})):
        if daemon.api.get(f"/containers/{name}/json").status == 404:
            command = ["sh", "-c", "while echo tick; do sleep 0.1; done"]
            made = daemon.api.post("/containers/create", {"Image": "busybox:1", "Cmd": command, **more}, name=name)
            assert made.status == 201, made.body
        assert name == "waits" or daemon.api.post(f"/containers/{name}/start").status in (204, 304)
    return daemon.api


REQUESTS = {
    "logs": "GET /containers/runs/logs?stdout=1&follow=1",
    "attach": "POST /containers/runs/attach?stream=1&stdout=1&stdin=1",
    "attach to a terminal": "POST /containers/types/attach?stream=1&stdout=1&stdin=1",
    "attach before the start": "POST /containers/waits/attach?stream=1&stdout=1",
    "exec": "POST /exec/EXEC/start",
    "wait": "POST /containers/runs/wait",
    "events": "GET /events",
    "stats": "GET /containers/runs/stats",
    "stop": "POST /containers/runs/stop?t=1000",
    "build": "POST /build",
    "pull": "POST /images/create?fromImage=SILENT/nothing&tag=1",
    "push": "POST /images/SILENT/pushed/push?tag=1",
    "load": "POST /images/load",
    "save": "GET /images/busybox:1/get",
    "export": "GET /containers/runs/export",
}
BODIES = {"exec": b'{"Detach":false}', "build": _context(), "load": _context()[:700] + bytes(1 << 17)}


@contextlib.contextmanager
def under_way(daemon: Daemon, engine: Engine, name: str, silent: Silent) -> Iterator[socket.socket]:
    """Send the request of that name, and wait until the daemon works on it."""
    api = daemon.api
    line, body = REQUESTS[name].replace("SILENT", silent.name), BODIES.get(name, b"")
    began, connections = time.time(), len(silent.accepted)
    if name == "exec":
        made = api.post("/containers/runs/exec", {"Cmd": ["sleep", "1000"], "AttachStdout": True})
        line = line.replace("EXEC", str(made.document["Id"]))
    if name == "push":
        engine.images.tag("busybox:1", f"{silent.name}/pushed:1")
    method, _, path = line.partition(" ")
    kind = "application/json" if name == "exec" else "application/x-tar"
    length = 1_000_000 if name == "load" else len(body)
    with api.connect() as one:
        head = f"{method} /v1.41{path} HTTP/1.1\r\nHost: d\r\nX-Registry-Auth: e30=\r\nContent-Type: {kind}\r\n"
        one.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + body)
        if name in ("pull", "push"):
            eventually(lambda: len(silent.accepted) > connections)
        elif name == "build":
            eventually(lambda: len(_running(engine)) == 3)
        elif name == "load":
            eventually(lambda: _spools(daemon, engine))
        elif name == "stop":
            wanted = {"container": "runs", "event": "kill"}
            eventually(lambda: list(engine.event_log.read(since=began, until=time.time(), filters=wanted)))
        else:
            assert select.select([one], [], [], PATIENCE)[0]  # the answer has begun
        yield one


def _spools(daemon: Daemon, engine: Engine) -> bool:
    """Return whether the daemon has an unlinked file open, in which it buffers a request's body."""
    links = Path(f"/proc/{daemon.process.pid}/fd").iterdir()
    return any(os.readlink(link).startswith(f"{engine.data_root}/tmp/") for link in links)


def _read_to_end(one: socket.socket) -> None:
    """Read until the daemon has closed the connection."""
    with contextlib.suppress(ConnectionResetError):
        while one.recv(1 << 20):
            pass


def _running(engine: Engine) -> list[str]:
    return sorted(container.name for container in engine.containers.list())


def _works(daemon: Daemon, engine: Engine) -> None:
    """A daemon that is started again finds the containers, and executes, starts and removes as before."""
    daemon.start()
    assert daemon.api.get("/containers/runs/json").document["State"]["Running"] is True
    made = daemon.api.post("/containers/runs/exec", {"Cmd": ["true"]}).document["Id"]
    assert daemon.api.post(f"/exec/{made}/start", {"Detach": True}).status == 200
    assert daemon.api.delete("/containers/runs", force=1).status == 204
    assert _running(engine) == ["types"]


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.usefixtures("api")
def test_sigterm_ends_it_in_the_middle_of(daemon: Daemon, engine: Engine, name: str, silent: Silent) -> None:
    with under_way(daemon, engine, name, silent) as one:
        daemon.process.terminate()
        assert daemon.process.wait(PATIENCE) == 0  # the work would take a thousand seconds
        _read_to_end(one)
    assert not daemon.socket.exists()
    assert _running(engine) == ["runs", "types"]
    assert Engine(engine.data_root).fsck(deep=True) == []


@pytest.mark.parametrize("name", ["exec", "build", "pull"])
@pytest.mark.usefixtures("api")
def test_a_second_sigterm_changes_nothing(daemon: Daemon, engine: Engine, name: str, silent: Silent) -> None:
    with under_way(daemon, engine, name, silent) as one:
        for _ in range(3):
            daemon.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.process.wait(0.2)  # so that the next one comes at another moment of the end
        assert daemon.process.wait(PATIENCE) == 0
        _read_to_end(one)
    assert not daemon.socket.exists()
    assert engine.fsck(deep=True) == []
    _works(daemon, engine)


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.usefixtures("api")
def test_the_next_engine_recovers_from_sigkill_in_the_middle_of(
    daemon: Daemon, engine: Engine, name: str, silent: Silent
) -> None:
    with under_way(daemon, engine, name, silent) as one:
        daemon.process.kill()
        daemon.process.wait()
        _read_to_end(one)
    assert set(_running(engine)) >= {"runs", "types"}
    _works(daemon, engine)
    assert [finding.sentence for finding in engine.fsck(deep=True) if finding.kind != "leftover"] == []
    engine.fsck(repair=True)
    assert engine.fsck(deep=True) == []
