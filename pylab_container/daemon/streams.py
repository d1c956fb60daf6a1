"""Request bodies as files, and streamed answers, with back-pressure and without a thread that waits for a client.

The engine blocks: it reads files and runs iterators. The event loop must not block, and a thread that waits for a slow
client is lost to other requests. So the event loop receives a whole body before a thread reads it. A thread of the pool
continues an iterator only when the client has taken the previous items. Builds and transfers of images keep a thread of
their own pool (workers.py) until they end; they fill a bounded queue as fast as the client reads.
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
"""One JSON document of an answer that consists of many."""
PutLine = Callable[[Line], None]
"""Appends a line to an answer. It blocks while the client is slow, and never raises."""

_LINES = {"Content-Type": "application/json"}
MEMORY_LIMIT = 1 << 16  # bytes; a longer body is spooled to disk
BATCH_SIZE = 1 << 17  # bytes that a thread fetches at a time; the last item may exceed it
CHUNK_SIZE = 1 << 17  # bytes that the transport gets at a time
QUEUE_LENGTH = 256  # items that a function may be ahead of its client


async def received(call: Call) -> BinaryIO:
    """Receive the whole body and return it as a file at position 0.

    The event loop receives it, so a client that sends slowly or stops holds no thread. A short body stays in memory; a
    longer one is an unlinked file on the disk of the data root.

    Raises InvalidInput if the body is incomplete.
    """
    directory = call.engine.data.spool_directory()
    file = tempfile.SpooledTemporaryFile(MEMORY_LIMIT, dir=str(directory))  # noqa: SIM115 - the caller closes it
    try:
        async for piece in call.request.content.iter_any():
            if file.tell() + len(piece) > MEMORY_LIMIT:
                await call.step(file.write, piece)
            else:
                file.write(piece)
        await call.step(file.seek, 0)
    except BaseException as error:
        with contextlib.suppress(OSError):
            file.close()
        if isinstance(error, web.RequestPayloadError | ConnectionError):
            raise InvalidInput("unexpected EOF", hint="send as many bytes as Content-Length says") from error
        if isinstance(error, OSError):
            raise RuntimeFailed(f"cannot write {directory}: {error.strerror}", hint="free space on its disk") from error
        raise
    return cast(BinaryIO, file)


Work = Callable[[Callable[[Item], bool], threading.Event], None]
"""A blocking function that produces items; see Feed."""


async def fetched(
    call: Call, start: Callable[[], Iterable[SizedItem]], *, batch: int = BATCH_SIZE
) -> AsyncGenerator[SizedItem, None]:
    """Yield the items of a blocking iterable, which threads fetch in batches.

    No thread is held while the client takes a batch.

    batch  size of a batch: the sum of len() of its items
    """
    items = _Items(start)
    try:
        while ready := await call.step(items.next_batch, batch):
            while ready:
                yield ready.popleft()
    finally:
        call.workers.submit(Kind.STREAM, items.close)


class _Items(Generic[SizedItem]):
    """An iterable that only one thread at a time continues."""

    def __init__(self, start: Callable[[], Iterable[SizedItem]]) -> None:
        self._start = start
        self._items: Iterator[SizedItem] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def next_batch(self, batch: int) -> deque[SizedItem]:
        """Return the next items; an empty deque at the end."""
        ready: deque[SizedItem] = deque()
        with self._lock:
            if self._closed:
                return ready
            if self._items is None:
                self._items = iter(self._start())
            for item in self._items:
                ready.append(item)
                batch -= len(item)
                if batch <= 0:
                    break
        return ready

    def close(self) -> None:
        """Close the iterable. A suspended generator would keep its files and mounts."""
        with self._lock:
            self._closed = True
            if isinstance(self._items, Generator):
                self._items.close()


class Feed(Generic[Item]):
    """A bounded queue from a function in a thread to the event loop.

    work  the function. It gets put(item), which any thread may call and which returns False once the client has
          disconnected, and an event that is set when the client needs no further items: then it must end soon

    Errors of the function are raised where its items are awaited.
    """

    def __init__(self, call: Call, work: Work[Item], *, ahead: int = QUEUE_LENGTH) -> None:
        """Start the function. ahead: length of the queue.

        Raises Unavailable if all threads for transfers are busy.
        """
        self._work = work
        self._ahead = ahead
        self._loop = asyncio.get_running_loop()
        self._input_ended = call.input_ended
        self._stop = threading.Event()
        self._abandoned = False
        self._items: deque[Item] = deque()
        self._free_slots = threading.Semaphore(ahead)
        self._changed = asyncio.Event()
        self._ended = False
        self._running = asyncio.wrap_future(call.workers.submit(Kind.TRANSFER, self._run))
        self._running.add_done_callback(_retrieve_error)

    async def items(self) -> AsyncGenerator[Item, None]:
        """Yield the items in order, and raise the function's error after the last one."""
        stopping = asyncio.ensure_future(self._stop_after_input())
        try:
            while not self._ended or self._items:
                await self._changed.wait()
                self._changed.clear()
                while self._items:
                    yield self._items.popleft()
                    self._free_slots.release()
            await self._running
        finally:
            stopping.cancel()
            self._abandoned = True
            self._stop.set()
            self._free_slots.release(self._ahead)

    async def _stop_after_input(self) -> None:
        """Stop the function when the client half-closes the connection.

        The client still gets the items so far.
        """
        await self._input_ended.wait()
        self._stop.set()

    def _run(self) -> None:
        try:
            self._work(self._put, self._stop)
        finally:
            self._loop.call_soon_threadsafe(self._end)

    def _put(self, item: Item) -> bool:
        self._free_slots.acquire()
        if self._abandoned:
            self._free_slots.release()
            return False
        self._items.append(item)
        self._loop.call_soon_threadsafe(self._changed.set)
        return True

    def _end(self) -> None:
        self._ended = True
        self._changed.set()


