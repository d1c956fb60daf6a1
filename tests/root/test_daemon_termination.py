"""The end of the daemon in the middle of requests that go on for long: asked for, asked for twice, or by force.

Containers run on, clients see their connections end, nothing is said, and the data root is whole; after a kill it is
once the next engine has tidied up.
"""

from __future__ import annotations

import contextlib
import io
import signal
import socket
import tarfile
import threading
import time
from collections.abc import Iterator

import pytest

from pylab_container import Engine
from pylab_container.engine.images.image import Image
from tests.support.api import Api, Daemon


def _context() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        text = b"FROM busybox:1\nRUN sleep 100\n"
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return archive.getvalue()


@pytest.fixture
def silent() -> Iterator[str]:
    """A registry that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as taken:

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.enter_context(server.accept()[0])

        taking = threading.Thread(target=take)
        taking.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        taking.join()


@pytest.fixture
def api(daemon: Daemon, image: Image) -> Api:
    """With two containers that run, one of which has a terminal, and one that was never started."""
    for name, more in (("runs", {}), ("types", {"Tty": True, "OpenStdin": True}), ("waits", {})):
        command = ["sh", "-c", "while echo tick; do sleep 0.1; done"]
        made = daemon.api.post("/containers/create", {"Image": "busybox:1", "Cmd": command, **more}, name=name)
        assert made.status == 201, made.body
        assert name == "waits" or daemon.api.post(f"/containers/{name}/start").status == 204
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
    "stop": "POST /containers/runs/stop?t=100",
    "build": "POST /build",
    "pull": "POST /images/create?fromImage=SILENT/nothing&tag=1",
    "push": "POST /images/SILENT/pushed/push?tag=1",
    "load": "POST /images/load",
    "save": "GET /images/busybox:1/get",
    "export": "GET /containers/runs/export",
}
BODIES = {"exec": b'{"Detach":false}', "build": _context(), "load": _context()[:700]}


@contextlib.contextmanager
def under_way(api: Api, engine: Engine, name: str, silent: str) -> Iterator[socket.socket]:
    """The request of that name, in the middle of its work."""
    line, body = REQUESTS[name].replace("SILENT", silent), BODIES.get(name, b"")
    if name == "exec":
        made = api.post("/containers/runs/exec", {"Cmd": ["sleep", "100"], "AttachStdout": True})
        line = line.replace("EXEC", str(made.document["Id"]))
    if name == "push":
        engine.images.tag("busybox:1", f"{silent}/pushed:1")
    method, _, path = line.partition(" ")
    kind = "application/json" if name == "exec" else "application/x-tar"
    length = 1_000_000 if name == "load" else len(body)
    with api.connect() as one:
        head = f"{method} /v1.41{path} HTTP/1.1\r\nHost: d\r\nX-Registry-Auth: e30=\r\nContent-Type: {kind}\r\n"
        one.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + body)
        time.sleep(1)
        yield one


def _end_of(one: socket.socket) -> None:
    """Read until the other side is gone; it must be soon."""
    one.settimeout(20)
    with contextlib.suppress(ConnectionResetError):
        while one.recv(1 << 20):
            pass


def _running(engine: Engine) -> list[str]:
    return sorted(container.name for container in engine.containers.list())


def _works(daemon: Daemon, engine: Engine) -> None:
    """Started again, it finds what there was, and does what it did."""
    daemon.start()
    assert daemon.api.get("/containers/runs/json").document["State"]["Running"] is True
    made = daemon.api.post("/containers/runs/exec", {"Cmd": ["true"]}).document["Id"]
    assert daemon.api.post(f"/exec/{made}/start", {"Detach": True}).status == 200
    assert daemon.api.delete("/containers/runs", force=1).status == 204
    assert _running(engine) == ["types"]


@pytest.mark.parametrize("name", REQUESTS)
def test_sigterm_ends_it_in_the_middle_of(api: Api, daemon: Daemon, engine: Engine, name: str, silent: str) -> None:
    with under_way(api, engine, name, silent) as one:
        begun = time.monotonic()
        daemon.process.terminate()
        assert daemon.process.wait(60) == 0
        assert time.monotonic() - begun < 40  # two seconds and three are its own; the work would take a hundred
        _end_of(one)
    assert not daemon.socket.exists()
    assert _running(engine) == ["runs", "types"]
    assert Engine(engine.data_root).fsck(deep=True) == []


@pytest.mark.parametrize("name", ["exec", "build", "pull"])
def test_a_second_sigterm_changes_nothing(api: Api, daemon: Daemon, engine: Engine, name: str, silent: str) -> None:
    with under_way(api, engine, name, silent) as one:
        for _ in range(3):
            daemon.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert daemon.process.wait(60) == 0
        _end_of(one)
    assert not daemon.socket.exists()
    assert engine.fsck(deep=True) == []
    _works(daemon, engine)


@pytest.mark.parametrize("name", REQUESTS)
def test_sigkill_leaves_what_is_tidied_up_in_the_middle_of(
    api: Api, daemon: Daemon, engine: Engine, name: str, silent: str
) -> None:
    with under_way(api, engine, name, silent) as one:
        daemon.process.kill()
        daemon.process.wait()
        _end_of(one)
    assert set(_running(engine)) >= {"runs", "types"}
    _works(daemon, engine)
    assert [finding.sentence for finding in engine.fsck(deep=True) if finding.kind != "leftover"] == []
    engine.fsck(repair=True)
    assert engine.fsck(deep=True) == []
