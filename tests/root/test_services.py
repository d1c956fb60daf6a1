"""Lab 00's daemon and registry: processes beside a notebook that end with it, and a view of what is asked."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.engine.images.image import Image
from pylab_container.errors import RuntimeFailed
from pylab_container.notebook import services
from pylab_container.notebook.lab import Lab
from pylab_container.notebook.services import Daemon, Registry, Service


@pytest.fixture(autouse=True)
def environment(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the services and labs set does not outlast the test."""
    monkeypatch.setenv("LABCTR_ROOT", str(engine.data_root))
    monkeypatch.setenv("LAB", "")
    monkeypatch.setenv("DOCKER_HOST", "")


@pytest.fixture
def served(engine: Engine, tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(engine, tmp_path)
    yield daemon
    daemon.stop()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    found = Registry(tmp_path / "registry")
    yield found
    found.stop()


def ask(daemon: Daemon, path: str) -> int:
    connection = http.client.HTTPConnection("daemon")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(daemon.socket))
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_what_clients_ask_is_shown_in_the_order_of_asking(served: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    with served.requests():
        assert [ask(served, path) for path in ("/_ping", "/v1.41/containers/json?all=1", "/nowhere")] == [200, 200, 404]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["REQUEST", "STATUS"],
        ["GET", "/_ping", "200"],
        ["GET", "/v1.41/containers/json?all=1", "200"],
        ["GET", "/nowhere", "404"],
    ]


def test_a_request_is_shown_that_is_still_being_answered(served: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    connection = http.client.HTTPConnection("daemon")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(served.socket))
    with served.requests():
        connection.request("GET", f"/events?since=0&until={time.time() + 1:.3f}")
        answer = connection.getresponse()  # which has begun
    assert capsys.readouterr().out.splitlines()[1].endswith(" 200")
    answer.read()
    connection.close()


def test_the_docker_command_is_led_to_the_daemon(
    served: Daemon, image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    served.docker("run --rm --network none busybox:1 echo hello")
    printed = capsys.readouterr().out
    assert printed.startswith("$ docker run --rm --network none busybox:1 echo hello\nhello\n")
    assert [line.rsplit(maxsplit=1)[1] for line in printed.splitlines()[3:]] == ["200", "201", "101", "200", "204"]


def test_a_daemon_that_was_stopped_leaves_no_socket_and_no_variable(engine: Engine, tmp_path: Path) -> None:
    daemon = Daemon(engine, tmp_path)
    assert os.environ["DOCKER_HOST"] == f"unix://{daemon.socket}"
    daemon.stop()
    assert not daemon.socket.exists()
    assert "DOCKER_HOST" not in os.environ


def test_a_service_ends_with_the_notebooks_kernel_even_when_that_is_killed(
    engine: Engine, repository: Path, tmp_path: Path
) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom pylab_container import Engine\n"
        "from pylab_container.notebook.services import Daemon\n"
        "daemon = Daemon(Engine(sys.argv[1]), Path(sys.argv[2]))\nprint(daemon.socket, flush=True)\ntime.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(engine.data_root), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as kernel:
        assert kernel.stdout is not None
        path = Path(kernel.stdout.readline().strip())
        assert path.is_socket()
        kernel.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not path.exists()


def test_a_service_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_PATIENCE", 0.5)
    service = Service(["sh", "-c", "echo no room for me >&2; sleep 60"], tmp_path / "log")
    while not service.log.read_bytes():
        time.sleep(0.01)
    with pytest.raises(RuntimeFailed, match="the service did not start: no room for me"):
        service.await_answer(lambda: False)


# -- lab 00's exercises ------------------------------------------------------------------------


@pytest.fixture
def pulled(engine: Engine, image: Image, registry: Registry) -> tuple[Engine, str]:
    name = f"{registry.name}/asked:v1"
    image.tag(name)
    engine.images.push(name)
    return engine, name


def kinds(exercise: int, subject: object, *answers: object) -> list[str]:
    return [Lab("00").check(exercise, answer, subject).kind for answer in answers]


def test_lab_00_1_wants_the_request_that_lists_containers() -> None:
    answers = ("GET /containers/json", "GET /v1.45/containers/json?all=1", "POST /containers/json", "docker ps", None)
    assert kinds(1, None, *answers) == ["ok", "ok", "no", "no", "open"]


def test_lab_00_2_wants_how_many_blobs_a_second_pull_fetches(pulled: tuple[Engine, str]) -> None:
    assert kinds(2, pulled, 0, 1, "none") == ["ok", "no", "no"]


def test_lab_00_3_wants_the_digest_of_the_manifest(pulled: tuple[Engine, str]) -> None:
    engine, name = pulled
    (digest,) = engine.images.get(name).attrs["RepoDigests"]
    answers = (digest, digest.partition("@")[2], engine.images.get(name).id, "sha256:", 3)
    assert kinds(3, pulled, *answers) == ["ok", "ok", "no", "no", "no"]
