"""What goes on for long: request bodies as files, answers piece by piece.

The engine blocks: it reads files and iterates. The server must not, and a thread that waits for a client is a thread
less for others. So the event loop receives a body before a thread reads it, and an iterator is only continued, by
whichever thread is free, when the client has taken what it yielded before. Builds and transfers of images keep a
thread until they end, of a pool of their own (workers.py), and fill a short queue as fast as the client takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sized
from typing import Any, BinaryIO, Generic, TypeVar, cast

from aiohttp import web

from pylab_container.daemon.call import Call
from pylab_container.daemon.workers import Kind
from pylab_container.errors import ContainerFailed, InvalidInput, LabError, RuntimeFailed

Item = TypeVar("Item")
SizedItem = TypeVar("SizedItem", bound=Sized)
Line = dict[str, Any]
"""One JSON document of an answer that has many."""
Tell = Callable[[Line], None]
"""Takes the next line of an answer; it waits while the client is slow, and never fails."""

_LINES = {"Content-Type": "application/json"}
_SHORT = 1 << 16  # bytes: a longer body waits on disk, a shorter one in memory
_BATCH = 1 << 17  # bytes that are fetched at a time; what is fetched at once may be longer
_CHUNK = 1 << 17  # bytes that are given to the transport at a time
_WAITING = 256  # items that a function may be ahead of its client


async def received(call: Call) -> BinaryIO:
    """The whole body as a file, from its beginning. Raises InvalidInput if the client does not send all of it.

    It is received by the event loop: a client that sends slowly, or stops in the middle, holds no thread. A short
    body is in memory, a longer one in a file without a name on the data root's disk.
    """
    directory = call.engine.data.spool_directory()
    file = tempfile.SpooledTemporaryFile(_SHORT, dir=str(directory))  # noqa: SIM115 - the caller closes it
    try:
        async for piece in call.request.content.iter_any():
            if file.tell() + len(piece) > _SHORT:
                await call.step(file.write, piece)
            else:
                file.write(piece)
        await call.step(file.seek, 0)
    except BaseException as error:
        with contextlib.suppress(OSError):
            file.close()
        if isinstance(error, web.RequestPayloadError | ConnectionError):
            raise InvalidInput("unexpected EOF", hint="send as much as the request's head says") from error
        if isinstance(error, OSError):
            raise RuntimeFailed(f"cannot write {directory}: {error.strerror}", hint="free space on its disk") from error
        raise
    return cast(BinaryIO, file)


Work = Callable[[Callable[[Item], bool], threading.Event], None]
"""Blocks, and hands over items as they come; see Feed."""


async def fetched(
    call: Call, start: Callable[[], Iterable[SizedItem]], *, batch: int = _BATCH
) -> AsyncGenerator[SizedItem, None]:
    """The items of an iterable that blocks, fetched by threads some at a time.

    While the client takes what was fetched, no thread is held, whatever the client does.

    batch  how much is fetched at a time, counted by len()
    """
    items = _Items(start)
    try:
        while some := await call.step(items.some, batch):
            while some:
                yield some.popleft()
    finally:
        call.workers.submit(Kind.STREAM, items.close)


class _Items(Generic[SizedItem]):
    """An iterable, used by one thread at a time."""

    def __init__(self, start: Callable[[], Iterable[SizedItem]]) -> None:
        self._start = start
        self._items: Iterator[SizedItem] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def some(self, batch: int) -> deque[SizedItem]:
        """The next items; none at the end."""
        some: deque[SizedItem] = deque()
        with self._lock:
            if self._closed:
                return some
            if self._items is None:
                self._items = iter(self._start())
            for item in self._items:
                some.append(item)
                batch -= len(item)
                if batch <= 0:
                    break
        return some

    def close(self) -> None:
        """Close the iterable: a suspended generator holds files and mounts."""
        with self._lock:
            self._closed = True
            if isinstance(self._items, Generator):
                self._items.close()


class Feed(Generic[Item]):
    """The items that a function hands over while it runs in a thread of its own, in an event loop.

    work  gets a function that takes the next item, from any thread, and an event that is set when the client waits
          for nothing more, at which it must end soon. The first returns False once the client has disconnected

    Errors of the function are raised where its items are awaited.
    """

    def __init__(self, call: Call, work: Work[Item], *, ahead: int = _WAITING) -> None:
        """Begin. ahead: how many items may wait for a slow client. Raises Unavailable if too many have begun."""
        self._work = work
        self._ahead = ahead
        self._loop = asyncio.get_running_loop()
        self._input_ended = call.input_ended
        self._stop = threading.Event()
        self._unheard = False
        self._items: deque[Item] = deque()
        self._room = threading.Semaphore(ahead)
        self._news = asyncio.Event()
        self._ended = False
        self._running = asyncio.wrap_future(call.workers.submit(Kind.TRANSFER, self._run))
        self._running.add_done_callback(_look_at)

    async def items(self) -> AsyncGenerator[Item, None]:
        """Items as they come."""
        hearing = asyncio.ensure_future(self._hear())
        try:
            while not self._ended or self._items:
                await self._news.wait()
                self._news.clear()
                while self._items:
                    yield self._items.popleft()
                    self._room.release()
            await self._running
        finally:
            hearing.cancel()
            self._unheard = True
            self._stop.set()
            self._room.release(self._ahead)

    async def _hear(self) -> None:
        """A client that sends no more gets what there is, and then the end."""
        await self._input_ended.wait()
        self._stop.set()

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


async def send(
    call: Call,
    pieces: AsyncGenerator[bytes, None],
    *,
    content_type: str = "application/octet-stream",
    response: web.StreamResponse | None = None,
) -> web.StreamResponse:
    """Answer with pieces, each as soon as it is there. An error before the first one is an ordinary failure.

    response  the answer's beginning, which may be sent already

    After an error that comes later the connection is cut: only so does the client learn that its answer is not whole.
    """
    response = response or web.StreamResponse(headers={"Content-Type": content_type})
    try:
        await _send(call, response, _cut_up(pieces))
    except LabError as error:
        if not response.prepared:
            raise
        call.cut()
        raise ConnectionResetError(error.message) from error
    return response


async def send_lines(call: Call, documents: AsyncGenerator[Line, None], *, told: bool = True) -> web.StreamResponse:
    """Answer with JSON documents as they come: each is one line and one chunk, which many clients take for a message.

    told  the answer begins at once, and a failure is a line of it: {"errorDetail": …, "error": …}; otherwise an
          error before the first line is an ordinary failure
    """
    response = web.StreamResponse(headers=_LINES)
    if told:
        await response.prepare(call.request)
    return await _send_lines(call, response, documents, told=told)


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

    return await _send_lines(call, web.StreamResponse(headers=_LINES), Feed(call, run).items(), told=told)


async def _send_lines(
    call: Call, response: web.StreamResponse, documents: AsyncGenerator[Line, None], *, told: bool
) -> web.StreamResponse:
    try:
        async with contextlib.aclosing(documents):
            await _send(call, response, (line(document) async for document in documents))
    except LabError as error:
        if not told and not response.prepared:
            raise
        if not response.prepared:
            await response.prepare(call.request)
        await response.write(line(error_line(error)))
        await response.write_eof()
    return response


async def _send(call: Call, response: web.StreamResponse, pieces: AsyncGenerator[bytes, None]) -> None:
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            if not response.prepared:
                await response.prepare(call.request)
            await response.write(piece)
    if not response.prepared:
        await response.prepare(call.request)
    await response.write_eof()


async def _cut_up(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same bytes in pieces of which the transport may keep a copy for a slow client."""
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            for start in range(0, len(piece), _CHUNK):
                yield piece[start : start + _CHUNK]


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
