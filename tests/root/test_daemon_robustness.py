"""Malformed requests, and clients that are slow, many or vanish: the answers are clear, and the daemon leaks nothing.

All tests have one data root and one daemon, so that a test sees what an earlier one broke.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import select
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from tests.support.api import Answer, Api, Daemon, unread
from tests.support.waiting import PATIENCE, eventually, never_within


@pytest.fixture(scope="module")
def served(module_engine: Engine, module_daemon: Daemon, busybox_tar: Path) -> Daemon:
    """The daemon, with the image busybox:1 and a volume."""
    module_engine.images.import_(busybox_tar, "busybox:1")
    module_engine.volumes.create("data")
    return module_daemon


@pytest.fixture
def daemon(served: Daemon) -> Iterator[Daemon]:
    """The module's daemon. After the test it must answer, and have no more open files than before."""
    served.api.get("/images/json")
    files, _ = served.resources()
    yield served
    eventually(lambda: served.resources()[0] <= files)
    assert served.api.get("/_ping").status == 200


@pytest.fixture
def engine(served: Daemon, module_engine: Engine) -> Engine:
    """The engine on the same data root in this process."""
    return module_engine


def _is_clear(answer: Answer) -> bool:
    return 400 <= answer.status < 500 and bool(answer.message) and "Traceback" not in answer.message


# -- bodies -------------------------------------------------------------------------------------

DOCUMENTS = [
    b"{", b"nothing", b"[]", b'"text"', b"\xff\xfe", b'{"a":', b"5", b"[" * 100_000,
    b'{"a":' * 5000, b"\0" * 10, b'{"Name": NaN',
]  # fmt: skip


