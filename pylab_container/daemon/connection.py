"""A client's connection while it speaks HTTP: one that sends no more may still listen.

aiohttp takes the end of what a client sends for the end of the client. Go's server does not (net/http, conn.serve):
it answers, and only lets the handler know, so that dockerd ends what would wait for something: it follows a log or
the events no longer, and gives builds and pulls up. So does ours.
"""

from __future__ import annotations

import asyncio
import select
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

_LOOK = 0.02  # seconds between two looks whether who sends no more is still there, and has been answered


def gone(fd: int) -> bool:
    """Whether nobody is at a socket's other end any more; who has only closed his direction still listens.

    A TCP connection does not tell these two apart, until something is sent.
    """
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))  # POLLHUP and POLLERR, which nobody asks for: poll(2)


class Connection(RequestHandler):
    """aiohttp's, kept open until all is answered that was asked."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.input_ended = asyncio.Event()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads what it returns
        """The client sends no more; whether the transport stays open."""
        if self._payload_parser is not None or self._is_done():  # a websocket says itself when it ends
            return False
        self.input_ended.set()
        self._watch()
        return True

    def _is_done(self) -> bool:
        """Whether no answer is under way, or nobody to get it."""
        idle = self._waiter is not None and not self._waiter.done()
        return idle or self.transport is None or gone(self.transport.get_extra_info("socket").fileno())

    def _watch(self) -> None:
        if self.transport is None or self.transport.get_protocol() is not self:
            return  # it is closed, or hijacked
        if self._is_done():
            self.transport.close()
            return
        if self._current_request is not None:
            _cut(self._current_request.content)
        self._loop.call_later(_LOOK, self._watch)


def _cut(body: Any) -> None:
    """Tell who reads a body that the rest of it will not come."""
    if not body.is_eof() and body.exception() is None:
        body.set_exception(web.RequestPayloadError("unexpected EOF"))
