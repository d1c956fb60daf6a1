"""labctr as people and scripts use it: the types behind the fixtures `labctr`, `cli` and `terminal`."""

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
"""Run one command on the engine's data root to its end: in a process of its own, or in this one."""


def run_in_process(arguments: Sequence[str], *, input: str = "", cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run labctr's main() in this process, with files as its standard streams; the main thread only.

    It takes about 5 ms where a process of its own takes 200 ms, most of which are imports. click's CliRunner
    replaces sys.stdin and its like; run, exec, save and cp use the file descriptors, so these are replaced here.
    What only a process shows stays with the fixture `labctr`: signals, pipes, and output that a background process
    keeps open.
    """
    with contextlib.chdir(cwd), _standard_streams(input.encode()) as (output, errors):
        status = cli.main(arguments)
    return subprocess.CompletedProcess(list(arguments), status, _text_of(output), _text_of(errors))


@contextlib.contextmanager
def _standard_streams(input: bytes) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Replace descriptors 0 to 2 and their objects in sys; the files hold standard output and error after the block."""
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
    """Read a file as subprocess does with text=True: the newlines of Windows become those of Unix."""
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
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it, and so would we

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def expect(self, text: str, *, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Read until the text appears behind the last expected one.

        meanwhile  called whenever a tenth of a second has passed without output
        """
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in self.output:
            ready, _, _ = select.select([self.master], [], [], 0.1)
            if ready:
                self.output += os.read(self.master, 1 << 16)
            else:
                meanwhile()
            assert time.monotonic() < deadline, f"{text!r} did not appear in {self.output!r}"
        self.output = self.output.partition(text.encode())[2]

    def wait(self) -> int:
        """Return the exit status; the terminal's mode must be the one from before the command."""
        status = self.process.wait(PATIENCE)
        assert termios.tcgetattr(self._slave) == self.mode
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self._slave)
