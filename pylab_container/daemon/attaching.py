"""Copying between a client and the streams of a process, in both directions, on the event loop.

    client ── receive ──▶ detach keys ── send ──▶ process
    client ◀─── send ──── frames ◀──── receive ── process

No thread waits for either side. Back-pressure works in both directions: a client that does not read finally blocks the
process, and with it the other clients that are attached to the same process (sharing.py).
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

POLL_INTERVAL = 1.0  # seconds between checks whether a silent client has disconnected


class Client(Protocol):
    """A hijacked connection or a websocket."""

    async def receive(self) -> bytes:
        """Return the next input, b"" at its end."""

    async def send(self, data: bytes) -> None:
        """Send data. Raises ConnectionError if the client has disconnected."""

    @property
    def disconnected(self) -> bool:
        """Whether the client also no longer reads."""


class StreamOptions(Struct, frozen=True):
    """How a client is connected to the streams.

    shown  the output streams that it gets
    stdin  forward its input to the process
    tty    the process has a terminal: the detach keys apply
    raw    send output without frames
    once   the process's input ends with this client
    keys   the key sequence that detaches
    """

    shown: Collection[str]
    stdin: bool
    tty: bool
    raw: bool
    once: bool = True
    keys: bytes = DEFAULT_KEYS


def stream_options(call: Call, *, tty: bool, once: bool) -> StreamOptions:
    """Read the StreamOptions from the parameters of a request. Raises InvalidInput."""
    shown = [name for name in ("stdout", "stderr") if call.flag(name)]
    return StreamOptions(shown, call.flag("stdin"), tty, tty, once, detach_keys(call.text("detachKeys")))


def detach_keys(text: str) -> bytes:
    """Parse the parameter detachKeys. Raises InvalidInput with moby's message."""
    try:
        return parse_keys(text) if text else DEFAULT_KEYS
    except InvalidInput as error:
        raise InvalidInput(f"Invalid detach keys ({text}) provided", hint=error.hint) from error


async def pump(client: Client, streams: Share, options: StreamOptions) -> bool:
    """Copy until the output ends, or the client detaches or disconnects. The streams stay open.

    Returns whether the client detached with its keys.
    """
    output = asyncio.ensure_future(_copy_output(client, streams, options))
    input = asyncio.ensure_future(_copy_input(client, streams, options))
    try:
        # The input task ends only when the client detaches or disconnects.
        await asyncio.wait({output, input}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (output, input):
            task.cancel()
        results = await asyncio.gather(output, input, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError | ConnectionError):
            raise result
    return input.done() and not input.cancelled() and input.exception() is None and input.result()


async def until_disconnected(client: Client) -> None:
    """Wait until the client has disconnected. Polls: a half-closed connection wakes no reader."""
    while not client.disconnected:
        await asyncio.sleep(POLL_INTERVAL)


async def _copy_output(client: Client, streams: Share, options: StreamOptions) -> None:
    while packets := await streams.receive():
        shown = [packet for packet in packets if packet[0] in options.shown]
        if shown:
            await client.send(b"".join(data if options.raw else frame(name, data) for name, data in shown))


async def _copy_input(client: Client, streams: Share, options: StreamOptions) -> bool:
    """Forward input until the client detaches or disconnects. Return whether it detached."""
    try:
        detached = await _feed(client, streams, options)
    finally:
        if options.stdin and options.once:
            streams.close_stdin()
    if not detached:
        await until_disconnected(client)
    return detached


async def _feed(client: Client, streams: Share, options: StreamOptions) -> bool:
    """Forward input until its end or the detach keys. Return whether the client detached."""
    keys = DetachKeys(options.keys)
    while data := await client.receive():
        if not options.stdin:
            continue
        data, detaches = keys.feed(data) if options.tty else (data, False)
        await streams.send(data)
        if detaches:
            return True
    return False
