"""Connections that stop being HTTP: after `101 UPGRADED` both sides send a container's bytes.

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
from pylab_container.daemon.connection import gone

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
"""What the API calls the two formats since 1.42; before, both are called raw."""

_STREAM_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}
_PIECE = 1 << 16
_PATIENCE = 60.0  # seconds that a client gets to read the head
_LOOKS = (0.0005, 0.05)  # seconds between two looks whether it has: first, and in the end


def frame(stream: str, data: bytes) -> bytes:
    """A piece of output as the multiplexed format has it: stream, three zeros, length in four bytes, data."""
    return struct.pack(">BxxxL", _STREAM_NUMBERS[stream], len(data)) + data


class Hijacked:
    """A connection taken out of HTTP; its two directions end one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._begun = False

    async def receive(self) -> bytes:
        """What the client sends; b"" when it sends no more, which does not mean that it has gone."""
        try:
            return await self._reader.read(_PIECE)
        except ConnectionError:
            return b""

    async def send(self, data: bytes) -> None:
        """Send, as fast as the client takes it. Raises ConnectionError when it has gone."""
        if not self._begun:
            self._begun = True
            await self._until_head_is_read()
        self._writer.write(data)
        await self._writer.drain()

    async def _until_head_is_read(self) -> None:
        """Keep what follows apart from the head: docker-py reads that through a buffer and all else past it, so that
        what comes in one piece with the head is lost to it. dockerd needs a moment for its first byte; we do not."""
        loop, connection = asyncio.get_running_loop(), self._writer.get_extra_info("socket")
        deadline, (look, slowest) = loop.time() + _PATIENCE, _LOOKS
        while _unread(connection) and not self.gone and loop.time() < deadline:
            await asyncio.sleep(look)
            look = min(2 * look, slowest)

    @property
    def gone(self) -> bool:
        """Whether nobody is there any more; who has only closed his direction, as docker does, still listens."""
        if self._writer.is_closing():
            return True
        return gone(self._writer.get_extra_info("socket").fileno())

    def close(self) -> None:
        """End it, once everything is sent."""
        self._writer.close()


def _unread(connection: socket.socket) -> int:
    """How many bytes the other side has not read yet; over TCP, how many have not arrived (tcp(7), SIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


class Taken(web.StreamResponse):
    """What a handler returns that has hijacked its connection: there is nothing more to send."""

    async def prepare(self, request: web.BaseRequest) -> None:
        request.protocol.close()  # when the handler has ended, so does the connection
        return

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing: the end was sent by who closed the stream."""


def hijack(call: Call, content_type: str) -> Hijacked:
    """Take the connection over. A client that asked to upgrade hears 101, one that did not 200."""
    request = call.request
    transport, handler = request.transport, request.protocol
    if transport is None:
        raise ConnectionResetError("the client went away")
    upgrade = request.headers.get("Upgrade", "")
    reader = asyncio.StreamReader(limit=_PIECE)
    early = _Early()
    handler.set_parser(cast(Any, early))  # hands over what came with the request
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
    return Hijacked(reader, writer)


def _head(content_type: str, upgrade: str) -> bytes:
    headers = {"Content-Type": content_type, **HEADERS}
    if upgrade:
        headers |= {"Connection": "Upgrade", "Upgrade": "tcp"}
    lines = ["HTTP/1.1 101 UPGRADED" if upgrade else "HTTP/1.1 200 OK"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


class _Early:
    """Collects what aiohttp has received already: its interface of a parser."""

    def __init__(self) -> None:
        self.data = bytearray()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """The client has closed; the transport tells the protocol so, too."""


class _Protocol(asyncio.StreamReaderProtocol):
    """Keeps a connection half open after the client's last byte, and tells aiohttp when it is lost."""

    def __init__(self, reader: asyncio.StreamReader, handler: RequestHandler) -> None:
        super().__init__(reader)
        self._handler = handler

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._handler.connection_lost(error)
