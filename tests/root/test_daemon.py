"""`labctr daemon`: its start and end, its socket, and its answers about itself.

Tests that only ask share the module's daemon; those that end it have one of their own.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.daemon import MINIMUM_VERSION, VERSION
from pylab_container.engine.container import Container
from pylab_container.host import programs
from pylab_container.images.image import Image
from tests.support.api import Api, Daemon, serving
from tests.support.network import free_port
from tests.support.processes import kill_container
from tests.support.waiting import PATIENCE, eventually

shared = pytest.mark.shared_engine


def _run(command: list[str], *arguments: str, repository: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, "daemon", *arguments], cwd=repository, capture_output=True, text=True, timeout=300, check=False
    )


# -- life ---------------------------------------------------------------------------------------


@pytest.mark.smoke
@shared
def test_a_ping_is_answered_with_the_version_in_its_headers(daemon: Daemon) -> None:
    got, head = daemon.api.at("").get("/_ping"), daemon.api.at("").request("HEAD", "/_ping")
    assert (got.status, got.body, head.status, head.body) == (200, b"OK", 200, b"")
    assert got.headers["Api-Version"] == head.headers["Api-Version"] == VERSION
    assert got.headers["Ostype"] == "linux"
    assert got.headers["Builder-Version"] == "1"


def test_sigterm_ends_it_with_status_0_and_removes_the_socket(daemon: Daemon) -> None:
    assert daemon.stop() == 0
    assert not daemon.socket.exists()


def test_sigterm_ends_it_although_clients_hold_streams_and_idle_connections(daemon: Daemon) -> None:
    with daemon.api.connect() as stream, daemon.api.connect():
        stream.sendall(b"GET /v1.41/events HTTP/1.1\r\nHost: d\r\n\r\n")
        assert b"200 OK" in stream.recv(1000)
        assert daemon.stop() == 0  # a stream alone would never end


def test_a_build_that_runs_ends_with_the_daemon(daemon: Daemon, engine: Engine, image: Image, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox:1\nRUN sleep 1000\n")
    with subprocess.Popen(
        ["docker", "build", str(tmp_path)], env=daemon.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as client:
        eventually(engine.containers.list)
        assert daemon.stop() == 0
        assert engine.containers.list(all=True) == []
        assert client.wait(PATIENCE) != 0


@pytest.fixture
def slow_kills(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Put a runtime first in PATH whose kill takes longer than the daemon waits for its requests (3 s)."""
    (tmp_path / "slow").mkdir()
    script = f'#!/bin/sh\ncase " $* " in *" kill "*) sleep 4;; esac\nexec {programs.find("runc")} "$@"\n'
    (tmp_path / "slow/runc").write_text(script)
    (tmp_path / "slow/runc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/slow", prepend=":")


