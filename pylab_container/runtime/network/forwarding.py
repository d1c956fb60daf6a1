"""Whether the forwarder runs (forwarder.py): it is started with the first port that needs it, and ends with the last.

<run root>/forwarder     "PORT PID": where it listens, and who it is, locked (flock(2)) as long as it runs
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
_WAITING = 128  # connections that wait to be accepted
_PATIENCE = 20.0  # seconds that it gets to come up and to end


def is_possible() -> bool:
    """Whether the host has IPv6, as far as its loopback goes."""
    with socket.socket(socket.AF_INET6) as probe, contextlib.suppress(OSError):
        probe.bind(("::1", 0))
        return True
    return False


class Forwarder:
    """The forwarder of one run_root. Whoever calls holds the lock of the published ports."""

    def __init__(self, run_root: Path) -> None:
        self._state = run_root / "forwarder"

    def ensure(self, taken: Collection[int]) -> int:
        """Start it where it does not run; the port that it listens on, the same one as long as any rule names it.

        taken: published ports, which are free for all that the kernel knows: no socket has them.
        """
        state = os.open(self._state, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            known = _numbers(os.pread(state, 100, 0))
            try:
                fcntl.flock(state, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return known[0]
            # The lock is the open file's: it goes over to the new process, and with that one's end it is free.
            with _listen(known[0] if known else 0, taken) as server:
                port: int = server.getsockname()[1]
                os.ftruncate(state, 0)
                os.pwrite(state, b"%d\n" % port, 0)
                command = ["setsid", "--fork", sys.executable, "-I", "-S", str(_PROGRAM), str(state)]
                with programs.spawn(command, stdin=server.fileno(), pass_fds=(state,), directory="/") as parent:
                    parent.wait()
            return port
        finally:
            os.close(state)

    def stop(self) -> None:
        """End it. No error where it does not run."""
        deadline = time.monotonic() + _PATIENCE
        with contextlib.suppress(FileNotFoundError):
            while self._runs():
                numbers = _numbers(self._state.read_bytes())
                if len(numbers) == 2:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(numbers[1], signal.SIGTERM)
                if time.monotonic() > deadline:
                    raise RuntimeFailed("the forwarder of published ports does not end", hint=f"see {self._state}")
                time.sleep(0.001)
            self._state.unlink()

    def _runs(self) -> bool:
        with try_locked(self._state) as alone:
            return not alone


def _listen(wanted: int, taken: Collection[int]) -> socket.socket:
    """A socket on the wanted port; where that is 0 or somebody else has it now, on any but those that are taken."""
    if wanted:
        with contextlib.suppress(OSError):
            return _server(wanted)
    while (server := _server(0)).getsockname()[1] in taken:
        server.close()
    return server


def _server(port: int) -> socket.socket:
    return socket.create_server(("::", port), family=socket.AF_INET6, backlog=_WAITING)


def _numbers(text: bytes) -> list[int]:
    return [int(word) for word in text.split()]
