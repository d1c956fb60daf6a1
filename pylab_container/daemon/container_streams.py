"""/containers, streamed answers: attach, logs, wait, stats, and export."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterator
from typing import Any

from aiohttp import WSMsgType, web
from msgspec.structs import replace

from pylab_container.containers import waiting
from pylab_container.daemon.application import Route
from pylab_container.daemon.attaching import (
    Client,
    StreamOptions,
    detach_keys,
    pump,
    stream_options,
    until_disconnected,
)
from pylab_container.daemon.call import Call, answer
from pylab_container.daemon.container_documents import measured
from pylab_container.daemon.containers import find
from pylab_container.daemon.hijack import MULTIPLEXED, RAW, HijackedResponse, frame, hijack
from pylab_container.daemon.sampling import SAMPLING, sample
from pylab_container.daemon.sharing import SHARING, Share
from pylab_container.daemon.starts import STARTS, deliver
from pylab_container.daemon.streams import fetched, readable, send, send_lines
from pylab_container.daemon.watching import following
from pylab_container.docker import stats as usage
from pylab_container.docker.filters import searcher
from pylab_container.engine.container import Container, ContainerRecord, LogLine, LogReader
from pylab_container.errors import Conflict, ContainerNotFound, InvalidInput, LabError
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import ALIVE, State
from pylab_container.runtime.logdriver import damage_notice, log_details
from pylab_container.text.timestamps import NEVER, moment

CLOSE_TIMEOUT = 1.0  # seconds for the closing handshake of a websocket
LOG_POLL_INTERVAL = 0.02  # seconds between checks whether the log of an exited process is complete

# ---- attach --------------------------------------------------------------------------------------


async def attach(call: Call) -> web.StreamResponse:
    """POST /containers/NAME/attach: connect the client to its streams, now or at its next start."""
    try:
        detach_keys(call.text("detachKeys"))
        container = await find(call)
        record = await _attachable(call, container)
    except LabError as error:  # dockerd has hijacked the connection by then and answers with text
        headers = {"Content-Type": RAW, "Connection": "close"}
        return web.Response(status=error.http_status, text=f"{error.message}\r\n", headers=headers)
    tty = record.config.tty
    options = stream_options(call, tty=tty, once=_is_for_once(record))
    async with call.request.app[STARTS].expect(container.id) as future:
        client = hijack(call, _content_type(call, tty=tty))
        await _serve(call, container, client, options, record, future)
        client.close()
    return HijackedResponse()


async def attach_websocket(call: Call) -> web.StreamResponse:
    """GET /containers/NAME/attach/ws: attach through a websocket, whose messages are raw output."""
    container = await find(call)
    record = await _attachable(call, container)
    options = stream_options(call, tty=True, once=_is_for_once(record))
    if call.before("1.42") or not options.shown:  # before 1.42 dockerd ignores the parameters and connects all
        options = replace(options, shown=("stdout", "stderr"), stdin=True)
    response = web.WebSocketResponse(timeout=CLOSE_TIMEOUT)
    if not response.can_prepare(call.request):
        raise InvalidInput("not websocket protocol", hint="send the header Upgrade: websocket")
    async with call.request.app[STARTS].expect(container.id) as future:
        await response.prepare(call.request)
        await _serve(call, container, _Websocket(response, texts=call.before("1.28")), options, record, future)
        await response.close()
    return response


def _is_for_once(record: ContainerRecord) -> bool:
    """Return whether the process's input ends with its first client (StdinOnce)."""
    return record.config.stdin_once and not record.config.tty


async def _attachable(call: Call, container: Container) -> ContainerRecord:
    """Return the container's record. Raises Conflict for a state that cannot be attached to."""
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
    options: StreamOptions,
    record: ContainerRecord,
    future: asyncio.Future[Share | None],
) -> None:
    """Send the log if requested, and connect the streams.

    The answer has begun, so an error only ends the stream.
    """
    with contextlib.suppress(LabError, ConnectionError):
        if record.state in ALIVE:
            deliver(future, await call.request.app[SHARING].join(call, container))
        if call.flag("logs"):
            await _send_log(call, container, client, options)
        if call.flag("stream"):
            await _connect(call, container, client, options, record, future)


async def _connect(
    call: Call,
    container: Container,
    client: Client,
    options: StreamOptions,
    record: ContainerRecord,
    future: asyncio.Future[Share | None],
) -> None:
    starts = call.request.app[STARTS]
    joining = asyncio.ensure_future(starts.attached(call, container, future, record.started_at))
    leaving = asyncio.ensure_future(until_disconnected(client))
    try:
        await asyncio.wait({leaving, joining}, return_when=asyncio.FIRST_COMPLETED)
        streams = joining.result() if joining.done() else None
    finally:
        leaving.cancel()
        joining.cancel()
    if streams:
        await pump(client, streams, options)


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
    def disconnected(self) -> bool:
        return self._response.closed


