"""daemon: serve Docker's Engine API, so that the docker command and docker-py drive this engine."""

from __future__ import annotations

import gc
from pathlib import Path

import click

from pylab_container.cli.command import Command, open_engine, report
from pylab_container.cli.printing import say

_COLLECTIONS = (700, 10, 10)
"""Python's own. entry() lets more garbage gather, which is right for a command that lives for a moment."""


@click.command(cls=Command)
@click.option(
    "-H",
    "--host",
    "addresses",
    multiple=True,
    metavar="ADDRESS",
    help="unix://PATH, tcp://127.0.0.1:PORT, or fd:// for systemd. Repeatable.  [default: unix:///run/labctr.sock]",
)
@click.option("--group", default="", metavar="GROUP", help="Who may use the socket, besides root.")
@click.option("--request-log", type=click.Path(path_type=Path), metavar="FILE", help="Lines of JSON for each request.")
def daemon(*, addresses: tuple[str, ...], group: str, request_log: Path | None) -> None:
    """Serve Docker's Engine API until SIGTERM. Containers run on without it.

    DOCKER_HOST=unix:///run/labctr.sock docker ps
    """
    from pylab_container.daemon import server
    from pylab_container.maintenance import boot

    def ready(served: object) -> None:
        say(f"labctr daemon: serving on {', '.join(chosen)}", err=True)

    gc.set_threshold(*_COLLECTIONS)
    chosen = addresses or (server.DEFAULT_ADDRESS,)
    engine = open_engine()
    for error in boot.start_wanted(engine):
        report(error)
    server.serve(engine, chosen, group=group, request_log=request_log, ready=ready)
