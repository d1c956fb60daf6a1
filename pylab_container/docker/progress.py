"""Docker's words for a transfer: from our events to the JSON lines of its API, and to the lines that people see.

    {"status":"Downloading","progressDetail":{"current":1200,"total":3400},"progress":"[==> ]  1.2kB/3.4kB","id":"…"}

Source: Engine API 1.41, ImageCreate and ImagePush; moby pkg/jsonmessage for the bar.
"""

from __future__ import annotations

from typing import Any

from pylab_container.events import Event, LayerTransfer, PushResult, TransferMessage
from pylab_container.text.sizes import human_precise

Json = dict[str, Any]

_WIDEST = 50
_NARROW = 110
"""In a terminal with fewer columns, docker leaves the bar out."""


def document(event: Event) -> Json | None:
    """The event as one line of Docker's API says it; None where that has no word for it."""
    match event:
        case TransferMessage(status, name):
            return {"status": status} | ({"id": name} if name else {})
        case LayerTransfer(status, layer, current, total):
            detail = {"current": current} | ({"total": total} if total else {})
            told: Json = {"status": status, "progressDetail": detail if current or total else {}}
            return told | ({"progress": bar(current, total)} if current or total else {}) | {"id": layer}
        case PushResult(tag, digest, size):
            return {"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": size}}
    return None


def line(event: Event, *, columns: int = 200) -> str | None:
    """The event as docker's terminal shows it, without a line's end; None where it shows nothing.

    columns  of the terminal: a narrow one has no place for the bar
    """
    match event:
        case TransferMessage(status, name):
            return f"{name}: {status}" if name else status
        case LayerTransfer(status, layer, current, total):
            text = bar(current, total, columns=columns) if current or total else ""
            return f"{layer}: {status} {text}".rstrip()
    return None


def bar(current: int, total: int, *, columns: int = 200) -> str:
    """How much is done: "[=====>   ]  1.2MB/3.4MB"; only the amount where nobody knows how much there is."""
    if current <= 0 and total <= 0:
        return ""
    if total <= 0 or current > total:
        return f"{human_precise(current):>8}"
    numbers = f"{human_precise(current):>8}/{human_precise(total)}"
    if columns < _NARROW:
        return numbers
    half = min(current * 100 // total, 100) // 2
    return f"[{'=' * half}>{' ' * (_WIDEST - half)}] {numbers}"