# ---- logs ----------------------------------------------------------------------------------------


async def logs(call: Call) -> web.StreamResponse:
    """GET /containers/NAME/logs: its log; with follow, until it exits."""
    shown = [name for name in ("stdout", "stderr") if call.flag(name)]
    if not shown:
        raise InvalidInput("Bad parameters: you must choose at least one stream", hint="send stdout=1 or stderr=1")
    container = await find(call)
    record = await call.run(lambda: container.record)
    tty = record.config.tty
    options = record.host_config.log_config
    details = log_details(options, record.config, searcher) if call.flag("details") else ""
    log = _LogView(await call.run(_log_reader, call, container), shown, _rendering(call, tty=tty, details=details))
    response = web.StreamResponse(headers={"Content-Type": _content_type(call, tty=tty)})
    if call.flag("follow"):
        await response.prepare(call.request)  # the client waits for the head even while there is no output
    follows = call.flag("follow") and record.state in ALIVE
    pieces = _followed(call, container, record, log) if follows else fetched(call, log.all)
    return await send(call, pieces, response=response)


class _LogView:
    """Renders a log as bytes for a client."""

    def __init__(self, reader: LogReader, shown: Collection[str], rendered: Callable[[LogLine], bytes]) -> None:
        self.reader = reader
        self._shown = shown
        self._rendered = rendered

    def new(self) -> Iterator[bytes]:
        """Yield the lines that were completed since the last call."""
        return (self._rendered(line) for line in self.reader.new() if line.stream in self._shown)

    def rest(self) -> Iterator[bytes]:
        """Yield the incomplete last lines, and a notice if lines could not be read."""
        for line in self.reader.rest():
            if line.stream in self._shown:
                yield self._rendered(line)
        if self.reader.damaged:  # as dockerd does, on standard error
            notice = f"{damage_notice(self.reader.damaged)}\n".encode()
            yield self._rendered(LogLine(NEVER, "stderr", notice, continued=True))

    def all(self) -> Iterator[bytes]:
        """Yield the whole log once, and close it."""
        with contextlib.closing(self.reader):
            yield from self.new()
            yield from self.rest()


def _log_reader(call: Call, container: Container) -> LogReader:
    """Open the log as the parameters describe.

    Raises Unimplemented for a driver without a readable log.
    """
    tail = call.text("tail")
    count = int(tail) if tail.isascii() and tail.isdigit() else None
    return container.log_reader(tail=count, since=_moment(call, "since"), until=_moment(call, "until"))


def _rendering(call: Call, *, tty: bool, details: str) -> Callable[[LogLine], bytes]:
    times = call.flag("timestamps")

    def rendered(line: LogLine) -> bytes:
        time = line.time.encode() + b" " if times else b""
        data = (b"" if line.continued else time + details.encode()) + line.data
        return data if tty else frame(line.stream, data)

    return rendered


async def _followed(
    call: Call, container: Container, record: ContainerRecord, log: _LogView
) -> AsyncGenerator[bytes, None]:
    """Yield the log so far, and new lines until the run ends or until the requested time."""
    ends: list[Coroutine[Any, Any, object]] = [_log_complete(call, container, record)]
    if until := _moment(call, "until"):
        ends.append(asyncio.sleep(until - time.time()))
    directory = call.engine.data.records.directory(container.id)
    with contextlib.closing(log.reader):
        async with following(call, directory, *ends) as stream:
            while True:
                async with contextlib.aclosing(fetched(call, log.new)) as pieces:
                    async for piece in pieces:
                        yield piece
                if log.reader.ended or not await stream.more():
                    break
        async for piece in fetched(call, log.rest):
            yield piece


async def _log_complete(call: Call, container: Container, record: ContainerRecord) -> None:
    """Wait until a run has ended and its monitor has written the whole log."""
    await _end_of_process(call, record)
    while not await call.step(waiting.is_log_complete, call.engine.runtime, record):
        await asyncio.sleep(LOG_POLL_INTERVAL)


def _moment(call: Call, name: str) -> float | None:
    """Parse a time, in seconds since 1970; None if it is missing or 0. Raises InvalidInput."""
    text = call.text(name)
    return (moment(text, now=time.time()) or None) if text else None


async def _send_log(call: Call, container: Container, client: Client, options: StreamOptions) -> None:
    ended = (await call.run(lambda: container.record)).state not in ALIVE

    def rendered(line: LogLine) -> bytes:
        return line.data if options.raw else frame(line.stream, line.data)

    log = _LogView(await call.run(container.log_reader), options.shown, rendered)
    with contextlib.closing(log.reader):
        # As in dockerd, the log contains only complete lines while the process runs.
        async for piece in fetched(call, log.all if ended else log.new):
            await client.send(piece)


