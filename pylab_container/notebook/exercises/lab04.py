"""The exercises of lab 04: process 1, foreground and background, stages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pylab_container.engine import Engine
from pylab_container.errors import LabError
from pylab_container.images.image import Image
from pylab_container.notebook.exercises import servers
from pylab_container.notebook.exercises.answers import Misunderstood, as_image, as_text, as_words
from pylab_container.notebook.exercises.exercise import Exercise, Observed
from pylab_container.notebook.sandbox import Sandbox
from pylab_container.oci.ids import CacheId

NGINX = "RUN apt-get update\nRUN apt-get install -y --no-install-recommends nginx\n"
"""The installation as lab 04 writes it, so that a check finds it in the build cache."""

REPAIR_DOCKERFILE = """FROM {base}
RUN apt-get update
RUN apt-get install -y --no-install-recommends nginx
COPY index.html /usr/share/nginx/html/
CMD service nginx start
"""
REPAIR_PAGE = "this page is served again\n"


# -- process 1 ---------------------------------------------------------------------------------


def _first_process(sandbox: Sandbox, answer: object) -> Iterator[Observed]:
    name = as_text(answer).rpartition("/")[2]
    container = sandbox.start(_with_command(sandbox, 'nginx -g "daemon off;"'))
    # The shell is dash under the name sh (Debian Policy, 10.4); both names are right.
    real = Path(f"/proc/{container.pid}/exe").readlink().name
    right = name in (sandbox.process_one(container), real)
    yield Observed(met=right, detail=f"/proc/1/comm says {sandbox.process_one(container)}" if not right else "")


def _foreground_command(sandbox: Sandbox, answer: object) -> Iterator[Observed]:
    image = _with_command(sandbox, json.dumps(as_words(answer)))
    yield from _is_a_good_server(sandbox, image, "")


def _own_page(sandbox: Sandbox, answer: object) -> Iterator[Observed]:
    """The page holds the container's host name, which only a start by a shell can write."""
    image = as_image(sandbox, answer)
    container, running = servers.started(sandbox, image)
    yield running
    if container is None:
        return
    page = sandbox.fetch(container)
    own = container.record.short_id in page.body
    yield Observed(met=own, detail="" if own else f"the page is: {page.body.strip()[:60]}")
    yield from servers.stops_as(sandbox, container, "nginx")


def _from_a_stage(sandbox: Sandbox, answer: object) -> Iterator[Observed]:
    image = as_image(sandbox, answer)
    container, running = servers.started(sandbox, image)
    yield running
    if container is None:
        return
    page = sandbox.fetch(container)
    made = all(f"page {number}" in page.body for number in (1, 2, 3))
    yield Observed(met=made, detail="" if made else f"the page is: {page.body.strip()[:60]}")
    script = [layer for layer in image.layers if _has(image, layer.cache_id, "page.sh")]
    yield Observed(met=not script, detail=f"layer {image.layers.index(script[0]) + 1} has it" if script else "")
    yield from servers.stops_as(sandbox, container, "nginx")


# -- the repair --------------------------------------------------------------------------------


def _break(_engine: Engine, directory: Path, base: str) -> None:
    place = directory / "repair"
    place.mkdir(exist_ok=True)
    (place / "Dockerfile").write_text(REPAIR_DOCKERFILE.format(base=base))
    (place / "index.html").write_text(REPAIR_PAGE)


def _repaired(sandbox: Sandbox, _answer: object) -> Iterator[Observed]:
    place = sandbox.directory / "repair"
    if not (place / "Dockerfile").is_file():
        raise Misunderstood('there is no repair/Dockerfile; lab.break_("04.r") writes it')
    sandbox.base()
    try:
        image = sandbox.build_directory(place)
    except LabError as error:
        yield Observed(met=False, detail=str(error))
        return
    yield Observed(met=True)
    yield from _is_a_good_server(sandbox, image, REPAIR_PAGE.strip())


# -- observations ------------------------------------------------------------------------------


def _with_command(sandbox: Sandbox, command: str) -> Image:
    """Return an image with nginx and this text behind CMD."""
    base = sandbox.base().tags[0]
    return sandbox.build(f"FROM {base}\n{NGINX}CMD {command}\n")


def _is_a_good_server(sandbox: Sandbox, image: Image, text: str) -> Iterator[Observed]:
    """Observe: it keeps running, nginx serves a page with this text, process 1 is nginx, it stops soon."""
    container, running = servers.started(sandbox, image)
    yield running
    if container is None:
        return
    yield servers.serves(sandbox, container, "nginx", text)
    yield from servers.stops_as(sandbox, container, "nginx")


def _has(image: Image, cache_id: CacheId, name: str) -> bool:
    return any(image._data.driver.diff_path(cache_id).rglob(name))


_SERVES = ("process 1 is nginx", "docker stop takes at most 2 s")

EXERCISES = (
    Exercise(
        "04.1",
        ("the name is that of process 1",),
        _first_process,
        (
            "Each process has its name in /proc/<pid>/comm.",
            "In the container, process 1 has the directory /proc/1.",
            "Run: %docker exec web04-shell cat /proc/1/comm",
        ),
    ),
    Exercise(
        "04.2",
        ("the container keeps running", "nginx serves a page", *_SERVES),
        _foreground_command,
        (
            "nginx takes directives of its configuration from the command line, too.",
            "The option is -g. A directive ends with a semicolon.",
            "No shell reads a list, so no word needs quotation marks: the directive is one word, daemon off;",
        ),
    ),
    Exercise(
        "04.3",
        ("the container keeps running", "the page holds the container's host name", *_SERVES),
        _own_page,
        (
            "The host name is known when the container starts, not while the image is built.",
            "Shell form runs two commands: one writes the page, the other starts nginx.",
            'The last command needs exec, so that nginx takes the place of the shell: … && exec nginx -g "daemon off;"',
        ),
    ),
    Exercise(
        "04.4",
        ("the container keeps running", "the page has all three lines", "no layer holds page.sh", *_SERVES),
        _from_a_stage,
        (
            "The script runs in a stage of its own, and the last stage takes only its result.",
            "RUN rm in a later layer hides a file and keeps it in the layer below.",
            "COPY --from=page /index.html /var/www/html/ in the last stage.",
        ),
    ),
    Exercise(
        "04.r",
        ("the image builds", "the container keeps running", "your page is served", *_SERVES),
        _repaired,
        (
            "Start it without -d, and look at what process 1 does, and at when it ends.",
            "service starts nginx in the background and ends. Then process 1 has ended.",
            "Debian's nginx serves /var/www/html; a package for another distribution may serve /usr/share/nginx/html.",
        ),
        prepare=_break,
    ),
)
