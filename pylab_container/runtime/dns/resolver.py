"""The resolver: answers what containers ask 127.0.0.11, from a process outside of them.

A socket belongs to the network namespace that it was made in (network_namespaces(7)), whoever reads it. So this process
goes into each container's for a moment, opens its sockets there on ports that nobody needs, and has nft lead port 53 of
127.0.0.11 to them: a container may have a name server of its own. What it does not know it asks the
container's servers, by sockets in the container's namespace again, except for servers on the host's loopback.

A socket also keeps its namespace, and with it the container's addresses: the end of the first process closes
all of them. `python -m pylab_container.runtime.dns.resolver DIRECTORY`, with its listening socket as standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pylab_container.errors import LabError
from pylab_container.host import linux, programs
from pylab_container.runtime.dns.messages import Query, is_failure
from pylab_container.runtime.dns.zone import DnsClient, UpstreamServer
from pylab_container.runtime.etc import NAME_SERVER

_LINGER = 1.0  # seconds that it waits for the next container after the last one
_UPSTREAM = 4.0  # seconds for each of the servers, as libnetwork's extIOTimeout
_SERVERS = 3  # of them that are asked, as resolv.conf(5) and libnetwork's maxExtDNS
_IDLE = 10.0  # seconds that a connection may say nothing
_AT_ONCE = 1000  # questions of one container that wait for an answer; more are dropped
_LARGEST = 65535


class Residents:
    """Who is there, read from their files whenever those have changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, tuple[tuple[int, int], DnsClient]] = {}

    def names(self) -> list[str]:
        """The ids of all that were written down."""
        return [name for name in os.listdir(self._directory) if len(name) == 64]

    def get(self, container_id: str) -> DnsClient | None:
        """One of them, None where it is gone or what is written there is not ours."""
        path = self._directory / container_id
        try:
            status = path.stat()
            mark = (status.st_ino, status.st_mtime_ns)
            known = self._known.get(container_id)
            if known is None or known[0] != mark:
                known = (mark, msgspec.json.decode(path.read_bytes(), type=DnsClient))
                self._known[container_id] = known
        except (FileNotFoundError, msgspec.MsgspecError):
            self._known.pop(container_id, None)
            return None
        return known[1]


