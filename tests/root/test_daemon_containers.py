"""Containers over the API: hijacked connections, clients that are slow or vanish, waiting, and versions.

All tests use one daemon; each proves that it still answers and has logged no error.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.host import linux
from pylab_container.images.image import Image
from tests.support.api import Api, Daemon
from tests.support.waiting import PATIENCE, eventually, never_within

pytestmark = pytest.mark.shared_engine

Frame = tuple[int, bytes]


@pytest.fixture
def api(daemon: Daemon, image: Image) -> Api:
    """A client of the module's daemon, which has the image busybox:1."""
    return daemon.api


def make(api: Api, *command: str, name: str, host: Mapping[str, object] | None = None, **config: object) -> str:
    """Create a container, and return its id."""
    body = {"Image": "busybox:1", "Cmd": list(command), "HostConfig": dict(host or {}), **config}
    answer = api.post("/containers/create", body, name=name)
    assert answer.status == 201, answer.body
    return str(answer.document["Id"])


@contextlib.contextmanager
def hijacked(
    api: Api, path: str, body: bytes = b"", *, upgrade: bool = True, **parameters: object
) -> Iterator[socket.socket]:
    """Send a request that hijacks its connection, and read the headers of the answer."""
    head = f"POST {api.url(path, parameters)} HTTP/1.1\r\nHost: d\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n" + ("Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else "")
    with api.connect() as one:
        one.sendall(head.encode() + b"\r\n" + body)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            byte = one.recv(1)
            assert byte, answer
            answer += byte
        assert answer.startswith(b"HTTP/1.1 101 UPGRADED\r\n" if upgrade else b"HTTP/1.1 200 OK\r\n"), answer
        yield one


def read_all(one: socket.socket) -> bytes:
    received = b""
    while piece := one.recv(1 << 16):
        received += piece
    return received


def read_exactly(one: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        piece = one.recv(size - len(received))
        assert piece, f"it ended after {len(received)} bytes"
        received += piece
    return bytes(received)


def read_frame(one: socket.socket) -> Frame:
    """Read one frame of the multiplexed format."""
    stream, length = struct.unpack(">BxxxL", read_exactly(one, 8))
    return stream, read_exactly(one, length)


def frames(data: bytes) -> list[Frame]:
    """Split the multiplexed format into (stream, data)."""
    found = []
    while data:
        stream, length = struct.unpack(">BxxxL", data[:8])
        found.append((stream, data[8 : 8 + length]))
        data = data[8 + length :]
    return found


# -- attaching --------------------------------------------------------------------------------------


@pytest.mark.parametrize("upgrade", [True, False])
def test_a_client_that_attaches_before_the_start_gets_everything_and_then_the_end(api: Api, *, upgrade: bool) -> None:
    make(api, "sh", "-c", "echo out; echo err >&2", name="talks")
    with hijacked(api, "/containers/talks/attach", upgrade=upgrade, stream=1, stdout=1, stderr=1) as one:
        assert api.post("/containers/talks/start").status == 204
        assert sorted(frames(read_all(one))) == [(1, b"out\n"), (2, b"err\n")]


def test_output_does_not_come_in_one_piece_with_the_head(api: Api) -> None:
    """docker-py reads the head through a buffer, and loses output that arrives with it."""
    make(api, "echo", "hello", name="talks")
    api.post("/containers/talks/start")
    api.post("/containers/talks/wait")
    request = f"POST {api.url('/containers/talks/attach', {'logs': 1, 'stdout': 1})} HTTP/1.1\r\nHost: d\r\n\r\n"
    with api.connect() as one:
        one.sendall(request.encode())
        # The output is in the log already, and could follow the head at once.
        assert never_within(0.5, lambda: not one.recv(8192, socket.MSG_PEEK).endswith(b"\r\n\r\n"))
        assert one.recv(8192).endswith(b"\r\n\r\n")
        assert frames(read_all(one)) == [(1, b"hello\n")]


def test_all_clients_that_attach_before_the_start_get_everything(api: Api) -> None:
    make(api, "echo", "hello", name="talks")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(hijacked(api, "/containers/talks/attach", stream=1, stdout=1)) for _ in range(5)]
        api.post("/containers/talks/start")
        assert [frames(read_all(one)) for one in clients] == [[(1, b"hello\n")]] * 5


def test_an_attached_client_is_connected_when_another_process_starts_the_container(api: Api, engine: Engine) -> None:
    """The daemon polls for such a start, so the client misses the beginning."""
    make(api, "sh", "-c", "while echo late; do sleep 0.1; done", name="talks")
    with hijacked(api, "/containers/talks/attach", stream=1, stdout=1) as one:
        engine.containers.get("talks").start()
        assert read_frame(one) == (1, b"late\n")


def test_the_wait_for_a_start_ends_with_the_container(api: Api) -> None:
    make(api, "true", name="never")
    with hijacked(api, "/containers/never/attach", stream=1, stdout=1) as one:
        assert api.delete("/containers/never").status == 204
        assert read_all(one) == b""


def test_the_wait_for_a_start_ends_when_the_start_fails(api: Api) -> None:
    make(api, "nosuch", name="bad")
    with hijacked(api, "/containers/bad/attach", stream=1, stdout=1) as one:
        answer = api.post("/containers/bad/start")
        assert (answer.status, "executable file not found" in answer.message) == (400, True)
        assert read_all(one) == b""


def test_a_half_closed_connection_ends_the_input_and_the_output_goes_on(api: Api) -> None:
    make(api, "sh", "-c", "cat; sleep 0.1; echo end", name="echoes", OpenStdin=True, StdinOnce=True)
    with hijacked(api, "/containers/echoes/attach", stream=1, stdin=1, stdout=1) as one:
        one.sendall(b"before the start\n")
        api.post("/containers/echoes/start")
        one.sendall(b"after it\n")
        one.shutdown(socket.SHUT_WR)
        output = b"".join(data for _, data in frames(read_all(one)))
    assert output == b"before the start\nafter it\nend\n"


def test_the_log_comes_first_if_requested(api: Api) -> None:
    make(api, "sh", "-c", "echo early; read x; echo late", name="talks", OpenStdin=True)
    api.post("/containers/talks/start")
    eventually(lambda: b"early" in api.get("/containers/talks/logs", stdout=1).body)
    with hijacked(api, "/containers/talks/attach", logs=1, stream=1, stdin=1, stdout=1) as one:
        assert read_frame(one) == (1, b"early\n")
        one.sendall(b"go on\n")
        assert frames(read_all(one)) == [(1, b"late\n")]


def test_a_line_that_has_not_ended_is_not_in_the_log_yet(api: Api) -> None:
    made = make(api, "sh", "-c", "echo one; printf two; read x; echo; read x", name="asks", OpenStdin=True)
    api.post("/containers/asks/start")
    eventually(lambda: b"two" in api.get("/containers/asks/logs", stdout=1).body)
    assert frames(api.post("/containers/asks/attach", logs=1, stdout=1).body) == [(1, b"one\n")]
    with hijacked(api, "/containers/asks/attach", stream=1, stdin=1, stdout=1) as one:
        one.sendall(b"\n")
        assert read_frame(one) == (1, b"\n")
    eventually(lambda: frames(api.post(f"/containers/{made}/attach", logs=1, stdout=1).body)[1:] == [(1, b"two\n")])


def test_a_terminal_is_not_framed_and_the_detach_keys_end_only_the_connection(api: Api) -> None:
    make(api, "sh", name="typed", Tty=True, OpenStdin=True)
    with hijacked(api, "/containers/typed/attach", stream=1, stdin=1, stdout=1, detachKeys="ctrl-a,b") as one:
        api.post("/containers/typed/start")
        one.sendall(b"echo $((40+2))\n")
        output = b""
        while b"42" not in output:
            output += one.recv(4096)
        one.sendall(b"\x01")
        one.sendall(b"b")
        read_all(one)
    assert api.get("/containers/typed/json").document["State"]["Running"] is True


@pytest.mark.parametrize(("version", "content_type"), [("1.41", b"raw-stream"), ("1.42", b"multiplexed-stream")])
def test_since_1_42_the_content_type_names_the_format(api: Api, version: str, content_type: bytes) -> None:
    make(api, "sleep", "100", name="silent")
    api.post("/containers/silent/start")
    with api.connect() as one:
        one.sendall(f"POST /v{version}/containers/silent/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n".encode())
        assert content_type in one.recv(4096)


@pytest.mark.parametrize(("version", "kind"), [("1.41", 0x82), ("1.28", 0x82), ("1.27", 0x81)])
def test_a_websocket_carries_both_directions(api: Api, version: str, kind: int) -> None:
    make(api, "cat", name="echoes", OpenStdin=True)
    api.post("/containers/echoes/start")
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    path = api.at(version).url("/containers/echoes/attach/ws", {"stream": 1, "stdin": 1, "stdout": 1})
    with api.connect() as one:
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: d\r\n{upgrade}\r\n".encode())
        assert b"101" in one.recv(4096)
        masked = bytes(byte ^ 1 for byte in b"hello\n")
        one.sendall(bytes([0x82, 0x80 | 6, 1, 1, 1, 1]) + masked)  # RFC 6455, 5.2
        assert read_exactly(one, 8) == bytes([kind, 6]) + b"hello\n"


# -- several clients of one container ------------------------------------------------------------------


def test_all_attached_clients_receive_the_output_and_may_send_input(api: Api) -> None:
    make(api, "sh", "-c", "while read line; do echo $line; done", name="echoes", OpenStdin=True)
    api.post("/containers/echoes/start")
    with hijacked(api, "/containers/echoes/attach", stream=1, stdin=1, stdout=1) as first:
        first.sendall(b"alone\n")
        assert read_frame(first) == (1, b"alone\n")
        with hijacked(api, "/containers/echoes/attach", stream=1, stdin=1, stdout=1) as second:
            for one, text in ((second, b"of the second\n"), (first, b"of the first\n")):
                one.sendall(text)
                assert [read_frame(other) for other in (first, second)] == [(1, text)] * 2
            second.shutdown(socket.SHUT_WR)
        first.sendall(b"alone again\n")
        assert read_frame(first) == (1, b"alone again\n")


def test_stdin_once_ends_with_the_client_that_sent_input_and_not_with_one_that_only_reads(
    api: Api, daemon: Daemon
) -> None:
    make(api, "sh", "-c", "cat; echo end", name="echoes", OpenStdin=True, StdinOnce=True)
    api.post("/containers/echoes/start")
    with hijacked(api, "/containers/echoes/attach", stream=1, stdin=1, stdout=1) as giving:
        before, sent = daemon.connections(), b""
        with hijacked(api, "/containers/echoes/attach", stream=1, stdout=1) as reading:
            while not select.select([reading], [], [], 0.05)[0]:  # it receives what is printed once it is connected
                giving.sendall(b"one\n")
                sent += b"one\n"
        eventually(lambda: daemon.connections() <= before)  # the daemon has noticed that it closed
        giving.sendall(b"two\n")
        giving.shutdown(socket.SHUT_WR)
        assert b"".join(data for _, data in frames(read_all(giving))) == sent + b"two\nend\n"


def test_a_client_that_reads_nothing_lets_others_read_ahead_and_blocks_them_until_it_closes(
    api: Api, daemon: Daemon
) -> None:
    make(api, "sh", "-c", "head -c 8000000 /dev/zero; sleep 1000", name="floods")
    before = daemon.memory()
    with hijacked(api, "/containers/floods/attach", stream=1, stdout=1) as reading:
        with hijacked(api, "/containers/floods/attach", stream=1, stdout=1):
            api.post("/containers/floods/start")
            received = len(read_exactly(reading, 1_000_000))
            reading.settimeout(1)  # a slow machine can only make it receive less
            with contextlib.suppress(TimeoutError):
                while received < 3_000_000 and (piece := reading.recv(1 << 16)):
                    received += len(piece)
            assert received < 3_000_000  # a megabyte, and what is in buffers on the way
            assert daemon.memory() - before < 10_000
        reading.settimeout(PATIENCE)
        read_exactly(reading, 8_000_000 - received)


@pytest.mark.parametrize("command", ["while echo tick; do :; done", "sleep 1000"], ids=["busy", "silent"])
def test_many_clients_attach_and_vanish_and_the_container_runs_on(
    api: Api, engine: Engine, command: str, *, stress: bool
) -> None:
    make(api, "sh", "-c", command, name="runs", host={"LogConfig": {"Type": "none"}})
    api.post("/containers/runs/start")
    monitor = Path(f"/proc/{_parent(engine.containers.get('runs').pid)}/fd")
    before = len(list(monitor.iterdir()))
    for _ in range(15 if stress else 3):
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(hijacked(api, "/containers/runs/attach", stream=1, stdout=1))
    assert api.get("/containers/runs/json").document["State"]["Running"] is True
    eventually(lambda: len(list(monitor.iterdir())) <= before + 2)
    with hijacked(api, "/containers/runs/attach", stream=1, stdout=1) as one:
        api.post("/containers/runs/kill")
        read_all(one)
    assert api.get("/containers/runs/json").document["State"]["ExitCode"] == 137


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# -- slow clients, and those that vanish ---------------------------------------------------------------


def test_a_client_that_reads_nothing_blocks_only_its_own_container(api: Api, daemon: Daemon) -> None:
    make(api, "sh", "-c", "head -c 50000000 /dev/zero; echo done >&2; sleep 1000", name="floods")
    with hijacked(api, "/containers/floods/attach", stream=1, stdout=1) as one:
        api.post("/containers/floods/start")
        before = daemon.memory()
        make(api, "echo", "hello", name="other")
        assert api.post("/containers/other/start").status == 204
        assert api.post("/containers/other/wait").document["StatusCode"] == 0
        assert daemon.memory() - before < 20_000  # kB; the container would have printed 50 MB
        read_exactly(one, 50_000_000)


def test_input_that_is_not_read_stops_the_client_and_not_the_daemon(api: Api, daemon: Daemon) -> None:
    make(api, "sleep", "100", name="deaf", OpenStdin=True)
    api.post("/containers/deaf/start")
    with hijacked(api, "/containers/deaf/attach", stream=1, stdin=1, stdout=1) as one:
        one.settimeout(0)
        sent = 0
        # A slow machine can only make it send less.
        while sent < 50_000_000 and select.select([], [one], [], 1)[1]:
            with contextlib.suppress(BlockingIOError):
                sent += one.send(bytes(1 << 16))
        assert sent < 50_000_000
        assert daemon.memory() < 200_000
        assert api.get("/containers/json").status == 200


def test_clients_that_vanish_leave_no_descriptor_and_no_thread(api: Api, daemon: Daemon, *, stress: bool) -> None:
    make(api, "sleep", "1000", name="runs")
    make(api, "sleep", "1000", name="waits")
    api.post("/containers/runs/start")
    requests = [
        "POST {}/containers/runs/attach?stream=1&stdout=1&stdin=1",
        "POST {}/containers/waits/attach?stream=1&stdout=1",
        "POST {}/containers/runs/wait",
        "POST {}/containers/waits/wait?condition=next-exit",
        "GET {}/containers/runs/logs?stdout=1&follow=1",
        "GET {}/containers/runs/stats",
    ]

    def vanish() -> None:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(api.connect()) for _ in range(5 * len(requests))]
            for client, line in zip(clients, requests * 5, strict=True):
                client.sendall(line.format("/v1.41").encode() + b" HTTP/1.1\r\nHost: d\r\n\r\n")
            for client in clients:  # the answer of stats begins after a second
                assert b"200 OK" in client.recv(4096)

    connections, (descriptors, _) = daemon.connections(), daemon.resources()
    vanish()
    eventually(lambda: daemon.connections() <= connections)
    _, threads = daemon.resources()
    for _ in range(6 if stress else 3):
        vanish()
        # One connection to the container is kept for the next client; a leak would be five for each kind of request.
        eventually(lambda: daemon.resources()[0] < descriptors + 5)
    # Idle threads are used again, but not those that were still busy; a leak would be 30 in each round.
    assert daemon.resources()[1] <= threads + 60


