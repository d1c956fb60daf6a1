"""A client connected with the streams of a process, both ways, on the event loop.

    client ── receive ──▶ detach keys ── send ──▶ process
    client ◀─── send ──── frames ◀──── receive ── process

No thread waits for either. Neither side is read much faster than the other one takes it: a client that does not
read keeps its process waiting in the end, and nobody else but who is attached to that, too (sharing.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

from msgspec import Struct

from pylab_container.daemon.call import Call
from pylab_container.daemon.hijack import frame
from pylab_container.daemon.sharing import Share
from pylab_container.errors import InvalidInput
from pylab_container.text.keys import DEFAULT_KEYS, DetachKeys, parse_keys

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
    once   the input ends with this client
    keys   those that leave
    """

    shown: Collection[str]
    stdin: bool
    tty: bool
    raw: bool
    once: bool = True
    keys: bytes = DEFAULT_KEYS


def asked(call: Call, *, tty: bool, once: bool) -> Wish:
    """The same from a request's parameters. Raises InvalidInput."""
    shown = [name for name in ("stdout", "stderr") if call.flag(name)]
    return Wish(shown, call.flag("stdin"), tty, tty, once, detach_keys(call.text("detachKeys")))


def detach_keys(text: str) -> bytes:
    """The parameter detachKeys. Raises InvalidInput, in moby's words."""
    try:
        return parse_keys(text) if text else DEFAULT_KEYS
    except InvalidInput as error:
        raise InvalidInput(f"Invalid detach keys ({text}) provided", hint=error.hint) from error


async def pump(client: Client, streams: Share, wish: Wish) -> bool:
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


async def _copy_output(client: Client, streams: Share, wish: Wish) -> None:
    while packets := await streams.receive():
        shown = [packet for packet in packets if packet[0] in wish.shown]
        if shown:
            await client.send(b"".join(data if wish.raw else frame(name, data) for name, data in shown))


async def _copy_input(client: Client, streams: Share, wish: Wish) -> bool:
    """Until the client has gone, or left: whether it did."""
    try:
        left = await _feed(client, streams, wish)
    finally:
        if wish.stdin and wish.once:
            streams.close_stdin()
    if not left:
        await until_gone(client)
    return left


async def _feed(client: Client, streams: Share, wish: Wish) -> bool:
    """Until the client sends no more, or left: whether it did."""
    keys = DetachKeys(wish.keys)
    while data := await client.receive():
        if not wish.stdin:
            continue
        data, leaves = keys.feed(data) if wish.tty else (data, False)
        await streams.send(data)
        if leaves:
            return True
    return False
