"""Pulls of one image side by side: one of them brings its layers, and the others hear how far they are."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pylab_container.events import Emit

if TYPE_CHECKING:
    from pylab_container.registry.transfers import Teller


class Turns:
    """The pulls of one engine. Other processes on its data root bring their own bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Teller, threading.Event]] = {}

    @contextlib.contextmanager
    def take(self, image_id: str, teller: Teller, progress: Emit | None) -> Iterator[None]:
        """Wait until nobody else brings this image; meanwhile progress hears what is told of it.

        teller  tells what happens in the block, to all who wait for its end by then
        """
        mine = (teller, threading.Event())
        while (other := self._begun(image_id, mine)) is not mine:
            other[0].join(progress)
            other[1].wait()
        try:
            yield
        finally:
            with self._lock:
                del self._running[image_id]
            mine[1].set()

    def _begun(self, image_id: str, mine: tuple[Teller, threading.Event]) -> tuple[Teller, threading.Event]:
        """Whose turn it is."""
        with self._lock:
            return self._running.setdefault(image_id, mine)
