"""Tables and cells in docker's formats."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pylab_container.docker import status as states
from pylab_container.text.timestamps import NEVER, ago, parse_rfc3339
from pylab_container.text.visible import visible

_MIN_WIDTH = 10  # characters of a column
_PADDING = 3  # characters between columns


def render(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Align columns as Go's text/tabwriter does with minimum width 10 and padding 3.

    The last column is not padded.
    """
    lines = [list(map(visible, line)) for line in (headings, *rows)]
    widths = [max(_MIN_WIDTH, _PADDING + max(map(len, column))) for column in zip(*lines, strict=True)]
    widths[-1] = 0
    return "\n".join("".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Align lines of cells as render() does, each with its newline.

    Lines may have fewer cells than others.
    """
    widths: dict[int, int] = {}
    for line in lines:
        for column, cell in enumerate(line[:-1]):  # the last cell is not padded
            widths[column] = max(widths.get(column, _MIN_WIDTH), len(cell) + _PADDING)
    padded = ([cell.ljust(widths[column]) for column, cell in enumerate(line[:-1])] + [line[-1]] for line in lines)
    return "".join("".join(line) + "\n" for line in padded)


def shortened(text: str, length: int) -> str:
    """Truncate text to length characters, with an ellipsis as the last one."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def short_id(image_id: str) -> str:
    """Return the twelve digits of an id that listings show."""
    return image_id.removeprefix("sha256:")[:12]


def since(moment: str, *, now: float | None = None) -> str:
    """Return the time since an RFC 3339 moment: "3 minutes".

    now  seconds since 1970, the clock by default
    """
    current = int((time.time() if now is None else now) * 10**9)
    return ago(current - parse_rfc3339(moment))


def created(moment: str, *, now: float | None = None) -> str:
    """Return the column CREATED: "3 minutes ago", or "N/A" if the time is unknown."""
    return f"{since(moment, now=now)} ago" if moment and moment != NEVER else "N/A"


def status(state: Mapping[str, Any], *, now: float | None = None) -> str:
    """Return the column STATUS for Docker's State: "Up 8 seconds (healthy)"."""
    return states.status(state, now=time.time() if now is None else now)


def command(words: Sequence[str], *, full: bool = False) -> str:
    """Return the column COMMAND: quoted, and truncated to 20 characters unless full."""
    path, *arguments = words
    text = " ".join([path, *(f"'{word}'" if " " in word else word for word in arguments)])
    return json.dumps(text if full else shortened(text, 20), ensure_ascii=False)


def ports(document: Mapping[str, Any]) -> str:
    """Return the column PORTS for NetworkSettings.Ports: "22/tcp, 0.0.0.0:8080->80/tcp".

    Consecutive ports are joined if they have the same number on the host. Ports with another number follow one by one.
    """
    bound = []
    for name, bindings in document.items():
        number, _, protocol = name.partition("/")
        for binding in bindings or [{}]:
            address, outer = str(binding.get("HostIp") or ""), int(binding.get("HostPort") or 0)
            bound.append((int(number), address, outer, protocol or "tcp"))
    runs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    single, broken = [], []
    for inner, address, outer, protocol in sorted(bound):
        if address and outer != inner:
            single.append(f"{_host(address)}:{outer}->{inner}/{protocol}")
            continue
        known = runs.setdefault((address, protocol), [])
        if known and known[-1][1] == inner - 1:
            known[-1] = (known[-1][0], inner)
        else:
            broken += [_run(address, protocol, known.pop())] if known else []
            known.append((inner, inner))
    return ", ".join([*broken, *(_run(*key, run) for key, known in runs.items() for run in known), *single])


def _run(address: str, protocol: str, run: tuple[int, int]) -> str:
    numbers = str(run[0]) if run[0] == run[1] else f"{run[0]}-{run[1]}"
    return f"{_host(address)}:{numbers}->{numbers}/{protocol}" if address else f"{numbers}/{protocol}"


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
