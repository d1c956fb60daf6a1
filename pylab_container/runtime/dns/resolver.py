"""The resolver: a process outside the containers that answers their queries to 127.0.0.11.

A socket belongs to the network namespace in which it was created, whichever process uses it (network_namespaces(7)). So
this process enters each container's namespace for a moment and opens its sockets there. The kernel chooses their ports,
and nft redirects port 53 of 127.0.0.11 to them: a container may run a name server of its own on port 53. Queries for
other names are forwarded to the container's upstream servers, through sockets in the container's namespace. Only
servers on the host's loopback are reached from the host's namespace.

Started by service.py as `python -m pylab_container.runtime.dns.resolver DIRECTORY`, with the listening socket of
DIRECTORY/socket as standard input.
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

_EXIT_DELAY = 1.0  # seconds after the last container's end, so that a script of short containers starts one process
_UPSTREAM_TIMEOUT = 4.0  # seconds for each upstream server, as libnetwork's extIOTimeout
_MOST_SERVERS = 3  # upstream servers that are tried, as resolv.conf(5) and libnetwork's maxExtDNS
_CONNECTION_TIMEOUT = 10.0  # seconds without a query, after which a TCP connection is closed
_MOST_QUERIES = 1000  # queries of one container that are being answered; more are dropped
_LARGEST_MESSAGE = 65535  # bytes
_DNS_PORT = 53
_ID_LENGTH = 64  # digits of a container's id; other names in the directory are the lock and the socket


class ClientFiles:
    """The containers that are recorded in the directory. Each file is parsed again when it has changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cache: dict[str, tuple[tuple[int, int], DnsClient]] = {}

    def container_ids(self) -> list[str]:
        """The ids of all containers that are recorded."""
        return [name for name in os.listdir(self._directory) if len(name) == _ID_LENGTH]

    def get(self, container_id: str) -> DnsClient | None:
        """One container's record, None if it does not exist or cannot be parsed."""
        path = self._directory / container_id
        try:
            # Writers replace the file (write_atomic()), so a change has another inode. The time is compared as well,
            # since the file system may give the inode of a deleted file to the next one.
            status = path.stat()
            version = (status.st_ino, status.st_mtime_ns)
            cached = self._cache.get(container_id)
            if cached is None or cached[0] != version:
                cached = (version, msgspec.json.decode(path.read_bytes(), type=DnsClient))
                self._cache[container_id] = cached
        except (FileNotFoundError, msgspec.MsgspecError):
            self._cache.pop(container_id, None)
            return None
        return cached[1]


