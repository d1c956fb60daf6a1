"""daemon: serve the Docker Engine API, so that docker and docker-py control this engine."""

from __future__ import annotations

import gc
from pathlib import Path

import click

from pylab_container.cli.command import Command, open_engine, report
from pylab_container.cli.printing import say

_COLLECTION_THRESHOLDS = (700, 10, 10)
"""Python's thresholds of garbage collection. entry() raises them, which suits a short command but not a server."""


@click.command(cls=Command)
@click.option(
    "-H",
    "--host",
    "addresses",
    multiple=True,
    metavar="ADDRESS",
    help="unix://PATH, tcp://127.0.0.1:PORT, or fd:// for systemd. Repeatable.  [default: unix:///run/labctr.sock]",
)
@click.option("--group", default="", metavar="GROUP", help="The group that may use the socket, besides root.")
@click.option(
    "--request-log", type=click.Path(path_type=Path), metavar="FILE", help="Log each request as lines of JSON."
)
def daemon(*, addresses: tuple[str, ...], group: str, request_log: Path | None) -> None:
    """Serve the Docker Engine API to docker and other clients.

    SIGTERM ends it; containers continue to run.

    DOCKER_HOST=unix:///run/labctr.sock docker ps
    """
    from pylab_container.daemon import server

    def ready(served: object) -> None:
        say(f"labctr daemon: serving on {', '.join(chosen)}", err=True)

    gc.set_threshold(*_COLLECTION_THRESHOLDS)
    chosen = addresses or (server.DEFAULT_ADDRESS,)
    engine = open_engine()
    for error in engine.start_by_policy():
        report(error)
    server.serve(engine, chosen, group=group, request_log=request_log, ready=ready)
