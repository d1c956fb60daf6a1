"""Progress that is live in JupyterLab and leaves a notebook's saved output alone.

A widget's state lives in the browser; a saved notebook has only the text beside it. So
each widget is shown together with a text of its own that is the same at every run.
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

# Redrawing more often than an eye can follow only slows the work down (seconds).
_REDRAW = 0.1


def show(widget: ipywidgets.Widget, text: str) -> None:
    """Display a widget; text is what stands in the saved notebook in its place."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display({"text/plain": visible_lines(text), "application/vnd.jupyter.widget-view+json": view}, raw=True)


def content(shown: Html) -> ipywidgets.HTML:
    """A widget with this content.

    Not a Label: that hands its text to MathJax, in which a $…$ out of a log line could be a link to a script.
    """
    return ipywidgets.HTML(shown)


def set_content(view: ipywidgets.HTML, shown: Html) -> None:
    """Let a widget of content() show something else."""
    view.value = shown


class ProgressBar:
    """A bar fed by the engine's events: bytes while a layer is read, steps while an image is built.

    What a build warns about stands beside it in the end.
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
        """Display the bar; the saved notebook keeps its title."""
        show(ipywidgets.HBox([self.bar, self.label]), self.title)

    def update(self, event: Event) -> None:
        """Take notice of one event. The engine calls this, so it is quick and does not raise.

        The stages of a build call it each from a thread of its own. A widget belongs to the cell
        that displayed it, whichever thread changes it; a print would end up in another cell's output.
        """
        with self._lock:
            match event:
                case BuildStep():
                    self._steps_done += 1
                    self._draw(self._steps_done / event.of, f"{self._steps_done} of {event.of} steps")
                case BuildOutput():
                    self._comment(self.bar.value, f"step {event.number}: {_last_line(event.text)}")
                case Progress():
                    share = event.done / event.total if event.total else self.bar.value
                    self._comment(share, f"{event.activity} {sizes.human(event.done)}")
                case LayerTransfer():
                    share = event.current / event.total if event.total else self.bar.value
                    self._comment(share, f"{event.layer}: {event.status}")
                case BuildWarning():
                    self._warnings.append(event.text)

    def _comment(self, share: float, text: str) -> None:
        """Draw what is soon followed by more of its kind, unless that was done just now."""
        if time.monotonic() - self._redrawn > _REDRAW:
            self._draw(share, text)

    def _draw(self, share: float, text: str) -> None:
        self._redrawn = time.monotonic()
        self.bar.value = min(share, 1.0)
        set_content(self.label, markup("{title}: {text}", title=self.title, text=text))

    def finish(self, *, failed: bool = False) -> None:
        """Full and green, or red where it stopped."""
        with self._lock:
            self.bar.bar_style = "danger" if failed else "success"
            if not failed:
                self._draw(1.0, "; ".join(["done", *self._warnings]))


def _last_line(output: str) -> str:
    """What a terminal would show last: programs draw their own progress over and over with \\r."""
    lines = output.replace("\r", "\n").split("\n")
    return in_one_line(next((line for line in reversed(lines) if line.strip()), ""))


@contextlib.contextmanager
def progress(engine: Engine, title: str) -> Iterator[None]:
    """A progress bar for whatever the engine does in the block."""
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
    """One line that can change while a cell runs; the saved notebook has only its last state.

    text  what it says in the end, and in a saved notebook at once
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.label = content(markup("{text}", text=text))

    def show(self) -> None:
        show(self.label, self.text)

    def say(self, text: str) -> None:
        """Something that is only true for the moment."""
        set_content(self.label, markup("{text}", text=text))

    def done(self) -> None:
        self.say(self.text)


def layer_explorer(image: Image) -> None:
    """The image's layers as a stack to click through, the topmost first.

    Each shows its ids and what its own directory holds.
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
