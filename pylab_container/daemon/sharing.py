"""The streams of one process, shared by all clients that are attached to it.

    client ◀─ Share ─┐
    client ◀─ Share ─┼─ SharedStreams ── Attachment ── conmon
    client ◀─ Share ─┘

There is one connection for all of them, because conmon 2.1.6 ends with a fault, and its container with it, where a
few connections go at about the same time: it looks at the memory of one that it has just freed, which with three or
more of them may have gone back to the kernel. For the same reason it is not closed with its last client: it is kept
for the next one until the process prints something that for some time nobody was there for. While nothing is
printed it costs a descriptor, and a connection more would cost conmon one, which it gives back when it prints.

As in dockerd a client may be a megabyte behind (moby, pkg/ioutils/bytespipe.go); then the connection is not read
any more, and conmon and the process wait, until that client reads or is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from aiohttp import web

from pylab_container.daemon.call import Call
from pylab_container.daemon.connection import gone
from pylab_container.engine.container import Attachment, Container

_AHEAD = 1_000_000  # bytes of output that may wait for a client
_PIECE = 1 << 16  # bytes that a client gets at a time
_AT_ONCE = 64  # packets that are received before others have their turn
_LINGER = 10.0  # seconds for which output is thrown away before a connection without clients is closed

Packet = tuple[str, bytes]
"""The name of a stream, and a piece of what was printed on it."""


class Share:
    """One client's share: all output since it joined, and a way to the process's input. Close it."""

    def __init__(self, streams: SharedStreams) -> None:
        self._streams = streams
        self._packets: deque[Packet] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._ended = False

    @property
    def full(self) -> bool:
        """Whether its client is so far behind that the process has to wait."""
        return self._size >= _AHEAD

    def put(self, packet: Packet) -> None:
        """One more packet for the client."""
        self._packets.append(packet)
        self._size += len(packet[1])
        self._news.set()

    def end(self) -> None:
        """There will be no more of them."""
        self._ended = True
        self._news.set()

    async def receive(self) -> list[Packet]:
        """The next packets, as soon as there are any; none at the end."""
        while not self._packets and not self._ended:
            self._news.clear()
            await self._news.wait()
        packets, left = [], self._size - _PIECE
        while self._packets and self._size > left:
            packets.append(self._packets.popleft())
            self._size -= len(packets[-1][1])
        self._streams.resume()
        return packets

    async def send(self, data: bytes) -> None:
        """Give the process input, as fast as it takes it; once it takes no more, the rest is nobody's."""
        await self._streams.send(data)

    def close_stdin(self) -> None:
        """End of input, for all clients, if conmon is to close it at all (Conmon.create())."""
        self._streams.close_stdin()

    def close(self) -> None:
        """The client has gone."""
        self._streams.leave(self)


class SharedStreams:
    """A connection with its clients; who has none yet gets what was printed since it was made."""

    def __init__(self, attachment: Attachment, forget: Callable[[SharedStreams], None] = lambda _: None) -> None:
        """forget: called once it is closed."""
        self._attachment = attachment
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._shares: list[Share] = []
        self._left = self._loop.time()
        self._sending = asyncio.Lock()
        self._writable = asyncio.Event()
        self._reading = False
        self._closed = False
        self.resume()

    def share(self) -> Share:
        """One more client."""
        share = Share(self)
        if self._closed:
            share.end()
        else:
            self._shares.append(share)
        return share

    def leave(self, share: Share) -> None:
        """One client less. What waits for it is nobody's, and whom it held up goes on."""
        if share in self._shares:
            self._shares.remove(share)
            self._left = self._loop.time()
            self.resume()

    @property
    def live(self) -> bool:
        """Whether there is somebody at the other end, which is so for one run of a container."""
        return not self._closed and not gone(self._attachment.fileno())

    async def send(self, data: bytes) -> None:
        """Share.send() for any of the clients. One has to wait until what another one sends has been taken."""
        async with self._sending:
            with contextlib.suppress(OSError):  # the process takes no more, or the connection is closed
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
        """Share.close_stdin() for any of the clients."""
        self._attachment.close_stdin()

    def resume(self) -> None:
        """Go on reading, unless somebody is still too far behind."""
        if not (self._closed or self._reading or any(share.full for share in self._shares)):
            self._reading = True
            self._loop.add_reader(self._attachment.fileno(), self._receive)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._attachment.fileno())

    def _receive(self) -> None:
        """Hand on what is there, until a client is full."""
        for _ in range(_AT_ONCE):
            try:
                packet = self._attachment.receive_now()
            except BlockingIOError:
                return
            except OSError:
                packet = None
            if packet is None or (not self._shares and self._loop.time() - self._left > _LINGER):
                self.close()
                return
            for share in self._shares:
                share.put(packet)
            if any(share.full for share in self._shares):
                self._pause()
                return

    def close(self) -> None:
        """Leave the process, which goes on; all clients see the end of the output once they have read it."""
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
    """Which containers' streams are shared at the moment; all of it belongs to the event loop."""

    def __init__(self) -> None:
        self._shared: dict[str, SharedStreams] = {}
        self._opening: dict[str, asyncio.Task[SharedStreams]] = {}

    def hold(self, container_id: str, attachment: Attachment) -> SharedStreams:
        """Share a connection to a container from now on."""

        def forget(closed: SharedStreams) -> None:
            if self._shared.get(container_id) is closed:
                del self._shared[container_id]

        self._shared[container_id] = SharedStreams(attachment, forget)
        return self._shared[container_id]

    async def join(self, call: Call, container: Container) -> Share:
        """A share of a running container's streams. Raises Conflict where it has ended."""
        shared = self._shared.get(container.id)
        if shared is None or not shared.live:
            # It goes on when the client that asked for it has gone: others may be waiting.
            shared = await asyncio.shield(self._opening.get(container.id) or self._open(call, container))
        await call.run(container.attached)
        return shared.share()

    def _open(self, call: Call, container: Container) -> asyncio.Task[SharedStreams]:
        async def open_() -> SharedStreams:
            return self.hold(container.id, await call.run(container.connect))

        def opened(opening: asyncio.Task[SharedStreams]) -> None:
            del self._opening[container.id]
            if not opening.cancelled():
                opening.exception()  # raised where it is awaited; when all clients have gone, nobody hears it

        self._opening[container.id] = opening = asyncio.ensure_future(open_())
        opening.add_done_callback(opened)
        return opening


SHARING: web.AppKey[Sharing] = web.AppKey("sharing", Sharing)
