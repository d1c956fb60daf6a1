"""A client of the Engine API over a unix socket, and a `labctr daemon` process that serves it."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tests.support.waiting import PATIENCE, eventually


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as one JSON document."""
        return json.loads(self.body)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The body as one JSON document per line."""
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def message(self) -> str:
        """The text of an error."""
        return str(self.document["message"])


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Api:
    """A client of one daemon.

    version  of the API, the prefix of each path; "" sends paths without a version
    """

    def __init__(self, path: Path, version: str = "1.41") -> None:
        self.path = path
        self.version = version

    def at(self, version: str) -> Api:
        """Return a client of the same daemon for another version of the API."""
        return Api(self.path, version)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = PATIENCE,
    ) -> Answer:
        """Send bytes or a file unchanged, any other body as JSON. A parameter that is a list is repeated."""
        payload, all_headers = body, dict(headers or {})
        if body is not None and not isinstance(body, bytes) and not hasattr(body, "read"):
            payload = json.dumps(body).encode()
            all_headers.setdefault("Content-Type", "application/json")
        connection = _Connection(self.path, timeout)
        with contextlib.closing(connection):
            connection.request(method, self.url(path, parameters), payload, all_headers)  # type: ignore[arg-type]
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())

    def bare(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Send a request with exactly this target: without quoting it, and without a version prefix."""
        connection = _Connection(self.path, PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, target, body, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())

    def url(self, path: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Return a path with its version and parameters."""
        query = urlencode({key: _parameter(value) for key, value in (parameters or {}).items()}, doseq=True)
        version = f"/v{self.version}" if self.version else ""
        return f"{version}{quote(path, safe='/%:@')}{'?' if query else ''}{query}"

    def get(self, path: str, **parameters: Any) -> Answer:
        return self.request("GET", path, parameters=parameters)

    def post(self, path: str, body: object = None, **parameters: Any) -> Answer:
        return self.request("POST", path, body, parameters=parameters)

    def delete(self, path: str, **parameters: Any) -> Answer:
        return self.request("DELETE", path, parameters=parameters)

    def connect(self, timeout: float = PATIENCE) -> socket.socket:
        """Return a connected socket, for requests that http.client would not send."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        try:
            connection.connect(str(self.path))
        except BaseException:
            connection.close()
            raise
        return connection

    def raw(self, data: bytes, *, until_closed: bool = False) -> bytes:
        """Send bytes and return the result of the first recv().

        until_closed  read until the daemon closes the connection instead
        """
        with self.connect() as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(1 << 16):
                    received += piece
                    if not until_closed:
                        break
            return received

    def chunks(self, request: bytes, *, limit: int | None = None) -> list[bytes]:
        """Send a request and return the chunks of the answer as the daemon framed them (RFC 9112, 7.1).

        limit  number of chunks after which to stop reading; None reads to the end of the answer
        """
        chunks: list[bytes] = []
        with self.connect() as connection, connection.makefile("rb") as answer:
            connection.sendall(request)
            while answer.readline().strip():
                pass  # status line and headers
            while (limit is None or len(chunks) < limit) and (size := int(answer.readline(), 16)):
                chunks.append(answer.read(size))
                assert answer.readline() == b"\r\n"
        return chunks


def messages(chunks: list[bytes]) -> list[Any]:
    """Return the chunks as documents. Fails unless each is one document on one line."""
    assert [chunk.count(b"\n") for chunk in chunks] == [1] * len(chunks), chunks
    return [json.loads(chunk) for chunk in chunks]


def _parameter(value: Any) -> Any:
    """Encode a parameter that is an object, such as filters, as JSON."""
    return json.dumps(value) if isinstance(value, dict) else value


def unread(connection: socket.socket) -> int:
    """Return how many sent bytes the other side of a unix socket has not read yet (SIOCOUTQ in unix(7))."""
    return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


class Daemon:
    """A `labctr daemon` process on a socket of its own."""

    def __init__(self, command: list[str], directory: Path, repository: Path) -> None:
        self.socket = directory / "socket"
        self.log = directory / "log"
        self.api = Api(self.socket)
        self._command = [*command, "daemon", "-H", f"unix://{self.socket}"]
        self._repository = repository
        self.start()

    def start(self, *options: str) -> None:
        """Start the process and wait until it logs that it accepts connections."""
        with open(self.log, "ab") as log:
            before = self.log.stat().st_size
            self.process = subprocess.Popen(
                [*self._command, *options], cwd=self._repository, stderr=log, stdout=log, stdin=subprocess.DEVNULL
            )

        def serves() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return b"serving on" in self.log.read_bytes()[before:]

        eventually(serves)

    def stop(self) -> int:
        """Send SIGTERM as systemd does, and return the exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def complaints(self) -> list[str]:
        """Return the lines of the log, except for the line that reports the socket."""
        return [line for line in self.log.read_text().splitlines() if "serving on" not in line]

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which the docker command uses this daemon, and the daemon's builder."""
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0"}

    def docker(
        self, *arguments: str, input: bytes | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run the docker command against this daemon.

        check  raise AssertionError with its standard error if it fails
        """
        done = subprocess.run(
            ["docker", *arguments], input=input, capture_output=True, env=self.environment, timeout=300, check=False
        )
        text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
        assert not check or done.returncode == 0, text.stderr
        return text

    def resources(self) -> tuple[int, int]:
        """Return the number of open file descriptors and of threads."""
        process = Path(f"/proc/{self.process.pid}")
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

    def connections(self) -> int:
        """Return the number of open connections to the socket: state SS_CONNECTED in /proc/net/unix."""
        lines = Path("/proc/net/unix").read_text().splitlines()
        return sum(line.endswith(f" {self.socket}") and line.split()[5] == "03" for line in lines)

    def memory(self) -> int:
        """Return the resident memory in kB (VmRSS in proc(5))."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


@contextlib.contextmanager
def serving(data_root: Path, repository: Path) -> Iterator[Daemon]:
    """Run a daemon on a data root for the block. Fails if the daemon logged a warning or an error."""
    directory = Path(tempfile.mkdtemp(prefix="labctr-api-"))  # short: sun_path holds 107 bytes (unix(7))
    daemon = Daemon([sys.executable, "-m", "pylab_container", "--root", str(data_root)], directory, repository)
    try:
        yield daemon
        assert daemon.process.poll() is not None or daemon.stop() == 0
        complaints = daemon.complaints()
        assert not complaints, "\n".join(complaints)  # pytest rewrites only the assertions of test modules
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        shutil.rmtree(directory)
