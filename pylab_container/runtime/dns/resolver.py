"""The resolver: a process outside the containers that answers their queries to 127.0.0.11.

A socket belongs to the network namespace in which it was created, whichever process uses it (network_namespaces(7)). So
this process enters each container's namespace for a moment and opens its sockets there. Their ports are chosen by the
kernel, because a container may run a name server of its own on port 53. An nft rule redirects port 53 of 127.0.0.11 to
them. Queries for other names are forwarded to the container's upstream servers, through sockets in the container's
namespace. Only servers on the host's loopback are reached from the host's namespace.

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

_EXIT_DELAY = 1.0  # seconds after the last container's exit, so that a series of short containers shares a resolver
_UPSTREAM_TIMEOUT = 4.0  # seconds for each upstream server (libnetwork's extIOTimeout)
_MOST_SERVERS = 3  # upstream servers to try (resolv.conf(5), libnetwork's maxExtDNS)
_CONNECTION_TIMEOUT = 10.0  # seconds without a query, after which a TCP connection is closed
_MOST_QUERIES = 1000  # concurrent queries of one container; more are dropped
_LARGEST_MESSAGE = 65535  # bytes
_DNS_PORT = 53
_ID_LENGTH = 64  # digits of a container's id, unlike the names of the lock and the socket


class ClientFiles:
    """Cache of the containers' files in the directory. A file is parsed again when it has changed."""

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
            # Writers replace the file (write_atomic()), so a changed file has another inode. The time is compared as
            # well, because the file system may reuse the inode number of a deleted file.
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
        """Open the sockets.

        read_clients  returns the container's present record, and those of all containers

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
            # The pid in the record may have been reused by a process outside the container. The inode of the namespace
            # excludes that.
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
        # the sockets must be closed when the process exits. Its pidfd becomes readable then (pidfd_open(2)).
        loop = asyncio.get_running_loop()
        loop.add_reader(self._process, ended)
        loop.add_reader(self._udp, self._receive)
        loop.add_reader(self._tcp, self._accept)

    def close(self) -> None:
        """Close the sockets and the container's namespace."""
        # The readers are removed before the files are closed: the event loop identifies a file by its descriptor, and
        # the kernel may give the same number to a new file.
        for descriptor in (self._process, self._udp, self._tcp):
            asyncio.get_running_loop().remove_reader(descriptor)
        for task in self._tasks:
            task.cancel()
        self._opened.close()

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        # The event loop has only weak references to tasks; without the set a task could be garbage collected.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _receive(self) -> None:
        with contextlib.suppress(OSError):
            wire, sender = self._udp.recvfrom(_LARGEST_MESSAGE)
            # The limit keeps one container from exhausting this process's memory, which all containers share. A client
            # repeats a query that was dropped, as after a lost datagram.
            if len(self._tasks) < _MOST_QUERIES:
                self._start_task(self._reply(wire, sender))

    async def _reply(self, wire: bytes, sender: tuple[str, int]) -> None:
        with contextlib.suppress(ValueError, OSError):
            self._udp.sendto(await self._answer(Query(wire), socket.SOCK_DGRAM), sender)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._tcp.accept()
            if len(self._tasks) < _MOST_QUERIES:
                self._start_task(self._serve_connection(connection))
            else:
                connection.close()

    async def _serve_connection(self, connection: socket.socket) -> None:
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
        """Forward a query to the upstream servers in turn, until a response is not a failure.

        Return the last response, b"" if no server responds.
        """
        ask, response = (_ask_datagram if kind == socket.SOCK_DGRAM else _ask_stream), b""
        for server in servers[:_MOST_SERVERS]:
            with contextlib.suppress(OSError, EOFError), self._upstream_socket(server, kind) as upstream:
                response = await asyncio.wait_for(ask(upstream, server.address, query), _UPSTREAM_TIMEOUT)
                if not is_failure(response):
                    break
        return response

    def _upstream_socket(self, server: UpstreamServer, kind: socket.SocketKind) -> socket.socket:
        # In the container's namespace, so that the query takes the container's routes. Otherwise a container on an
        # internal network could reach other networks by its queries.
        with contextlib.nullcontext() if server.on_host else _inside(self._namespace):
            upstream = socket.socket(socket.AF_INET6 if ":" in server.address else socket.AF_INET, kind)
        upstream.settimeout(0)
        return upstream