@pytest.mark.parametrize("path", ["/containers/create", "/volumes/create", "/networks/create", "/auth"])
@pytest.mark.parametrize("body", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_a_malformed_document_is_refused(daemon: Daemon, path: str, body: bytes) -> None:
    answer = daemon.api.request("POST", path, body, headers={"Content-Type": "application/json"})
    assert answer.status == 400
    assert answer.message


WRONG = [
    ("/volumes/create", {"Name": 5}),
    ("/volumes/create", {"Labels": ["a"]}),
    ("/volumes/create", {"Labels": {"a": 1}}),
    ("/volumes/create", {"DriverOpts": "x"}),
    ("/volumes/create", {"Name": "../../etc"}),
    ("/volumes/create", {"Name": "a\0b"}),
    ("/networks/create", {"Name": {}}),
    ("/networks/create", {"Name": ""}),
    ("/networks/create", {"Name": "x", "IPAM": []}),
    ("/networks/create", {"Name": "x", "IPAM": {"Config": ["x"]}}),
    ("/networks/create", {"Name": "x", "IPAM": {"Config": [{"Subnet": "nonsense"}]}}),
    ("/networks/create", {"Name": "x", "IPAM": {"Config": [{"Subnet": {"a": 1}}]}}),
    ("/networks/create", {"Name": "x", "Internal": "yes"}),
    ("/networks/create", {"Name": "x", "Options": {"com.docker.network.driver.mtu": "big"}}),
    ("/networks/bridge/connect", {"Container": ["x"]}),
    ("/networks/bridge/connect", {"Container": "x", "EndpointConfig": 4}),
    ("/auth", {"username": 1}),
    ("/containers/create", {"Image": 5}),
    ("/containers/create", {"Image": "busybox:1", "HostConfig": "x"}),
    ("/containers/create", {"Image": "busybox:1", "HostConfig": {"Memory": "x"}}),
    ("/containers/create", {"Image": "busybox:1", "Env": "x"}),
    ("/containers/create", {"Image": "busybox:1", "Cmd": {"a": 1}}),
]


@pytest.mark.parametrize(("path", "document"), WRONG, ids=range(len(WRONG)))
def test_a_document_with_a_value_of_the_wrong_type_is_refused(daemon: Daemon, path: str, document: object) -> None:
    assert _is_clear(daemon.api.post(path, document))


def test_a_body_with_another_content_type_is_refused(daemon: Daemon) -> None:
    answer = daemon.api.request("POST", "/volumes/create", b'{"Name": "v"}', headers={"Content-Type": "text/plain"})
    assert (answer.status, "Content-Type" in answer.message) == (400, True)


def test_a_document_without_end_is_refused_before_it_ends(daemon: Daemon) -> None:
    with daemon.api.connect() as one:
        one.sendall(
            b"POST /v1.41/volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        answer = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(10_000):
                one.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        with contextlib.suppress(ConnectionResetError):
            answer = one.recv(1000)
        assert b" 400 " in answer or answer == b""
    assert daemon.memory() < 200_000


@pytest.mark.parametrize("path", ["/images/load", "/images/create?fromSrc=-", "/build"])
@pytest.mark.parametrize("body", [b"no tar", b"\x1f\x8b" + b"\0" * 100, b"ustar" * 200, b"PK\3\4", b"a" * 5000])
def test_a_body_that_is_not_an_archive_is_refused(daemon: Daemon, path: str, body: bytes) -> None:
    path, _, query = path.partition("?")
    parameters = dict([query.split("=")]) if query else {}
    answer = daemon.api.request("POST", path, body, parameters=parameters)
    message = answer.document["message"] if answer.status != 200 else answer.lines[-1]["error"]
    assert answer.status < 500
    assert message


def test_an_archive_whose_names_lead_out_of_it_leaves_nothing_outside(daemon: Daemon, engine: Engine) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("../../../../escaped", "/escaped", "a/../../escaped"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
    answer = daemon.api.request("POST", "/build", archive.getvalue())
    assert _is_clear(answer)
    assert not list(engine.data_root.parent.rglob("escaped"))


# -- paths and parameters -----------------------------------------------------------------------

PATHS = [
    "/", "/nothing", "/v1.41", "/v1.41/", "/v1.41/nothing", "/vx/info", "/v1.41/v1.41/info", "/v1/info",
    "/v1.41/containers", "/v1.41/info/", "/V1.41/info",
    "/v9999999999999999999.1/info", "/v1.99.1/info", "/v./info", "/v1.41/containers/json/json/json",
    "/v1.41/volumes/../../../etc/passwd", "/v1.41/volumes/..%2f..%2fetc", "/v1.41/volumes/%00",
    "/v1.41/images/..%2f..%2f..%2fetc%2fpasswd/json", "/v1.41/images/%ff%fe/json", "/v1.41/images/a%0ab/json",
    "/v1.41/networks/..", "/v1.41/networks/%2e%2e%2f", "/v1.41/containers/..%2fx/json", "/v1.41/exec/../json",
    "/v1.41/containers/" + "x" * 5000 + "/json", "/v1.41/images/" + "x/" * 3000 + "json",
    "/v1.41/containers/%F0%9F%90%B3/json", "/v1.41/volumes/%25", "/v1.41/volumes/%zz",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_an_unknown_path_is_not_found(daemon: Daemon, path: str) -> None:
    answer = daemon.api.raw(f"GET {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".encode(), until_closed=True)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] in (b"400", b"404")
    assert body if b"text/plain" in head else json.loads(body)["message"]


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("//", "/"),
        ("/v1.41/containers//json?all=1", "/v1.41/containers/json?all=1"),
        ("//v1.41/./images///json", "/v1.41/images/json"),
        ("/v1.41/networks//", "/v1.41/networks/"),
        ("//elsewhere.example", "/elsewhere.example"),
    ],
)
def test_a_path_with_empty_parts_leads_to_the_one_without(daemon: Daemon, path: str, clean: str) -> None:
    answer = daemon.api.bare("GET", path, None, {})
    assert (answer.status, answer.headers["Location"]) == (301, clean)


@pytest.mark.parametrize(("method", "path"), [
    ("PUT", "/containers/json"), ("DELETE", "/info"), ("PATCH", "/images/json"), ("GET", "/build"),
    ("GET", "/containers/create"), ("TRACE", "/info"), ("POST", "/_ping"),
])  # fmt: skip
def test_a_method_that_a_path_does_not_have_is_not_found(daemon: Daemon, method: str, path: str) -> None:
    answer = daemon.api.request(method, path)
    assert (answer.status, answer.message) == (404, "page not found")


def test_options_of_any_path_are_empty(daemon: Daemon) -> None:
    answer = daemon.api.request("OPTIONS", "/nothing")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("filters", ["{", "[]", "garbage", "[" * 50_000], ids=range(4))
def test_filters_that_are_not_json_have_the_status_of_the_version(daemon: Daemon, filters: str) -> None:
    old, new = (daemon.api.at(version).get("/images/json", filters=filters) for version in ("1.41", "1.42"))
    assert (old.status, new.status) == (500, 400)
    assert new.message == old.message
    assert new.message


QUERIES = [
    ("/images/json", {"filters": '{"label": 5}'}),
    ("/images/json", {"filters": '{"label": [5]}'}),
    ("/images/json", {"filters": '{"nothing": ["x"]}'}),
    ("/images/json", {"filters": '{"before": ["nothing"]}'}),
    ("/volumes", {"filters": '{"nothing": ["x"]}'}),
    ("/volumes", {"filters": '{"dangling": ["perhaps"]}'}),
    ("/networks", {"filters": '{"nothing": ["x"]}'}),
    ("/networks", {"filters": '{"name": ["["]}'}),
    ("/containers/json", {"filters": '{"nothing": ["x"]}'}),
    ("/containers/json", {"limit": "x"}),
    ("/containers/json", {"filters": '{"name": ["("]}'}),
    ("/events", {"since": "yesterday"}),
    ("/events", {"until": "9" * 400}),
    ("/events", {"since": "5", "until": "1"}),
    ("/images/get", {}),
    ("/images/get", {"names": "nothing"}),
    ("/images/get", {"names": "../.."}),
]


@pytest.mark.parametrize(("path", "parameters"), QUERIES, ids=range(len(QUERIES)))
def test_an_invalid_parameter_is_refused(daemon: Daemon, path: str, parameters: dict[str, str]) -> None:
    assert _is_clear(daemon.api.get(path, **parameters))


BUILDS = [
    {"buildargs": "{"}, {"buildargs": "[]"}, {"buildargs": '{"a": 1}'}, {"labels": "5"}, {"cachefrom": "{}"},
    {"ulimits": "x"}, {"ulimits": '["x"]'}, {"memory": "lots"}, {"memory": "1"}, {"t": "UPPER"}, {"t": "../x"},
    {"platform": "foo/bar/baz/qux"}, {"dockerfile": "../../etc/passwd"}, {"dockerfile": "/etc/shadow"},
    {"target": "nothing"}, {"networkmode": "nothing"}, {"extrahosts": "nonsense"}, {"squash": "1"},
    {"remote": "nonsense"}, {"isolation": "hyperv"}, {"version": "2"},
    {"outputs": '[{"Type": "tar"}]'}, {"shmsize": "-5"},
]  # fmt: skip


@pytest.mark.parametrize("parameters", BUILDS, ids=range(len(BUILDS)))
def test_a_build_with_a_parameter_that_cannot_be_honoured_is_refused(
    daemon: Daemon, parameters: dict[str, str]
) -> None:
    context = _context("FROM busybox:1\nRUN true\n")
    answer = daemon.api.request("POST", "/build", context, parameters={**parameters, "nocache": 1})
    message = answer.message if answer.status != 200 else answer.lines[-1]["error"]
    assert answer.status < 500
    assert message


def _context(dockerfile: str) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        tar.addfile(entry, io.BytesIO(dockerfile.encode()))
    return archive.getvalue()


# -- bytes that are hardly HTTP --------------------------------------------------------------------

GARBAGE = [
    b"\n" * 100 + b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET\r\n\r\n",
    b"BREW /info HTTP/1.1\r\n\r\n",
    b"GET /info\r\n\r\n", b"GET /info HTTP/9.9\r\n\r\n", b"GET /info HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET /info HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"GET /info HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"POST /info HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /info HTTP/1.1\r\n" + b"A: " + b"x" * (2 << 20) + b"\r\n\r\n",
    b"GET /" + b"x" * (2 << 20) + b" HTTP/1.1\r\n\r\n",
    b"GET /info HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(5000)) + b"\r\n",
    b"GET /info HTTP/1.1\r\nA\0B: c\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_bytes_that_are_not_a_request_are_refused_or_cut_off(daemon: Daemon, data: bytes) -> None:
    with daemon.api.connect() as one:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := one.recv(1 << 16):
                received += piece
    assert received == b"" or received.split()[1] in (b"400", b"404", b"505")
    assert b"Traceback" not in received


def test_a_chunked_body_whose_chunks_are_wrong_is_refused(daemon: Daemon) -> None:
    received = daemon.api.raw(
        b"POST /v1.41/volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n{}\r\n0\r\n\r\n"
    )
    assert b" 400 " in received or received == b""


def test_long_parameters_and_headers_are_accepted(daemon: Daemon) -> None:
    arguments = json.dumps({f"A{n}": "x" * 100 for n in range(2000)})
    answer = daemon.api.request(
        "POST", "/build", _context("FROM busybox:1\nENV A=b\n"),
        parameters={"buildargs": arguments}, headers={"X-Registry-Config": "e30" * 20_000},
    )  # fmt: skip
    assert answer.status == 200
    assert "Successfully built" in answer.lines[-1]["stream"]


# -- clients that are slow, many, or vanish -----------------------------------------------------


def test_two_hundred_idle_and_half_sent_requests_do_not_block_others(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(200):
            one = stack.enter_context(daemon.api.connect())
            if number % 2:
                one.sendall(b"GET /v1.41/info HTTP/1.1\r\nHost: d\r\nX-Slow: ")
        for _ in range(20):
            assert daemon.api.get("/version").status == 200


def test_a_client_that_sends_single_bytes_is_answered_and_does_not_block_others(daemon: Daemon) -> None:
    body = json.dumps({"Name": "slow"}).encode()
    head = b"POST /v1.41/volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: "
    with daemon.api.connect() as one:
        for byte in head + str(len(body)).encode() + b"\r\n\r\n" + body:
            one.sendall(bytes([byte]))
            eventually(lambda: not unread(one))
            if byte == ord(":"):
                assert daemon.api.get("/_ping").status == 200
        assert b" 201 " in one.recv(1000)


@pytest.mark.parametrize("path", ["/images/load", "/images/create?fromSrc=-", "/build", "/volumes/create"])
def test_a_client_that_vanishes_in_the_middle_of_its_body_leaves_nothing(
    daemon: Daemon, engine: Engine, path: str
) -> None:
    before = sorted(one.id for one in engine.images.list(all=True))
    for _ in range(5):
        with daemon.api.connect() as one:
            one.sendall(
                f"POST /v1.41{path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
                "Content-Length: 1000000\r\n\r\n".encode()
                + _context("FROM busybox:1\n")[:700]
            )
            eventually(lambda: not unread(one))
    eventually(lambda: not list((engine.data_root / "tmp").glob("*")))
    assert sorted(one.id for one in engine.images.list(all=True)) == before


_ANSWERED = [
    # A request that follows, waits or works for long ends at once; the others are answered in full. So does dockerd.
    ("GET", "/version", b"", b"200", b'"ApiVersion"'),
    ("GET", "/images/json", b"", b"200", b"busybox:1"),
    ("POST", "/volumes/create", b'{"Name": "half"}', b"201", b'"half"'),
    ("POST", "/volumes/create", b'{"Name": "cut', b"400", b"unexpected EOF"),
    ("POST", "/containers/runs/restart?t=0", b"", b"204", b"\r\n\r\n"),
    ("GET", "/containers/runs/logs?stdout=1", b"", b"200", b"early\n\r\n0\r\n\r\n"),
    ("GET", "/containers/runs/logs?stdout=1&follow=1", b"", b"200", b"early\n\r\n0\r\n\r\n"),
    ("GET", "/containers/runs/export", b"", b"200", b"\0\r\n0\r\n\r\n"),
    ("GET", "/containers/runs/stats", b"", b"200", b"0\r\n\r\n"),
    ("POST", "/containers/runs/wait", b"", b"200", b"context canceled"),
    ("GET", "/events", b"", b"200", b"0\r\n\r\n"),
    ("GET", "/images/busybox:1/get", b"", b"200", b"\0\r\n0\r\n\r\n"),
    ("POST", "/commit?container=runs&repo=half", b"", b"201", b"sha256:"),
]


@pytest.fixture
def runs(served: Daemon) -> Iterator[None]:
    """Start a container named runs."""
    body = {"Image": "busybox:1", "Cmd": ["sh", "-c", "echo early; sleep 1000"]}
    assert served.api.post("/containers/create", body, name="runs").status == 201
    assert served.api.post("/containers/runs/start").status == 204
    eventually(lambda: served.api.get("/containers/runs/logs", stdout=1).body)
    yield
    assert served.api.delete("/containers/runs", force=1).status == 204


@pytest.mark.parametrize(("method", "path", "body", "status", "answer"), _ANSWERED)
def test_a_half_closed_client_is_answered_and_then_nothing_more_is_waited_for(
    daemon: Daemon, runs: None, method: str, path: str, body: bytes, status: bytes, answer: bytes
) -> None:
    length = 40 if answer == b"unexpected EOF" else len(body)
    head = f"{method} /v1.41{path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {length}"
    with daemon.api.connect() as one:
        one.sendall(f"{head}\r\n\r\n".encode() + body)
        one.shutdown(socket.SHUT_WR)
        received = b""
        while piece := one.recv(1 << 20):
            received += piece
    assert received.split(b" ")[1] == status
    assert answer in received


def test_all_pipelined_requests_of_a_half_closed_client_are_answered(daemon: Daemon) -> None:
    with daemon.api.connect() as one:
        one.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n" * 3)
        one.shutdown(socket.SHUT_WR)
        received = b""
        while piece := one.recv(1 << 20):
            received += piece
    assert received.count(b"HTTP/1.1 200 OK") == 3


def test_a_half_closed_client_that_vanishes_is_noticed_before_the_answer(daemon: Daemon, runs: None) -> None:
    eventually(lambda: daemon.connections() == 0)
    with daemon.api.connect() as one:
        one.sendall(b"POST /v1.41/containers/runs/stop?t=1000 HTTP/1.1\r\nHost: d\r\n\r\n")
        one.shutdown(socket.SHUT_WR)
        eventually(lambda: daemon.connections() == 1)
        # The half-closed connection must not count as closed.
        assert never_within(0.2, lambda: daemon.connections() != 1)
    eventually(lambda: daemon.connections() == 0)  # long before the thousand seconds are over


def test_clients_of_events_that_vanish_leave_no_thread_behind(daemon: Daemon) -> None:
    daemon.api.get("/images/json")
    files, threads = daemon.resources()
    for _ in range(6):
        for _ in range(10):
            with daemon.api.connect() as one:
                one.sendall(b"GET /v1.41/events HTTP/1.1\r\nHost: d\r\n\r\n")
                assert b"200 OK" in one.recv(1000)
        eventually(lambda: daemon.resources()[0] <= files)  # each holds the log of events open
    assert daemon.resources()[1] < threads + 40  # idle threads are used again; a leak would be 60


def test_a_client_that_reads_nothing_of_an_archive_does_not_block_others(daemon: Daemon) -> None:
    with daemon.api.connect() as one:
        one.sendall(b"GET /v1.41/images/busybox:1/get HTTP/1.1\r\nHost: d\r\n\r\n")
        assert select.select([one], [], [], PATIENCE)[0]
        assert daemon.api.get("/images/json").status == 200
        assert daemon.api.get("/_ping").status == 200


def test_a_build_ends_when_its_client_vanishes(daemon: Daemon, engine: Engine) -> None:
    body = _context("FROM busybox:1\nRUN echo begun && sleep 1000\nRUN touch /never\n")
    before = engine.containers.list(all=True)
    with daemon.api.connect() as one:
        one.sendall(b"POST /v1.41/build HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        received = b""
        while b"begun\\n" not in received:
            piece = one.recv(1000)
            assert piece, received
            received += piece
        assert engine.containers.list()
    eventually(lambda: engine.containers.list(all=True) == before)


def test_many_clients_at_once_are_all_answered(daemon: Daemon) -> None:
    def work(number: int) -> list[int]:
        api = Api(daemon.socket)
        return [
            api.post("/volumes/create", {"Name": f"v{number}"}).status,
            api.get(f"/volumes/v{number}").status,
            api.get("/images/busybox:1/json").status,
            api.delete(f"/volumes/v{number}").status,
            api.get(f"/volumes/v{number}").status,
        ]

    with concurrent.futures.ThreadPoolExecutor(30) as threads:
        assert list(threads.map(work, range(60))) == [[201, 200, 200, 204, 404]] * 60
