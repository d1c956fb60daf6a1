"""The network as clients and other processes see it."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pylab_container.engine.containers.container import Container
from pylab_container.host import linux, programs
from tests.support.waiting import eventually

Result = TypeVar("Result")

_PORTS = itertools.count(random.randint(10_000, 25_000))


def free_port() -> int:
    """Return a port that is free now, a different one at each call.

    It is below ip_local_port_range: the kernel gives ports of that range to connections at any time.
    """
    while True:
        with contextlib.suppress(OSError), socket.create_server(("0.0.0.0", next(_PORTS))) as server:
            return int(server.getsockname()[1])


def fetch(address: str, *, timeout: float = 2) -> str:
    """Return the page at http://address/ at the first try. Raises OSError where no server answers."""
    with urllib.request.urlopen(f"http://{address}/", timeout=timeout) as answer:
        return str(answer.read().decode().strip())


def get(address: str) -> str:
    """Return the page at http://address/, as soon as a server answers."""
    return eventually(lambda: (fetch(address),), ignoring=(OSError,))[0]


def ip(*words: str) -> Any:
    """Return what `ip` prints as JSON, in this network namespace."""
    return json.loads(programs.run(["ip", "-json", "-details", *words]).output or "[]")


def ip_inside(pid: int, *words: str) -> Any:
    """Return what `ip` prints as JSON, in the network namespace of a process."""
    return json.loads(programs.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-json", *words]).output or "[]")


def inside(pid: int, work: Callable[[], Result]) -> Result:
    """Run work in the network namespace of a process; a socket made there stays there."""

    def enter() -> Result:
        with open(f"/proc/{pid}/ns/net") as namespace:
            linux.setns(namespace.fileno(), linux.CLONE_NEWNET)
        return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(enter).result()


@contextlib.contextmanager
def forwarded(pid: int, port: int) -> Iterator[None]:
    """Forward a port on loopback in the network namespace of a process to the same port on loopback in ours."""
    listener = inside(pid, lambda: socket.create_server(("127.0.0.1", port)))
    opened: list[socket.socket] = [listener]
    threads: list[threading.Thread] = []

    def accept() -> None:
        with contextlib.suppress(OSError):  # the end of the block shuts the listener down
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                opened.extend((client, server))
                start(_copy, client, server)
                start(_copy, server, client)

    def start(work: Callable[..., None], *ends: socket.socket) -> None:
        threads.append(threading.Thread(target=work, args=ends))
        threads[-1].start()

    start(accept)
    try:
        yield
    finally:
        for one in opened:
            with contextlib.suppress(OSError):  # the peer has disconnected
                one.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for one in opened:
            one.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy what arrives at source to target until source or target is shut down."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def lookup(container: Container, name: str) -> list[str]:
    """Return the IPv4 addresses that nslookup prints in a container, in their order."""
    output = container.exec_run(["nslookup", "-type=a", name]).output.decode()
    return re.findall(r"^Address: (\S+)$", output, re.MULTILINE)
