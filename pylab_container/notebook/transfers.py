"""The progress of a pull or push in a notebook: docker's line for each layer, updated in place."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from pylab_container.docker import progress
from pylab_container.engine import Engine
from pylab_container.events import Event, LayerTransfer
from pylab_container.notebook.markup import markup
from pylab_container.notebook.widgets import content, set_content, show
from pylab_container.text.visible import visible

REDRAW_INTERVAL = 0.1  # seconds, as for progress bars


class TransferView:
    """The lines of a transfer. A saved notebook keeps only the title."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.view = content(markup(""))
        self._lines: list[str] = []
        self._places: dict[str, int] = {}
        self._drawn = 0.0
        self._lock = threading.Lock()

    @property
    def text(self) -> str:
        """The current lines."""
        return "\n".join(self._lines)

    def update(self, event: Event) -> None:
        """Process an event; others than a transfer's are ignored. Thread-safe."""
        line = progress.line(event)
        if line is None:
            return
        with self._lock:
            if isinstance(event, LayerTransfer) and event.layer in self._places:
                self._lines[self._places[event.layer]] = visible(line)
            else:
                if isinstance(event, LayerTransfer):
                    self._places[event.layer] = len(self._lines)
                else:
                    self._places.clear()  # the layers above are finished
                self._lines.append(visible(line))
            if time.monotonic() > self._drawn + REDRAW_INTERVAL:
                self.draw()

    def draw(self) -> None:
        """Redraw the lines."""
        self._drawn = time.monotonic()
        set_content(self.view, markup("<pre>{text}</pre>", text=self.text))


@contextlib.contextmanager
def transfers(engine: Engine, title: str) -> Iterator[TransferView]:
    """Show the progress of pulls and pushes in the block, layer by layer."""
    view = TransferView(title)
    show(view.view, title)
    try:
        with engine.events.subscribed(view.update):
            yield view
    finally:
        view.draw()
