"""labctr on the command line and in a terminal: the types behind the fixtures `labctr`, `cli` and `terminal`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from pylab_container import cli
from tests.support.waiting import PATIENCE

Labctr = Callable[..., "subprocess.CompletedProcess[str]"]
"""Run one labctr command on the engine's data root and wait for it: in a child process, or in this process."""


def run_in_process(arguments: Sequence[str], *, input: str = "", cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run labctr's main() in this process with files as its standard streams. Call it in the main thread only.

    It takes about 5 ms. A child process takes 200 ms, most of which are imports. click's CliRunner replaces the
    objects in sys only; run, exec, save and cp use the file descriptors, so this function replaces both. Tests of
    signals, of pipes, and of output that a background process keeps open need the fixture `labctr`.
    """
    with contextlib.chdir(cwd), _standard_streams(input.encode()) as (output, errors):
        status = cli.main(arguments)
    return subprocess.CompletedProcess(list(arguments), status, _text_of(output), _text_of(errors))


@contextlib.contextmanager
def _standard_streams(input: bytes) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Redirect descriptors 0 to 2 and sys.stdin, stdout and stderr to files; yield the files of stdout and stderr."""
    files = [os.fdopen(os.memfd_create(name), "w+b") for name in ("stdin", "stdout", "stderr")]
    files[0].write(input)
    files[0].seek(0)
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(descriptor) for descriptor in range(3)]
    try:
        for descriptor, file in enumerate(files):
            os.dup2(file.fileno(), descriptor)
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace")
        yield files[1], files[2]
    finally:
        for stream, previous in zip((sys.stdin, sys.stdout, sys.stderr), before, strict=True):
            if stream is not previous:
                stream.close()
        sys.stdin, sys.stdout, sys.stderr = before
        for descriptor, original in enumerate(saved):
            os.dup2(original, descriptor)
            os.close(original)
        files[0].close()


def _text_of(file: BinaryIO) -> str:
    r"""Read a file as subprocess does with text=True: \r\n and \r become \n (universal newlines)."""
    with file:
        file.seek(0)
        return file.read().decode().replace("\r\n", "\n").replace("\r", "\n")


class Terminal:
    """A pseudo-terminal with one command running in it."""

    def __init__(self, command: list[str], *, rows: int = 24, columns: int = 80, cwd: Path) -> None:
        self.master, self._slave = os.openpty()
        self.resize(rows, columns)
        self.mode = termios.tcgetattr(self._slave)
        self.output = b""
        self.process = subprocess.Popen(command, cwd=cwd, preexec_fn=self._enter)

    def _enter(self) -> None:
        os.login_tty(os.dup(self._slave))
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def expect(self, text: str, *, when_idle: Callable[[], object] = lambda: None) -> None:
        """Read until the text appears in the output that follows the last expected text.

        when_idle  called each time that 0.1 s pass without output
        """
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in self.output:
            ready, _, _ = select.select([self.master], [], [], 0.1)
            if ready:
                self.output += os.read(self.master, 1 << 16)
            else:
                when_idle()
            assert time.monotonic() < deadline, f"{text!r} did not appear in {self.output!r}"
        self.output = self.output.partition(text.encode())[2]

    def wait(self) -> int:
        """Return the exit status. Fails if the command did not restore the terminal's mode."""
        status = self.process.wait(PATIENCE)
        assert termios.tcgetattr(self._slave) == self.mode
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self._slave)
