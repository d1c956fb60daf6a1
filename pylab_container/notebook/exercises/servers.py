"""What a check observes of an image with a web server: it keeps running, serves a page, and stops soon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus

from pylab_container.engine.containers import Container
from pylab_container.errors import LabError
from pylab_container.images.image import Image
from pylab_container.notebook.exercises.exercise import Observed
from pylab_container.notebook.sandbox import Sandbox

LONGEST_STOP_S = 2.0
"""A process that reacts to SIGTERM ends within this time; one that does not is killed after ten seconds."""


def started(sandbox: Sandbox, image: Image, command: Sequence[str] | None = None) -> tuple[Container | None, Observed]:
    """Start a container, and observe whether it keeps running; None if it does not.

    command  replaces the image's CMD
    """
    try:
        container = sandbox.start(image, command)
    except LabError as error:
        return None, Observed(met=False, detail=f"it cannot be started: {error.message}")
    if sandbox.runs(container):
        return container, Observed(met=True)
    last = container.logs().decode(errors="replace").strip().splitlines()[-1:]
    said = f"; its last line: {last[0]}" if last else ""
    return None, Observed(met=False, detail=f"it ended at once with status {container.wait()}{said}")


def serves(sandbox: Sandbox, container: Container, server: str, text: str = "") -> Observed:
    """Observe whether this server, "nginx" or "Apache", answers on port 80 with a page that has this text."""
    page = sandbox.fetch(container)
    served = page.status == HTTPStatus.OK and text in page.body and page.server.startswith(server)
    beginning = page.body.strip().partition("\n")[0][:60]
    return Observed(met=served, detail="" if served else f"{page.server} {page.status or ''}: {beginning}".strip(" :"))


def stops_as(sandbox: Sandbox, container: Container, process: str) -> Iterator[Observed]:
    """Observe whether process 1 has this name, and whether the container stops soon."""
    name = sandbox.process_one(container)
    yield Observed(met=name == process, detail="" if name == process else f"/proc/1/comm says {name}")
    stop = sandbox.stop(container)
    soon = stop.seconds <= LONGEST_STOP_S
    yield Observed(met=soon, detail="" if soon else f"it took {stop.seconds:.0f} s: process 1 did not react to SIGTERM")
