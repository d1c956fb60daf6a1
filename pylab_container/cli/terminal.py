"""A person's terminal, connected to a container's streams.

With a terminal on both sides, the outer one is switched to raw mode: every key, Ctrl-C
too, travels as a byte to the inner one, whose line discipline gives it its meaning.
Without, the streams are copied as they are and signals are passed on as signals.
Sources: termios(3), tty(4), signal(7).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Callable, Collection, Iterator
from typing import Literal, Protocol

from pylab_container.text.keys import DEFAULT_KEYS, DetachKeys

STDIN, STDOUT, STDERR = 0, 1, 2

_FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_PIECE = 1 << 13


class Streams(Protocol):
    """A container's streams: what engine's container.attach() and start_attached() return."""

    def fileno(self) -> int: ...
    def receive(self) -> tuple[Literal["stdout", "stderr"], bytes] | None: ...
    def send(self, data: bytes) -> None: ...
    def close_stdin(self) -> None: ...


def is_terminal(fd: int) -> bool:
    """isatty(3); a closed descriptor is none."""
    return os.isatty(fd)


def size(fd: int) -> tuple[int, int]:
    """(rows, columns) of a terminal, (0, 0) where there is none."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return (0, 0)
    return rows, columns


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """Switch a terminal to raw mode while the block runs (cfmakeraw in termios(3))."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSANOW)  # not TCSAFLUSH: what was typed ahead is meant for the container
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def signals(numbers: tuple[signal.Signals, ...]) -> Iterator[int]:
    """A descriptor from which each of these signals can be read as one byte while the block runs.

    Nothing else happens in the handler: it may interrupt code that holds a lock.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def note(number: int, _frame: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writing, bytes([number]))

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield reading
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def connect(
    streams: Streams,
    *,
    stdin: bool,
    terminal: bool,
    resize: Callable[[tuple[int, int]], None],
    forward: Callable[[int], None] | None,
    keys: bytes = DEFAULT_KEYS,
    shown: Collection[str] = ("stdout", "stderr"),
    given: tuple[int, int] = (0, 0),
) -> bool:
    """Copy until the container's output ends; False when the person left before, with the detach keys.

    stdin     read the caller's standard input for the container
    terminal  the container has a terminal: the caller's, if it is one, becomes raw
    resize    called with (rows, columns) whenever the caller's terminal has changed, and first if it is not `given`
    forward   called with each signal that this process gets; None: they do what they always do
    keys      those that leave
    shown     of which streams the output is copied
    given     the size that the container's terminal was started with; (0, 0): unknown
    """
    interactive = stdin and terminal and is_terminal(STDIN)
    with contextlib.ExitStack() as stack:
        taken = (*(_FORWARDED if forward else ()), *([signal.SIGWINCH] if terminal else []))
        noted = stack.enter_context(signals(taken))
        if terminal and (now := size(STDIN)) != given:
            # The terminal has changed before this process noted SIGWINCH, or the container was made in another one.
            # Only then: conmon sets the size of a terminal in pixels at random, so even the same size is a SIGWINCH.
            resize(now)
        if interactive:
            stack.enter_context(raw(STDIN))
        source = _Input(stdin=stdin, keys=DetachKeys(keys) if interactive else None)
        return _copy(streams, noted, source, resize, forward, shown)


class _Input:
    """The caller's standard input, read only as fast as the container takes it."""

    def __init__(self, *, stdin: bool, keys: DetachKeys | None) -> None:
        self.open = stdin
        self.pending = b""
        self.detached = False
        self._keys = keys

    def read(self) -> None:
        """Take one piece; at its end, open becomes False."""
        try:
            data = os.read(STDIN, _PIECE)
        except OSError:
            data = b""  # a terminal that hung up
        self.open = bool(data)
        self.pending = data
        if self._keys and data:
            self.pending, self.detached = self._keys.feed(data)


def _copy(
    streams: Streams,
    noted: int,
    source: _Input,
    resize: Callable[[tuple[int, int]], None],
    forward: Callable[[int], None] | None,
    shown: Collection[str],
) -> bool:
    while not source.detached:
        poll = select.poll()
        poll.register(noted, select.POLLIN)
        # A container that does not read must not keep us from taking its output: poll before sending.
        poll.register(streams.fileno(), select.POLLIN | (select.POLLOUT if source.pending else 0))
        if source.open and not source.pending:
            poll.register(STDIN, select.POLLIN)
        ready = dict(poll.poll())
        if noted in ready:
            _act_on(os.read(noted, 64), resize, forward)
        events = ready.get(streams.fileno(), 0)
        if events & ~select.POLLOUT and not _pass_output(streams, shown):
            return True
        if events & select.POLLOUT and source.pending:
            _send(streams, source)
        if STDIN in ready:
            source.read()
            if not source.open:
                streams.close_stdin()
    _send(streams, source)  # what was typed before the keys that ended the loop
    return False


def _act_on(numbers: bytes, resize: Callable[[tuple[int, int]], None], forward: Callable[[int], None] | None) -> None:
    """What signals ask for."""
    for number in numbers:
        if number == signal.SIGWINCH:
            resize(size(STDIN))
        elif forward:
            forward(number)


def _send(streams: Streams, source: _Input) -> None:
    data, source.pending = source.pending, b""
    # The container may have closed its end; what it printed before is still to come.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        streams.send(data)


def _pass_output(streams: Streams, shown: Collection[str]) -> bool:
    packet = streams.receive()
    if packet is None:
        return False
    if packet[0] in shown:
        write(STDOUT if packet[0] == "stdout" else STDERR, packet[1])
    return True


def write(fd: int, data: bytes) -> None:
    """Write everything, past Python's buffers. Raises BrokenPipeError when nobody reads any more."""
    while data:
        data = data[os.write(fd, data) :]
