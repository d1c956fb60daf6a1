"""One stream of everything that the engine does.

Mechanisms report typed events (`events.py`); whoever wants to know subscribes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from pylab_container.events import Emit, Event


class EventStream:
    """Passes each event to every subscriber, in the thread that caused it."""

    def __init__(self, *subscribers: Emit) -> None:
        """subscribers: those that are always told."""
        self._subscribers = subscribers
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Tell everybody. A subscriber must not raise: the operation would fail with it."""
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
        """A list that fills with the events of the block: the answer to "what just happened"."""
        events: list[Event] = []
        with self.subscribed(events.append):
            yield events
