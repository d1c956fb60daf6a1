"""Live progress in JupyterLab that does not change a notebook's saved output.

The state of a widget is in the browser; a saved notebook has only the text beside it. Each widget is therefore shown
together with a text that is the same in every run.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from pylab_container.engine import Engine
from pylab_container.events import BuildOutput, BuildStep, BuildWarning, Event, LayerTransfer, Progress
from pylab_container.host.extras import extra
from pylab_container.images.image import Image
from pylab_container.notebook.display import in_one_line
from pylab_container.notebook.markup import Html, joined, markup
from pylab_container.text import sizes
from pylab_container.text.visible import visible, visible_lines

with extra("labs"):
    import ipywidgets
    from IPython.display import display

REDRAW_INTERVAL = 0.1  # seconds; more frequent redraws slow the work down


def show(widget: ipywidgets.Widget, text: str) -> None:
    """Display a widget. text replaces it in the saved notebook."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display({"text/plain": visible_lines(text), "application/vnd.jupyter.widget-view+json": view}, raw=True)


def content(shown: Html) -> ipywidgets.HTML:
    """Return a widget with this content.

    Not a Label: it passes its text to MathJax, where $…$ in a log line could become a link to a script.
    """
    return ipywidgets.HTML(shown)


def set_content(view: ipywidgets.HTML, shown: Html) -> None:
    """Replace the content of a widget from content()."""
    view.value = shown


class ProgressBar:
    """A progress bar for the engine's events: bytes of a layer, or steps of a build.

    At the end the warnings of a build are shown beside it.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.bar = ipywidgets.FloatProgress(min=0, max=1, value=0)
        self.label = content(markup("{title}", title=title))
        self._redrawn = 0.0
        self._steps_done = 0
        self._warnings: list[str] = []
        self._lock = threading.Lock()

    def show(self) -> None:
        """Display the bar. The saved notebook keeps its title."""
        show(ipywidgets.HBox([self.bar, self.label]), self.title)

    def update(self, event: Event) -> None:
        """Process an event. The engine calls this, so it is fast and does not raise.

        The stages of a build call it from several threads. A widget belongs to the cell that displayed it; a print from
        another thread would appear in the output of another cell.
        """
        with self._lock:
            match event:
                case BuildStep():
                    self._steps_done += 1
                    self._draw(self._steps_done / event.of, f"{self._steps_done} of {event.of} steps")
                case BuildOutput():
                    self._draw_limited(self.bar.value, f"step {event.number}: {_last_line(event.text)}")
                case Progress():
                    share = event.done / event.total if event.total else self.bar.value
                    self._draw_limited(share, f"{event.activity} {sizes.human(event.done)}")
                case LayerTransfer():
                    share = event.current / event.total if event.total else self.bar.value
                    self._draw_limited(share, f"{event.layer}: {event.status}")
                case BuildWarning():
                    self._warnings.append(event.text)

    def _draw_limited(self, share: float, text: str) -> None:
        """Draw a frequent event, at most once per REDRAW_INTERVAL."""
        if time.monotonic() - self._redrawn > REDRAW_INTERVAL:
            self._draw(share, text)

    def _draw(self, share: float, text: str) -> None:
        self._redrawn = time.monotonic()
        self.bar.value = min(share, 1.0)
        set_content(self.label, markup("{title}: {text}", title=self.title, text=text))

    def finish(self, *, failed: bool = False) -> None:
        """Show the end: a full green bar, or a red bar where it failed."""
        with self._lock:
            self.bar.bar_style = "danger" if failed else "success"
            if not failed:
                self._draw(1.0, "; ".join(["done", *self._warnings]))


def _last_line(output: str) -> str:
    """Return the last line that a terminal would show.

    Programs overwrite their progress with \\r.
    """
    lines = output.replace("\r", "\n").split("\n")
    return in_one_line(next((line for line in reversed(lines) if line.strip()), ""))


@contextlib.contextmanager
def progress(engine: Engine, title: str) -> Iterator[None]:
    """Show a progress bar for the operations of the engine in the block."""
    bar = ProgressBar(title)
    bar.show()
    failed = True
    try:
        with engine.events.subscribed(bar.update):
            yield
        failed = False
    finally:
        bar.finish(failed=failed)


class Notice:
    """One line that can change while a cell runs. The saved notebook has only its final text.

    text  the final text
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.label = content(markup("{text}", text=text))

    def show(self) -> None:
        show(self.label, self.text)

    def say(self, text: str) -> None:
        """Show a temporary text."""
        set_content(self.label, markup("{text}", text=text))

    def done(self) -> None:
        self.say(self.text)


def layer_explorer(image: Image) -> None:
    """Show the image's layers as a stack to click through, the topmost first.

    Each layer shows its ids and the entries of its directory.
    """
    layers = image.layers[::-1]
    driver = image._data.driver
    pages = []
    for layer in layers:
        names = sorted(path.name for path in driver.diff_path(layer.cache_id).iterdir())
        facts = {
            "diff id": layer.diff_id[7:19],
            "chain id": layer.chain_id[7:19],
            "directory": f"overlay2/{layer.cache_id[:12]}…/diff",
            "size": sizes.human(layer.size),
            "holds": " ".join(map(visible, names)),
        }
        rows = joined(
            markup('<tr><th style="text-align:left">{name}</th><td>{value}</td></tr>', name=name, value=value)
            for name, value in facts.items()
        )
        pages.append(content(markup("<table>{rows}</table>", rows=rows)))
    stack = ipywidgets.Accordion(children=pages, selected_index=0)
    for number in range(len(layers)):
        stack.set_title(number, f"layer {len(layers) - number} of {len(layers)}")
    show(stack, f"{len(layers)} layers to click through: open this notebook in JupyterLab")
