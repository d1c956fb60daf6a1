"""Start the resolver, and register containers with it; __init__.py draws the directory."""

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

_BACKLOG = 128  # waiting requests of containers that start concurrently (listen(2))
_MOST_STARTS = 3  # attempts to start a resolver that exits before it answers
_SERVE_TIMEOUT = 20.0  # seconds until the resolver has started and opened its sockets in a container
_RETRY_INTERVAL = 0.001  # seconds between two requests to a resolver that starts or exits
_LONGEST_ANSWER = 1000  # bytes


class NameServer:
    """The resolver of one data root. directory: <run root>/names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, container_id: str, client: DnsClient) -> None:
        """Record a container's names. If the resolver serves the container, lookups use them from now on."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Atomic, because the resolver may read the file at any moment. It notices the new inode (ClientFiles.get()).
        write_atomic(self._directory / container_id, msgspec.json.encode(client), mode=0o600)

    def forget(self, container_id: str) -> None:
        """Remove a container's names. Idempotent."""
        discard(self._directory / container_id)

    def clear(self) -> None:
        """Remove the socket and the lock of a resolver that was killed, if no container is recorded."""
        if self._has_clients():
            return
        with self._lock() as lock:
            if lock is not None:
                for name in ("socket", "lock"):
                    (self._directory / name).unlink(missing_ok=True)

    def _has_clients(self) -> bool:
        return any(entry.name not in ("socket", "lock") for entry in self._directory.iterdir())

    def serve(self, container_id: str) -> None:
        """Wait until the resolver serves a recorded container; start it if necessary. Raises RuntimeFailed."""
        deadline, starts, answer = time.monotonic() + _SERVE_TIMEOUT, 0, b""
        # Race: a resolver without containers may exit between ensure() and the request. The socket is then removed, or
        # the connection is closed without an answer, and the next attempt starts another resolver.
        while not answer:
            if starts == _MOST_STARTS or time.monotonic() > deadline:
                command = shlex.join(self._command())
                raise RuntimeFailed(
                    "the name server does not start", hint=f"run it to see its error: {command} < /dev/null"
                )
            starts += self.ensure()
            with contextlib.suppress(ConnectionError, FileNotFoundError):
                answer = self._request(container_id)
            time.sleep(0 if answer else _RETRY_INTERVAL)
        if error := answer.decode().strip():
            raise RuntimeFailed(f"the name server cannot serve the container: {error}")

    def ensure(self) -> bool:
        """Start the resolver, which serves all recorded containers, if it does not run; return whether it started."""
        with self._lock() as lock:
            if lock is None:
                return False
            path = self._directory / "socket"
            path.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
                # The socket listens before the resolver runs. Requests wait in its backlog, so this process does not
                # have to wait until the resolver's interpreter has started.
                server.bind(str(path))
                server.listen(_BACKLOG)
                # flock(2) locks the open file description, which the resolver inherits. The kernel releases the lock
                # when the last process that has it open exits. `setsid --fork` detaches the resolver.
                command = ["setsid", "--fork", *self._command()]
                with programs.spawn(command, stdin=server.fileno(), pass_fds=(lock,), directory="/") as parent:
                    parent.wait()
            return True

    def _command(self) -> list[str]:
        return [sys.executable, "-m", f"{__package__}.resolver", str(self._directory)]

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int | None]:
        """Lock the lock file and yield its descriptor; None if a resolver holds the lock."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._directory / "lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Race: an exiting resolver removes its lock file. If that happens between open and flock, this lock is on a
            # deleted file, and another process may hold the lock on a new file.
            is_current = path.exists() and os.path.samestat(os.fstat(lock), path.stat())
            yield lock if is_current else None
        except BlockingIOError:
            yield None
        finally:
            os.close(lock)

    def _request(self, container_id: str) -> bytes:
        """Request that the resolver serves a container. Return its answer: one line with an error, or an empty line.

        Return b"" if the resolver exits before it answers.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_SERVE_TIMEOUT)
            client.connect(str(self._directory / "socket"))
            client.sendall(container_id.encode() + b"\n")
            return client.recv(_LONGEST_ANSWER)
