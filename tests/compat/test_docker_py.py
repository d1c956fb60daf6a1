"""docker-py, the library, drives our daemon as it drives Docker's."""

from __future__ import annotations

import contextlib
import gc
import io
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest
from docker import errors
from docker.utils.socket import consume_socket_output, demux_adaptor, frames_iter

from tests.support.sides import IMAGE, ours
from tests.support.waiting import PATIENCE, eventually, never_within

# The library leaves connections of streams to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Client = Any
Container = Any


@pytest.fixture(scope="module")
def socket(repository: Path) -> Iterator[Path]:
    with ours(repository) as daemon:
        yield daemon.socket


@pytest.fixture(scope="module")
def client(socket: Path, busybox_tar: Path) -> Iterator[Client]:
    client = docker.DockerClient(base_url=f"unix://{socket}", version="auto", timeout=120)
    with open(busybox_tar, "rb") as archive:
        client.api.import_image_from_data(archive.read(), repository="busybox", tag="1")
    yield client
    client.close()
    gc.collect()  # here its warnings are expected


@pytest.mark.parametrize(
    "version", ["1.24", "1.30", "1.35", "1.40", "1.41", "1.42", "1.43", "1.44", "1.45", "1.46", "1.47"]
)
def test_it_may_speak_every_version(version: str, client: Client, socket: Path) -> None:
    older = docker.DockerClient(base_url=f"unix://{socket}", version=version, timeout=120)
    container = older.containers.create(IMAGE, ["sh", "-c", "echo out; exec sleep 1000"], mem_limit="64m")
    container.start()
    assert container.exec_run(["echo", "in"]).output == b"in\n"
    eventually(lambda: bool(container.logs() == b"out\n"))
    container.stop(timeout=0)
    assert (container.wait()["StatusCode"], container.logs()) == (137, b"out\n")
    assert older.containers.list(all=True, filters={"id": container.id})[0].attrs["State"]["Status"] == "exited"
    container.remove()
    context = io.BytesIO(b"FROM busybox:1\nRUN echo built\nLABEL a=b\n")
    image, lines = older.images.build(fileobj=context, rm=True)
    assert image.labels == {"a": "b"}
    assert any("aux" in line for line in lines) is (version != "1.24")
    older.images.remove(image.id)
    older.close()


@pytest.fixture
def sleeper(client: Client) -> Iterator[Container]:
    container = client.containers.run(IMAGE, ["sleep", "1000"], detach=True)
    yield container
    container.remove(force=True)


