"""Whether the resolver runs, and who it knows; see __init__.py for what lies where."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pylab_container.errors import RuntimeFailed
from pylab_container.host import programs
from pylab_container.host.files import discard, write_atomic
from pylab_container.runtime.dns.zone import DnsClient

_WAITING = 128  # containers that start at once
_STARTS = 3  # of a resolver that ends before it says a word
_PATIENCE = 20.0  # seconds that it gets to come up and to open its sockets


class NameServer:
    """The resolver of one data root; directory is <run root>/names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, container_id: str, resident: DnsClient) -> None:
        """Note who a container is; from now on others find it, if it is served."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(self._directory / container_id, msgspec.json.encode(resident), mode=0o600)

    def forget(self, container_id: str) -> None:
        """It is called nothing any more. No error where it never was."""
        discard(self._directory / container_id)

    def clear(self) -> None:
        """Take away what a killed resolver left that nobody needs any more."""
        if self._residents():
            return
        with self._lock() as lock:
            if lock is not None:
                for name in ("socket", "lock"):
                    (self._directory / name).unlink(missing_ok=True)

    def _residents(self) -> bool:
        return any(entry.name not in ("socket", "lock") for entry in self._directory.iterdir())

    def serve(self, container_id: str) -> None:
        """Wait until a container that was written down can ask. Raises RuntimeFailed."""
        deadline, starts, answer = time.monotonic() + _PATIENCE, 0, b""
        while not answer:
            if starts == _STARTS or time.monotonic() > deadline:
                command = shlex.join(self._command())
                raise RuntimeFailed("the name server does not start", hint=f"what it says: {command} < /dev/null")
            starts += self.ensure()
            with contextlib.suppress(ConnectionError, FileNotFoundError):
                answer = self._request(container_id)
            time.sleep(0 if answer else 0.001)
        if error := answer.decode().strip():
            raise RuntimeFailed(f"the name server cannot serve the container: {error}")

    def ensure(self) -> bool:
        """Start the resolver where it does not run; whether it had to be. It finds all that were written down."""
        with self._lock() as lock:
            if lock is None:
                return False
            path = self._directory / "socket"
            path.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
                server.bind(str(path))
                server.listen(_WAITING)
                # The lock is the open file's: it goes over to the new process, and with that one's end it is free.
                command = ["setsid", "--fork", *self._command()]
                with programs.spawn(command, stdin=server.fileno(), pass_fds=(lock,), directory="/") as parent:
                    parent.wait()
            return True

    def _command(self) -> list[str]:
        return [sys.executable, "-m", f"{__package__}.resolver", str(self._directory)]

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int | None]:
        """The lock's descriptor, locked; None where a resolver has it."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._directory / "lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # One that has just ended took its file along: a lock on that one keeps nobody away.
            yield lock if path.exists() and os.path.samestat(os.fstat(lock), path.stat()) else None
        except BlockingIOError:
            yield None
        finally:
            os.close(lock)

    def _request(self, container_id: str) -> bytes:
        """What the resolver says, a line; b"" where it ends meanwhile."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_PATIENCE)
            client.connect(str(self._directory / "socket"))
            client.sendall(container_id.encode() + b"\n")
            return client.recv(1000)
