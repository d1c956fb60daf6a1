"""One stream of everything that the engine does.

All parts of the engine emit typed events (`events.py`); progress bars, logs and notebooks subscribe to them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from pylab_container.events import Emit, Event


class EventStream:
    """Passes each event to every subscriber, in the thread that caused it."""

    def __init__(self, *subscribers: Emit) -> None:
        """subscribers receive every event as long as the stream exists."""
        self._subscribers = subscribers
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Pass an event to all subscribers. A subscriber must not raise: the operation would fail."""
        for subscriber in self._subscribers:
            subscriber(event)

    @contextlib.contextmanager
    def subscribed(self, subscriber: Emit) -> Iterator[None]:
        """Call subscriber with every event while the block runs."""
        with self._lock:
            self._subscribers += (subscriber,)
        try:
            yield
        finally:
            with self._lock:
                self._subscribers = tuple(known for known in self._subscribers if known is not subscriber)

    @contextlib.contextmanager
    def collected(self) -> Iterator[list[Event]]:
        """Collect the events of the block in a list."""
        events: list[Event] = []
        with self.subscribed(events.append):
            yield events
