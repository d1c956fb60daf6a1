"""A thousand open streams and half-sent bodies hold no thread, take little memory, and delay no short request.

All tests have one data root and one daemon, so that a test sees what an earlier one left.
"""

from __future__ import annotations

import contextlib
import io
import resource
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from tests.support.api import Api, Daemon, messages, unread
from tests.support.waiting import eventually

_CLIENTS = 1000
_FEWER = 100
"""Clients of the kinds that wait in the same way as one of _MECHANISMS; with --stress it is a thousand of each."""
_MEMORY = 400 << 10  # kB of resident memory that a thousand clients may add
_THREADS = 700  # the pools of short requests and of steps are full at most; a thread a client would be a thousand


@pytest.fixture(scope="module", autouse=True)
def descriptors() -> Iterator[None]:
    """Raise the limit of open files to the hard limit (RLIMIT_NOFILE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def served(module_engine: Engine, module_daemon: Daemon, busybox_tar: Path) -> Iterator[Daemon]:
    """The daemon, with the image busybox:1 and a running container that has printed a lot."""
    module_engine.images.import_(busybox_tar, "busybox:1")
    api = module_daemon.api
    printing = f"yes {'0123456789' * 100} | head -c 600000; echo ready; sleep 1000"
    body = {"Image": "busybox:1", "Cmd": ["sh", "-c", printing], "HostConfig": {"NetworkMode": "none"}}
    assert api.post("/containers/create", body, name="runs").status == 201
    assert api.post("/containers/runs/start").status == 204
    eventually(lambda: b"ready" in api.get("/containers/runs/logs", stdout=1, tail=1).body)
    yield module_daemon
    assert api.delete("/containers/runs", force=1).status == 204


def _request(method: str, path: str, body: bytes = b"", *, length: int = 0) -> bytes:
    kind = "application/x-tar" if length else "application/json"
    head = f"{method} /v1.41{path} HTTP/1.1\r\nHost: d\r\nContent-Type: {kind}\r\nContent-Length: {length or len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def _tar(size: int) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in (("Dockerfile", b"FROM busybox:1\n"), ("large", bytes(size))):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


_SHORT, _LONG = _tar(100)[:2000], _tar(200_000)
STREAMS = {
    "events": _request("GET", "/events"),
    "filtered events": _request("GET", '/events?filters={"container":["nosuch"]}'),
    "events until a moment far away": _request("GET", "/events?until=9999999999"),
    "logs that follow": _request("GET", "/containers/runs/logs?stdout=1&follow=1&tail=1"),
    "logs without a reader": _request("GET", "/containers/runs/logs?stdout=1&follow=1"),
    "stats": _request("GET", "/containers/runs/stats"),
    "waiting": _request("POST", "/containers/runs/wait"),
    "attached": _request("POST", "/containers/runs/attach?stream=1&stdout=1"),
    "half of an upload": _request("PUT", "/containers/runs/archive?path=/tmp", _SHORT, length=1 << 20),
    "half of a long upload": _request("PUT", "/containers/runs/archive?path=/tmp", _LONG, length=1 << 20),
    "half of a context": _request("POST", "/build", _SHORT, length=1 << 20),
    "half of a long context": _request("POST", "/build", _LONG, length=1 << 20),
    "half of images": _request("POST", "/images/load", _SHORT, length=1 << 20),
    "half of a file system": _request("POST", "/images/create?fromSrc=-", _SHORT, length=1 << 20),
    "half of a document": _request("POST", "/volumes/create", b'{"Name"', length=1 << 20),
    "an export without a reader": _request("GET", "/containers/runs/export"),
    "images without a reader": _request("GET", "/images/busybox:1/get"),
    "an archive without a reader": _request("GET", "/containers/runs/archive?path=/bin"),
}
_MECHANISMS = (
    "events",
    "logs that follow",
    "stats",
    "attached",
    "half of a long context",
    "an export without a reader",
)
"""One kind for each way of waiting."""


def _short_requests_are_answered(api: Api) -> None:
    """One of each kind that people wait for."""
    assert [one["Names"] for one in api.get("/containers/json").document] == [["/runs"]]
    assert api.get("/containers/runs/json").document["State"]["Running"]
    body = {"Image": "busybox:1", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
    made = api.post("/containers/create", body).document["Id"]
    assert api.post(f"/containers/{made}/start").status == 204
    assert api.post(f"/containers/{made}/wait").document["StatusCode"] == 0
    assert api.delete(f"/containers/{made}").status == 204


@pytest.mark.parametrize("kind", STREAMS)
def test_a_thousand_clients_of_one_kind_leave_short_requests_their_threads(
    served: Daemon, kind: str, *, stress: bool
) -> None:
    api, count = served.api, _CLIENTS if stress or kind in _MECHANISMS else _FEWER
    _short_requests_are_answered(api)
    eventually(lambda: served.connections() == 0)
    files, _ = served.resources()
    memory = served.memory()
    with contextlib.ExitStack() as stack:
        clients: list[socket.socket] = []
        for _ in range(count):
            client = stack.enter_context(api.connect())
            client.sendall(STREAMS[kind])
            clients.append(client)
        eventually(lambda: not any(map(unread, clients)))
        _short_requests_are_answered(api)
        eventually(lambda: served.connections() == count)
        assert served.resources()[1] < _THREADS
        assert served.memory() - memory < _MEMORY
    eventually(lambda: served.connections() == 0)
    eventually(lambda: served.resources()[0] <= files + 1)  # one to conmon is kept for the next client (sharing.py)
    _short_requests_are_answered(api)


def test_stops_that_wait_leave_short_requests_their_threads(served: Daemon) -> None:
    api = served.api
    stubborn = {"Image": "busybox:1", "Cmd": ["sh", "-c", "trap : TERM; while :; do sleep 1000 & wait; done"]}
    assert (
        api.post("/containers/create", {**stubborn, "HostConfig": {"NetworkMode": "none"}}, name="slow").status == 201
    )
    assert api.post("/containers/slow/start").status == 204
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(api.connect()) for _ in range(300)]  # more than the other pools have threads
        for client in clients:
            client.sendall(_request("POST", "/containers/slow/stop?t=1000"))
        eventually(lambda: not any(map(unread, clients)))
        made = api.post("/volumes/create", {"Name": "meanwhile"})
        assert made.status == 201
        assert api.delete("/volumes/meanwhile").status == 204
        assert api.get("/containers/slow/json").document["State"]["Running"]
        assert api.post("/containers/slow/kill").status == 204
    assert api.delete("/containers/slow", force=1).status == 204


# -- messages -------------------------------------------------------------------------------------


def _context(dockerfile: str) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        tar.addfile(entry, io.BytesIO(dockerfile.encode()))
    return archive.getvalue()


def test_each_message_of_a_build_is_a_chunk(served: Daemon) -> None:
    context = _context("FROM busybox:1\nRUN for n in 1 2 3; do echo $n; echo $n >&2; done\nLABEL a=b\n")
    told = messages(served.api.chunks(_request("POST", "/build?t=chunks", context, length=len(context))))
    assert "Step 1/3" in told[0]["stream"]
    assert told[-1]["stream"] == "Successfully tagged chunks:latest\n"
    saved = served.api.get("/images/chunks/get").body
    told = messages(served.api.chunks(_request("POST", "/images/load", saved, length=len(saved))))
    assert told[-1] == {"stream": "Loaded image: chunks:latest\n"}
    assert served.api.delete("/images/chunks").status == 200


def test_each_message_of_an_import_is_a_chunk(served: Daemon) -> None:
    archive = _tar(10)
    request = _request("POST", "/images/create?fromSrc=-&repo=chunks", archive, length=len(archive))
    assert messages(served.api.chunks(request))[-1]["status"].startswith("sha256:")
    assert served.api.delete("/images/chunks").status == 200


def test_each_event_and_each_measurement_is_a_chunk(served: Daemon) -> None:
    for number in range(3):
        assert served.api.post("/volumes/create", {"Name": f"v{number}"}).status == 201
        assert served.api.delete(f"/volumes/v{number}").status == 204
    happened = messages(served.api.chunks(_request("GET", "/events?since=1"), limit=6))
    assert all(one["Type"] for one in happened)
    assert len(messages(served.api.chunks(_request("GET", "/containers/runs/stats"), limit=2))) == 2


def test_an_error_of_a_build_is_a_chunk_of_its_own(served: Daemon) -> None:
    context = _context("FROM busybox:1\nRUN exit 3\n")
    told = messages(served.api.chunks(_request("POST", "/build", context, length=len(context))))
    assert told[-1]["errorDetail"]["code"] == 3