# ---- wait ---------------------------------------------------------------------------------------


_CONDITIONS = ("not-running", "next-exit", "removed")


async def wait(call: Call) -> web.StreamResponse:
    """POST /containers/NAME/wait: answer with its exit status once the condition holds."""
    container, condition = await find(call), _condition(call)
    first = await call.run(lambda: container.record)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    if not call.before("1.30"):
        # Send the head at once: docker starts the container only after it, so that it cannot miss the exit.
        await response.prepare(call.request)
    document: Json = {"Error": None} if call.before("1.42") else {}
    try:
        status = await _unless_input_ends(call, _until(call, container, first, condition))
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


async def _unless_input_ends(call: Call, waiting: Coroutine[None, None, int]) -> int | None:
    """Wait, but return None as soon as the client half-closes the connection, as dockerd does."""
    status, ended = asyncio.ensure_future(waiting), asyncio.ensure_future(call.input_ended.wait())
    try:
        await asyncio.wait({status, ended}, return_when=asyncio.FIRST_COMPLETED)
        return status.result() if status.done() else None
    finally:
        status.cancel()
        ended.cancel()


def _condition(call: Call) -> str:
    """Return the requested condition.

    Raises InvalidInput for an unknown one, which before 1.42 means the default.
    """
    condition = call.text_since("1.30", "condition")
    if condition in _CONDITIONS:
        return condition
    if condition and not call.before("1.42"):
        raise InvalidInput(f'invalid condition: "{condition}"', hint=f"use one of {', '.join(_CONDITIONS)}")
    return "not-running"


async def _until(call: Call, container: Container, first: ContainerRecord, condition: str) -> int:
    """Wait for the condition and return the exit status of the last run.

    first  the record at the time of the request
    """
    record = first
    while True:
        if record.state in ALIVE:
            status = await _end_of_run(call, record)
            if condition != "removed":
                return status
        elif condition == "not-running" and record.state is not State.RESTARTING:
            return record.exit_code
        elif condition == "next-exit" and record.started_at != first.started_at:
            return record.exit_code  # a run started and ended between two polls
        else:
            await call.request.app[STARTS].wait_for_change(container.id)
        try:
            record = await call.run(lambda: container.record)
        except ContainerNotFound:
            with contextlib.suppress(ContainerNotFound):
                return await call.run(waiting.status_of_removed, call.engine.event_log, container.id)
            return 0  # it never ran


async def _end_of_run(call: Call, record: ContainerRecord) -> int:
    """Wait for the end of a run without a thread. Return its exit status."""
    await _end_of_process(call, record)
    return await call.run(waiting.status_of_run, call.engine.data, call.engine.runtime, call.engine.event_log, record)


async def _end_of_process(call: Call, record: ContainerRecord) -> None:
    with contextlib.suppress(ProcessLookupError):
        fd = waiting.process_descriptor(
            call.engine.runtime, record
        )  # not in a thread: a cancelled request would leak the descriptor
        try:
            await readable(fd)
        finally:
            os.close(fd)


# ---- stats and export -----------------------------------------------------------------


async def stats(call: Call) -> web.StreamResponse:
    """GET /containers/NAME/stats: its resource usage, once or once a second."""
    container = await find(call)
    if call.flag("stream", default=True):
        if call.flag("one-shot"):
            raise InvalidInput("cannot have stream=true and one-shot=true", hint="send stream=0")
        return await send_lines(call, _until_removed(call, container), errors_in_stream=False)
    if call.flag("one-shot") and not call.before("1.41"):
        return answer(await call.run(sample, container))
    before = await call.run(sample, container)
    await asyncio.sleep(usage.SNAPSHOT_INTERVAL)
    now = usage.following(before, await call.run(sample, container))
    return answer(measured(now, call.version))


async def _until_removed(call: Call, container: Container) -> AsyncGenerator[Json, None]:
    samples = call.request.app[SAMPLING].samples(call.workers, container, call.input_ended)
    with contextlib.suppress(ContainerNotFound):
        async with contextlib.aclosing(samples):
            async for measurement in samples:
                yield measured(measurement, call.version)


async def export(call: Call) -> web.StreamResponse:
    """GET /containers/NAME/export: its file system as a tar."""
    container = await find(call)
    return await send(call, fetched(call, container.export))


ROUTES = (
    Route("POST", "/containers/{name}/attach", attach, streams=True),
    Route("GET", "/containers/{name}/attach/ws", attach_websocket),
    Route("GET", "/containers/{name}/logs", logs),
    Route("POST", "/containers/{name}/wait", wait),
    Route("GET", "/containers/{name}/stats", stats),
    Route("GET", "/containers/{name}/export", export),
)
