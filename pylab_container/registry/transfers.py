"""What pull and push share: the connection to a registry, and the report of progress."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pylab_container.errors import LabError
from pylab_container.events import Emit, Event, LayerTransfer, TransferMessage, ignore
from pylab_container.oci.reference import Reference
from pylab_container.registry import login
from pylab_container.registry.client import RegistryClient
from pylab_container.registry.downloads import PROGRESS_INTERVAL
from pylab_container.registry.settings import RegistryEndpoint, RegistrySettings

Count = Callable[[str, int, int], None]
"""(status, bytes so far, bytes in all)."""
Counter = Callable[[int], None]
"""Takes the bytes so far."""
AuthConfig = Mapping[str, Any]
"""docker-py's: {"username": …, "password": …}."""


class ProgressReport:
    """Reports one pull or push to the stream of events and to listeners. Thread-safe.

    A listener that raises a LabError is removed: its client has disconnected. The error of the last listener is
    raised, and so cancels the transfer.
    """

    def __init__(self, stream: Emit, listener: Emit | None) -> None:
        """stream receives everything and must not raise; listener is the first listener."""
        self._stream = stream
        self._listeners: list[Emit] = [listener or ignore]
        self._lock = threading.Lock()

    def join(self, listener: Emit | None) -> None:
        """Add a listener; it receives the events from now on."""
        with self._lock:
            self._listeners.append(listener or ignore)

    def message(self, status: str, name: str = "") -> None:
        """Report something about the whole transfer."""
        self.emit(TransferMessage(status, name))

    def layer(self, name: str, status: str, current: int = 0, total: int = 0) -> None:
        """Report the state of a layer; name is its digest or diff id, the numbers are bytes."""
        self.emit(LayerTransfer(status, name.removeprefix("sha256:")[:12], current, total))

    def emit(self, event: Event) -> None:
        """Pass an event to all; events of several threads are serialized."""
        with self._lock:
            self._stream(event)
            for listener in list(self._listeners):
                try:
                    listener(event)
                except LabError:
                    if len(self._listeners) == 1:
                        raise
                    self._listeners.remove(listener)

    def counter(self, name: str, status: str, total: int) -> Counter:
        """Return a function that takes the bytes so far, and reports them.

        It reports at most every PROGRESS_INTERVAL, and at the end.
        """
        reported_at, reported = 0.0, 0

        def count(done: int) -> None:
            nonlocal reported_at, reported
            if done != reported and (time.monotonic() > reported_at + PROGRESS_INTERVAL or done == total):
                reported_at, reported = time.monotonic(), done
                self.layer(name, status, done, total)

        return count


@contextlib.contextmanager
def opened(
    settings: RegistrySettings, reference: Reference, endpoint: RegistryEndpoint, auth: AuthConfig | None, *, emit: Emit
) -> Iterator[RegistryClient]:
    """Open a client for the registry at an endpoint.

    The credentials of the origin are not sent to a mirror.
    """
    if not endpoint.mirror:
        credentials = login.find(reference.domain, auth, emit=emit)
    else:
        credentials = login.find(endpoint.host, None if auth is None else {}, emit=emit)
    registry = RegistryClient(endpoint, settings, credentials, emit=emit)
    with contextlib.closing(registry):
        yield registry


def full_name(reference: Reference) -> str:
    """Return the name of a repository with its registry: "docker.io/library/debian"."""
    return f"{reference.domain}/{reference.path}"
