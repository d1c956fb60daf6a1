"""labctr as a person or a script meets it: what the fixtures `labctr` and `terminal` of conftest.py give."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

Labctr = Callable[..., "subprocess.CompletedProcess[str]"]
"""Runs one command on the engine's data root to its end."""


class Terminal:
    """A person's terminal with one command running in it."""

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

    def expect(self, text: str, seconds: float = 60) -> None:
        """Read until the text has appeared since the last time."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.output:
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not appear in {self.output!r}"
            self.output += os.read(self.master, 1 << 16)
        self.output = self.output.partition(text.encode())[2]

    def wait(self) -> int:
        """The exit status; by then the terminal must be as it was."""
        status = self.process.wait(60)
        assert termios.tcgetattr(self._slave) == self.mode
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self._slave)
