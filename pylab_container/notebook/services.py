"""The other two parties of lab 00: a daemon and a registry, each a process of its own beside the notebook.

    daemon = Daemon(engine, directory)  labctr daemon, on the notebook's own data root
    with daemon.requests(): …           what clients asked it meanwhile
    registry = Registry(directory)      Debian's docker-registry, empty at first

Both end with stop(), and with the notebook's kernel, however that ends.
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

# Seconds that a service gets to start, and to note a request that it has answered. In a VM without hardware
# virtualisation the daemon needs 14 of them.
_PATIENCE = 60.0
_ADDRESS = "127.0.0.1"


class Service:
    """A program that lives as long as the notebook wants it, and no longer than its kernel."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        # The shell reads a pipe whose other end is ours: when the kernel ends, in whatever way, so does cat.
        script = f"{shlex.join(command)} & cat >/dev/null; kill $!; wait"
        with log.open("wb") as output:
            self._shell = programs.spawn(
                ["bash", "-c", script], stdin=programs.PIPE, stdout=output.fileno(), stderr=output.fileno()
            )

    def await_answer(self, answers: Any) -> None:
        """Return once answers() is true. Raises RuntimeFailed with the program's last words where it never is."""
        deadline = time.monotonic() + _PATIENCE
        while not answers():
            if time.monotonic() > deadline or _has_complained(self.log):
                self.stop()
                words = self.log.read_text(errors="replace").strip().splitlines()
                raise RuntimeFailed(f"the service did not start: {' '.join(words[-3:])}", hint="is it installed?")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, and wait for its end."""
        if self._shell.stdin:
            self._shell.stdin.close()
        self._shell.wait()


class Daemon:
    """`labctr daemon` on an engine's data root; $DOCKER_HOST leads every client of this notebook to it."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        """directory is where its logs go. Its socket is in /run, for the path of a socket must be short (unix(7))."""
        self.socket = engine.runtime.path / "docker.sock"
        self._requests = directory / "requests.log"
        self._requests.unlink(missing_ok=True)
        self.command = ["labctr", "--root", str(engine.data.path), "daemon", "--host", f"unix://{self.socket}"]
        program = [sys.executable, "-m", "pylab_container", *self.command[1:], "--request-log", str(self._requests)]
        self._service = Service(program, directory / "daemon.log")
        self._service.await_answer(lambda: _answers(socket.AF_UNIX, str(self.socket)))
        os.environ["DOCKER_HOST"] = f"unix://{self.socket}"

    @contextlib.contextmanager
    def requests(self) -> Iterator[None]:
        """Afterwards, show what the daemon was asked in the block, in the order of asking."""
        since = time.time_ns()
        yield
        deadline = time.monotonic() + _PATIENCE
        while True:
            lines = [line for line in self._lines() if line["began"] >= since]
            answered = {line["began"]: line for line in lines if "status" in line}
            # A client may have its answer, and be gone, before that is written down.
            if answered.keys() == {line["began"] for line in lines} or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        asked = [line for _, line in sorted(answered.items())]
        display(Table(("REQUEST", "STATUS"), tuple(_row(line) for line in asked)))

    def docker(self, arguments: str) -> None:
        """Run the real docker command and show what it printed and what it asked.

        If it is not installed, labctr does the same work on the same data root, so that the next cells find what
        they need, and the table shows what docker would have asked. Raises RuntimeFailed if labctr fails.
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
        """End the daemon. Its containers run on."""
        os.environ.pop("DOCKER_HOST", None)
        self._service.stop()

    def _lines(self) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            # The last line may be half written.
            return [json.loads(line) for line in self._requests.read_text().split("\n")[:-1]]
        return []

    def __repr__(self) -> str:
        return f"{portable(shlex.join(self.command))}"


class Registry:
    """Debian's docker-registry on a free port of the loopback device, with what it stores in a directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port(_ADDRESS)
        self.name = f"localhost:{self.port}"
        file = directory / "config.yml"
        file.write_text(configuration(directory / "storage", _ADDRESS, self.port))
        self._service = Service([programs.find(PROGRAM), "serve", str(file)], directory / "registry.log")
        self._service.await_answer(lambda: _answers(socket.AF_INET, (_ADDRESS, self.port)))

    def stop(self) -> None:
        """End the registry."""
        self._service.stop()

    def __repr__(self) -> str:
        return "docker-registry serve config.yml"


def _row(line: dict[str, Any]) -> tuple[str, str]:
    """Return one line of the table. Parameters without a value are left out: only some docker commands send them."""
    path, _, query = str(line["path"]).partition("?")
    parameters = "&".join(part for part in query.split("&") if not part.endswith("="))
    target = f"{path}?{parameters}" if parameters else path
    return in_one_line(portable(f"{line['method']} {unquote(target)}")), str(line["status"])


def _answers(family: int, address: Any) -> bool:
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0


def _has_complained(log: Path) -> bool:
    return b"Error: " in log.read_bytes()
