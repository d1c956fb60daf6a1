"""The caller's terminal or streams, connected to a container's streams.

If both sides are terminals, the caller's terminal is in raw mode: each key, also Ctrl-C, is sent as a byte to the
container's terminal, whose line discipline interprets it. Otherwise bytes are copied, and signals are forwarded.
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
_READ_SIZE = 1 << 13  # bytes


class Streams(Protocol):
    """A container's streams, as container.attach() and start_attached() return them."""

    def fileno(self) -> int: ...
    def receive(self) -> tuple[Literal["stdout", "stderr"], bytes] | None: ...
    def send(self, data: bytes) -> None: ...
    def close_stdin(self) -> None: ...


def is_terminal(fd: int) -> bool:
    """Return whether a descriptor is a terminal, isatty(3). A closed descriptor is not."""
    return os.isatty(fd)


def size(fd: int) -> tuple[int, int]:
    """Return (rows, columns) of a terminal, (0, 0) for another file."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return (0, 0)
    return rows, columns


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """Switch a terminal to raw mode while the block runs (cfmakeraw in termios(3))."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSANOW)  # not TCSAFLUSH, which would discard input that is already typed
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def signals(numbers: tuple[signal.Signals, ...]) -> Iterator[int]:
    """Yield a descriptor on which each of these signals arrives as one byte.

    The handler only writes to the pipe, because it may interrupt code that holds a lock.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def handle(number: int, _frame: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writing, bytes([number]))

    before = {number: signal.signal(number, handle) for number in numbers}
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
    initial_size: tuple[int, int] = (0, 0),
) -> bool:
    """Copy until the container's output ends. Return False if the caller detached before that.

    stdin         forward the caller's standard input
    terminal      the container has a terminal: the caller's terminal is switched to raw mode
    resize        called with (rows, columns) when the caller's terminal changes, and first if it is not initial_size
    forward       called with each signal that this process gets; None: signals have their usual effect
    keys          the key sequence that detaches
    shown         the output streams to copy
    initial_size  (rows, columns) of the container's terminal at its start; (0, 0): unknown
    """
    interactive = stdin and terminal and is_terminal(STDIN)
    with contextlib.ExitStack() as stack:
        handled = (*(_FORWARDED if forward else ()), *([signal.SIGWINCH] if terminal else []))
        signal_pipe = stack.enter_context(signals(handled))
        if terminal and (now := size(STDIN)) != initial_size:
            # The terminal changed before the handler of SIGWINCH existed, or the container was created in another one.
            # Otherwise skip it: conmon leaves the size in pixels uninitialized, so the same size also causes SIGWINCH.
            resize(now)
        if interactive:
            stack.enter_context(raw(STDIN))
        source = _Input(stdin=stdin, keys=DetachKeys(keys) if interactive else None)
        return _copy(streams, signal_pipe, source, resize, forward, shown)


class _Input:
    """The caller's standard input, read only as fast as the container reads (back-pressure)."""

    def __init__(self, *, stdin: bool, keys: DetachKeys | None) -> None:
        self.open = stdin
        self.pending = b""
        self.detached = False
        self._keys = keys

    def read(self) -> None:
        """Read a piece into pending. At the end of input, open becomes False."""
        try:
            data = os.read(STDIN, _READ_SIZE)
        except OSError:
            data = b""  # the terminal hung up
        self.open = bool(data)
        self.pending = data
        if self._keys and data:
            self.pending, self.detached = self._keys.feed(data)


def _copy(
    streams: Streams,
    signal_pipe: int,
    source: _Input,
    resize: Callable[[tuple[int, int]], None],
    forward: Callable[[int], None] | None,
    shown: Collection[str],
) -> bool:
    while not source.detached:
        poll = select.poll()
        poll.register(signal_pipe, select.POLLIN)
        # Deadlock if send() blocked: the container may wait for its output to be read. So poll before sending.
        poll.register(streams.fileno(), select.POLLIN | (select.POLLOUT if source.pending else 0))
        if source.open and not source.pending:
            poll.register(STDIN, select.POLLIN)
        ready = dict(poll.poll())
        if signal_pipe in ready:
            _act_on(os.read(signal_pipe, 64), resize, forward)
        events = ready.get(streams.fileno(), 0)
        if events & ~select.POLLOUT and not _pass_output(streams, shown):
            return True
        if events & select.POLLOUT and source.pending:
            _send(streams, source)
        if STDIN in ready:
            source.read()
            if not source.open:
                streams.close_stdin()
    _send(streams, source)  # the input before the detach keys
    return False


def _act_on(numbers: bytes, resize: Callable[[tuple[int, int]], None], forward: Callable[[int], None] | None) -> None:
    """Resize the terminal for SIGWINCH, and forward other signals."""
    for number in numbers:
        if number == signal.SIGWINCH:
            resize(size(STDIN))
        elif forward:
            forward(number)


def _send(streams: Streams, source: _Input) -> None:
    data, source.pending = source.pending, b""
    # The container may have closed its input; its output is still read.
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
    """Write all data without Python's buffers.

    Raises BrokenPipeError if the reader has closed the pipe.
    """
    while data:
        data = data[os.write(fd, data) :]
