"""Hijacked connections: after `101 UPGRADED` the connection carries the bytes of a container's streams.

Source: Docker Engine API, "Attach to a container": hijacking, and the stream format.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web

from pylab_container.daemon.call import HEADERS, Call
from pylab_container.daemon.connection import is_disconnected

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
"""The content types of the two formats since API 1.42. Older versions call both raw."""

_STREAM_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}
READ_SIZE = 1 << 16  # bytes
HEAD_TIMEOUT = 60.0  # seconds to wait until the client has read the head of the answer
HEAD_POLL_INTERVALS = (0.0005, 0.05)  # seconds: the first interval, and the largest after doubling


def frame(stream: str, data: bytes) -> bytes:
    """Return a frame of the multiplexed format.

    It consists of the stream number, three zero bytes, the length as 32 bits in big-endian order, and the data.
    """
    return struct.pack(">BxxxL", _STREAM_NUMBERS[stream], len(data)) + data


class HijackedConnection:
    """A hijacked connection. Its two directions close independently."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._head_read = False

    async def receive(self) -> bytes:
        """Return the next input of the client, b"" at its end.

        A client that ends its input may still read.
        """
        try:
            return await self._reader.read(READ_SIZE)
        except ConnectionError:
            return b""

    async def send(self, data: bytes) -> None:
        """Send data as fast as the client reads. Raises ConnectionError if it has disconnected."""
        if not self._head_read:
            self._head_read = True
            await self._until_head_is_read()
        self._writer.write(data)
        await self._writer.drain()

    async def _until_head_is_read(self) -> None:
        """Wait until the client has read the head of the answer.

        docker-py reads the head through a buffer and later data directly from the socket: data that arrives in the same
        segment as the head would be lost. dockerd is slow enough for that not to happen.
        """
        loop, connection = asyncio.get_running_loop(), self._writer.get_extra_info("socket")
        deadline, (interval, largest) = loop.time() + HEAD_TIMEOUT, HEAD_POLL_INTERVALS
        while _unread(connection) and not self.disconnected and loop.time() < deadline:
            await asyncio.sleep(interval)
            interval = min(2 * interval, largest)

    @property
    def disconnected(self) -> bool:
        """Whether the client has closed the connection.

        A half-closed connection does not count: docker half-closes it and still reads.
        """
        if self._writer.is_closing():
            return True
        return is_disconnected(self._writer.get_extra_info("socket").fileno())

    def close(self) -> None:
        """Close the connection after all data is sent."""
        self._writer.close()


def _unread(connection: socket.socket) -> int:
    """Return the number of bytes that the peer has not read yet.

    On TCP it is the number of unacknowledged bytes (tcp(7), SIOCOUTQ).
    """
    return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


class HijackedResponse(web.StreamResponse):
    """The response of a handler that has hijacked its connection: nothing more is sent."""

    async def prepare(self, request: web.BaseRequest) -> None:
        request.protocol.close()  # the connection ends with its handler
        return

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: the handler has closed the stream."""


def hijack(call: Call, content_type: str) -> HijackedConnection:
    """Take the connection over from aiohttp.

    The answer is 101 if the client requested an upgrade, else 200.
    """
    request = call.request
    transport, handler = request.transport, request.protocol
    if transport is None:
        raise ConnectionResetError("the client disconnected")
    upgrade = request.headers.get("Upgrade", "")
    reader = asyncio.StreamReader(limit=READ_SIZE)
    early = _ReceivedData()
    handler.set_parser(cast(Any, early))  # receives the data that arrived with the request
    protocol = _Protocol(reader, handler)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if early.data:
        reader.feed_data(bytes(early.data))
    if call.input_ended.is_set():
        reader.feed_eof()
    transport.resume_reading()
    writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    writer.write(_head(content_type, upgrade))
    return HijackedConnection(reader, writer)


def _head(content_type: str, upgrade: str) -> bytes:
    headers = {"Content-Type": content_type, **HEADERS}
    if upgrade:
        headers |= {"Connection": "Upgrade", "Upgrade": "tcp"}
    lines = ["HTTP/1.1 101 UPGRADED" if upgrade else "HTTP/1.1 200 OK"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


class _ReceivedData:
    """Collects the data that aiohttp has already received, through the interface of a parser."""

    def __init__(self) -> None:
        self.data = bytearray()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """Do nothing: the transport also reports the end of input to the protocol."""


class _Protocol(asyncio.StreamReaderProtocol):
    """Keeps a half-closed connection open, and reports a lost one to aiohttp."""

    def __init__(self, reader: asyncio.StreamReader, handler: RequestHandler) -> None:
        super().__init__(reader)
        self._handler = handler

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._handler.connection_lost(error)
