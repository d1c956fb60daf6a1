"""Tables and cells as the docker command writes them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence

from pylab_container.formats.lifecycle import State
from pylab_container.formats.timestamps import NEVER, ago, parse_rfc3339

_NARROWEST = 10
_PADDING = 3


def render(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns at least ten characters wide and three apart, the last one as it comes.

    That is Go's text/tabwriter with docker's settings: minwidth 10, padding 3.
    """
    lines = [headings, *rows]
    widths = [max(_NARROWEST, _PADDING + max(map(len, column))) for column in zip(*lines, strict=True)]
    widths[-1] = 0
    return "\n".join("".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def shortened(text: str, length: int) -> str:
    """At most length characters, the last one an ellipsis where some are missing."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def short_id(image_id: str) -> str:
    """The twelve digits of an image's or a container's id that listings show."""
    return image_id.removeprefix("sha256:")[:12]


def since(moment: str, *, now: float | None = None) -> str:
    """How long ago an RFC 3339 moment was: "3 minutes". now in seconds since 1970, default the clock."""
    current = int((time.time() if now is None else now) * 10**9)
    return ago(current - parse_rfc3339(moment))


def created(moment: str, *, now: float | None = None) -> str:
    """The CREATED column: "3 minutes ago", "N/A" where nobody knows."""
    return f"{since(moment, now=now)} ago" if moment and moment != NEVER else "N/A"


def status(
    state: State, *, exit_code: int = 0, started_at: str = NEVER, finished_at: str = NEVER, now: float | None = None
) -> str:
    """The STATUS column: "Up 8 seconds", "Exited (0) 3 minutes ago", "Created"."""
    if state is State.RUNNING:
        return f"Up {since(started_at, now=now)}"
    if state is State.PAUSED:
        return f"Up {since(started_at, now=now)} (Paused)"
    if state is State.EXITED:
        return f"Exited ({exit_code}) {since(finished_at, now=now)} ago"
    return str(state).capitalize()


def command(words: Sequence[str], *, full: bool = False) -> str:
    """The COMMAND column: quoted, and without full cut at 20 characters."""
    path, *arguments = words
    text = " ".join([path, *(f"'{word}'" if " " in word else word for word in arguments)])
    return json.dumps(text if full else shortened(text, 20), ensure_ascii=False)


def ports(exposed: Iterable[str]) -> str:
    """The PORTS column of what an image EXPOSEs: "22/tcp, 80-81/tcp", neighbours joined."""
    runs: list[tuple[int, int, str]] = []
    for number, protocol in sorted((int(port.partition("/")[0]), port.partition("/")[2] or "tcp") for port in exposed):
        for index, (first, last, known) in enumerate(runs):
            if known == protocol and last == number - 1:
                runs[index] = (first, number, protocol)
                break
        else:
            runs.append((number, number, protocol))
    return ", ".join(f"{first}/{kind}" if first == last else f"{first}-{last}/{kind}" for first, last, kind in runs)
