"""Single flight of pulls: one fetches an image's layers, the others follow its progress."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pylab_container.events import Emit

if TYPE_CHECKING:
    from pylab_container.registry.transfers import ProgressReport


class Turns:
    """The running pulls of one process. Other processes fetch the layers themselves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, tuple[ProgressReport, threading.Event]] = {}

    @contextlib.contextmanager
    def take(self, image_id: str, report: ProgressReport, progress: Emit | None) -> Iterator[None]:
        """Wait until no other thread pulls this image; progress receives that pull's events.

        report  reports the progress of the block, also to the threads that wait for its end
        """
        own = (report, threading.Event())
        while (other := self._running_pull(image_id, own)) is not own:
            other[0].join(progress)
            other[1].wait()
        try:
            yield
        finally:
            with self._lock:
                del self._running[image_id]
            own[1].set()

    def _running_pull(
        self, image_id: str, own: tuple[ProgressReport, threading.Event]
    ) -> tuple[ProgressReport, threading.Event]:
        """Return the running pull of this image; if no pull runs, register and return the caller's own."""
        with self._lock:
            return self._running.setdefault(image_id, own)
