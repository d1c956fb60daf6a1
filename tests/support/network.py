"""Free ports, HTTP requests, interfaces, name lookups and router advertisements."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import socket
import struct
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pylab_container.engine.container import Container
from pylab_container.host import linux, programs
from tests.support.waiting import eventually

Result = TypeVar("Result")

_PORTS = itertools.count(random.randint(10_000, 25_000))


def free_port() -> int:
    """Return a port that is free now, a different one at each call.

    It is below ip_local_port_range, because the kernel may assign ports of that range to connections at any time.
    """
    while True:
        with contextlib.suppress(OSError), socket.create_server(("0.0.0.0", next(_PORTS))) as server:
            return int(server.getsockname()[1])


def fetch(address: str, *, timeout: float = 2) -> str:
    """Return the page at http://address/ without a retry. Raises OSError if no server answers."""
    with urllib.request.urlopen(f"http://{address}/", timeout=timeout) as answer:
        return str(answer.read().decode().strip())


def get(address: str) -> str:
    """Return the page at http://address/, and retry until a server answers."""
    return eventually(lambda: (fetch(address),), ignoring=(OSError,))[0]


def ip(*words: str) -> Any:
    """Return what `ip` prints as JSON, in this network namespace."""
    return json.loads(programs.run(["ip", "-json", "-details", *words]).output or "[]")


def ip_inside(pid: int, *words: str) -> Any:
    """Return what `ip` prints as JSON, in the network namespace of a process."""
    return json.loads(programs.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-json", *words]).output or "[]")


def inside(pid: int, work: Callable[[], Result]) -> Result:
    """Run work in the network namespace of a process. Sockets that it creates keep that namespace."""

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
        for end in opened:
            with contextlib.suppress(OSError):  # the peer has disconnected
                end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for end in opened:
            end.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy data from source to target until either is shut down."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def lookup(container: Container, name: str) -> list[str]:
    """Return the IPv4 addresses that nslookup prints in a container, in their order."""
    output = container.exec_run(["nslookup", "-type=a", name]).output.decode()
    return re.findall(r"^Address: (\S+)$", output, re.MULTILINE)


def advertise(pid: int, interface: str, prefix: str, *, lifetime: int = 1800) -> None:
    """Send a router advertisement (RFC 4861, 4.2) from the network namespace of a process, as fe80::bad.

    It offers a default route and addresses in prefix, a /64. The frame is complete, so that the interface needs no
    IPv6 address.
    """
    source, target = (socket.inet_pton(socket.AF_INET6, address) for address in ("fe80::bad", "ff02::1"))
    information = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 86400, 14400, 0, socket.inet_pton(socket.AF_INET6, prefix))
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0) + information
    pseudo = source + target + struct.pack("!II", len(message), socket.IPPROTO_ICMPV6)
    message = message[:2] + struct.pack("!H", _checksum(pseudo + message)) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), socket.IPPROTO_ICMPV6, 255) + source + target

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind((interface, 0))
            ethernet = bytes.fromhex("333300000001") + wire.getsockname()[4] + bytes.fromhex("86dd")
            wire.send(ethernet + header + message)

    inside(pid, send)


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def advertisements(interface: str) -> int:
    """Return the number of router advertisements that an interface has received, including rejected ones."""
    words = Path("/proc/net/dev_snmp6", interface).read_text().split()
    return int(words[words.index("Icmp6InType134") + 1]) if "Icmp6InType134" in words else 0
