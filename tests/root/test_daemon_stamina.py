"""Ten thousand requests of all kinds, many of whose clients vanish: afterwards the daemon is as it was before.

--stress goes on for ten minutes, and tells the figures of each round.
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
from typing import TypeVar

import pytest

from pylab_container import Engine
from pylab_container.engine.images.image import Image
from tests.support.api import Api, Daemon

Found = TypeVar("Found")

_CLIENTS = 8
_GROWTH = 16 << 10  # kB of resident memory; a leak of 3 kB a request would be more
_TICKING = ["sh", "-c", "while echo tick; do sleep 0.2; done"]


def _vanish(api: Api, request: str, body: bytes = b"", *, after: int = 0) -> None:
    """Send a request, take some bytes of the answer, and be gone."""
    head = f"{request} HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nContent-Length: {len(body)}\r\n\r\n"
    with api.connect(timeout=5) as one, contextlib.suppress(OSError):
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
    """A new exec session in the container that runs."""
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
    """Go through requests; each leaves a word, which is empty where it went well."""
    choice = random.Random(number)
    for count in range(requests):
        one = choice.choice(RARE if count % 25 == 0 else OFTEN)
        try:
            one(api)
            done.append("")
        except Exception as error:  # noqa: BLE001 - whatever it is: a client that ended unseen would make the figures lies
            done.append(f"{one}: {error!r}")


def _drive(daemon: Daemon, requests: int) -> None:
    """Eight clients at once; each of their requests must have been made, and have gone well."""
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
    """What there is besides the daemon: its children, monitors, mounts, scratch directories, containers."""
    commands = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            commands.append((process / "cmdline").read_bytes().split(b"\0")[:40])
    root = str(engine.data_root).encode()
    monitors = [one for one in commands if one[0].endswith(b"conmon") and any(root in word for word in one)]
    mounts = Path("/proc/self/mountinfo").read_text().count(str(engine.data_root))
    scratch = sorted(path.name for path in (engine.data_root / "tmp").glob("*"))
    containers = sorted(one.id for one in engine.containers.list(all=True))
    found: dict[str, object] = {"children": _children(daemon.process.pid), "monitors": len(monitors)}
    return found | {"mounts": mounts, "scratch": scratch, "containers": containers}


def _children(pid: int) -> int:
    """How many processes it is the parent of: each belongs to the thread that started it (proc(5))."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            count += len((task / "children").read_text().split())
    return count


def _settled(look: Callable[[], Found], wanted: Callable[[Found], bool]) -> Found:
    """What look() says once that is what is wanted, or a minute later."""
    deadline = time.monotonic() + 60
    while not wanted(found := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _is_quiet(around: dict[str, object]) -> bool:
    """Whether nothing is left of the requests: there is the one container, with its monitor."""
    containers, scratch = around["containers"], around["scratch"]
    assert isinstance(containers, list)
    return (around["children"], around["monitors"], scratch, len(containers)) == (0, 1, [], 1)


def _steady(look: Callable[[], int]) -> int:
    """What look() says once that has been the same for two seconds: nobody tells when the last client was missed."""
    seen = [look()]
    while len(seen) < 5 or len(set(seen[-5:])) > 1:
        time.sleep(0.5)
        seen.append(look())
    return seen[-1]


def test_ten_thousand_requests_leave_nothing_behind(
    daemon: Daemon, engine: Engine, image: Image, request: pytest.FixtureRequest
) -> None:
    body = {"Image": "busybox:1", "Cmd": _TICKING}
    assert daemon.api.post("/containers/create", body, name="runs").status == 201
    assert daemon.api.post("/containers/runs/start").status == 204
    _drive(daemon, 3200)  # threads and buffers that are made once are there now
    around = _settled(lambda: _around(daemon, engine), _is_quiet)
    assert _is_quiet(around), around
    files, memory = _steady(lambda: daemon.resources()[0]), daemon.memory()
    begun, seconds = time.monotonic(), 600 if request.config.getoption("stress") else 0
    while True:
        _drive(daemon, 6800)
        assert _settled(lambda: _around(daemon, engine), lambda found: found == around) == around
        assert _settled(lambda: daemon.resources()[0], lambda found: found <= files) <= files
        assert daemon.resources()[1] < 60  # of idle threads some stay, as many as were needed at once
        assert daemon.memory() - memory < _GROWTH
        passed = time.monotonic() - begun
        sys.stdout.write(f"{passed:.0f} s: {daemon.memory()} kB, files and threads {daemon.resources()}, {around}\n")
        if passed > seconds:
            break
    assert daemon.api.delete("/containers/runs", force=1).status == 204
