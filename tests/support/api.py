"""Docker's API as a client meets it: requests over a unix socket, and a daemon of ours to send them to."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body, one JSON document."""
        return json.loads(self.body)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The body, a JSON document a line."""
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def message(self) -> str:
        """What an error says."""
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
    """Sends requests to a daemon. version: what stands before each path; "" nothing."""

    def __init__(self, path: Path, version: str = "1.41") -> None:
        self.path = path
        self.version = version

    def at(self, version: str) -> Api:
        """The same in another version."""
        return Api(self.path, version)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Answer:
        """body: bytes or a file as they are; anything else as JSON. Parameters that are lists are repeated."""
        sent, own = body, dict(headers or {})
        if body is not None and not isinstance(body, bytes) and not hasattr(body, "read"):
            sent = json.dumps(body).encode()
            own.setdefault("Content-Type", "application/json")
        connection = _Connection(self.path, timeout)
        with contextlib.closing(connection):
            connection.request(method, self.url(path, parameters), sent, own)  # type: ignore[arg-type]
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())

    def bare(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """A request whose target goes as it is: nothing is quoted, no version is put before it."""
        connection = _Connection(self.path, 60)
        with contextlib.closing(connection):
            connection.request(method, target, body, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())

    def url(self, path: str, parameters: Mapping[str, Any] | None = None) -> str:
        """A path with the version before and the parameters behind it."""
        query = urlencode({key: _parameter(value) for key, value in (parameters or {}).items()}, doseq=True)
        version = f"/v{self.version}" if self.version else ""
        return f"{version}{quote(path, safe='/%:@')}{'?' if query else ''}{query}"

    def get(self, path: str, **parameters: Any) -> Answer:
        return self.request("GET", path, parameters=parameters)

    def post(self, path: str, body: object = None, **parameters: Any) -> Answer:
        return self.request("POST", path, body, parameters=parameters)

    def delete(self, path: str, **parameters: Any) -> Answer:
        return self.request("DELETE", path, parameters=parameters)

    def connect(self, timeout: float = 60) -> socket.socket:
        """A bare connection, for what no library would send."""
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(timeout)
        try:
            one.connect(str(self.path))
        except BaseException:
            one.close()
            raise
        return one

    def raw(self, data: bytes, *, until_closed: bool = False) -> bytes:
        """Send bytes; what comes back at first, or until the other side closes."""
        with self.connect() as one:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                one.sendall(data)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := one.recv(1 << 16):
                    received += piece
                    if not until_closed:
                        break
            return received


def _parameter(value: Any) -> Any:
    """JSON for what HTTP has no form for; {"name": ["x"]} as in filters."""
    return json.dumps(value) if isinstance(value, dict) else value


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
        """Start it, and wait until it says that it serves."""
        with open(self.log, "ab") as log:
            before = self.log.stat().st_size
            self.process = subprocess.Popen(
                [*self._command, *options], cwd=self._repository, stderr=log, stdout=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + 60
        while b"serving on" not in self.log.read_bytes()[before:]:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def stop(self) -> int:
        """End it as systemd does; its exit status."""
        self.process.terminate()
        return self.process.wait(60)

    @property
    def environment(self) -> dict[str, str]:
        """For the docker command."""
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0"}

    def docker(
        self, *arguments: str, input: bytes | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """The docker command against it."""
        done = subprocess.run(
            ["docker", *arguments], input=input, capture_output=True, env=self.environment, timeout=120, check=False
        )
        text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
        assert not check or done.returncode == 0, text.stderr
        return text

    def resources(self) -> tuple[int, int]:
        """Files that it has open, and threads."""
        process = Path(f"/proc/{self.process.pid}")
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

    def memory(self) -> int:
        """Its resident memory, in kB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


@contextlib.contextmanager
def serving(data_root: Path, repository: Path) -> Iterator[Daemon]:
    """A daemon on a data root while the block runs. In the end it must have said nothing about itself but that."""
    directory = Path(tempfile.mkdtemp(prefix="labctr-api-"))  # short: a socket's path has 107 bytes
    daemon = Daemon([sys.executable, "-m", "pylab_container", "--root", str(data_root)], directory, repository)
    try:
        yield daemon
        assert daemon.process.poll() is not None or daemon.stop() == 0
        said = [line for line in daemon.log.read_text().splitlines() if "serving on" not in line]
        assert said == [], said
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        shutil.rmtree(directory)
