"""A registry's bad days: a proxy before a real registry, which does to answers what networks and servers do.

    with FaultyProxy("127.0.0.1:5000") as proxy:
        proxy.inject(truncated(1000), method="GET", path=r"/blobs/", times=1)
        engine.images.pull(f"{proxy.host}/name:1")

A fault gets the real answer, and decides what is sent in its place. The proxy notes every request.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

_PASSED_ON = frozenset(
    """content-type location range docker-content-digest docker-upload-uuid content-range link
    docker-distribution-api-version www-authenticate retry-after""".split()
)


@dataclass
class Answer:
    """What the registry answers: status, headers, and the body as a whole."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Request:
    """What a client requested of the proxy, and the status of the answer."""

    method: str
    path: str
    headers: dict[str, str]
    time: float
    status: int = 0


Fault = Callable[["Handler", Answer], None]
"""Sends something to the client in the place of an answer."""


@dataclass
class _Injected:
    fault: Fault
    method: str
    path: re.Pattern[str]
    left: int


@dataclass
class FaultyProxy:
    """A proxy on loopback in front of a registry at upstream ("host:port"). Use as a context manager."""

    upstream: str
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._injected: list[_Injected] = []
        self._lock = threading.Lock()
        self.ending = threading.Event()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.proxy = self
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def inject(self, fault: Fault, *, method: str = "GET", path: str = "", times: int = 1) -> None:
        """Let the next so many answers to requests of this kind (path: a pattern that is searched) go wrong."""
        self._injected.append(_Injected(fault, method, re.compile(path), times))

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault whose turn it is."""
        with self._lock:
            for injected in self._injected:
                if injected.left and injected.method == method and injected.path.search(path):
                    injected.left -= 1
                    return injected.fault
        return None

    def asked(self, method: str, path: str) -> list[Request]:
        """The requests of this kind so far."""
        return [request for request in self.requests if request.method == method and re.search(path, request.path)]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100
    block_on_close = False
    proxy: FaultyProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    """Passes one request on."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""

    def handle_one(self) -> None:
        proxy = self.server.proxy
        noted = Request(
            self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, time.monotonic()
        )
        proxy.requests.append(noted)
        answer = self._ask(noted)
        noted.status = answer.status
        fault = proxy.fault(self.command, self.path)
        (fault or passed_on)(self, answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one  # noqa: N815 (the library's names)

    def _ask(self, request: Request) -> Answer:
        body = b"".join(self._body())
        headers = {
            name: value for name, value in request.headers.items() if name not in ("transfer-encoding", "connection")
        }
        headers["content-length"] = str(len(body))
        connection = http.client.HTTPConnection(self.server.proxy.upstream)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            found = {name: value for name, value in answer.getheaders() if name.lower() in _PASSED_ON}
            if self.command == "HEAD":
                found["Content-Length"] = answer.getheader("Content-Length") or "0"
            return Answer(answer.status, found, answer.read())

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().strip(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def start(self, answer: Answer, length: int) -> None:
        """Send the beginning of an answer."""
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", answer.headers.get("Content-Length", str(length)))
        self.end_headers()

    def hang_up(self, *, reset: bool) -> None:
        """End the connection: in order, or with a reset (SO_LINGER 0)."""
        self.wfile.flush()
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        self.close_connection = True


def passed_on(handler: Handler, answer: Answer) -> None:
    """No fault."""
    handler.start(answer, len(answer.body))
    if handler.command != "HEAD":
        handler.wfile.write(answer.body)


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Another answer altogether; headers with _ for -."""

    def fault(handler: Handler, answer: Answer) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        passed_on(handler, Answer(code, named, body))

    return fault


def truncated(size: int) -> Fault:
    """The connection ends in order after so many bytes of the body."""
    return _cut(size, reset=False)


def reset(size: int) -> Fault:
    """The connection is reset after so many bytes of the body."""
    return _cut(size, reset=True)


def _cut(size: int, *, reset: bool) -> Fault:
    def fault(handler: Handler, answer: Answer) -> None:
        handler.start(answer, len(answer.body))
        handler.wfile.write(answer.body[:size])
        handler.hang_up(reset=reset)

    return fault


def corrupted(handler: Handler, answer: Answer) -> None:
    """One byte in the middle is another."""
    middle = len(answer.body) // 2
    passed_on(
        handler,
        Answer(
            answer.status,
            answer.headers,
            answer.body[:middle] + bytes([answer.body[middle] ^ 0xFF]) + answer.body[middle + 1 :],
        ),
    )


def replaced(body: bytes) -> Fault:
    """Another body, with the headers as they were."""

    def fault(handler: Handler, answer: Answer) -> None:
        passed_on(handler, Answer(answer.status, answer.headers, body))

    return fault


def longer(handler: Handler, answer: Answer) -> None:
    """More bytes than the manifest says."""
    passed_on(handler, Answer(answer.status, answer.headers, answer.body + b"more"))


def stalled(size: int) -> Fault:
    """After so many bytes nothing comes, and the connection stays open."""

    def fault(handler: Handler, answer: Answer) -> None:
        handler.start(answer, len(answer.body))
        handler.wfile.write(answer.body[:size])
        handler.wfile.flush()
        handler.server.proxy.ending.wait()
        handler.hang_up(reset=True)

    return fault


def whole(handler: Handler, answer: Answer) -> None:
    """A server that does not know ranges: it asks again without one, and sends all of it."""
    connection = http.client.HTTPConnection(handler.server.proxy.upstream)
    with contextlib.closing(connection):
        connection.request("GET", handler.path)
        found = connection.getresponse()
        passed_on(handler, Answer(200, {}, found.read()))


def redirected(location: str) -> Fault:
    """Elsewhere: the path stays what it is."""

    def fault(handler: Handler, answer: Answer) -> None:
        passed_on(handler, Answer(307, {"Location": f"{location}{handler.path}"}, b""))

    return fault


class OddRegistry:
    """A server on loopback that answers each request with bytes of the test's own. Use as a context manager.

    answers   pattern of a path → what is sent for it, the status line included; the first that fits is taken
    requests  the paths that clients requested
    """

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.requests: list[str] = []
        self._answers = answers
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # __exit__() shuts the listener down
            while True:
                connection, _ = self._server.accept()
                with connection, connection.makefile("rwb") as stream:
                    self._answer(stream)

    def _answer(self, stream: io.BufferedRWPair) -> None:
        line = stream.readline().decode()
        while stream.readline().strip():
            pass
        path = line.split()[1] if line.split() else ""
        self.requests.append(path)
        with contextlib.suppress(OSError):
            stream.write(next(one for pattern, one in self._answers.items() if re.search(pattern, path)))
            stream.flush()


def answer(body: bytes = b"", status: str = "200 OK", *headers: str) -> bytes:
    """An answer for OddRegistry."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + body
