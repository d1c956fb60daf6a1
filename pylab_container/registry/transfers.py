"""What pull and push have in common: the way to a registry, and how they tell how far they are."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pylab_container.errors import LabError
from pylab_container.events import Emit, Event, LayerTransfer, TransferMessage
from pylab_container.oci.reference import Reference
from pylab_container.registry import login
from pylab_container.registry.client import RegistryClient
from pylab_container.registry.downloads import SELDOM
from pylab_container.registry.settings import RegistryEndpoint

if TYPE_CHECKING:
    from pylab_container.engine import Engine

Count = Callable[[str, int, int], None]
"""(status, bytes so far, bytes in all)."""
Counter = Callable[[int], None]
"""Takes the bytes so far."""
AuthConfig = Mapping[str, Any]
"""docker-py's: {"username": …, "password": …}."""


class Teller:
    """Tells of one pull or push: the engine's stream, and whoever asked for it. Threads may share it.

    Who does not listen any more says so by a LabError; when the last one has gone, it is raised, and ends the transfer.
    """

    def __init__(self, engine: Engine, progress: Emit | None) -> None:
        self._stream = engine.data.emit
        self._listeners: list[Emit] = [progress or _nobody]
        self._lock = threading.Lock()

    def join(self, progress: Emit | None) -> None:
        """From now on somebody else listens, too."""
        with self._lock:
            self._listeners.append(progress or _nobody)

    def message(self, status: str, name: str = "") -> None:
        """Say something about the whole."""
        self.emit(TransferMessage(status, name))

    def layer(self, name: str, status: str, current: int = 0, total: int = 0) -> None:
        """Say how far a layer is; name is its digest or diff id."""
        self.emit(LayerTransfer(status, name.removeprefix("sha256:")[:12], current, total))

    def emit(self, event: Any) -> None:
        """Tell everybody, one event after the other."""
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
        """What takes bytes so far, and says so now and then."""
        told, last = 0.0, 0

        def count(done: int) -> None:
            nonlocal told, last
            if done != last and (time.monotonic() > told + SELDOM or done == total):
                told, last = time.monotonic(), done
                self.layer(name, status, done, total)

        return count


def _nobody(event: Event) -> None:
    """Listens to all of it, and says nothing."""


@contextlib.contextmanager
def opened(
    engine: Engine, reference: Reference, endpoint: RegistryEndpoint, auth: AuthConfig | None
) -> Iterator[RegistryClient]:
    """The registry at a place. What is known for the origin is not told to a mirror."""
    if not endpoint.mirror:
        credentials = login.find(engine, reference.domain, auth)
    else:
        credentials = login.find(engine, endpoint.host, None if auth is None else {})
    registry = RegistryClient(endpoint, engine.registries, credentials, emit=engine.data.emit)
    with contextlib.closing(registry):
        yield registry


def full_name(reference: Reference) -> str:
    """A repository's name with the registry: "docker.io/library/debian"."""
    return f"{reference.domain}/{reference.path}"
