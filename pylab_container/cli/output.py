"""logs: print the log of a container."""

from __future__ import annotations

import time

import click

from pylab_container.cli import arguments, terminal
from pylab_container.cli.command import Command, open_engine
from pylab_container.cli.printing import say
from pylab_container.docker.filters import searcher
from pylab_container.runtime.logdriver import damage_notice, log_details
from pylab_container.text import timestamps


@click.command(cls=Command)
@click.argument("container", shell_complete=arguments.containers)
@click.option("-f", "--follow", is_flag=True, help="Follow the output until it exits.")
@click.option("-t", "--timestamps", is_flag=True, help="Show the time of each line.")
@click.option("-n", "--tail", default="all", metavar="N|all", help="Only the last N lines.  [default: all]")
@click.option(
    "--since", metavar="TIME", help="Only lines since this time: 2026-11-24T08:00:00Z, or 10m for ten minutes ago."
)
@click.option("--until", metavar="TIME", help="Only lines before this time.")
@click.option("--details", is_flag=True, help="Show the attributes that --log-opt selects before each line.")
def logs(
    *,
    container: str,
    follow: bool,
    timestamps: bool,
    tail: str,
    since: str | None,
    until: str | None,
    details: bool,
) -> None:
    """Fetch the logs of a container.

    Its standard output and standard error go to the same streams here.
    """
    source = open_engine().containers.get(container)
    lines = source.log_lines(
        follow=follow,
        tail=_line_count(tail),
        since=moment(since) if since else None,
        until=moment(until) if until else None,
        damaged=lambda count: say(damage_notice(count), err=True),
    )
    record = source.record
    attributes = log_details(record.host_config.log_config, record.config, searcher) if details else ""
    for line in lines:
        stamp = f"{line.time} {attributes}" if timestamps else attributes
        start = b"" if line.continued else stamp.encode()
        terminal.write(terminal.STDOUT if line.stream == "stdout" else terminal.STDERR, start + line.data)


def _line_count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def moment(text: str, *, now: float | None = None) -> float:
    """Parse a time as timestamps.moment() does, relative to the clock by default."""
    return timestamps.moment(text, now=time.time() if now is None else now)
