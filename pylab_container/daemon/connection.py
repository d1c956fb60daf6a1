"""HTTP connections that stay open when they are half-closed.

aiohttp closes a connection when the client shuts down its sending direction. Go's server does not (net/http,
conn.serve): it cancels the context of the request and still sends the answer. dockerd then stops to follow logs and
events, and aborts builds and pulls. This daemon does the same.
"""

from __future__ import annotations

import asyncio
import select
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

POLL_INTERVAL = 0.02  # seconds between checks whether a half-closed connection is answered or disconnected


def is_disconnected(fd: int) -> bool:
    """Return whether the peer of a socket has closed it.

    A half-closed peer still reads, so it does not count.

    On TCP a closed peer looks half-closed until something is sent.
    """
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))  # POLLHUP and POLLERR are reported without being requested, poll(2)


class Connection(RequestHandler):
    """An aiohttp request handler that keeps half-closed connections open.

    A connection closes when all its requests are answered.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.input_ended = asyncio.Event()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads what it returns
        """Handle the end of the client's input. Return whether the transport stays open."""
        if self._payload_parser is not None or self._is_done():  # a websocket has its own closing handshake
            return False
        self.input_ended.set()
        self._watch()
        return True

    def _is_done(self) -> bool:
        """Return whether no request is being answered, or the client has disconnected."""
        idle = self._waiter is not None and not self._waiter.done()
        return idle or self.transport is None or is_disconnected(self.transport.get_extra_info("socket").fileno())

    def _watch(self) -> None:
        if self.transport is None or self.transport.get_protocol() is not self:
            return  # closed or hijacked
        if self._is_done():
            self.transport.close()
            return
        if self._current_request is not None:
            _fail_body(self._current_request.content)
        self._loop.call_later(POLL_INTERVAL, self._watch)


def _fail_body(body: Any) -> None:
    """Raise an error in the reader of a body whose rest will not arrive."""
    if not body.is_eof() and body.exception() is None:
        body.set_exception(web.RequestPayloadError("unexpected EOF"))
