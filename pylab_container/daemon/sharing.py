"""Fan-out of one process's streams to all clients that are attached to it.

    client ◀─ Share ─┐
    client ◀─ Share ─┼─ SharedStreams ── Attachment ── conmon
    client ◀─ Share ─┘

All clients share one connection to conmon. conmon 2.1.6 has a use-after-free: when three or more connections close
at about the same time, it crashes, and its container dies with it. For the same reason the connection stays open after
its last client has left, for the next client. The first output that arrives after DISCARD_TIMEOUT without a client
closes it. Until then it costs one descriptor here and one in conmon.

Back-pressure: as in dockerd a client may be one megabyte behind (moby, pkg/ioutils/bytespipe.go). Then the connection
is not read, and conmon and the process block until that client reads or disconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from aiohttp import web

from pylab_container.daemon.call import Call
from pylab_container.daemon.connection import is_disconnected
from pylab_container.engine.container import Attachment, Container

BUFFER_LIMIT = 1_000_000  # bytes of output buffered for one client before the process has to wait
SEND_SIZE = 1 << 16  # bytes that a client gets in one call of receive()
PACKETS_PER_TURN = 64  # packets that are received before the event loop runs other callbacks
DISCARD_TIMEOUT = 10.0  # seconds without a client after which output closes the connection

Packet = tuple[str, bytes]
"""The name of an output stream, and bytes that the process wrote to it."""


class Share:
    """One client's view of the streams: all output since it joined, and the process's input.

    The owner closes it.
    """

    def __init__(self, streams: SharedStreams) -> None:
        self._streams = streams
        self._packets: deque[Packet] = deque()
        self._size = 0
        self._changed = asyncio.Event()
        self._ended = False

    @property
    def full(self) -> bool:
        """Whether the buffer is full, so that the process has to wait for this client."""
        return self._size >= BUFFER_LIMIT

    def put(self, packet: Packet) -> None:
        """Append a packet to the client's buffer."""
        self._packets.append(packet)
        self._size += len(packet[1])
        self._changed.set()

    def end(self) -> None:
        """Mark the end of the output: no packet follows."""
        self._ended = True
        self._changed.set()

    async def receive(self) -> list[Packet]:
        """Wait for packets and return about SEND_SIZE bytes of them, [] at the end of the output."""
        while not self._packets and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        packets, remaining = [], self._size - SEND_SIZE
        while self._packets and self._size > remaining:
            packets.append(self._packets.popleft())
            self._size -= len(packets[-1][1])
        self._streams.resume()
        return packets

    async def send(self, data: bytes) -> None:
        """Write to the process's input, as fast as it reads.

        Data after it has closed its input is discarded.
        """
        await self._streams.send(data)

    def close_stdin(self) -> None:
        """End the input for all clients, if conmon closes it at all (Conmon.create())."""
        self._streams.close_stdin()

    def close(self) -> None:
        """Leave the shared streams; the buffered output is discarded."""
        self._streams.leave(self)


class SharedStreams:
    """One connection to conmon and the clients that share it."""

    def __init__(self, attachment: Attachment, forget: Callable[[SharedStreams], None] = lambda _: None) -> None:
        """forget: called with this object once it is closed."""
        self._attachment = attachment
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._shares: list[Share] = []
        self._last_left = self._loop.time()
        self._sending = asyncio.Lock()
        self._writable = asyncio.Event()
        self._reading = False
        self._closed = False
        self.resume()

    def share(self) -> Share:
        """Add a client. It gets all output from now on."""
        share = Share(self)
        if self._closed:
            share.end()
        else:
            self._shares.append(share)
        return share

    def leave(self, share: Share) -> None:
        """Remove a client and its buffer, and resume reading if it was the one that blocked."""
        if share in self._shares:
            self._shares.remove(share)
            self._last_left = self._loop.time()
            self.resume()

    @property
    def is_connected(self) -> bool:
        """Whether conmon still holds the other end. It does so for one run of a container."""
        return not self._closed and not is_disconnected(self._attachment.fileno())

    async def send(self, data: bytes) -> None:
        """Write for one of the clients.

        Concurrent calls are serialized, so that their data is not interleaved.
        """
        async with self._sending:
            with contextlib.suppress(OSError):  # the process has closed its input, or the connection is closed
                while data and not self._closed:
                    try:
                        data = data[self._attachment.send_now(data) :]
                    except BlockingIOError:
                        await self._until_writable()

    async def _until_writable(self) -> None:
        self._writable.clear()
        self._loop.add_writer(self._attachment.fileno(), self._writable.set)
        try:
            await self._writable.wait()
        finally:
            if not self._closed:
                self._loop.remove_writer(self._attachment.fileno())

    def close_stdin(self) -> None:
        """End the input for all clients."""
        self._attachment.close_stdin()

    def resume(self) -> None:
        """Read from the connection again, unless a client's buffer is full."""
        if not (self._closed or self._reading or any(share.full for share in self._shares)):
            self._reading = True
            self._loop.add_reader(self._attachment.fileno(), self._receive)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._attachment.fileno())

    def _receive(self) -> None:
        """Pass the available packets to all clients, until a buffer is full."""
        for _ in range(PACKETS_PER_TURN):
            try:
                packet = self._attachment.receive_now()
            except BlockingIOError:
                return
            except OSError:
                packet = None
            if packet is None or (not self._shares and self._loop.time() - self._last_left > DISCARD_TIMEOUT):
                self.close()
                return
            for share in self._shares:
                share.put(packet)
            if any(share.full for share in self._shares):
                self._pause()
                return

    def close(self) -> None:
        """Close the connection; the process continues.

        Clients see the end after their buffered packets.
        """
        if self._closed:
            return
        self._pause()
        self._loop.remove_writer(self._attachment.fileno())
        self._writable.set()
        self._closed = True
        self._attachment.close()
        for share in self._shares:
            share.end()
        self._forget(self)


class Sharing:
    """The shared streams of all containers. Used on the event loop only."""

    def __init__(self) -> None:
        self._shared: dict[str, SharedStreams] = {}
        self._opening: dict[str, asyncio.Task[SharedStreams]] = {}

    def register(self, container_id: str, attachment: Attachment) -> SharedStreams:
        """Share a connection to a container from now on."""

        def forget(closed: SharedStreams) -> None:
            if self._shared.get(container_id) is closed:
                del self._shared[container_id]

        self._shared[container_id] = SharedStreams(attachment, forget)
        return self._shared[container_id]

    async def join(self, call: Call, container: Container) -> Share:
        """Return a share of a running container's streams. Raises Conflict if it has exited."""
        shared = self._shared.get(container.id)
        if shared is None or not shared.is_connected:
            # Single flight: other clients may wait for it, so a client that disconnects must not cancel it.
            shared = await asyncio.shield(self._opening.get(container.id) or self._open(call, container))
        await call.run(container.attached)
        return shared.share()

    def _open(self, call: Call, container: Container) -> asyncio.Task[SharedStreams]:
        async def connect() -> SharedStreams:
            return self.register(container.id, await call.run(container.connect))

        def opened(opening: asyncio.Task[SharedStreams]) -> None:
            del self._opening[container.id]
            if not opening.cancelled():
                opening.exception()  # mark it as retrieved: if all clients have disconnected, no caller awaits it

        self._opening[container.id] = opening = asyncio.ensure_future(connect())
        opening.add_done_callback(opened)
        return opening


SHARING: web.AppKey[Sharing] = web.AppKey("sharing", Sharing)