def test_memory_stays_flat_over_many_requests(api: Api, daemon: Daemon, *, stress: bool) -> None:
    make(api, "true", name="made")

    def ask(count: int) -> None:
        for number in range(count):
            path = ("/containers/json?all=1", "/containers/made/json", "/containers/nosuch/json", "/_ping")[number % 4]
            api.request("GET", path.partition("?")[0], parameters={"all": 1})

    ask(500 if stress else 100)
    before = daemon.memory()
    ask(2000 if stress else 400)
    assert daemon.memory() - before < 3000  # kB


# -- exec ----------------------------------------------------------------------------------------------


def _exec(api: Api, *command: str, **options: object) -> str:
    answer = api.post("/containers/runs/exec", {"Cmd": list(command), "AttachStdout": True, **options})
    assert answer.status == 201, answer.body
    return str(answer.document["Id"])


def test_the_exit_code_is_there_as_soon_as_the_stream_ends(api: Api) -> None:
    make(api, "sleep", "1000", name="runs")
    api.post("/containers/runs/start")
    for number in range(10):
        execution = _exec(api, "sh", "-c", f"echo x; exit {number}")
        with hijacked(api, f"/exec/{execution}/start", b'{"Detach": false}') as one:
            assert frames(read_all(one)) == [(1, b"x\n")]
        document = api.get(f"/exec/{execution}/json").document
        assert (document["ExitCode"], document["Running"]) == (number, False)


