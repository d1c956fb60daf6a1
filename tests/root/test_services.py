"""Lab 00's daemon and registry: processes beside a notebook that end with it, and a view of the requests."""

from __future__ import annotations

import http.client
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.errors import RuntimeFailed
from pylab_container.images.image import Image
from pylab_container.notebook import docker_requests, services
from pylab_container.notebook.lab import Lab
from pylab_container.notebook.services import Daemon, Registry, Service
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def environment(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the environment variables that services and labs set."""
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


def test_requests_are_shown_in_their_order(served: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    with served.requests():
        assert [ask(served, path) for path in ("/_ping", "/v1.41/containers/json?all=1", "/nowhere")] == [200, 200, 404]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["REQUEST", "STATUS"],
        ["GET", "/_ping", "200"],
        ["GET", "/v1.41/containers/json?all=1", "200"],
        ["GET", "/nowhere", "404"],
    ]


def test_a_request_is_shown_while_it_is_being_answered(served: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    connection = http.client.HTTPConnection("daemon")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(served.socket))
    with served.requests():
        # The block ends when all requests in it are answered; on a slow machine this one may be over sooner.
        connection.request("GET", f"/events?since=0&until={time.time() + 1:.3f}")
        answer = connection.getresponse()
    assert capsys.readouterr().out.splitlines()[1].endswith(" 200")
    answer.read()
    connection.close()


def test_the_docker_command_uses_the_daemon(served: Daemon, image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    served.docker("run --rm --network none busybox:1 echo hello")
    printed = capsys.readouterr().out
    assert printed.startswith("$ docker run --rm --network none busybox:1 echo hello\nhello\n")
    assert [line.rsplit(maxsplit=1)[1] for line in printed.splitlines()[3:]] == ["200", "201", "101", "200", "204"]


LAB_COMMANDS = (
    "import {tar} asked:docker",
    "image ls asked",
    "run --name by-docker --network none asked:docker sh -c 'echo hello from the container'",
    "ps",
    "commit by-docker asked:docker-v2",
    "inspect -f '{{{{.State.Status}}}}' by-docker",
    "run --rm --network none {registry}/asked:v1 echo pulled",
)


def test_what_docker_would_ask_is_what_the_installed_one_asks(
    served: Daemon, pulled: tuple[Engine, str], busybox_tar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, name = pulled
    engine.images.remove(name, force=True)
    for command in LAB_COMMANDS:
        served.docker(line := command.format(tar=busybox_tar, registry=name.partition("/")[0]))
        table = capsys.readouterr().out.rpartition("REQUEST")[2].splitlines()[1:]
        rows = [re.sub(r"/v1\.\d+|\?\S*|…$", "", row).rsplit(maxsplit=1) for row in table]
        asked = [
            (re.sub(r"(?<=/containers/)(by-docker|[0-9a-f]{12}…)", "ID", path.strip()), status) for path, status in rows
        ]
        expected = docker_requests.expected(shlex.split(line), image_missing="/asked:v1" in line)
        assert tuple(asked) == expected, line


def test_without_the_docker_command_labctr_does_the_work(
    served: Daemon,
    pulled: tuple[Engine, str],
    busybox_tar: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, name = pulled
    engine.images.remove(name, force=True)
    monkeypatch.setenv("PATH", "/nowhere")  # other programs are found in the system's folders: programs.find
    printed = []
    for command in LAB_COMMANDS:
        served.docker(command.format(tar=busybox_tar, registry=name.partition("/")[0]))
        printed.append(capsys.readouterr().out)
        assert "docker is not installed here" in printed[-1]
    assert "\nhello from the container\n" in printed[2]
    assert re.search(r"^POST /containers/create +201$", printed[2], re.MULTILINE)
    assert "\nexited\n" in printed[5]
    assert "\npulled\n" in printed[6]
    assert re.search(r"^POST /containers/create +404$", printed[6], re.MULTILINE)
    assert [container.name for container in engine.containers.list(all=True)] == ["by-docker"]
    assert engine.images.get("asked:docker-v2").attrs["Parent"] == engine.images.get("asked:docker").id


def test_a_daemon_that_was_stopped_leaves_no_socket_and_no_variable(engine: Engine, tmp_path: Path) -> None:
    daemon = Daemon(engine, tmp_path)
    assert os.environ["DOCKER_HOST"] == f"unix://{daemon.socket}"
    daemon.stop()
    assert not daemon.socket.exists()
    assert "DOCKER_HOST" not in os.environ


def test_a_second_daemon_takes_the_place_of_the_first_and_shows_its_requests(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Daemon(engine, tmp_path)
    second = Daemon(engine, tmp_path)
    first.stop()  # has ended already: the second keeps its socket and the variable
    with second.requests():
        assert ask(second, "/_ping") == 200
    assert "GET /_ping" in capsys.readouterr().out
    assert os.environ["DOCKER_HOST"] == f"unix://{second.socket}"
    second.stop()
    assert not second.socket.exists()


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
    eventually(lambda: not path.exists())


def test_a_service_that_does_not_start_reports_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "SERVICE_TIMEOUT", 0.5)
    service = Service(["sh", "-c", "echo no room for me >&2; sleep 60"], tmp_path / "log")
    eventually(service.log.read_bytes)
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
    answers = ("GET /containers/json", "GET /v1.47/containers/json?all=1", "POST /containers/json", "docker ps", None)
    assert kinds(1, None, *answers) == ["ok", "ok", "no", "no", "open"]


def test_lab_00_2_wants_how_many_blobs_a_second_pull_fetches(pulled: tuple[Engine, str]) -> None:
    assert kinds(2, pulled, 0, 1, "none") == ["ok", "no", "no"]


def test_lab_00_3_wants_the_digest_of_the_manifest(pulled: tuple[Engine, str]) -> None:
    engine, name = pulled
    (digest,) = engine.images.get(name).attrs["RepoDigests"]
    answers = (digest, digest.partition("@")[2], engine.images.get(name).id, "sha256:", 3)
    assert kinds(3, pulled, *answers) == ["ok", "ok", "no", "no", "no"]
