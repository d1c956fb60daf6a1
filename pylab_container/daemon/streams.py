"""What goes on for long: request bodies as files, answers piece by piece.

The engine blocks: it reads files and iterates. The server must not. So a body is a file that a thread reads while
the loop receives it, and an iterator runs in a thread that fills a short queue, as fast as the client takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from typing import Any, BinaryIO, Generic, TypeVar, cast

from aiohttp import web

from pylab_container.daemon.call import WORKERS, Call
from pylab_container.errors import ContainerFailed, InvalidInput, LabError

Item = TypeVar("Item")
Line = dict[str, Any]
"""One JSON document of an answer that has many."""
Tell = Callable[[Line], None]
"""Takes the next line of an answer; it waits while the client is slow, and never fails."""

_PIECE = 1 << 18  # bytes of a body that are fetched at a time
_LINES = {"Content-Type": "application/json"}
_WAITING = 256  # items that an iterator may be ahead of its client
_PIECES = 4  # the same of pieces of an archive, which have a megabyte each


class Body(io.RawIOBase):
    """A request's body as a file, for the threads of the engine; each read waits for the client."""

    def __init__(self, call: Call) -> None:
        self._content = call.request.content
        self._loop = asyncio.get_running_loop()
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._ended:  # readers of archives look for more several times, and aiohttp takes that for a loop
            return 0
        view = memoryview(buffer).cast("B")
        future = asyncio.run_coroutine_threadsafe(self._content.read(min(len(view), _PIECE)), self._loop)
        try:
            data = future.result()
        except (OSError, asyncio.CancelledError, web.RequestPayloadError) as error:
            raise InvalidInput("the request's body ended early", hint="the client went away") from error
        self._ended = len(view) > 0 and not data
        view[: len(data)] = data
        return len(data)


def body_file(call: Call) -> BinaryIO:
    """The body as a file with a buffer."""
    return cast(BinaryIO, io.BufferedReader(Body(call), _PIECE))


Work = Callable[[Callable[[Item], bool], threading.Event], None]
"""Blocks, and hands over items as they come; see Feed."""


class Feed(Generic[Item]):
    """The items of something that blocks, in an event loop.

    start  makes an iterable, in a thread of its own; it gets an event that is set when nobody waits for what is
           still to happen, which an iterable that waits must look at

    Errors of the iterable are raised where its items are awaited.
    """

    def __init__(
        self, call: Call, start: Callable[[threading.Event], Iterable[Item]], *, ahead: int = _WAITING
    ) -> None:
        """ahead: how many items may wait for a slow client."""
        self._work = _iterating(start)
        self._ahead = ahead
        self._loop = asyncio.get_running_loop()
        self._workers = call.request.app[WORKERS]
        self._input_ended = call.input_ended
        self._stop = threading.Event()
        self._unheard = False
        self._items: deque[Item] = deque()
        self._room = threading.Semaphore(ahead)
        self._news = asyncio.Event()
        self._ended = False

    @classmethod
    def of(cls, call: Call, work: Work[Item]) -> Feed[Item]:
        """The same of a function that tells its items while it goes on, from any thread: it gets a function
        that takes the next one, and the event. What that returns is False once nobody listens any more."""
        feed = cls(call, lambda _: ())
        feed._work = work
        return feed

    async def batches(self) -> AsyncGenerator[list[Item], None]:
        """Items as they come: all that are there at once."""
        running = self._loop.run_in_executor(self._workers, self._run)
        running.add_done_callback(_look_at)
        hearing = asyncio.ensure_future(self._hear())
        try:
            while not self._ended or self._items:
                await self._news.wait()
                self._news.clear()
                if batch := self._take():
                    yield batch
            await running
        finally:
            hearing.cancel()
            self._unheard = True
            self._stop.set()
            self._room.release(self._ahead)

    async def _hear(self) -> None:
        """A client that sends no more gets what there is, and then the end."""
        await self._input_ended.wait()
        self._stop.set()

    def _take(self) -> list[Item]:
        batch = []
        while self._items:
            batch.append(self._items.popleft())
            self._room.release()
        return batch

    def _run(self) -> None:
        try:
            self._work(self._put, self._stop)
        finally:
            self._loop.call_soon_threadsafe(self._end)

    def _put(self, item: Item) -> bool:
        self._room.acquire()
        if self._unheard:
            self._room.release()
            return False
        self._items.append(item)
        self._loop.call_soon_threadsafe(self._news.set)
        return True

    def _end(self) -> None:
        self._ended = True
        self._news.set()


