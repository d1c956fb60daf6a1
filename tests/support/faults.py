"""Fault injection for registries: a proxy in front of a real registry that replaces, cuts or delays its answers.

    with FaultyProxy("127.0.0.1:5000") as proxy:
        proxy.inject(truncated(1000), method="GET", path=r"/blobs/", times=1)
        engine.images.pull(f"{proxy.host}/name:1")

A fault gets the registry's answer and sends something else to the client. The proxy records every request.
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

_FORWARDED_HEADERS = frozenset(
    """content-type location range docker-content-digest docker-upload-uuid content-range link
    docker-distribution-api-version www-authenticate retry-after""".split()
)


@dataclass
class Answer:
    """An answer of the registry with its complete body."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Request:
    """A request to the proxy.

    time    of its arrival, from time.monotonic()
    status  of the registry's answer, before a fault changed it
    """

    method: str
    path: str
    headers: dict[str, str]
    time: float
    status: int = 0


Fault = Callable[["Handler", Answer], None]
"""Sends something to the client instead of the registry's answer."""


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
        """Apply a fault to the next answers to matching requests.

        path   regular expression, searched in the request's path
        times  number of answers
        """
        self._injected.append(_Injected(fault, method, re.compile(path), times))

    def fault(self, method: str, path: str) -> Fault | None:
        """Return the fault for a request, and count it as used; None if no fault matches."""
        with self._lock:
            for injected in self._injected:
                if injected.left and injected.method == method and injected.path.search(path):
                    injected.left -= 1
                    return injected.fault
        return None

    def requests_of(self, method: str, path: str) -> list[Request]:
        """Return the requests so far with this method and a path in which the regular expression is found."""
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
        """Print no traceback: in these tests clients and faults close connections early."""


class Handler(BaseHTTPRequestHandler):
    """Forward each request to the registry, and send its answer or the injected fault."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""

    def handle_request(self) -> None:
        proxy = self.server.proxy
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, time.monotonic())
        proxy.requests.append(request)
        answer = self._forward(request)
        request.status = answer.status
        fault = proxy.fault(self.command, self.path)
        (fault or unchanged)(self, answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request  # noqa: N815 (the library's names)

    def _forward(self, request: Request) -> Answer:
        body = b"".join(self._body())
        headers = {
            name: value for name, value in request.headers.items() if name not in ("transfer-encoding", "connection")
        }
        headers["content-length"] = str(len(body))
        connection = http.client.HTTPConnection(self.server.proxy.upstream)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            forwarded = {name: value for name, value in answer.getheaders() if name.lower() in _FORWARDED_HEADERS}
            if self.command == "HEAD":
                forwarded["Content-Length"] = answer.getheader("Content-Length") or "0"
            return Answer(answer.status, forwarded, answer.read())

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().strip(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def start(self, answer: Answer, length: int) -> None:
        """Send the status line and the headers of an answer.

        length  the Content-Length, unless the answer has one
        """
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", answer.headers.get("Content-Length", str(length)))
        self.end_headers()

    def hang_up(self, *, reset: bool) -> None:
        """Close the connection with a FIN, or with an RST (SO_LINGER 0 in socket(7))."""
        self.wfile.flush()
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        self.close_connection = True


def unchanged(handler: Handler, answer: Answer) -> None:
    """Send the registry's answer as it is."""
    handler.start(answer, len(answer.body))
    if handler.command != "HEAD":
        handler.wfile.write(answer.body)


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Send another answer. A _ in the name of a header stands for a hyphen."""

    def fault(handler: Handler, answer: Answer) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        unchanged(handler, Answer(code, named, body))

    return fault


def truncated(size: int) -> Fault:
    """Close the connection with a FIN after size bytes of the body."""
    return _cut(size, reset=False)


def reset(size: int) -> Fault:
    """Reset the connection after size bytes of the body."""
    return _cut(size, reset=True)


def _cut(size: int, *, reset: bool) -> Fault:
    def fault(handler: Handler, answer: Answer) -> None:
        handler.start(answer, len(answer.body))
        handler.wfile.write(answer.body[:size])
        handler.hang_up(reset=reset)

    return fault


def corrupted(handler: Handler, answer: Answer) -> None:
    """Invert the byte in the middle of the body."""
    body = bytearray(answer.body)
    body[len(body) // 2] ^= 0xFF
    unchanged(handler, Answer(answer.status, answer.headers, bytes(body)))


def replaced(body: bytes) -> Fault:
    """Send another body with the registry's status and headers."""

    def fault(handler: Handler, answer: Answer) -> None:
        unchanged(handler, Answer(answer.status, answer.headers, body))

    return fault


def longer(handler: Handler, answer: Answer) -> None:
    """Append bytes to the body, so that a blob is larger than its size in the manifest."""
    unchanged(handler, Answer(answer.status, answer.headers, answer.body + b"more"))


def stalled(size: int) -> Fault:
    """Send size bytes of the body, then nothing more, and keep the connection open until the proxy ends."""

    def fault(handler: Handler, answer: Answer) -> None:
        handler.start(answer, len(answer.body))
        handler.wfile.write(answer.body[:size])
        handler.wfile.flush()
        handler.server.proxy.ending.wait()
        handler.hang_up(reset=True)

    return fault


def range_ignored(handler: Handler, answer: Answer) -> None:
    """Answer a range request with 200 and the complete body, as a server without range support does."""
    connection = http.client.HTTPConnection(handler.server.proxy.upstream)
    with contextlib.closing(connection):
        connection.request("GET", handler.path)
        unchanged(handler, Answer(200, {}, connection.getresponse().read()))


def redirected(location: str) -> Fault:
    """Redirect with 307 to the same path below location."""

    def fault(handler: Handler, answer: Answer) -> None:
        unchanged(handler, Answer(307, {"Location": f"{location}{handler.path}"}, b""))

    return fault


class OddRegistry:
    """A server on loopback that answers with raw bytes of the test. Use as a context manager.

    answers   regular expression for a path → bytes to send, including the status line; the first match counts
    requests  the requested paths
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
            stream.write(next(data for pattern, data in self._answers.items() if re.search(pattern, path)))
            stream.flush()


def answer(body: bytes = b"", status: str = "200 OK", *headers: str) -> bytes:
    """Build the bytes of an HTTP answer for OddRegistry."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + body
