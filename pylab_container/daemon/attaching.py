"""A client connected with the streams of a process, both ways, on the event loop.

    client ── receive ──▶ detach keys ── send_now ──▶ process
    client ◀─── send ──── frames ◀──── receive_now ── process

No thread waits for either. Neither side is read faster than the other one takes it: a client that does not read
keeps its process waiting, as a full pipe would, and nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Protocol

from msgspec import Struct

from pylab_container.daemon.call import Call
from pylab_container.daemon.hijack import frame
from pylab_container.engine.containers.container import Attachment
from pylab_container.errors import InvalidInput
from pylab_container.formats.keys import DEFAULT_KEYS, DetachKeys, parse_keys

_PIECE = 1 << 16  # bytes that are sent at a time
_LOOK = 1.0  # seconds between two looks whether a silent client is still there


class Client(Protocol):
    """The other side: a hijacked connection or a websocket."""

    async def receive(self) -> bytes:
        """What it sends; b"" when it sends no more."""

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError when it has gone."""

    @property
    def gone(self) -> bool:
        """Whether it does not listen any more either."""


class Wish(Struct, frozen=True):
    """What a client wants of the streams.

    shown  of which streams it gets the output
    stdin  whether what it sends is the process's input
    tty    the process has a terminal: keys are looked for
    raw    output comes as it is, not in frames
    keys   those that leave
    """

    shown: Collection[str]
    stdin: bool
    tty: bool
    raw: bool
    keys: bytes = DEFAULT_KEYS


def asked(call: Call, *, tty: bool) -> Wish:
    """The same from a request's parameters. Raises InvalidInput."""
    shown = [name for name in ("stdout", "stderr") if call.flag(name)]
    return Wish(shown, call.flag("stdin"), tty, tty, detach_keys(call.text("detachKeys")))


def detach_keys(text: str) -> bytes:
    """The parameter detachKeys. Raises InvalidInput, in moby's words."""
    try:
        return parse_keys(text) if text else DEFAULT_KEYS
    except InvalidInput as error:
        raise InvalidInput(f"Invalid detach keys ({text}) provided", hint=error.hint) from error


async def pump(client: Client, streams: Attachment, wish: Wish) -> bool:
    """Copy until the output ends, or the client leaves or has gone; whether it left with its keys.

    The streams stay open.
    """
    output = asyncio.ensure_future(_copy_output(client, streams, wish))
    input = asyncio.ensure_future(_copy_input(client, streams, wish))
    try:
        # The input ends only with the keys that leave, or with the client.
        await asyncio.wait({output, input}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in (output, input):
            one.cancel()
        results = await asyncio.gather(output, input, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError | ConnectionError):
            raise result
    return input.done() and not input.cancelled() and input.exception() is None and input.result()


async def until_gone(client: Client) -> None:
    """Wait until nobody is there any more. A client that sends nothing shows that to who looks."""
    while not client.gone:
        await asyncio.sleep(_LOOK)


async def _copy_output(client: Client, streams: Attachment, wish: Wish) -> None:
    more = True
    while more:
        await readable(streams.fileno())
        data, more = _take(streams, wish)
        if data:
            await client.send(data)


def _take(streams: Attachment, wish: Wish) -> tuple[bytes, bool]:
    """The output that is there, ready to be sent, and whether more may come."""
    pieces: list[bytes] = []
    size = 0
    while size < _PIECE:
        try:
            packet = streams.receive_now()
        except BlockingIOError:
            break
        if packet is None:
            return b"".join(pieces), False
        if packet[0] in wish.shown:
            pieces.append(packet[1] if wish.raw else frame(*packet))
            size += len(packet[1])
    return b"".join(pieces), True


async def _copy_input(client: Client, streams: Attachment, wish: Wish) -> bool:
    """Until the client has gone, or left: whether it did."""
    keys = DetachKeys(wish.keys)
    while data := await client.receive():
        if not wish.stdin:
            continue
        data, leaves = keys.feed(data) if wish.tty else (data, False)
        await _feed(streams, data)
        if leaves:
            return True
    if wish.stdin:
        streams.close_stdin()
    await until_gone(client)
    return False


async def _feed(streams: Attachment, data: bytes) -> None:
    """Give a process its input, as fast as it takes it; once it takes no more, the rest is nobody's."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while data:
            try:
                data = data[streams.send_now(data) :]
            except BlockingIOError:
                await writable(streams.fileno())


async def readable(fd: int) -> None:
    """Wait until a descriptor can be read."""
    loop = asyncio.get_running_loop()
    await _ready(lambda done: loop.add_reader(fd, done), lambda: loop.remove_reader(fd))


async def writable(fd: int) -> None:
    """Wait until a descriptor can be written."""
    loop = asyncio.get_running_loop()
    await _ready(lambda done: loop.add_writer(fd, done), lambda: loop.remove_writer(fd))


async def _ready(watch: Callable[[Callable[[], None]], None], unwatch: Callable[[], object]) -> None:
    ready = asyncio.Event()
    watch(ready.set)
    try:
        await ready.wait()
    finally:
        unwatch()
