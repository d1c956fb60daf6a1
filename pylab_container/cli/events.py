"""events: print the events of all engines on the data root."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import click

from pylab_container.cli import listing
from pylab_container.cli.command import Command, open_engine
from pylab_container.cli.printing import pass_on, say, say_json
from pylab_container.docker.template import Template
from pylab_container.docker.template_values import Row
from pylab_container.runtime.logdriver import damage_notice
from pylab_container.text.timestamps import moment
from pylab_container.text.visible import visible


@click.command(cls=Command)
@listing.filter_option
@click.option("--format", "format_", metavar="TEMPLATE", help="A Go template, or json.")
@click.option(
    "--since", metavar="TIME", help="Only events since this time: 2026-11-24T08:00:00Z, or 10m for ten minutes ago."
)
@click.option("--until", metavar="TIME", help="Only events before this time; do not wait for more.")
def events(*, conditions: tuple[str, ...], format_: str | None, since: str | None, until: str | None) -> None:
    """Get real time events from the engine.

    They are about containers, images, volumes and networks. Ctrl-C ends it.

    Filters: container, event, image, label, network, type, volume.
    """
    now = time.time()
    layout = (format_ or "").strip()
    as_json = layout in ("json", "{{json .}}")
    template = Template(layout) if layout and not as_json else None
    documents = open_engine().event_log.read(
        since=moment(since, now=now) if since else None,
        until=moment(until, now=now) if until else None,
        filters=listing.filters(conditions),
        damaged=lambda count: say(damage_notice(count), err=True),
    )
    for document in documents:
        if as_json:
            say_json(document)
        elif template:
            pass_on(template.render(_row(document)))
        else:
            say(visible(_line(document)))


def _line(document: dict[str, Any]) -> str:
    """Format an event as docker does.

    2026-11-24T13:12:37.978050628Z container start 73ff… (image=busybox:1, name=hc)
    """
    actor = document["Actor"]
    attributes = ", ".join(f"{name}={actor['Attributes'][name]}" for name in sorted(actor["Attributes"]))
    words = (_time(document["timeNano"]), document["Type"], document["Action"], actor["ID"])
    return " ".join(words) + (f" ({attributes})" if attributes else "")


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _row(document: dict[str, Any]) -> Row:
    actor = document["Actor"]
    return Row(
        {
            "Type": document["Type"],
            "Action": document["Action"],
            "Actor": actor,
            "Status": document.get("status", ""),
            "ID": document.get("id", ""),
            "From": document.get("from", ""),
            "Scope": document["scope"],
            "Time": document["time"],
            "TimeNano": document["timeNano"],
        }
    )