def _look_at(future: asyncio.Future[None]) -> None:
    """An error that comes when the client has gone is nobody's: asyncio would complain that it was not looked at."""
    if not future.cancelled():
        future.exception()


def _iterating(start: Callable[[threading.Event], Iterable[Item]]) -> Work[Item]:
    def work(put: Callable[[Item], bool], stop: threading.Event) -> None:
        items = iter(start(stop))
        try:
            for item in items:
                if not put(item):
                    return
        finally:
            # A generator that nobody wants to the end holds files and mounts until it is closed.
            if isinstance(items, Generator):
                items.close()

    return work


async def send(
    call: Call,
    start: Callable[[threading.Event], Iterable[bytes]],
    *,
    content_type: str = "application/octet-stream",
    response: web.StreamResponse | None = None,
) -> web.StreamResponse:
    """Answer with what a blocking iterable yields. An error before the first piece is an ordinary failure.

    response  the answer's beginning, which may be sent already

    After one that comes later the connection is cut: only so does the client learn that its answer is not whole.
    """
    response = response or web.StreamResponse(headers={"Content-Type": content_type})
    try:
        await _send(call, response, Feed(call, start, ahead=_PIECES), b"".join)
    except LabError as error:
        if not response.prepared:
            raise
        call.cut()
        raise ConnectionResetError(error.message) from error
    return response


async def send_lines(
    call: Call, start: Callable[[threading.Event], Iterable[Line]], *, told: bool = True
) -> web.StreamResponse:
    """Answer with JSON documents, one a line, as the engine tells them.

    told  the answer begins at once, and a failure is a line of it: {"errorDetail": …, "error": …}; otherwise an
          error before the first line is an ordinary failure
    """
    response = web.StreamResponse(headers=_LINES)
    if told:
        await response.prepare(call.request)
    return await _send_lines(call, response, Feed(call, start), told=told)


async def send_told(
    call: Call, work: Callable[[Tell, threading.Event], None], *, told: bool = True
) -> web.StreamResponse:
    """The same of a function that tells its lines while it goes on, and must end soon when the event is set.

    The answer begins with the first line, or the failure: skopeo takes its beginning for the end of what it sends.
    """

    def run(put: Callable[[Line], bool], stop: threading.Event) -> None:
        def tell(told: Line) -> None:
            put(told)

        work(tell, stop)

    return await _send_lines(call, web.StreamResponse(headers=_LINES), Feed.of(call, run), told=told)


async def _send_lines(call: Call, response: web.StreamResponse, feed: Feed[Line], *, told: bool) -> web.StreamResponse:
    try:
        await _send(call, response, feed, lambda batch: b"".join(map(line, batch)))
    except LabError as error:
        if not told and not response.prepared:
            raise
        if not response.prepared:
            await response.prepare(call.request)
        await response.write(line(error_line(error)))
        await response.write_eof()
    return response


async def _send(
    call: Call, response: web.StreamResponse, feed: Feed[Item], join: Callable[[list[Item]], bytes]
) -> None:
    async with contextlib.aclosing(feed.batches()) as batches:
        async for batch in batches:
            if not response.prepared:
                await response.prepare(call.request)
            await response.write(join(batch))
    if not response.prepared:
        await response.prepare(call.request)
    await response.write_eof()


def line(document: Line) -> bytes:
    """A document as one line of an answer; clients look for both characters of its end."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\r\n"


def error_line(error: LabError) -> Line:
    """A failure in the middle of an answer, as Docker's JSONMessage has it: with the status of a failed command."""
    code = {"code": error.status} if isinstance(error, ContainerFailed) else {}
    return {"errorDetail": {**code, "message": error.message}, "error": error.message}


async def readable(fd: int) -> None:
    """Wait until a descriptor can be read."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
