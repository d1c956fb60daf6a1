"""Containers, what goes on for long: attaching, logs, waiting, stats, and the whole file system as a tar."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator

from aiohttp import WSMsgType, web
from msgspec.structs import replace

from pylab_container.daemon.application import Route
from pylab_container.daemon.attaching import Client, Wish, asked, detach_keys, pump, until_gone
from pylab_container.daemon.call import Call, Json, answer
from pylab_container.daemon.container_documents import measured
from pylab_container.daemon.containers import find
from pylab_container.daemon.hijack import MULTIPLEXED, RAW, Taken, frame, hijack
from pylab_container.daemon.sharing import SHARING, Share
from pylab_container.daemon.starts import STARTS, hand_over
from pylab_container.daemon.streams import Feed, readable, send, send_lines
from pylab_container.engine.containers import stats as usage
from pylab_container.engine.containers import waiting
from pylab_container.engine.containers.container import Container, ContainerRecord, LogLine
from pylab_container.engine.filters import searcher
from pylab_container.errors import Conflict, ContainerNotFound, InvalidInput, LabError
from pylab_container.formats.lifecycle import ALIVE, State
from pylab_container.formats.logdriver import log_details
from pylab_container.formats.timestamps import moment

_CLOSING = 1.0  # seconds that a websocket's client gets to say goodbye

# ---- attach --------------------------------------------------------------------------------------


async def attach(call: Call) -> web.StreamResponse:
    """Connect the client with its streams, from now on or from its next start on."""
    try:
        detach_keys(call.text("detachKeys"))
        container = await find(call)
        record = await _attachable(call, container)
    except LabError as error:  # dockerd has taken the connection over by then, and says it in its own way
        headers = {"Content-Type": RAW, "Connection": "close"}
        return web.Response(status=error.http_status, text=f"{error.message}\r\n", headers=headers)
    tty = bool(record.config.get("Tty"))
    wish = asked(call, tty=tty, once=_is_for_once(record))
    async with call.request.app[STARTS].expect(container.id) as future:
        client = hijack(call, _content_type(call, tty=tty))
        await _serve(call, container, client, wish, record, future)
        client.close()
    return Taken()


async def attach_websocket(call: Call) -> web.StreamResponse:
    """The same in a websocket, whose messages are the bytes as they are."""
    container = await find(call)
    record = await _attachable(call, container)
    wish = asked(call, tty=True, once=_is_for_once(record))
    if call.before("1.42") or not wish.shown:  # until then all were meant, whatever was said
        wish = replace(wish, shown=("stdout", "stderr"), stdin=True)
    response = web.WebSocketResponse(timeout=_CLOSING)
    if not response.can_prepare(call.request):
        raise InvalidInput("not websocket protocol", hint="Upgrade: websocket")
    async with call.request.app[STARTS].expect(container.id) as future:
        await response.prepare(call.request)
        await _serve(call, container, _Websocket(response, texts=call.before("1.28")), wish, record, future)
        await response.close()
    return response


def _is_for_once(record: ContainerRecord) -> bool:
    """Whether the input ends with the first client that gave some."""
    return bool(record.config.get("StdinOnce")) and not record.config.get("Tty")


async def _attachable(call: Call, container: Container) -> ContainerRecord:
    """The record of a container that can be attached to. Raises Conflict."""
    record = await call.run(lambda: container.record)
    if record.state is State.PAUSED:
        raise Conflict(
            f"container {call.name} is paused, unpause the container before attach", hint=f"labctr unpause {call.name}"
        )
    if record.state is State.RESTARTING:
        raise Conflict(
            f"container {call.name} is restarting, wait until the container is running before attach", hint="wait"
        )
    return record


async def _serve(
    call: Call,
    container: Container,
    client: Client,
    wish: Wish,
    record: ContainerRecord,
    future: asyncio.Future[Share | None],
) -> None:
    """Send the log, if it is asked for, and connect; what fails now can only end the stream."""
    with contextlib.suppress(LabError, ConnectionError):
        if record.state in ALIVE:
            hand_over(future, await call.request.app[SHARING].join(call, container))
        if call.flag("logs"):
            await _send_log(call, container, client, wish)
        if call.flag("stream"):
            await _connect(call, container, client, wish, record, future)


async def _connect(
    call: Call,
    container: Container,
    client: Client,
    wish: Wish,
    record: ContainerRecord,
    future: asyncio.Future[Share | None],
) -> None:
    starts = call.request.app[STARTS]
    coming = asyncio.ensure_future(starts.attached(call, container, future, record.started_at))
    gone = asyncio.ensure_future(until_gone(client))
    try:
        await asyncio.wait({gone, coming}, return_when=asyncio.FIRST_COMPLETED)
        streams = coming.result() if coming.done() else None
    finally:
        gone.cancel()
        coming.cancel()
    if streams:
        await pump(client, streams, wish)


def _content_type(call: Call, *, tty: bool) -> str:
    return RAW if tty or call.before("1.42") else MULTIPLEXED


class _Websocket:
    """A websocket as a client of pump(). Its messages are texts for clients of 1.27 and older."""

    def __init__(self, response: web.WebSocketResponse, *, texts: bool) -> None:
        self._response = response
        self._texts = texts

    async def receive(self) -> bytes:
        while True:
            message = await self._response.receive()
            if message.type is WSMsgType.BINARY:
                return bytes(message.data)
            if message.type is WSMsgType.TEXT:
                return str(message.data).encode()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return b""

    async def send(self, data: bytes) -> None:
        if self._texts:
            await self._response.send_str(data.decode(errors="replace"))
        else:
            await self._response.send_bytes(data)

    @property
    def gone(self) -> bool:
        return self._response.closed


# ---- logs ----------------------------------------------------------------------------------------


async def logs(call: Call) -> web.StreamResponse:
    """What it has printed; with follow, until its end."""
    shown = [name for name in ("stdout", "stderr") if call.flag(name)]
    if not shown:
        raise InvalidInput("Bad parameters: you must choose at least one stream", hint="send stdout=1 or stderr=1")
    container = await find(call)
    record = await call.run(lambda: container.record)
    tty = bool(record.config.get("Tty"))
    options = record.host_config.get("LogConfig") or {}
    details = log_details(options, record.config, searcher) if call.flag("details") else ""
    follow, asked_for = call.flag("follow"), _LogOptions(call, shown, tty=tty, details=details)
    response = web.StreamResponse(headers={"Content-Type": _content_type(call, tty=tty)})
    lines = await call.run(asked_for.lines, container)
    if follow:
        await response.prepare(call.request)  # the client waits for it, however long nothing is printed
    return await send(call, lines, response=response)


class _LogOptions:
    """Which lines of a log are wanted, and how they are shown."""

    def __init__(self, call: Call, shown: list[str], *, tty: bool, details: str) -> None:
        self._shown = shown
        self._tty = tty
        self._follow = call.flag("follow")
        self._times = call.flag("timestamps")
        self._details = details.encode()
        tail = call.text("tail")
        self._tail = int(tail) if tail.isascii() and tail.isdigit() else None
        self._since, self._until = _moment(call, "since"), _moment(call, "until")

    def lines(self, container: Container) -> Callable[[threading.Event], Iterator[bytes]]:
        """Begin to read; what does that piece by piece. Raises Conflict where there is no log."""

        def read(stop: threading.Event) -> Iterator[bytes]:
            lines = container.log_lines(
                follow=self._follow, tail=self._tail, since=self._since, until=self._until, stop=stop
            )
            return (self._rendered(line) for line in lines if line.stream in self._shown)

        return read

    def _rendered(self, line: LogLine) -> bytes:
        time = line.time.encode() + b" " if self._times else b""
        data = time + self._details + line.data
        return data if self._tty else frame(line.stream, data)


def _moment(call: Call, name: str) -> float | None:
    """A point in time in seconds since 1970; 0 is none. Raises InvalidInput."""
    text = call.text(name)
    return (moment(text, now=time.time()) or None) if text else None


async def _send_log(call: Call, container: Container, client: Client, wish: Wish) -> None:
    def read(_: threading.Event) -> Iterator[bytes]:
        ended = container.record.state not in ALIVE
        # As in dockerd, a line is in the log once it has ended.
        whole = (line for line in container.log_lines() if ended or line.data.endswith(b"\n"))
        lines = (line for line in whole if line.stream in wish.shown)
        return (line.data if wish.raw else frame(line.stream, line.data) for line in lines)

    async for batch in Feed(call, read).batches():
        await client.send(b"".join(batch))


# ---- the end ---------------------------------------------------------------------------------------


_CONDITIONS = ("not-running", "next-exit", "removed")


async def wait(call: Call) -> web.StreamResponse:
    """Wait until it does not run, for its next end, or until it is removed; its exit status."""
    container, condition = await find(call), _condition(call)
    first = await call.run(lambda: container.record)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    if not call.before("1.30"):
        # At once: docker starts the container only when it knows that its end will not be missed.
        await response.prepare(call.request)
    document: Json = {"Error": None} if call.before("1.42") else {}
    try:
        status = await _while_asked(call, _until(call, container, first, condition))
        document |= (
            {"StatusCode": -1, "Error": {"Message": "context canceled"}} if status is None else {"StatusCode": status}
        )
    except LabError as error:
        if not response.prepared:
            raise
        document |= {"StatusCode": error.exit_code, "Error": {"Message": error.message}}
    if not response.prepared:
        await response.prepare(call.request)
    await response.write(json.dumps(document).encode() + b"\n")
    await response.write_eof()
    return response


async def _while_asked(call: Call, waiting: Coroutine[None, None, int]) -> int | None:
    """Wait as long as the client has not ended its input; None once it has, as dockerd does."""
    status, ended = asyncio.ensure_future(waiting), asyncio.ensure_future(call.input_ended.wait())
    try:
        await asyncio.wait({status, ended}, return_when=asyncio.FIRST_COMPLETED)
        return status.result() if status.done() else None
    finally:
        status.cancel()
        ended.cancel()


def _condition(call: Call) -> str:
    """What is waited for. Raises InvalidInput for what means nothing; until 1.41 that was the default."""
    condition = call.text_since("1.30", "condition")
    if condition in _CONDITIONS:
        return condition
    if condition and not call.before("1.42"):
        raise InvalidInput(f'invalid condition: "{condition}"', hint=f"there are {', '.join(_CONDITIONS)}")
    return "not-running"


async def _until(call: Call, container: Container, first: ContainerRecord, condition: str) -> int:
    """Wait for the condition; the exit status of the last run. first: its record when the client asked."""
    record = first
    while True:
        if record.state in ALIVE:
            status = await _end_of_run(call, record)
            if condition != "removed":
                return status
        elif condition == "not-running" and record.state is not State.RESTARTING:
            return record.exit_code
        elif condition == "next-exit" and record.started_at != first.started_at:
            return record.exit_code  # a run came and went between two looks
        else:
            await call.request.app[STARTS].news(container.id)
        try:
            record = await call.run(lambda: container.record)
        except ContainerNotFound:
            with contextlib.suppress(ContainerNotFound):
                return await call.run(waiting.status_of_removed, call.engine, container.id)
            return 0  # it never ran


async def _end_of_run(call: Call, record: ContainerRecord) -> int:
    """Wait for the end of a run, without a thread; its exit status."""
    with contextlib.suppress(ProcessLookupError):
        fd = waiting.process_descriptor(call.engine, record)  # not in a thread, where it would be lost with us
        try:
            await readable(fd)
        finally:
            os.close(fd)
    return await call.run(waiting.status_of_run, call.engine, record)


# ---- what it uses, and what it holds -----------------------------------------------------------------


async def stats(call: Call) -> web.StreamResponse:
    """What it uses: once, or once a second."""
    container = await find(call)
    if call.flag("stream", default=True):
        if call.flag("one-shot"):
            raise InvalidInput("cannot have stream=true and one-shot=true", hint="send stream=0")
        return await send_lines(call, lambda stop: _until_removed(call, container, stop), told=False)
    if call.flag("one-shot") and not call.before("1.41"):
        return answer(await call.run(usage.sample, call.engine, container.id))
    return answer(measured(await call.run(container.stats_snapshot), call.version))


def _until_removed(call: Call, container: Container, stop: threading.Event) -> Iterator[Json]:
    with contextlib.suppress(ContainerNotFound):
        yield from (measured(one, call.version) for one in container.stats(stop=stop))


async def export(call: Call) -> web.StreamResponse:
    """Its whole file system as a tar."""
    container = await find(call)
    return await send(call, lambda _: container.export())


ROUTES = (
    Route("POST", "/containers/{name}/attach", attach, streams=True),
    Route("GET", "/containers/{name}/attach/ws", attach_websocket),
    Route("GET", "/containers/{name}/logs", logs),
    Route("POST", "/containers/{name}/wait", wait),
    Route("GET", "/containers/{name}/stats", stats),
    Route("GET", "/containers/{name}/export", export),
)
