"""The network as clients and other processes see it."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import socket
import urllib.request
from collections.abc import Callable
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


def lookup(container: Container, name: str) -> list[str]:
    """Return the IPv4 addresses that nslookup prints in a container, in their order."""
    output = container.exec_run(["nslookup", "-type=a", name]).output.decode()
    return re.findall(r"^Address: (\S+)$", output, re.MULTILINE)