def test_the_command_of_a_build_ends_with_the_daemon_also_on_a_slow_machine(
    slow_kills: None, daemon: Daemon, engine: Engine, image: Image, tmp_path: Path
) -> None:
    text = b"FROM busybox:1\nRUN sleep 1000\n"
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    body = context.getvalue()
    with daemon.api.connect() as client:
        client.sendall(b"POST /v1.41/build HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        eventually(engine.containers.list)
        assert daemon.stop() == 0
    assert engine.containers.list(all=True) == []


# -- contexts from servers ---------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of a server with a Dockerfile, and with an archive whose Dockerfile has another name."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/Dockerfile").write_text("FROM busybox:1\nLABEL of=file\n")
    with tarfile.open(tmp_path / "site/context.tar.gz", "w:gz") as archive:
        for name, text in {"Other": b"FROM busybox:1\nCOPY note /\nLABEL of=context\n", "note": b"hello"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    handler = functools.partial(_Quiet, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


@shared
@pytest.mark.parametrize(
    ("path", "parameters", "of"),
    [
        ("Dockerfile", {}, "file"),
        ("Dockerfile", {"dockerfile": "other"}, "file"),
        ("context.tar.gz", {"dockerfile": "Other"}, "context"),
    ],
)
def test_a_build_may_name_its_context(
    daemon: Daemon, engine: Engine, image: Image, site: str, path: str, parameters: dict[str, str], of: str
) -> None:
    answer = daemon.api.post("/build", remote=f"{site}/{path}", t="remote:1", **parameters)
    assert answer.lines[0]["id"] == "Downloading context"
    assert answer.lines[-1]["stream"] == "Successfully tagged remote:1\n"
    assert engine.images.get("remote:1").labels == {"of": of}


@shared
@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("{site}/nosuch", 404, "error downloading remote context"),
        ("http://127.0.0.1:9/x", 500, "connection refused"),
        ("nosuch", 400, "remoteURL (nosuch) could not be recognized as URL"),
        ("{site}/x.git#main", 500, "git fetch failed"),
    ],
)
def test_a_missing_context_is_reported_by_the_status(
    daemon: Daemon, site: str, path: str, status: int, words: str
) -> None:
    answer = daemon.api.post("/build", remote=path.format(site=site))
    assert answer.status == status
    assert words in answer.message


@shared
def test_a_failed_import_is_reported_by_the_status(daemon: Daemon, site: str) -> None:
    assert daemon.api.post("/images/create", fromSrc=f"{site}/nosuch").status == 404
    assert daemon.api.post("/images/create", fromSrc=f"{site.removeprefix('http://')}/nosuch").status == 404


# -- starting again ---------------------------------------------------------------------------


@pytest.mark.smoke
def test_containers_run_on_without_it_and_are_found_again(daemon: Daemon, engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(image, ["sleep", "100"], name="stays")
    daemon.stop()
    assert container.status == "running"
    daemon.start()
    found = daemon.api.get("/containers/stays/json").document
    assert (found["Id"], found["State"]["Running"]) == (container.id, True)


@pytest.mark.parametrize(("policy", "end", "comes_up"), [
    ("always", "reboot", "comes up"), ("unless-stopped", "reboot", "comes up"), ("always", "stop", "comes up"),
    ("unless-stopped", "stop", "stays down"), ("no", "reboot", "stays down"),
])  # fmt: skip
def test_restart_policies_hold_over_a_reboot(
    engine: Engine, image: Image, repository: Path, policy: str, end: str, comes_up: str
) -> None:
    container = engine.containers.run_detached(image, ["sleep", "100"], restart_policy={"Name": policy})
    witness = engine.containers.run_detached(image, ["sleep", "100"], restart_policy={"Name": "always"})
    if end == "stop":
        container.stop(timeout=0)
    else:
        engine.data.records.update(container.record, restart_count=3)
        _end_as_a_reboot(engine, container)
    _end_as_a_reboot(engine, witness)
    with serving(engine.data_root, repository):
        eventually(lambda: witness.status == "running")  # the daemon has looked at all containers
        if comes_up == "comes up":
            eventually(lambda: container.status == "running")
    assert container.status == ("running" if comes_up == "comes up" else "exited")
    if comes_up == "comes up":
        assert container.record.restart_count == 0  # dockerd counts what the policy did, and not the machine's reboots


def _end_as_a_reboot(engine: Engine, container: Container) -> None:
    """Kill a container with its monitor, and remove its files in /run."""
    kill_container(engine, container)
    shutil.rmtree(engine.runtime.bundle(container.id))


def test_a_container_that_cannot_start_does_not_stop_the_daemon(
    engine: Engine, image: Image, repository: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    mount = {"Type": "bind", "Source": str(source), "Target": "/data"}
    container = engine.containers.run_detached(image, ["true"], restart_policy={"Name": "always"}, mounts=[mount])
    container.stop(timeout=0)
    source.rmdir()
    running = Daemon([sys.executable, "-m", "pylab_container", "--root", str(engine.data_root)], tmp_path, repository)
    try:
        assert running.api.get("/_ping").status == 200
        assert "source" in running.log.read_text()
    finally:
        running.stop()


# -- the socket ---------------------------------------------------------------------------------


@shared
def test_only_its_owner_and_group_may_use_the_socket(daemon: Daemon) -> None:
    status = daemon.socket.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o660, 0, 0)
    os.chmod(daemon.socket.parent, 0o755)
    with _unprivileged(), pytest.raises(PermissionError):
        daemon.api.connect()


@contextlib.contextmanager
def _unprivileged() -> Iterator[None]:
    """Run the block with the effective user and group 65534, without supplementary groups."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def test_another_group_may_use_the_socket(daemon: Daemon) -> None:
    daemon.stop()
    daemon.start("--group", "daemon")
    assert daemon.socket.stat().st_gid != 0


@shared
def test_a_second_daemon_on_the_same_socket_is_refused(daemon: Daemon, command: list[str], repository: Path) -> None:
    done = _run(command, "-H", f"unix://{daemon.socket}", repository=repository)
    assert done.returncode == 1
    assert "another process listens on" in done.stderr
    assert daemon.api.get("/_ping").status == 200


def test_the_socket_of_a_killed_daemon_is_taken_over(daemon: Daemon) -> None:
    daemon.process.kill()
    daemon.process.wait()
    assert daemon.socket.exists()
    daemon.start()
    assert daemon.api.get("/_ping").status == 200


@shared
@pytest.mark.parametrize("address", [
    "tcp://0.0.0.0:2375", "tcp://10.0.0.1:2375", "tcp://example.org:2375", "tcp://:2375", "tcp://127.0.0.1:99999",
    "http://127.0.0.1:2375", "unix://", "nonsense", "fd://", "tcp://[::1",
])  # fmt: skip
def test_an_invalid_address_or_one_that_others_could_reach_is_refused(
    command: list[str], repository: Path, address: str
) -> None:
    done = _run(command, "-H", address, repository=repository)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


@shared
def test_a_file_in_the_socket_s_place_is_left_alone(command: list[str], repository: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    done = _run(command, "-H", f"unix://{tmp_path}/precious", repository=repository)
    assert done.returncode == 1
    assert (tmp_path / "precious").read_text() == "data"


def test_it_serves_on_loopback_if_requested(
    engine: Engine, command: list[str], repository: Path, tmp_path: Path
) -> None:
    port = free_port()
    running = Daemon(command, tmp_path, repository)
    try:
        running.stop()
        running.start("-H", f"tcp://127.0.0.1:{port}")
        with socket.create_connection(("127.0.0.1", port)) as one:
            one.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            assert b"200 OK" in one.recv(1000)
    finally:
        running.stop()


PASSING = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execvp(sys.argv[2], sys.argv[2:])
"""


def test_sockets_that_systemd_passes_are_served_and_left_to_it(
    command: list[str], repository: Path, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        words = [sys.executable, "-c", PASSING, str(listening.fileno()), *command, "daemon", "-H", "fd://"]
        with subprocess.Popen(words, cwd=repository, pass_fds=[listening.fileno()], stderr=subprocess.DEVNULL) as one:
            try:
                assert Api(path).get("/_ping").status == 200
            finally:
                one.terminate()
        assert one.returncode == 0
    assert path.exists()


# -- answers about itself --------------------------------------------------------------


@shared
def test_versions_from_the_oldest_to_the_newest_are_answered_and_no_others(daemon: Daemon) -> None:
    for minor in range(12, 48):
        assert daemon.api.at(f"1.{minor}").get("/version").status == 200
    old, new = daemon.api.at("1.11").get("/version"), daemon.api.at("1.48").get("/version")
    assert (old.status, new.status) == (400, 400)
    assert old.headers["Content-Type"].startswith("text/plain")  # the form of errors before 1.24
    assert old.body.decode() == (
        f"client version 1.11 is too old. Minimum supported API version is {MINIMUM_VERSION}, "
        "please upgrade your client to a newer version\n"
    )
    assert new.message == f"client version 1.48 is too new. Maximum supported API version is {VERSION}"


@shared
def test_the_docker_command_shows_the_version_and_info(daemon: Daemon, engine: Engine) -> None:
    format = "{{.Server.APIVersion}} {{.Client.APIVersion}} {{.Client.DefaultAPIVersion}}"
    server, client, newest = daemon.docker("version", "--format", format).stdout.split()
    assert (server, client) == (VERSION, min(VERSION, newest))  # versions from 1.10 to 1.99 are ordered as texts
    shown = daemon.docker("info", "--format", "{{json .}}").stdout
    assert f'"DockerRootDir":"{engine.data_root}"' in shown
    assert "WARNING" not in daemon.docker("info").stderr


def test_a_data_root_has_one_id_for_ever(daemon: Daemon) -> None:
    before = daemon.api.get("/info").document["ID"]
    daemon.stop()
    daemon.start()
    assert daemon.api.get("/info").document["ID"] == before


@shared
def test_disk_usage_may_be_limited_to_a_type_since_1_42(daemon: Daemon, image: Image) -> None:
    everything = daemon.api.get("/system/df").document
    assert [one["Id"] for one in everything["Images"]] == [image.id]
    assert everything["LayersSize"] == image.size
    newer = daemon.api.at("1.42")
    assert newer.get("/system/df", type="volume").document == {"LayersSize": 0, "Volumes": []}
    assert newer.get("/system/df", type="nonsense").status == 400


@shared
def test_the_daemon_sees_changes_by_other_processes_at_once(daemon: Daemon, engine: Engine, image: Image) -> None:
    engine.images.tag(image, "other:2")
    names = [tag for one in daemon.api.get("/images/json").document for tag in one["RepoTags"]]
    assert names == ["busybox:1", "other:2"]


SWARM = [("GET", "/swarm"), ("GET", "/nodes"), ("GET", "/services"), ("GET", "/tasks"), ("GET", "/secrets/x")]


@shared
@pytest.mark.parametrize(("method", "path"), SWARM)
def test_swarm_requests_are_refused(daemon: Daemon, method: str, path: str) -> None:
    answer = daemon.api.request(method, path)
    assert (answer.status, answer.message.partition(".")[0]) == (503, "This node is not a swarm manager")


@shared
def test_no_plugin_is_listed(daemon: Daemon) -> None:
    assert daemon.api.get("/plugins").document == []
    assert daemon.api.get("/plugins/x/json").status == 404
