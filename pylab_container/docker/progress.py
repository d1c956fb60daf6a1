"""Progress of pulls and pushes: events as lines of Docker's API and of its terminal output.

    {"status":"Downloading","progressDetail":{"current":1200,"total":3400},"progress":"[==> ]  1.2kB/3.4kB","id":"…"}

Source: Engine API 1.41, ImageCreate and ImagePush; moby pkg/jsonmessage for the bar.
"""

from __future__ import annotations

from pylab_container.events import Event, LayerTransfer, PushResult, TransferMessage
from pylab_container.oci.image import Json
from pylab_container.text.sizes import human_precise

BAR_WIDTH = 50  # characters between the brackets
MIN_COLUMNS_FOR_BAR = 110
"""In a terminal with fewer columns, docker shows the numbers without the bar."""


def document(event: Event) -> Json | None:
    """Return the event as a JSON line of Docker's API; None if the API has no line for it."""
    match event:
        case TransferMessage(status, name):
            return {"status": status} | ({"id": name} if name else {})
        case LayerTransfer(status, layer, current, total):
            detail = {"current": current} | ({"total": total} if total else {})
            message: Json = {"status": status, "progressDetail": detail if current or total else {}}
            return message | ({"progress": bar(current, total)} if current or total else {}) | {"id": layer}
        case PushResult(tag, digest, size):
            return {"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": size}}
    return None


def line(event: Event, *, columns: int = 200) -> str | None:
    """Return the line that docker shows for an event in a terminal; None if it shows nothing.

    columns  width of the terminal
    """
    match event:
        case TransferMessage(status, name):
            return f"{name}: {status}" if name else status
        case LayerTransfer(status, layer, current, total):
            text = bar(current, total, columns=columns) if current or total else ""
            return f"{layer}: {status} {text}".rstrip()
    return None


def bar(current: int, total: int, *, columns: int = 200) -> str:
    """Return "[=====>   ]  1.2MB/3.4MB" for counts of bytes.

    total  0 if it is unknown: only the first count is shown then
    """
    if current <= 0 and total <= 0:
        return ""
    if total <= 0 or current > total:
        return f"{human_precise(current):>8}"
    numbers = f"{human_precise(current):>8}/{human_precise(total)}"
    if columns < MIN_COLUMNS_FOR_BAR:
        return numbers
    half = min(current * 100 // total, 100) // 2
    return f"[{'=' * half}>{' ' * (BAR_WIDTH - half)}] {numbers}"