def _tar(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def test_run_returns_the_output_and_removes(client: Client) -> None:
    assert client.containers.run(IMAGE, "echo hello world", remove=True) == b"hello world\n"
    assert client.containers.list(all=True) == []


def test_a_status_other_than_0_is_an_error_with_the_complaints(client: Client) -> None:
    with pytest.raises(errors.ContainerError) as raised:
        client.containers.run(IMAGE, ["sh", "-c", "echo oh >&2; exit 7"], remove=True)
    assert (raised.value.exit_status, raised.value.stderr) == (7, b"oh\n")


def test_a_container_that_there_is_not_is_the_librarys_own_error(client: Client) -> None:
    with pytest.raises(errors.NotFound):
        client.containers.get("nosuch")
    with pytest.raises(errors.ImageNotFound):
        client.api.create_container("nosuch:1", "true")


def test_a_name_that_is_taken_is_a_conflict(client: Client, sleeper: Container) -> None:
    with pytest.raises(errors.APIError) as raised:
        client.api.create_container(IMAGE, "true", name=sleeper.name)
    assert raised.value.status_code == 409


def test_the_life_of_a_container(client: Client, sleeper: Container) -> None:
    states = []
    for move in ("pause", "unpause", "restart", "kill", "start", "stop"):
        getattr(sleeper, move)(**({"timeout": 0} if move in ("restart", "stop") else {}))
        sleeper.wait() if move == "kill" else None
        sleeper.reload()
        states.append(sleeper.status)
    assert states == ["paused", "running", "running", "exited", "running", "exited"]
    assert sleeper.wait() == {"StatusCode": 137}


@contextlib.contextmanager
def _waiting(socket: Path, container: Container, condition: str) -> Iterator[Future[dict[str, int]]]:
    """Wait for a condition in a thread. The daemon has begun its answer before the block: it misses no exit."""
    client = docker.DockerClient(base_url=f"unix://{socket}", version="auto", timeout=120)
    waited_for, begun = client.containers.get(container.id), threading.Event()
    client.api.hooks["response"].append(lambda *_, **__: begun.set())  # called before the answer's body is read
    with contextlib.closing(client), ThreadPoolExecutor(1) as thread:
        status = thread.submit(waited_for.wait, condition=condition)
        assert begun.wait(PATIENCE)
        yield status


def test_what_is_waited_for_is_the_condition(client: Client, socket: Path) -> None:
    container = client.containers.create(IMAGE, ["sh", "-c", "exit 3"])
    with _waiting(socket, container, "next-exit") as status:
        assert never_within(0.3, status.done)
        container.start()
        assert status.result(PATIENCE) == {"StatusCode": 3}
    container.remove()


def test_waiting_for_the_removal_gives_the_last_status(client: Client, socket: Path) -> None:
    container = client.containers.create(IMAGE, ["sh", "-c", "exit 4"], auto_remove=True)
    with _waiting(socket, container, "removed") as status:
        container.start()
        assert status.result(PATIENCE) == {"StatusCode": 4}


def test_logs_are_whole_or_followed(client: Client) -> None:
    script = "for i in 1 2 3; do echo $i; sleep 0.1; done; printf end"
    container = client.containers.run(IMAGE, ["sh", "-c", script], detach=True)
    assert b"".join(container.logs(stream=True, follow=True)) == b"1\n2\n3\nend"
    assert container.logs(tail=1) == b"end"
    stamps = container.logs(timestamps=True).splitlines()
    assert [line.split(b" ")[1] for line in stamps] == [b"1", b"2", b"3", b"end"]
    assert container.logs(since=int(time.time()) + 100) == b""
    container.remove()


def test_attaching_before_the_start_misses_nothing(client: Client) -> None:
    container = client.api.create_container(IMAGE, ["sh", "-c", "echo out; echo err >&2"])
    stream = client.api.attach_socket(container, {"stdout": 1, "stderr": 1, "stream": 1})
    client.api.start(container)
    out, err = consume_socket_output((demux_adaptor(*frame) for frame in frames_iter(stream, tty=False)), demux=True)
    assert (out, err) == (b"out\n", b"err\n")
    stream.close()
    client.api.remove_container(container, force=True)


def test_what_is_written_to_an_attached_socket_is_the_input(client: Client) -> None:
    container = client.api.create_container(IMAGE, "cat", stdin_open=True)
    client.api.start(container)
    stream = client.api.attach_socket(container, {"stdin": 1, "stdout": 1, "stream": 1})
    stream._sock.sendall(b"hello\n")
    _, data = next(frames_iter(stream, tty=False))
    assert data == b"hello\n"
    stream.close()
    client.api.remove_container(container, force=True)


def test_exec_gives_output_status_and_the_streams_apart(sleeper: Container) -> None:
    done = sleeper.exec_run(["sh", "-c", "echo out; echo err >&2; exit 5"], demux=True)
    assert (done.exit_code, done.output) == (5, (b"out\n", b"err\n"))
    assert sleeper.exec_run("id -un", user="student").output == b"student\n"
    assert sleeper.exec_run("pwd", workdir="/tmp").output == b"/tmp\n"
    assert sleeper.exec_run(["sh", "-c", "echo $A"], environment={"A": "b"}).output == b"b\n"
    assert sleeper.exec_run("tty", tty=True).output.startswith(b"/dev/pts/")
    assert b"".join(sleeper.exec_run(["echo", "x"], stream=True).output) == b"x\n"


def test_files_go_in_and_out(sleeper: Container) -> None:
    assert sleeper.put_archive("/tmp", _tar("x", b"content"))
    pieces, status = sleeper.get_archive("/tmp/x")
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        member = archive.extractfile("x")
        assert member is not None
        assert member.read() == b"content"
    assert (status["name"], status["size"], status["linkTarget"]) == ("x", 7, "")
    with pytest.raises(errors.NotFound):
        sleeper.get_archive("/nosuch")


def test_what_has_changed_and_the_whole_file_system(sleeper: Container) -> None:
    sleeper.exec_run("touch /new")
    assert {"Path": "/new", "Kind": 1} in sleeper.diff()
    with tarfile.open(fileobj=io.BytesIO(b"".join(sleeper.export()))) as archive:
        assert "new" in archive.getnames()


def test_what_runs_and_what_it_uses(sleeper: Container) -> None:
    # For a moment after the start it is the runtime still, which has threads.
    eventually(lambda: any("sleep 1000" in row[-1] for row in sleeper.top()["Processes"]))
    used = sleeper.stats(stream=False)
    assert used["pids_stats"]["current"] == 1
    stream = sleeper.stats(decode=True)
    first, second = next(stream), next(stream)
    assert second["preread"] == first["read"]
    stream.close()


def test_limits_and_names_change(client: Client, sleeper: Container) -> None:
    sleeper.update(mem_limit="64m", memswap_limit="128m", cpu_shares=512)
    sleeper.rename("renamed-by-docker-py")
    sleeper.reload()
    host = sleeper.attrs["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["CpuShares"]) == (64 << 20, 128 << 20, 512)
    assert client.containers.get("renamed-by-docker-py").id == sleeper.id


def test_listing_by_filters(client: Client) -> None:
    one = client.containers.create(IMAGE, "true", labels={"kind": "x"})
    assert client.containers.list(filters={"label": "kind=x"}) == []
    assert [found.id for found in client.containers.list(all=True, filters={"label": "kind=x"})] == [one.id]
    with pytest.raises(errors.APIError):
        client.containers.list(filters={"nosuch": "x"})
    pruned = client.containers.prune(filters={"label": "kind=x"})
    assert pruned["ContainersDeleted"] == [one.id]


def test_aliases_and_links_are_looked_up(client: Client) -> None:
    api = client.api
    network = api.create_network("lookups")["Id"]
    own: list[dict[str, Any]] = [{"aliases": ["foo", "bar"]}, {"links": [("upstream", "sql")]}, {}]
    made = []
    for name, options in zip(["named", "linked", "upstream"], own, strict=True):
        endpoints = api.create_networking_config({"lookups": api.create_endpoint_config(**options)})
        made.append(api.create_container(IMAGE, ["sleep", "100"], name=name, networking_config=endpoints,
                                         host_config=api.create_host_config(network_mode="lookups")))  # fmt: skip
        api.start(made[-1])
    try:
        for container, name in (("named", "foo"), ("named", "bar"), ("linked", "sql")):
            command = api.exec_create(container, ["nslookup", name])
            told = api.exec_start(command)
            assert (api.exec_inspect(command)["ExitCode"], f"Name:\t{name}".encode() in told) == (0, True), told
    finally:
        for one in made:
            api.remove_container(one, force=True)
        api.remove_network(network)


@pytest.mark.parametrize("version", ["1.22", "1.24", "1.30", "1.41", "1.45", "1.47"])
def test_every_version_runs_a_container(socket: Path, client: Client, version: str) -> None:
    api = docker.APIClient.__new__(docker.APIClient)
    minimum, docker.api.client.MINIMUM_DOCKER_API_VERSION = docker.api.client.MINIMUM_DOCKER_API_VERSION, "1.20"
    try:
        api.__init__(base_url=f"unix://{socket}", version=version)
    finally:
        docker.api.client.MINIMUM_DOCKER_API_VERSION = minimum
    container = api.create_container(IMAGE, ["sh", "-c", "echo hi; exit 2"])
    api.start(container)
    assert api.wait(container)["StatusCode"] == 2
    assert api.logs(container) == b"hi\n"
    api.remove_container(container)
    api.close()
