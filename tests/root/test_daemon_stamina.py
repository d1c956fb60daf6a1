"""Thousands of requests of all kinds, many of whose clients vanish: afterwards the daemon is as it was before.

A normal run makes 2,000 of them; --stress makes 10,000, goes on for ten minutes, and prints the figures of each round.
"""

from __future__ import annotations

import contextlib
import io
import random
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pylab_container import Engine
from pylab_container.images.image import Image
from tests.support.api import Api, Daemon
from tests.support.processes import command_lines
from tests.support.waiting import eventually

_CLIENTS = 8
_GROWTH = 16 << 10  # kB of resident memory; with --stress a leak of 3 kB a request would be more
_STRESS_SECONDS = 600
_TICKING = ["sh", "-c", "while echo tick; do sleep 0.2; done"]


def _vanish(api: Api, request: str, body: bytes = b"", *, after: int = 0) -> None:
    """Send a request, receive some bytes of the answer, and close the connection."""
    head = f"{request} HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nContent-Length: {len(body)}\r\n\r\n"
    with api.connect() as one, contextlib.suppress(OSError):
        one.sendall(head.encode() + body)
        while after > 0 and (piece := one.recv(min(after, 1 << 16))):
            after -= len(piece)


def _context() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        text = b"FROM busybox:1\nRUN sleep 3\n"
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return archive.getvalue()


_CONTEXT = _context()


def _life(api: Api) -> None:
    """One container from its creation to its end."""
    body = {"Image": "busybox:1", "Cmd": ["echo", "out"], "HostConfig": {"NetworkMode": "none"}}
    name = str(api.post("/containers/create", body).document["Id"])
    assert api.post(f"/containers/{name}/start").status == 204
    assert api.post(f"/containers/{name}/wait").document["StatusCode"] == 0
    assert b"out" in api.get(f"/containers/{name}/logs", stdout=1).body
    assert api.delete(f"/containers/{name}").status == 204


def _made(api: Api, *command: str) -> str:
    """Create an exec in the running container, and return its id."""
    answer = api.post("/containers/runs/exec", {"Cmd": command, "AttachStdout": True})
    assert answer.status == 201, answer.body
    return str(answer.document["Id"])


def _exec(api: Api) -> None:
    made = _made(api, "true")
    assert api.post(f"/exec/{made}/start", {"Detach": False}).status == 200


def _exec_and_vanish(api: Api) -> None:
    made = _made(api, "sleep", "0.2")
    text = b'{"Detach":false}'
    head = f"POST /v1.41/exec/{made}/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
    with api.connect() as one, contextlib.suppress(OSError):
        one.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
        one.recv(10)


def _answered(path: str, status: int = 200) -> Callable[[Api], None]:
    def ask(api: Api) -> None:
        assert api.get(path).status == status

    return ask


RARE: tuple[Callable[[Api], None], ...] = (
    _life,
    _exec,
    _exec_and_vanish,
    lambda api: _vanish(api, "POST /v1.41/build", _CONTEXT, after=200),
    lambda api: _vanish(api, "GET /v1.41/images/busybox:1/get", after=100_000),
    lambda api: _vanish(api, "GET /v1.41/containers/runs/export", after=100_000),
    lambda api: _vanish(api, "POST /v1.41/images/load", _CONTEXT[:700]),
    lambda api: _vanish(api, "POST /v1.41/images/create?fromImage=127.0.0.1:1/nothing", after=10),
    lambda api: _vanish(api, "GET /v1.41/containers/runs/stats", after=300),
)
OFTEN: tuple[Callable[[Api], None], ...] = (
    _answered("/containers/json"),
    _answered("/containers/json"),
    _answered("/containers/runs/json"),
    _answered("/images/json"),
    _answered("/images/busybox:1/json"),
    _answered("/containers/nosuch/json", 404),
    _answered("/networks"),
    _answered("/volumes"),
    _answered("/_ping"),
    lambda api: _vanish(api, "GET /v1.41/containers/runs/logs?follow=1&stdout=1", after=1),
    lambda api: _vanish(api, "GET /v1.41/events", after=1),
    lambda api: _vanish(api, "POST /v1.41/containers/runs/attach?stream=1&stdout=1", after=1),
)