def test_input_of_an_exec_ends_with_the_half_closed_connection(api: Api) -> None:
    make(api, "sleep", "1000", name="runs")
    api.post("/containers/runs/start")
    execution = _exec(api, "wc", "-c", AttachStdin=True)
    with hijacked(api, f"/exec/{execution}/start", b"{}") as one:

        def feed() -> None:
            one.sendall(bytes(1_000_000))
            one.shutdown(socket.SHUT_WR)

        feeding = threading.Thread(target=feed)
        feeding.start()
        assert frames(read_all(one)) == [(1, b"1000000\n")]
        feeding.join()


def test_a_missing_program_is_reported_in_the_stream(api: Api) -> None:
    make(api, "sleep", "1000", name="runs")
    api.post("/containers/runs/start")
    execution = _exec(api, "nosuch")
    with hijacked(api, f"/exec/{execution}/start", b"{}") as one:
        assert b"executable file not found in $PATH" in read_all(one)
    assert api.get(f"/exec/{execution}/json").document["ExitCode"] == 126
    detached = api.post(f"/exec/{_exec(api, 'nosuch')}/start", {"Detach": True})
    assert (detached.status, "executable file not found" in detached.message) == (400, True)


# -- waiting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("condition", "auto_remove"), [("next-exit", False), ("removed", True)])
def test_the_head_of_wait_comes_before_the_start_and_the_status_after_the_end(
    api: Api, condition: str, *, auto_remove: bool
) -> None:
    make(api, "sh", "-c", "exit 7", name="ends", host={"AutoRemove": auto_remove})
    with api.connect() as one:
        path = api.url("/containers/ends/wait", {"condition": condition})
        one.sendall(f"POST {path} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
        assert b"200 OK" in one.recv(4096)
        api.post("/containers/ends/start")
        assert _status(one) == 7


def test_waiting_sees_an_exit_that_another_process_records(api: Api, engine: Engine) -> None:
    make(api, "sleep", "1000", name="ends", host={"AutoRemove": True})
    api.post("/containers/ends/start")
    with api.connect() as one:
        path = api.url("/containers/ends/wait", {"condition": "removed"})
        one.sendall(f"POST {path} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
        assert b"200 OK" in one.recv(4096)
        engine.containers.get("ends").kill()
        assert _status(one) == 137


def _status(one: socket.socket) -> int:
    """Return the status in the answer to a wait: its only chunk (RFC 9112, 7.1), after the head."""
    answer = b""
    while not answer.endswith(b"\r\n0\r\n\r\n"):
        piece = one.recv(4096)
        assert piece, answer
        answer += piece
    return int(json.loads(answer.split(b"\r\n")[1])["StatusCode"])


def test_auto_remove_holds_when_the_start_fails(api: Api) -> None:
    make(api, "nosuch", name="bad", host={"AutoRemove": True})
    assert api.post("/containers/bad/start").status == 400
    assert api.get("/containers/bad/json").status == 404


# -- what a version knows ------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "kind"), [("1.43", "ro"), ("1.44", "rro")])
def test_since_1_44_a_bind_that_can_only_be_read_is_so_with_all_below(
    api: Api, engine: Engine, tmp_path: Path, version: str, kind: str
) -> None:
    container_id = make(api.at(version), "sleep", "100", name="reads", host={"Binds": [f"{tmp_path}:/bound:ro"]})
    assert api.at(version).post(f"/containers/{container_id}/start").status == 204
    config = json.loads((engine.runtime.path / container_id / "config.json").read_bytes())
    (options,) = [mount["options"] for mount in config["mounts"] if mount["destination"] == "/bound"]
    assert options == ["rbind", "rprivate", kind]


@pytest.mark.parametrize(("version", "annotations"), [("1.42", {}), ("1.43", {"of": "mine"})])
def test_annotations_are_for_the_runtime_since_1_43(
    api: Api, engine: Engine, version: str, annotations: dict[str, str]
) -> None:
    container_id = make(api.at(version), "sleep", "100", name="noted", host={"Annotations": {"of": "mine"}})
    api.post("/containers/noted/start")
    config = json.loads((engine.runtime.path / container_id / "config.json").read_text())
    assert config["annotations"] == annotations
    assert api.get("/containers/noted/json").document["HostConfig"].get("Annotations", {}) == annotations


@pytest.mark.parametrize(("version", "mode"), [("1.39", "shareable"), ("1.40", "private")])
def test_ipc_is_shareable_by_default_until_1_39(api: Api, version: str, mode: str) -> None:
    make(api.at(version), "true", name="ipc")
    assert api.get("/containers/ipc/json").document["HostConfig"]["IpcMode"] == mode


@pytest.mark.parametrize(("version", "seconds", "status"), [("1.41", 1, 137), ("1.42", 60, 7)])
def test_stop_heeds_a_signal_since_1_42(api: Api, version: str, seconds: int, status: int) -> None:
    make(api, "sh", "-c", "trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done", name="stopped")
    api.post("/containers/stopped/start")
    eventually(lambda: b"ready" in api.get("/containers/stopped/logs", stdout=1).body)
    assert api.at(version).post("/containers/stopped/stop", signal="USR1", t=seconds).status == 204
    assert api.get("/containers/stopped/json").document["State"]["ExitCode"] == status


def test_an_exec_has_the_console_size_of_its_creation_since_1_42(api: Api) -> None:
    make(api, "sleep", "100", name="sized")
    api.post("/containers/sized/start")
    for version, size in (("1.41", b"stty: standard input"), ("1.42", b"20 30")):  # the first is stty's error: 0 rows
        body = {"Cmd": ["stty", "size"], "Tty": True, "AttachStdout": True, "ConsoleSize": [20, 30]}
        made = api.at(version).post("/containers/sized/exec", body).document["Id"]
        with hijacked(api, f"/exec/{made}/start", b'{"Tty": true}') as one:
            assert read_all(one).strip() == size


@pytest.mark.parametrize(
    ("version", "binding", "written"),
    [
        ("1.43", {}, {"below/file"}),
        ("1.44", {}, set()),
        ("1.44", {"ReadOnlyNonRecursive": True}, {"below/file"}),
        ("1.44", {"ReadOnlyForceRecursive": True}, set()),
        ("1.44", {"NonRecursive": True}, set()),
    ],
    ids=str,
)
def test_mounts_below_a_read_only_source_are_writable_as_the_bind_requests(
    api: Api, tmp_path: Path, version: str, binding: dict[str, object], written: set[str]
) -> None:
    (tmp_path / "source" / "below").mkdir(parents=True)
    linux.mount("tmpfs", str(tmp_path / "source" / "below"), "tmpfs")
    try:
        mount = {"Type": "bind", "Source": str(tmp_path / "source"), "Target": "/x", "ReadOnly": True}
        host = {"Mounts": [{**mount, "BindOptions": binding}]}
        make(api.at(version), "touch", "/x/file", "/x/below/file", name="bound", host=host)
        api.post("/containers/bound/start")
        api.post("/containers/bound/wait")
        found = {str(path.relative_to(tmp_path / "source")) for path in tmp_path.rglob("file")}
        assert found == written
    finally:
        linux.umount(str(tmp_path / "source" / "below"))


def test_a_bind_creates_its_source_since_1_42_if_requested(api: Api, tmp_path: Path) -> None:
    mount = {"Type": "bind", "Source": str(tmp_path / "made"), "Target": "/x"}
    host = {"Mounts": [{**mount, "BindOptions": {"CreateMountpoint": True}}]}
    refused = api.at("1.41").post("/containers/create", {"Image": "busybox:1", "Cmd": ["true"], "HostConfig": host})
    assert "bind source path does not exist" in refused.message
    make(api.at("1.42"), "true", name="makes", host=host)
    assert (tmp_path / "made").is_dir()


def test_files_are_copied_with_post_until_1_23(api: Api) -> None:
    make(api, "true", name="copied")
    old = api.at("1.23").post("/containers/copied/copy", {"Resource": "/etc/passwd"})
    now = api.request("GET", "/containers/copied/archive", parameters={"path": "/etc/passwd"})
    assert (old.status, old.body) == (200, now.body)
    assert api.at("1.23").post("/containers/copied/copy", {"Resource": "/nosuch"}).status == 404
    assert api.at("1.24").post("/containers/copied/copy", {"Resource": "/etc/passwd"}).status == 404


def test_images_are_listed_until_a_time(api: Api) -> None:
    listed = [len(api.get("/images/json", filters={"until": [time]}).document) for time in ("0s", "24h", "2000-01-01")]
    assert listed == [1, 0, 0]
    assert api.get("/images/json", filters={"until": ["soon"]}).status == 400


def test_before_1_22_old_clients_are_answered_as_they_expect(api: Api) -> None:
    container_id = make(api, "sleep", "1000", name="old", host={"CpusetCpus": "0", "Binds": ["data:/data:ro"]})
    assert api.at("1.19").post("/containers/old/kill").status == 204
    assert api.at("1.20").post("/containers/old/kill").status == 409
    assert api.post("/containers/old/start").status == 204
    made = api.post("/containers/old/exec", {"Cmd": ["true"]}).document["Id"]
    text = {"Content-Type": "text/plain"}
    assert api.request("POST", f"/exec/{made}/start", b'{"Detach":true}', headers=text).status == 400
    assert api.at("1.21").request("POST", f"/exec/{made}/start", b'{"Detach":true}', headers=text).status == 200
    oldest, older, old = (api.at(f"1.{minor}").get("/containers/old/json").document for minor in (19, 20, 21))
    assert oldest["VolumesRW"] == {"/data": False}
    assert oldest["Volumes"]["/data"].endswith("data")
    assert (oldest["Config"]["Cpuset"], "Mounts" in oldest) == ("0", False)
    assert (older["Config"]["VolumeDriver"], "Cpuset" in older["Config"]) == ("", False)
    assert ("Volumes" in older, older["Mounts"][0]["Destination"]) == (False, "/data")
    assert ("Networks" in older["NetworkSettings"], "bridge" in old["NetworkSettings"]["Networks"]) == (False, True)
    before, since = (api.at(f"1.{minor}").get(f"/containers/{container_id}/stats", stream=0) for minor in (20, 21))
    assert ("networks" in before.document, before.document["network"]["rx_errors"]) == (False, 0)
    assert ("network" in since.document, since.document["networks"]["eth0"]["rx_errors"]) == (False, 0)


def test_until_1_23_a_start_may_bring_another_host_config(api: Api, engine: Engine, tmp_path: Path) -> None:
    old = api.at("1.23")
    make(api, "sleep", "1000", name="old", host={"Binds": ["kept:/kept", "lost:/data"], "Memory": 64 << 20})
    lender = make(api, "sleep", "1000", name="lender", host={"Binds": ["lent:/lent"]})
    engine.networks.create("net")
    refused = old.post("/containers/old/start", {"Binds": ["a:/twice", "b:/twice"]})
    assert (refused.status, "Duplicate mount point: /twice" in refused.body.decode()) == (400, True)
    assert old.post("/containers/old/start", {"Memory": 1 << 19}).status == 400
    host = {"Binds": [f"{tmp_path}:/data"], "VolumesFrom": [lender], "NetworkMode": "net"}
    assert old.post("/containers/old/start", {"HostConfig": host}).status == 204
    assert old.post("/containers/old/start", {"HostConfig": host}).status == 304
    shown = api.get("/containers/old/json").document
    mounts = {mount["Destination"]: mount["Source"] for mount in shown["Mounts"]}
    assert mounts["/data"] == str(tmp_path)
    assert mounts["/kept"].endswith("kept/_data")
    assert mounts["/lent"].endswith("lent/_data")
    assert list(shown["NetworkSettings"]["Networks"]) == ["net"]
    assert shown["HostConfig"]["Memory"] == 0
    own = api.get("/containers/lender/json").document["HostConfig"]
    others: dict[str, list[str]] = {"DnsOptions": [], "DnsSearch": []}
    assert old.post("/containers/lender/start", {"HostConfig": own}).status == 204
    assert api.get("/containers/lender/json").document["HostConfig"] == {**own, "Dns": [], **others}
