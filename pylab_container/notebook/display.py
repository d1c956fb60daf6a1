"""Displays of the engine's objects and events in a notebook, as text and as HTML.

nbval compares the text, which terminals show; the HTML has the same content. Neither contains a path of the machine: a
data root is shown as $LABCTR_ROOT and a lab's directory as $LAB. The lab sets both variables for the shell, so that a
shown path can be typed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from pylab_container.engine.containers import Container
from pylab_container.errors import BuildFailed, DockerfileError, LabError
from pylab_container.events import BuildOutput, BuildStepStarted, Event, Progress
from pylab_container.images.image import HistoryEntry, Image
from pylab_container.notebook.markup import Html, joined, markup, output
from pylab_container.notebook.trees import MONOSPACE, shortened
from pylab_container.text import sizes
from pylab_container.text.timestamps import NEVER, ago, parse_rfc3339
from pylab_container.text.visible import visible, visible_lines

_WRAPPED = "white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere"
NOWRAP_LENGTH = 30  # characters; shorter cells do not wrap, so that long neighbours do not squeeze them
MAX_CELL_LENGTH = 90  # characters
LAST_LINES = 10  # of a failed command's output
# Events while an operation runs. Its result is a separate event.
_PROGRESS_EVENTS = (Progress, BuildOutput, BuildStepStarted)
_COLOURS = {"ok": "#1a6b2a", "no": "#a40000", "open": "#6b5900"}


def portable(text: str) -> str:
    """Replace the lab's directories by their variables, and shorten ids to twelve digits."""
    directories = {os.environ.get(name): name for name in ("LAB", "LABCTR_ROOT")}
    # The longer path first: one of the two may contain the other.
    for directory in sorted(filter(None, directories), key=len, reverse=True):
        text = re.sub(re.escape(directory) + r"(?![\w.-])", f"${directories[directory]}", text)
    return shortened(text)


