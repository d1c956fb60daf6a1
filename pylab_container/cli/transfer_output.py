"""The progress of a pull or push: docker's line for each layer, updated in place in a terminal."""

from __future__ import annotations

import os
from typing import TextIO

from pylab_container.docker import progress
from pylab_container.events import Event, LayerTransfer
from pylab_container.text.visible import visible

_ERASE = "\x1b[2K"


class Display:
    """Prints the events of a transfer. In a terminal each layer has one line, which is updated."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._lines: dict[str, int] = {}

    def __call__(self, event: Event) -> None:
        """Process an event; events of other operations are ignored."""
        if not isinstance(event, LayerTransfer):
            self._plain(progress.line(event))
        elif self._terminal:
            self._in_place(event)
        elif not event.current:  # no progress bars in a log
            self._plain(progress.line(event))

    def _plain(self, text: str | None) -> None:
        if text is not None:
            self._lines.clear()  # the lines above are final
            self._write(f"{visible(text)}\n")

    def _in_place(self, event: LayerTransfer) -> None:
        """Move the cursor up to the layer's line, rewrite it, and move back."""
        new = event.layer not in self._lines
        number = self._lines.setdefault(event.layer, len(self._lines))
        up = len(self._lines) - number - (1 if new else 0)
        text = visible(progress.line(event, columns=self._columns()) or "")
        move, back = (f"\x1b[{up}A", f"\x1b[{up}B") if up else ("", "")
        self._write(f"{move}{_ERASE}\r{text}\r{back}" + ("\n" if new else ""))

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns
        except OSError:
            return 80

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
