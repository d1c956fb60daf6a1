"""logs: what a container has printed."""

from __future__ import annotations

import re
import time

import click

from pylab_container.cli import terminal
from pylab_container.cli.command import Command, open_engine
from pylab_container.errors import InvalidInput
from pylab_container.formats.timestamps import parse_rfc3339


@click.command(cls=Command)
@click.argument("container")
@click.option("-f", "--follow", is_flag=True, help="Go on until it ends.")
@click.option("-t", "--timestamps", is_flag=True, help="Show when each line was printed.")
@click.option("-n", "--tail", default="all", metavar="N|all", help="Only the last N lines.  [default: all]")
@click.option(
    "--since", metavar="TIME", help="Only lines from then on: 2026-11-24T08:00:00Z, or 10m for ten minutes ago."
)
@click.option("--until", metavar="TIME", help="Only lines up to then.")
def logs(
    container: str,
    follow: bool,  # noqa: FBT001
    timestamps: bool,  # noqa: FBT001
    tail: str,
    since: str | None,
    until: str | None,
) -> None:
    """Show what a container has printed."""
    lines = (
        open_engine()
        .containers.get(container)
        .log_lines(
            follow=follow,
            tail=_line_count(tail),
            since=moment(since) if since else None,
            until=moment(until) if until else None,
        )
    )
    for line in lines:
        stamp = f"{line.time} ".encode() if timestamps else b""
        terminal.write(terminal.STDOUT if line.stream == "stdout" else terminal.STDERR, stamp + line.data)


def _line_count(text: str) -> int | None:
    return int(text) if text.isdigit() else None


_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:h|m|s))+\Z")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|m|s)")
_SECONDS = {"h": 3600, "m": 60, "s": 1}


def moment(text: str, *, now: float | None = None) -> float:
    """Seconds since 1970: from an RFC 3339 time, such seconds, or a span before now, "1h30m". Raises InvalidInput."""
    if _SPAN.match(text):
        span = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
        return (time.time() if now is None else now) - span
    try:
        return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else parse_rfc3339(text) / 10**9
    except ValueError:
        raise InvalidInput(
            f'invalid time: "{text}"', hint="write 2026-11-24T08:00:00Z, or 10m for ten minutes ago"
        ) from None
