"""Start and stop the forwarder (forwarder.py), which runs as long as a published port needs it.

<run root>/forwarder     "PORT PID" of the forwarder; it holds a lock on the file (flock(2)) as long as it runs
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Collection
from pathlib import Path

from pylab_container.errors import RuntimeFailed
from pylab_container.host import programs
from pylab_container.host.files import try_locked

_PROGRAM = Path(__file__).with_name("forwarder.py")
_BACKLOG = 128  # connections that the kernel queues until they are accepted (listen(2))
_STOP_TIMEOUT = 20.0  # seconds
_POLL_INTERVAL = 0.001  # seconds between two checks whether the forwarder has exited


def has_ipv6_loopback() -> bool:
    """Whether the host has IPv6 on its loopback interface."""
    with socket.socket(socket.AF_INET6) as probe, contextlib.suppress(OSError):
        probe.bind(("::1", 0))
        return True
    return False


class Forwarder:
    """The forwarder of one run_root. The caller holds the lock of the published ports."""

    def __init__(self, run_root: Path) -> None:
        self._state = run_root / "forwarder"

    def ensure(self, taken: Collection[int]) -> int:
        """Start the forwarder if it does not run, and return the port on which it listens.

        taken  the published ports, on which the forwarder must not listen. No socket is bound to them, so the kernel
               could choose one of them for the forwarder
        """
        state = os.open(self._state, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # A forwarder that was killed gets its old port again: the rules of published ports redirect to it.
            recorded = _numbers(os.pread(state, 100, 0))
            try:
                fcntl.flock(state, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return recorded[0]
            # The socket listens before the forwarder runs, so connections wait in the backlog instead of failing.
            with _listen(recorded[0] if recorded else 0, taken) as server:
                port: int = server.getsockname()[1]
                # The forwarder writes the port and its pid once it runs. The port is written here, too, so that it
                # survives a crash in between.
                os.ftruncate(state, 0)
                os.pwrite(state, b"%d\n" % port, 0)
                # flock(2) locks the open file description, which the forwarder inherits. The kernel releases the lock
                # when the last process that has it open exits. `setsid --fork` detaches the forwarder.
                command = ["setsid", "--fork", sys.executable, "-I", "-S", str(_PROGRAM), str(state)]
                with programs.spawn(command, stdin=server.fileno(), pass_fds=(state,), directory="/") as parent:
                    parent.wait()
            return port
        finally:
            os.close(state)

    def stop(self) -> None:
        """Stop the forwarder. No error if it does not run."""
        deadline = time.monotonic() + _STOP_TIMEOUT
        with contextlib.suppress(FileNotFoundError):
            while self._runs():
                # A forwarder that was just started has not written its pid yet.
                numbers = _numbers(self._state.read_bytes())
                if len(numbers) == 2:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(numbers[1], signal.SIGTERM)
                if time.monotonic() > deadline:
                    raise RuntimeFailed("the forwarder of published ports does not exit", hint=f"see {self._state}")
                time.sleep(_POLL_INTERVAL)
            self._state.unlink()

    def _runs(self) -> bool:
        with try_locked(self._state) as is_locked:
            return not is_locked


def _listen(preferred: int, taken: Collection[int]) -> socket.socket:
    """Listen on the preferred port; if that is 0 or in use, on a port of the kernel's choice that is not taken."""
    if preferred:
        with contextlib.suppress(OSError):
            return _server(preferred)
    while (server := _server(0)).getsockname()[1] in taken:
        server.close()
    return server


def _server(port: int) -> socket.socket:
    return socket.create_server(("::", port), family=socket.AF_INET6, backlog=_BACKLOG)


def _numbers(text: bytes) -> list[int]:
    return [int(word) for word in text.split()]