def in_one_line(text: str) -> str:
    """Join the lines with single spaces, and truncate the text to MAX_CELL_LENGTH."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_CELL_LENGTH else f"{line[: MAX_CELL_LENGTH - 1]}…"


class Table(Struct, frozen=True):
    """Headings and rows, aligned as in docker's tables."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __repr__(self) -> str:
        lines = [tuple(map(visible, line)) for line in (self.headings, *self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.headings))]
        return "\n".join("   ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def _repr_html_(self) -> Html:
        head = joined(_cell("th", text) for text in self.headings)
        rows = (joined(_cell("td", text) for text in row) for row in self.rows)
        body = joined(markup("<tr>{row}</tr>", row=row) for row in rows)
        table = "<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return output(markup(table, head=head, body=body))


def _cell(tag: str, text: str) -> Html:
    wrap = "white-space: pre" if len(text) <= NOWRAP_LENGTH else _WRAPPED
    return markup('<{tag} style="text-align: left; {wrap}">{text}</{tag}>', tag=tag, wrap=wrap, text=text)


def framed(text: str, kind: str) -> Html:
    """Return the text in a monospace font, with a bar on its left: green for ok, red for no, ochre for open."""
    colour = _COLOURS[kind]
    style = f"margin: 0; padding: .3em .8em; border-left: 4px solid {colour}; {_WRAPPED}; {MONOSPACE}"
    return output(markup('<pre style="{style}">{text}</pre>', style=style, text=text))


class Note(Struct, frozen=True):
    """A short message with a mark before it: ok ✔, no ✘ or open ○."""

    kind: str
    text: str

    def __repr__(self) -> str:
        return f"{ {'ok': '✔', 'no': '✘', 'open': '○'}[self.kind] } {visible_lines(self.text)}"

    def _repr_html_(self) -> Html:
        return framed(repr(self), self.kind)


class ErrorCard(Struct, frozen=True):
    """An error without a traceback: its class, its message and its hint."""

    error: BaseException

    def __repr__(self) -> str:
        return f"{type(self.error).__name__}: {visible_lines(portable(str(self.error)))}"

    def _repr_html_(self) -> Html:
        return framed(repr(self), "no")


# -- tables of engine objects ------------------------------------------------------------------


def image_table(images: Iterable[Image]) -> Table:
    """Return a table with the columns of `docker images` and the number of layers."""
    rows = []
    for image in images:
        layers = image.layers
        size = sizes.human(sum(layer.size for layer in layers))
        for tag in image.tags or ["<none>:<none>"]:
            repository, _, name = tag.rpartition(":")
            rows.append((repository, name, image.id[7:19], _age(image.config.created), size, str(len(layers))))
    return Table(("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "LAYERS"), tuple(rows))


def container_table(containers: Iterable[Container]) -> Table:
    """Return a table of containers with their commands, states and addresses."""
    rows = []
    for container in containers:
        record = container.record
        image = str(record.config.image or record.image[7:19])
        command = " ".join([record.path, *record.args])
        rows.append((record.short_id, record.name, image, command, str(record.state), container.address))
    return Table(("CONTAINER ID", "NAME", "IMAGE", "COMMAND", "STATUS", "ADDRESS"), tuple(rows))


def history_table(entries: Iterable[HistoryEntry]) -> Table:
    """Return a table with the columns of `docker history`, with complete instructions."""
    rows = [
        (_short(entry.id), _age(entry.created), shortened(entry.created_by), sizes.human(entry.size), entry.comment)
        for entry in entries
    ]
    return Table(("IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"), tuple(rows))


def event_table(events: Iterable[Event], kinds: tuple[type[Event], ...] = ()) -> Table:
    """Return a table with one row for each event, without progress; kinds selects event classes."""
    shown = [event for event in events if isinstance(event, kinds or Event) and not isinstance(event, _PROGRESS_EVENTS)]
    return Table(("WHAT", "IN DETAIL"), tuple((_kind(event), portable(event.sentence())) for event in shown))


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


def _kind(event: Event) -> str:
    """Return the name of an event class in words: "overlay mounted" for OverlayMounted."""
    return re.sub(r"(?<!^)([A-Z])", r" \1", type(event).__name__).lower()


def _age(created: str) -> str:
    if created in ("", NEVER):
        return "N/A"
    return f"{ago(time.time_ns() - parse_rfc3339(created))} ago"


# -- IPython's hooks -------------------------------------------------------------------------


def listed(items: Sequence[object]) -> Table | None:
    """Return the table for a list of engine objects of one class, None for any other list."""
    tables: list[tuple[type, Callable[[Any], Table]]] = [
        (Image, image_table),
        (Container, container_table),
        (HistoryEntry, history_table),
    ]
    for kind, table in tables:
        if items and all(isinstance(item, kind) for item in items):
            return table(items)
    return None


def install(shell: Any) -> None:
    """Register the displays of engine objects and errors in an IPython shell."""
    as_text = shell.display_formatter.formatters["text/plain"]
    as_html = shell.display_formatter.formatters["text/html"]
    ordinary = as_text.for_type(list)

    def list_text(items: list[object], printer: Any, cycle: bool) -> None:  # noqa: FBT001 (IPython calls it so)
        table = None if cycle else listed(items)
        if table is None:
            ordinary(items, printer, cycle)
        else:
            printer.text(repr(table))

    def list_html(items: list[object]) -> Html | None:
        table = listed(items)
        return table._repr_html_() if table else None

    as_text.for_type(list, list_text)
    as_html.for_type(list, list_html)
    as_html.for_type(Image, lambda image: image_table([image])._repr_html_())
    as_html.for_type(Container, lambda container: container_table([container])._repr_html_())
    shell.set_custom_exc((LabError,), _show_error)


def _show_error(
    shell: Any, kind: type[LabError], error: LabError, traceback: Any, tb_offset: int | None = None
) -> list[str]:
    """Show an error without a traceback, which does not help a student who mistyped a name."""
    name = "Dockerfile" if isinstance(error, DockerfileError) else kind.__name__
    # Of a failed build the cell has not shown the command's output, as docker build does.
    output = error.output.decode(errors="replace").strip() if isinstance(error, BuildFailed) else ""
    before = [visible_lines(portable(line)) for line in output.splitlines()[-LAST_LINES:]]
    lines = [*before, f"\x1b[31m{name}\x1b[0m: {visible_lines(portable(str(error)))}"]
    shell._showtraceback(kind, error, lines)
    return lines