def _client(api: Api, number: int, requests: int, done: list[str]) -> None:
    """Make requests; each adds to done its failure, or "" if it succeeded."""
    choice = random.Random(number)
    for count in range(requests):
        one = choice.choice(RARE if count % 25 == 0 else OFTEN)
        try:
            one(api)
            done.append("")
        except Exception as error:  # noqa: BLE001 - the test reports it; a client that ended silently would falsify the figures
            done.append(f"{one}: {error!r}")


def _drive(daemon: Daemon, requests: int) -> None:
    """Let eight clients make their requests concurrently. All of them must succeed."""
    done: list[str] = []
    clients = [
        threading.Thread(target=_client, args=(daemon.api, number, requests // _CLIENTS, done))
        for number in range(_CLIENTS)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(done) == requests
    assert [word for word in done if word][:5] == []


def _around(daemon: Daemon, engine: Engine) -> dict[str, object]:
    """Return what exists besides the daemon: children, monitors, mounts, scratch directories and containers."""
    monitors = [line for line in command_lines() if "conmon" in line.partition("\0")[0]]
    return {
        "children": _children(daemon.process.pid),
        "monitors": sum(str(engine.data_root) in line for line in monitors),
        "mounts": Path("/proc/self/mountinfo").read_text().count(str(engine.data_root)),
        "scratch": sorted(path.name for path in (engine.data_root / "tmp").glob("*")),
        "containers": sorted(container.id for container in engine.containers.list(all=True)),
    }


def _children(pid: int) -> int:
    """Return how many children a process has: each belongs to the thread that started it (proc(5))."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended since the listing
            count += len((task / "children").read_text().split())
    return count


def _quiet(daemon: Daemon, engine: Engine) -> dict[str, object]:
    """Return what exists if nothing is left of the requests but one container; else raise AssertionError with it."""
    around = _around(daemon, engine)
    containers = around["containers"]
    assert isinstance(containers, list)
    left = (daemon.connections(), around["children"], around["monitors"], around["scratch"], len(containers))
    assert left == (0, 0, 1, [], 1), f"connections, children, monitors, scratch directories, containers: {left}"
    return around


def _compare(present: object, before: object) -> bool:
    """Return True if nothing has changed; otherwise raise AssertionError with both."""
    assert present == before
    return True


def test_thousands_of_requests_leave_nothing_behind(
    daemon: Daemon, engine: Engine, image: Image, *, stress: bool
) -> None:
    body = {"Image": "busybox:1", "Cmd": _TICKING}
    assert daemon.api.post("/containers/create", body, name="runs").status == 201
    assert daemon.api.post("/containers/runs/start").status == 204
    first, further = (3200, 6800) if stress else (800, 1200)
    _drive(daemon, first)  # afterwards threads and buffers exist that are made once
    around = eventually(lambda: _quiet(daemon, engine), ignoring=(AssertionError,))
    (files, _), memory, begun = daemon.resources(), daemon.memory(), time.monotonic()
    while True:
        _drive(daemon, further)
        eventually(lambda: _compare(_around(daemon, engine), around), ignoring=(AssertionError,))
        eventually(lambda: _compare(daemon.connections(), 0), ignoring=(AssertionError,))
        eventually(lambda: daemon.resources()[0] <= files)
        assert daemon.resources()[1] < 120  # idle threads stay, as many as were busy at once; a leak would be hundreds
        assert daemon.memory() - memory < _GROWTH
        passed = time.monotonic() - begun
        sys.stdout.write(f"{passed:.0f} s: {daemon.memory()} kB, files and threads {daemon.resources()}, {around}\n")
        if not stress or passed > _STRESS_SECONDS:
            break
    assert daemon.api.delete("/containers/runs", force=1).status == 204
