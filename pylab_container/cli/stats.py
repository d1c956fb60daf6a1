"""stats: the resource usage of containers."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pylab_container.cli import arguments, listing, tables
from pylab_container.cli.command import Command, open_engine
from pylab_container.cli.printing import pass_on
from pylab_container.docker.template_values import Row
from pylab_container.errors import ContainerNotFound
from pylab_container.text.sizes import human, human_binary

if TYPE_CHECKING:
    from pylab_container.engine import Engine

_HEADINGS = {
    "ID": "CONTAINER ID",
    "Container": "CONTAINER",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_HOME_AND_CLEAR = "\x1b[H\x1b[J"
_FIRST_INTERVAL = 0.5  # seconds between the first two samples
_INTERVAL = 1.0  # seconds between later samples


@click.command(cls=Command)
@click.argument("containers", metavar="[CONTAINER]...", nargs=-1, shell_complete=arguments.containers)
@click.option("-a", "--all", "show_all", is_flag=True, help="Also show containers that do not run.")
@listing.format_option
@click.option("--no-stream", "once", is_flag=True, help="Show the first result and exit.")
@listing.full_option
def stats(*, containers: tuple[str, ...], show_all: bool, format_: str | None, once: bool, full: bool) -> None:
    """Display a live stream of container(s) resource usage statistics.

    Ctrl-C ends it.
    """
    engine = open_engine()
    for name in containers:
        engine.containers.get(name)  # report an unknown name before printing anything
    shown = listing.Listing(_HEADINGS, _COLUMNS, "ID")
    before = _samples(engine, containers, show_all=show_all)
    time.sleep(_FIRST_INTERVAL)
    while True:
        now = _samples(engine, containers, show_all=show_all)
        text = shown.text(_rows(before, now, full=full), format_)
        clear = not once and not format_ and sys.stdout.isatty()
        pass_on((_HOME_AND_CLEAR if clear else "") + text, nl=False)
        if once:
            return
        before = now
        time.sleep(_INTERVAL)


def _samples(engine: Engine, names: Sequence[str], *, show_all: bool) -> dict[str, dict[str, Any]]:
    """Map container ids to samples. A container that is removed concurrently is left out."""
    from pylab_container.docker import stats as statistics

    samples: dict[str, dict[str, Any]] = {}
    containers = [] if names else [(container, str(container.id)) for container in engine.containers.list(all=show_all)]
    for name in names:
        with contextlib.suppress(ContainerNotFound):
            containers.append((engine.containers.get(name), name))
    for container, name in containers:
        with contextlib.suppress(ContainerNotFound):
            samples[container.id] = {**statistics.sample(container.record), "argument": name}
    return samples


def _rows(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]], *, full: bool) -> list[Row]:
    from pylab_container.docker import stats as statistics

    return [_row(statistics.following(before.get(key, sample), sample), full=full) for key, sample in now.items()]


def _row(document: dict[str, Any], *, full: bool) -> Row:
    from pylab_container.docker import stats as statistics

    used, limit = statistics.memory_usage(document), int(document["memory_stats"].get("limit", 0))
    received, sent = statistics.network_bytes(document)
    read, written = statistics.block_bytes(document)
    argument = document["argument"]
    container_id = document["id"]
    return Row(
        {
            "ID": container_id if full else tables.short_id(container_id),
            "Container": tables.short_id(argument) if argument == container_id and not full else argument,
            "Name": document["name"].removeprefix("/"),
            "CPUPerc": f"{statistics.cpu_percent(document):.2f}%",
            "MemUsage": f"{human_binary(used)} / {human_binary(limit)}",
            "MemPerc": f"{used * 100 / limit if limit else 0:.2f}%",
            "NetIO": f"{human(received)} / {human(sent)}",
            "BlockIO": f"{human(read)} / {human(written)}",
            "PIDs": str(document["pids_stats"].get("current", 0)),
        }
    )