@contextlib.contextmanager
def _inside(namespace: int) -> Iterator[None]:
    """Run the block in another network namespace. It must not await: all tasks share the process's only thread."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(namespace, linux.CLONE_NEWNET)
        try:
            yield
        finally:
            linux.setns(own, linux.CLONE_NEWNET)
    finally:
        os.close(own)


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
    """Build the nft statements that redirect port 53 to these ports. They replace an earlier resolver's rules."""
    # The rules are in the container's namespace, where its queries to 127.0.0.11 pass the output hook. Deleting a table
    # that does not exist is an error, so it is added first (nft(8)).
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
    # A connected socket receives datagrams only from this server (connect(2)), which makes forging a response harder.
    await loop.sock_connect(upstream, (address, _DNS_PORT))
    await loop.sock_sendall(upstream, query.wire)
    # All other messages are ignored. The caller's timeout ends the loop.
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
    """Read a message from a TCP connection: its length in two bytes, then the message (RFC 1035, 4.2.2)."""
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


async def _write(writer: asyncio.StreamWriter, wire: bytes) -> None:
    writer.write(len(wire).to_bytes(2, "big") + wire)
    await writer.drain()


class Resolver:
    """The listeners of all containers, and the socket that accepts requests to serve more containers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = ClientFiles(directory)
        self._listeners: dict[str, Listener] = {}
        self._is_idle = asyncio.Event()
        self._exit_timer: asyncio.TimerHandle | None = None

    async def run(self, server: socket.socket) -> None:
        """Serve until no container has run for _EXIT_DELAY."""
        self._schedule_exit()
        # If an earlier resolver was killed, its containers still need an answer.
        for container_id in self._files.container_ids():
            with contextlib.suppress(OSError, LabError):
                self._listen(container_id)
        async with await asyncio.start_unix_server(self._serve_request, sock=server):
            await self._is_idle.wait()
        # The lock is removed last. As soon as it is removed, another process may start a resolver with a new socket,
        # which this process must not remove.
        for name in ("socket", "lock"):
            (self._directory / name).unlink(missing_ok=True)

    async def _serve_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            container_id, error = (await reader.readline()).decode().strip(), ""
            if self._is_idle.is_set():
                # This process is about to exit. Without an answer the client starts another resolver
                # (NameServer.serve()).
                return
            try:
                self._listen(container_id)
            except (OSError, LabError) as problem:
                error = str(problem)
            writer.write(error.encode() + b"\n")
            await writer.drain()

    def _listen(self, container_id: str) -> None:
        """Begin to serve a container that has a record. Idempotent. Raises OSError, LabError."""
        client = self._files.get(container_id)
        if client is None:
            raise FileNotFoundError("the container has ended")
        # After a restart the container has another namespace, and this process may not have handled the exit yet.
        previous = self._listeners.get(container_id)
        if previous is not None and previous.namespace_inode == client.namespace:
            return
        listener = Listener(client, lambda: self._read_clients(container_id))
        listener.start(lambda: self._ended(container_id, listener))
        self._listeners[container_id] = listener
        if previous is not None:
            previous.close()
        self._schedule_exit()

    def _read_clients(self, container_id: str) -> tuple[DnsClient | None, list[DnsClient]]:
        """The present record of a container (None if it has exited), and those of all running containers."""
        records = {served_id: self._files.get(served_id) for served_id in self._listeners}
        # A record with another namespace than the listener's belongs to the container's next run.
        running = {
            served_id: client
            for served_id, client in records.items()
            if client and client.namespace == self._listeners[served_id].namespace_inode
        }
        return running.get(container_id), list(running.values())

    def _ended(self, container_id: str, listener: Listener) -> None:
        listener.close()
        if self._listeners.get(container_id) is listener:
            del self._listeners[container_id]
        self._schedule_exit()

    def _schedule_exit(self) -> None:
        """Restart the timer that ends this process after _EXIT_DELAY; cancel it while a container is served."""
        if self._exit_timer is not None:
            self._exit_timer.cancel()
        self._exit_timer = None
        if not self._listeners:
            self._exit_timer = asyncio.get_running_loop().call_later(_EXIT_DELAY, self._is_idle.set)


if __name__ == "__main__":
    # This process has four open files per container, and the soft limit is usually 1024. That limit protects programs
    # that use select(2); this one uses epoll(7).
    _limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (_limit, _limit))
    asyncio.run(Resolver(Path(sys.argv[1])).run(socket.socket(fileno=0)))