class Listener:
    """The sockets in one container, and all that goes on at them."""

    def __init__(self, resident: DnsClient, look: Callable[[], tuple[DnsClient | None, list[DnsClient]]]) -> None:
        """look tells who the container is now, and everybody.

        Raises OSError where its process is gone, LabError where nft refuses.
        """
        self.serves = resident.namespace
        self._look = look
        self._tasks: set[asyncio.Task[None]] = set()
        with contextlib.ExitStack() as stack:
            self._process = os.pidfd_open(resident.pid)
            stack.callback(os.close, self._process)
            self._namespace = os.open(f"/proc/{resident.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, self._namespace)
            if os.fstat(self._namespace).st_ino != resident.namespace:
                raise ProcessLookupError("the container has ended")
            with _inside(self._namespace):
                self._udp = stack.enter_context(_listen(socket.SOCK_DGRAM))
                self._tcp = stack.enter_context(_listen(socket.SOCK_STREAM))
                programs.run(["nft", _redirection(self._udp.getsockname()[1], self._tcp.getsockname()[1])])
            self._opened = stack.pop_all()

    def start(self, ended: Callable[[], None]) -> None:
        """Begin to answer; ended is called when the container's first process has ended."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._process, ended)
        loop.add_reader(self._udp, self._receive)
        loop.add_reader(self._tcp, self._accept)

    def close(self) -> None:
        """Let go of the container's namespace."""
        for one in (self._process, self._udp, self._tcp):
            asyncio.get_running_loop().remove_reader(one)
        for task in self._tasks:
            task.cancel()
        self._opened.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _receive(self) -> None:
        with contextlib.suppress(OSError):
            wire, asker = self._udp.recvfrom(_LARGEST)
            if len(self._tasks) < _AT_ONCE:
                self._begin(self._reply(wire, asker))

    async def _reply(self, wire: bytes, asker: tuple[str, int]) -> None:
        with contextlib.suppress(ValueError, OSError):
            self._udp.sendto(await self._answer(Query(wire), socket.SOCK_DGRAM), asker)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._tcp.accept()
            if len(self._tasks) < _AT_ONCE:
                self._begin(self._converse(connection))
            else:
                connection.close()

    async def _converse(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(ValueError, OSError, EOFError):
            reader, writer = await asyncio.open_connection(sock=connection)
            with contextlib.closing(writer):
                while True:
                    query = Query(await asyncio.wait_for(_read(reader), _IDLE))
                    await _write(writer, await self._answer(query, socket.SOCK_STREAM))

    async def _answer(self, query: Query, kind: socket.SocketKind) -> bytes:
        me, everybody = self._look()
        reply = query.answer(me, everybody) if me else None
        if reply is None and me and (other := await self._forward(query, me.servers, kind)):
            return other
        reply = reply or query.failure()
        return query.datagram(reply) if kind == socket.SOCK_DGRAM else bytes(reply.pack())

    async def _forward(self, query: Query, servers: Sequence[UpstreamServer], kind: socket.SocketKind) -> bytes:
        """What others answer: the first that can, else the last that said why not; b"" where all are silent."""
        ask, last = (_ask_datagram if kind == socket.SOCK_DGRAM else _ask_stream), b""
        for server in servers[:_SERVERS]:
            with contextlib.suppress(OSError, EOFError), self._towards(server, kind) as one:
                last = await asyncio.wait_for(ask(one, server.address, query), _UPSTREAM)
                if not is_failure(last):
                    break
        return last

    def _towards(self, server: UpstreamServer, kind: socket.SocketKind) -> socket.socket:
        with contextlib.nullcontext() if server.on_host else _inside(self._namespace):
            one = socket.socket(socket.AF_INET6 if ":" in server.address else socket.AF_INET, kind)
        one.settimeout(0)
        return one


@contextlib.contextmanager
def _inside(namespace: int) -> Iterator[None]:
    """Be in another network namespace, with all of this process: it has one thread."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(namespace, linux.CLONE_NEWNET)
        try:
            yield
        finally:
            linux.setns(home, linux.CLONE_NEWNET)
    finally:
        os.close(home)


def _listen(kind: socket.SocketKind) -> socket.socket:
    one = socket.socket(socket.AF_INET, kind)
    try:
        one.settimeout(0)
        one.bind((NAME_SERVER, 0))
        if kind == socket.SOCK_STREAM:
            one.listen()
    except BaseException:
        one.close()
        raise
    return one


def _redirection(udp: int, tcp: int) -> str:
    """The nft rules that lead port 53 to these two; in the place of those of a resolver before."""
    table = "table ip labctr_names"
    chain = "add chain ip labctr_names output { type nat hook output priority -100; policy accept; }"
    rules = [
        f"add rule ip labctr_names output ip daddr {NAME_SERVER} {protocol} dport 53 dnat to {NAME_SERVER}:{port}"
        for protocol, port in (("udp", udp), ("tcp", tcp))
    ]
    return "; ".join([f"add {table}", f"delete {table}", f"add {table}", chain, *rules])


async def _ask_datagram(one: socket.socket, address: str, query: Query) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(one, (address, 53))
    await loop.sock_sendall(one, query.wire)
    while not query.is_answered_by(wire := await loop.sock_recv(one, _LARGEST)):
        pass
    return wire


async def _ask_stream(one: socket.socket, address: str, query: Query) -> bytes:
    await asyncio.get_running_loop().sock_connect(one, (address, 53))
    reader, writer = await asyncio.open_connection(sock=one)
    with contextlib.closing(writer):
        await _write(writer, query.wire)
        wire = await _read(reader)
    if not query.is_answered_by(wire):
        raise ConnectionError("another question was answered")
    return wire


async def _read(reader: asyncio.StreamReader) -> bytes:
    """A message on a connection, its length before it (RFC 1035, 4.2.2)."""
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


async def _write(writer: asyncio.StreamWriter, wire: bytes) -> None:
    writer.write(len(wire).to_bytes(2, "big") + wire)
    await writer.drain()


class Resolver:
    """All listeners, and who wants more of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._residents = Residents(directory)
        self._listeners: dict[str, Listener] = {}
        self._unused = asyncio.Event()
        self._waiting: asyncio.TimerHandle | None = None

    async def run(self, server: socket.socket) -> None:
        """Serve until no container has been there for a while."""
        self._wait()
        for container_id in self._residents.names():
            with contextlib.suppress(OSError, LabError):
                self._listen(container_id)
        async with await asyncio.start_unix_server(self._requested, sock=server):
            await self._unused.wait()
        # The lock last: whoever finds it gone or free makes both anew.
        for name in ("socket", "lock"):
            (self._directory / name).unlink(missing_ok=True)

    async def _requested(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            container_id, error = (await reader.readline()).decode().strip(), ""
            if self._unused.is_set():
                return  # too late: the next one does it
            try:
                self._listen(container_id)
            except (OSError, LabError) as problem:
                error = str(problem)
            writer.write(error.encode() + b"\n")
            await writer.drain()

    def _listen(self, container_id: str) -> None:
        """Serve a container that was written down, if it is not served. Raises OSError, LabError."""
        resident = self._residents.get(container_id)
        if resident is None:
            raise FileNotFoundError("the container has ended")
        before = self._listeners.get(container_id)
        if before is not None and before.serves == resident.namespace:
            return
        listener = Listener(resident, lambda: self._look(container_id))
        listener.start(lambda: self._ended(container_id, listener))
        self._listeners[container_id] = listener
        if before is not None:
            before.close()
        self._wait()

    def _look(self, container_id: str) -> tuple[DnsClient | None, list[DnsClient]]:
        known = {name: self._residents.get(name) for name in self._listeners}
        present = {name: one for name, one in known.items() if one and one.namespace == self._listeners[name].serves}
        return present.get(container_id), list(present.values())

    def _ended(self, container_id: str, listener: Listener) -> None:
        listener.close()
        if self._listeners.get(container_id) is listener:
            del self._listeners[container_id]
        self._wait()

    def _wait(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = None
        if not self._listeners:
            self._waiting = asyncio.get_running_loop().call_later(_LINGER, self._unused.set)


if __name__ == "__main__":
    _limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # four files for each container
    resource.setrlimit(resource.RLIMIT_NOFILE, (_limit, _limit))
    asyncio.run(Resolver(Path(sys.argv[1])).run(socket.socket(fileno=0)))