def _retrieve_error(future: asyncio.Future[None]) -> None:
    """Mark an error as retrieved.

    After a disconnect nothing awaits it, and asyncio would log a warning.
    """
    if not future.cancelled():
        future.exception()


async def send(
    call: Call,
    pieces: AsyncGenerator[bytes, None],
    *,
    content_type: str = "application/octet-stream",
    response: web.StreamResponse | None = None,
) -> web.StreamResponse:
    """Answer with pieces, each as soon as it is available.

    An error before the first piece is an ordinary failure. A later error aborts the connection: the client would
    otherwise take a truncated answer for a complete one.

    response  the head of the answer, which may have been sent already
    """
    response = response or web.StreamResponse(headers={"Content-Type": content_type})
    try:
        await _send(call, response, _in_chunks(pieces))
    except LabError as error:
        if not response.prepared:
            raise
        call.abort()
        raise ConnectionResetError(error.message) from error
    return response


async def send_lines(
    call: Call, documents: AsyncGenerator[Line, None], *, errors_in_stream: bool = True
) -> web.StreamResponse:
    """Answer with JSON documents, each as one line in one HTTP chunk.

    Many clients take a chunk for a message.

    errors_in_stream  send the head of the answer at once, and a failure as a line: {"errorDetail": …, "error": …};
                      otherwise an error before the first line is an ordinary failure
    """
    response = web.StreamResponse(headers=_LINES)
    if errors_in_stream:
        await response.prepare(call.request)
    return await _send_lines(call, response, documents, errors_in_stream=errors_in_stream)


async def send_produced(
    call: Call, work: Callable[[PutLine, threading.Event], None], *, errors_in_stream: bool = True
) -> web.StreamResponse:
    """Answer with the lines of a blocking function, which must end soon after its event is set.

    The head of the answer is sent with the first line or failure: skopeo stops sending when the answer begins.
    """

    def run(put: Callable[[Line], bool], stop: threading.Event) -> None:
        def put_line(document: Line) -> None:
            put(document)

        work(put_line, stop)

    return await _send_lines(
        call, web.StreamResponse(headers=_LINES), Feed(call, run).items(), errors_in_stream=errors_in_stream
    )


async def _send_lines(
    call: Call, response: web.StreamResponse, documents: AsyncGenerator[Line, None], *, errors_in_stream: bool
) -> web.StreamResponse:
    try:
        async with contextlib.aclosing(documents):
            await _send(call, response, (line(document) async for document in documents))
    except LabError as error:
        if not errors_in_stream and not response.prepared:
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


async def _in_chunks(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Divide large pieces.

    The transport keeps a copy of each piece until a slow client has taken it.
    """
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            for start in range(0, len(piece), CHUNK_SIZE):
                yield piece[start : start + CHUNK_SIZE]


def line(document: Line) -> bytes:
    """Serialize a document as one line of an answer. Clients expect CR and LF at its end."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\r\n"


def error_line(error: LabError) -> Line:
    """Return a failure as Docker's JSONMessage, with the exit status of a failed command."""
    code = {"code": error.status} if isinstance(error, ContainerFailed) else {}
    return {"errorDetail": {**code, "message": error.message}, "error": error.message}


async def readable(fd: int) -> None:
    """Wait until a descriptor is readable."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
