"""The services of lab 00: a daemon and a registry, each in its own process beside the notebook.

    daemon = Daemon(engine, directory)  labctr daemon, on the notebook's own data root
    with daemon.requests(): …           show the requests of its clients in the block
    registry = Registry(directory)      Debian's docker-registry, empty at first

Both end with stop(), and with the notebook's kernel, also if that is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pylab_container.engine import Engine
from pylab_container.errors import RuntimeFailed
from pylab_container.host import programs
from pylab_container.host.extras import extra
from pylab_container.notebook import docker_requests
from pylab_container.notebook.display import Table, in_one_line, portable
from pylab_container.registry.server import PROGRAM, configuration, free_port

with extra("labs"):
    from IPython.display import display

# Seconds to wait for the start of a service, and for the log of an answered request. In a VM without hardware
# virtualization the daemon starts in 14 s.
SERVICE_TIMEOUT = 60.0
_ADDRESS = "127.0.0.1"


class Service:
    """A program that runs until stop() or until the notebook's kernel ends."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        # cat reads a pipe from the kernel. It gets end of file when the kernel ends, even by SIGKILL.
        script = f"{shlex.join(command)} & cat >/dev/null; kill $!; wait"
        with log.open("wb") as output:
            self._shell = programs.spawn(
                ["bash", "-c", script], stdin=programs.PIPE, stdout=output.fileno(), stderr=output.fileno()
            )

    def await_answer(self, answers: Any) -> None:
        """Wait until answers() is true.

        Raises RuntimeFailed with the end of the program's log if it does not start.
        """
        deadline = time.monotonic() + SERVICE_TIMEOUT
        while not answers():
            if time.monotonic() > deadline or _has_error(self.log):
                self.stop()
                words = self.log.read_text(errors="replace").strip().splitlines()
                raise RuntimeFailed(f"the service did not start: {' '.join(words[-3:])}", hint="is it installed?")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the program and wait for its exit."""
        if self._shell.stdin:
            self._shell.stdin.close()
        self._shell.wait()


_DAEMONS: dict[Path, Daemon] = {}
"""The daemons that this kernel runs, by their sockets."""


class Daemon:
    """`labctr daemon` on an engine's data root.

    $DOCKER_HOST names it for the clients in this notebook.
    """

    def __init__(self, engine: Engine, directory: Path) -> None:
        """directory: for its logs.

        The socket is in /run because its path is limited to 107 bytes (unix(7)).
        """
        self.socket = engine.runtime.path / "docker.sock"
        # A cell that is run twice would leave the first daemon on the socket, which writes to a deleted log.
        if (before := _DAEMONS.get(self.socket)) is not None:
            before.stop()
        self._requests = directory / "requests.log"
        self._requests.unlink(missing_ok=True)
        self.command = ["labctr", "--root", str(engine.data.path), "daemon", "--host", f"unix://{self.socket}"]
        program = [sys.executable, "-m", "pylab_container", *self.command[1:], "--request-log", str(self._requests)]
        self._service = Service(program, directory / "daemon.log")
        self._service.await_answer(lambda: _answers(socket.AF_UNIX, str(self.socket)))
        os.environ["DOCKER_HOST"] = f"unix://{self.socket}"
        _DAEMONS[self.socket] = self

    @contextlib.contextmanager
    def requests(self) -> Iterator[None]:
        """After the block, show the requests that the daemon received in it, in order."""
        since = time.time_ns()
        yield
        deadline = time.monotonic() + SERVICE_TIMEOUT
        while True:
            lines = [line for line in self._lines() if line["began"] >= since]
            answered = {line["began"]: line for line in lines if "status" in line}
            # A client may have its answer before the daemon logs it.
            if answered.keys() == {line["began"] for line in lines} or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        requests = [line for _, line in sorted(answered.items())]
        display(Table(("REQUEST", "STATUS"), tuple(_row(line) for line in requests)))

    def docker(self, arguments: str) -> None:
        """Run docker and show its output and its requests.

        If docker is not installed, labctr does the same work on the same data root, so that the next cells work. Then
        the table shows the requests that docker would send. Raises RuntimeFailed if labctr fails.
        """
        sys.stdout.write(f"$ docker {arguments}\n")
        words = shlex.split(os.path.expandvars(arguments))
        if shutil.which("docker") is None:
            self._labctr(words)
            return
        with self.requests():
            done = programs.run(["docker", *words], check=False)
            sys.stdout.write(portable(done.errors + done.output))

    def _labctr(self, words: list[str]) -> None:
        sys.stdout.write("docker is not installed here (apt-get install docker-cli; on Debian 12: docker.io).\n")
        sys.stdout.write("labctr does the same, without the daemon:\n")
        done = programs.run([sys.executable, "-m", "pylab_container", *words])
        sys.stdout.write(portable(done.errors + done.output))
        requests = docker_requests.expected(words, image_missing="Unable to find image" in done.errors)
        if requests is not None:
            sys.stdout.write("docker would have asked the daemon:\n")
            display(Table(("REQUEST", "STATUS"), requests))

    def stop(self) -> None:
        """Stop the daemon. Its containers continue to run. Idempotent."""
        if _DAEMONS.get(self.socket) is self:  # else a newer one has the socket and the variable
            del _DAEMONS[self.socket]
            os.environ.pop("DOCKER_HOST", None)
        self._service.stop()

    def _lines(self) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            # The last line may be incomplete.
            return [json.loads(line) for line in self._requests.read_text().split("\n")[:-1]]
        return []

    def __repr__(self) -> str:
        return f"{portable(shlex.join(self.command))}"


class Registry:
    """Debian's docker-registry on a free port of the loopback interface.

    Its storage is in directory.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port(_ADDRESS)
        self.name = f"localhost:{self.port}"
        file = directory / "config.yml"
        file.write_text(configuration(directory / "storage", _ADDRESS, self.port))
        self._service = Service([programs.find(PROGRAM), "serve", str(file)], directory / "registry.log")
        self._service.await_answer(lambda: _answers(socket.AF_INET, (_ADDRESS, self.port)))

    def stop(self) -> None:
        """Stop the registry."""
        self._service.stop()

    def __repr__(self) -> str:
        return "docker-registry serve config.yml"


def _row(line: dict[str, Any]) -> tuple[str, str]:
    """Return one line of the table.

    Parameters without a value are left out: only some docker commands send them.
    """
    path, _, query = str(line["path"]).partition("?")
    parameters = "&".join(part for part in query.split("&") if not part.endswith("="))
    target = f"{path}?{parameters}" if parameters else path
    return in_one_line(portable(f"{line['method']} {unquote(target)}")), str(line["status"])


def _answers(family: int, address: Any) -> bool:
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0


def _has_error(log: Path) -> bool:
    return b"Error: " in log.read_bytes()