class Listener:
    """The sockets in one container, and the queries that arrive on them."""

    def __init__(self, client: DnsClient, read_clients: Callable[[], tuple[DnsClient | None, list[DnsClient]]]) -> None:
        """Open the sockets. read_clients: returns the container's present record, and those of all containers.

        Raises OSError if the container's process has exited, LabError if nft fails.
        """
        self.namespace_inode = client.namespace
        self._read_clients = read_clients
        self._tasks: set[asyncio.Task[None]] = set()
        with contextlib.ExitStack() as stack:
            self._process = os.pidfd_open(client.pid)
            stack.callback(os.close, self._process)
            self._namespace = os.open(f"/proc/{client.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, self._namespace)
            # The pid in the record may have been reused. While the pidfd and the namespace are open, neither can be.
            if os.fstat(self._namespace).st_ino != client.namespace:
                raise ProcessLookupError("the container has ended")
            with _inside(self._namespace):
                self._udp = stack.enter_context(_listen(socket.SOCK_DGRAM))
                self._tcp = stack.enter_context(_listen(socket.SOCK_STREAM))
                programs.run(["nft", _redirection(self._udp.getsockname()[1], self._tcp.getsockname()[1])])
            self._opened = stack.pop_all()

    def start(self, ended: Callable[[], None]) -> None:
        """Begin to answer queries. ended: called when the container's first process has exited."""
        # An open socket keeps its network namespace alive, and with it the veth pair and the container's addresses. So
        # the end of the process must close the sockets; a pidfd becomes readable then (pidfd_open(2)).
        loop = asyncio.get_running_loop()
        loop.add_reader(self._process, ended)
        loop.add_reader(self._udp, self._receive)
        loop.add_reader(self._tcp, self._accept)

    def close(self) -> None:
        """Close the sockets and the container's namespace."""
        # Before the files are closed: the event loop knows them by number, and a new file may get the same number.
        for descriptor in (self._process, self._udp, self._tcp):
            asyncio.get_running_loop().remove_reader(descriptor)
        for task in self._tasks:
            task.cancel()
        self._opened.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        # The event loop has only weak references to tasks; without the set a task could be garbage collected.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _receive(self) -> None:
        with contextlib.suppress(OSError):
            wire, sender = self._udp.recvfrom(_LARGEST_MESSAGE)
            # Dropped like a lost datagram: the client asks again. The queue of one container cannot exhaust the memory
            # that all containers share.
            if len(self._tasks) < _MOST_QUERIES:
                self._begin(self._reply(wire, sender))

    async def _reply(self, wire: bytes, sender: tuple[str, int]) -> None:
        with contextlib.suppress(ValueError, OSError):
            self._udp.sendto(await self._answer(Query(wire), socket.SOCK_DGRAM), sender)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._tcp.accept()
            if len(self._tasks) < _MOST_QUERIES:
                self._begin(self._converse(connection))
            else:
                connection.close()

    async def _converse(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(ValueError, OSError, EOFError):
            reader, writer = await asyncio.open_connection(sock=connection)
            with contextlib.closing(writer):
                while True:
                    query = Query(await asyncio.wait_for(_read(reader), _CONNECTION_TIMEOUT))
                    await _write(writer, await self._answer(query, socket.SOCK_STREAM))

    async def _answer(self, query: Query, kind: socket.SocketKind) -> bytes:
        client, clients = self._read_clients()
        reply = query.answer(client, clients) if client else None
        if reply is None and client and (response := await self._forward(query, client.servers, kind)):
            return response
        reply = reply or query.failure()
        return query.datagram(reply) if kind == socket.SOCK_DGRAM else bytes(reply.pack())

    async def _forward(self, query: Query, servers: Sequence[UpstreamServer], kind: socket.SocketKind) -> bytes:
        """Try upstream servers in turn: the first response that is not a failure, else the last failure.

        b"" if no server responds.
        """
        ask, response = (_ask_datagram if kind == socket.SOCK_DGRAM else _ask_stream), b""
        for server in servers[:_MOST_SERVERS]:
            with contextlib.suppress(OSError, EOFError), self._upstream_socket(server, kind) as upstream:
                response = await asyncio.wait_for(ask(upstream, server.address, query), _UPSTREAM_TIMEOUT)
                if not is_failure(response):
                    break
        return response

    def _upstream_socket(self, server: UpstreamServer, kind: socket.SocketKind) -> socket.socket:
        # From the container's namespace: the query takes the container's routes, and an internal network stays one.
        with contextlib.nullcontext() if server.on_host else _inside(self._namespace):
            upstream = socket.socket(socket.AF_INET6 if ":" in server.address else socket.AF_INET, kind)
        upstream.settimeout(0)
        return upstream


@contextlib.contextmanager
def _inside(namespace: int) -> Iterator[None]:
    """Run the block in another network namespace. Nothing in it may await: tasks share the process's only thread."""
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
    listener = socket.socket(socket.AF_INET, kind)
    try:
        listener.settimeout(0)
        listener.bind((NAME_SERVER, 0))
        if kind == socket.SOCK_STREAM:
            listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _redirection(udp: int, tcp: int) -> str:
    """Build the nft rules that redirect port 53 to these ports, in place of the rules of an earlier resolver."""
    # In the container's own namespace, where its queries to 127.0.0.11 pass the output chain. The first statement makes
    # the second one valid if the table does not exist (nft(8)).
    table = "table ip labctr_names"
    chain = "add chain ip labctr_names output { type nat hook output priority -100; policy accept; }"
    match = f"ip daddr {NAME_SERVER}"
    rules = [
        f"add rule ip labctr_names output {match} {protocol} dport {_DNS_PORT} dnat to {NAME_SERVER}:{port}"
        for protocol, port in (("udp", udp), ("tcp", tcp))
    ]
    return "; ".join([f"add {table}", f"delete {table}", f"add {table}", chain, *rules])


async def _ask_datagram(upstream: socket.socket, address: str, query: Query) -> bytes:
    loop = asyncio.get_running_loop()
    # A connected socket receives datagrams from this server only (connect(2)), which makes forging a response harder.
    await loop.sock_connect(upstream, (address, _DNS_PORT))
    await loop.sock_sendall(upstream, query.wire)
    # Any other message is ignored. The caller's timeout ends the loop.
    while not query.is_answered_by(wire := await loop.sock_recv(upstream, _LARGEST_MESSAGE)):
        pass
    return wire


async def _ask_stream(upstream: socket.socket, address: str, query: Query) -> bytes:
    await asyncio.get_running_loop().sock_connect(upstream, (address, _DNS_PORT))
    reader, writer = await asyncio.open_connection(sock=upstream)
    with contextlib.closing(writer):
        await _write(writer, query.wire)
        wire = await _read(reader)
    if not query.is_answered_by(wire):
        raise ConnectionError("the response is for another query")
    return wire


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read a message from a TCP connection, where its length precedes it (RFC 1035, 4.2.2)."""
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


async def _write(writer: asyncio.StreamWriter, wire: bytes) -> None:
    writer.write(len(wire).to_bytes(2, "big") + wire)
    await writer.drain()


class Resolver:
    """The listeners of all containers, and the socket that takes requests for more of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = ClientFiles(directory)
        self._listeners: dict[str, Listener] = {}
        self._is_idle = asyncio.Event()
        self._exit_timer: asyncio.TimerHandle | None = None

    async def run(self, server: socket.socket) -> None:
        """Serve until there has been no container for _EXIT_DELAY."""
        self._schedule_exit()
        # Containers that an earlier resolver served, which was killed.
        for container_id in self._files.container_ids():
            with contextlib.suppress(OSError, LabError):
                self._listen(container_id)
        async with await asyncio.start_unix_server(self._serve_request, sock=server):
            await self._is_idle.wait()
        # The lock is removed last. A process that finds it removed or unlocked starts another resolver, with a new lock
        # and a new socket, and removing the socket after that would remove the new one.
        for name in ("socket", "lock"):
            (self._directory / name).unlink(missing_ok=True)

    async def _serve_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            container_id, error = (await reader.readline()).decode().strip(), ""
            if self._is_idle.is_set():
                # This process is about to exit. Without an answer the client starts another one (NameServer.serve()).
                return
            try:
                self._listen(container_id)
            except (OSError, LabError) as problem:
                error = str(problem)
            writer.write(error.encode() + b"\n")
            await writer.drain()

    def _listen(self, container_id: str) -> None:
        """Serve a container that is recorded. Idempotent. Raises OSError, LabError."""
        client = self._files.get(container_id)
        if client is None:
            raise FileNotFoundError("the container has ended")
        # A container that was restarted has another namespace, and the end of the old one may not be noticed yet.
        before = self._listeners.get(container_id)
        if before is not None and before.namespace_inode == client.namespace:
            return
        listener = Listener(client, lambda: self._read_clients(container_id))
        listener.start(lambda: self._ended(container_id, listener))
        self._listeners[container_id] = listener
        if before is not None:
            before.close()
        self._schedule_exit()

    def _read_clients(self, container_id: str) -> tuple[DnsClient | None, list[DnsClient]]:
        """The present record of a container, None if it has ended, and those of all containers that run."""
        records = {name: self._files.get(name) for name in self._listeners}
        # A file that is newer than its listener belongs to the next run of the container, which has other addresses.
        running = {
            name: client
            for name, client in records.items()
            if client and client.namespace == self._listeners[name].namespace_inode
        }
        return running.get(container_id), list(running.values())

    def _ended(self, container_id: str, listener: Listener) -> None:
        listener.close()
        if self._listeners.get(container_id) is listener:
            del self._listeners[container_id]
        self._schedule_exit()

    def _schedule_exit(self) -> None:
        """Exit after _EXIT_DELAY, or not at all while a container is served."""
        if self._exit_timer is not None:
            self._exit_timer.cancel()
        self._exit_timer = None
        if not self._listeners:
            self._exit_timer = asyncio.get_running_loop().call_later(_EXIT_DELAY, self._is_idle.set)


if __name__ == "__main__":
    # Four files are open for each container, and the soft limit is usually 1024. It exists for programs that use
    # select(2); this one uses epoll(7).
    _limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (_limit, _limit))
    asyncio.run(Resolver(Path(sys.argv[1])).run(socket.socket(fileno=0)))
