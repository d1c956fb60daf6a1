"""The exercises of lab 03: instructions and layers, a size budget, ENTRYPOINT and CMD, a secret in a lower layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pylab_container.engine import Engine
from pylab_container.errors import ContainerFailed, ImageNotFound, LabError
from pylab_container.images.image import Image
from pylab_container.notebook.exercises import servers
from pylab_container.notebook.exercises.answers import Misunderstood, as_image, as_number
from pylab_container.notebook.exercises.exercise import Exercise, Observed
from pylab_container.notebook.sandbox import Sandbox

LAB_IMAGE = "debian12-base-httpd:v1"
"""The image that this lab builds. A check builds another one if it is missing."""

APACHE = "RUN apt-get update\nRUN apt-get install -y --no-install-recommends apache2\n"
"""The installation as this lab writes it, so that a check finds it in the build cache."""

START = """#!/bin/bash
. /etc/apache2/envvars
mkdir -p $APACHE_RUN_DIR
rm -f $APACHE_RUN_DIR/*
exec apache2 -D FOREGROUND
"""

DOCKERFILE = """FROM {base}
MAINTAINER "httpd@example.com"
{apache}ADD run-httpd.sh /run-httpd.sh
RUN chmod -v +x /run-httpd.sh
ADD index.html /var/www/html/
EXPOSE 80
WORKDIR /
CMD ["/bin/bash","/run-httpd.sh"]
"""

BUDGET_BYTES = 100_000_000
"""What may lie on top of the base image. The server needs 55 MB; apt's lists and caches 170 MB."""

REPAIR_DOCKERFILE = """FROM {base}
COPY token /token
COPY download.sh /
RUN sh /download.sh
RUN rm /token
CMD ["cat", "/report.txt"]
"""
REPAIR_TOKEN = "token-4711-of-a-colleague\n"
REPAIR_DOWNLOAD = """# stands for a download that needs the token
test "$(sha256sum < /token | cut -c 1-12)" = aee7d1395d03 && echo "12 rows" > /report.txt
"""


# -- the exercises -----------------------------------------------------------------------------


def _number_of_layers(sandbox: Sandbox, answer: object) -> Iterator[Observed]:
    number = as_number(answer)
    added = len(_lab_image(sandbox).layers) - len(sandbox.base().layers)
    yield Observed(met=number == added, detail="" if number == added else "docker history has another number of sizes")


def _fewer_layers(sandbox: Sandbox, answer: object) -> Iterator[Observed]:
    image = as_image(sandbox, answer)
    count, first = len(image.layers), len(_lab_image(sandbox).layers)
    yield Observed(met=count < first, detail="" if count < first else f"it has {count} layers, the first has {first}")
    container, running = servers.started(sandbox, image)
    yield running
    if container is not None:
        yield servers.serves(sandbox, container, "Apache")


def _within_the_budget(sandbox: Sandbox, answer: object) -> Iterator[Observed]:
    image = as_image(sandbox, answer)
    base = sandbox.base()
    added = [layer.size for layer in image.layers if layer not in base.layers]
    small = sum(added) <= BUDGET_BYTES
    shown = " + ".join(f"{size / 1e6:.0f}" for size in added if size >= 500_000)
    yield Observed(met=small, detail="" if small else f"its layers have {shown} MB")
    container, running = servers.started(sandbox, image)
    yield running
    if container is None:
        return
    yield servers.serves(sandbox, container, "Apache")
    yield from servers.stops_as(sandbox, container, "apache2")


def _greets(sandbox: Sandbox, answer: object) -> Iterator[Observed]:
    image = as_image(sandbox, answer)
    for command, expected in ((None, "Hello, world"), (["Ada"], "Hello, Ada")):
        try:
            printed = sandbox.output(image, command).strip()
        except ContainerFailed as error:
            printed = error.output.decode(errors="replace").strip() or error.message
        except LabError as error:
            printed = error.message
        yield Observed(
            met=printed == expected, detail="" if printed == expected else printed[:80] or "it prints nothing"
        )
    user = sandbox.output(image, ["-un"], entrypoint="id").strip()
    yield Observed(met=user == "daemon", detail="" if user == "daemon" else f"it runs as {user}")


# -- the repair --------------------------------------------------------------------------------


def _break(_engine: Engine, directory: Path, base: str) -> None:
    place = directory / "repair"
    place.mkdir(exist_ok=True)
    for name, text in (
        ("Dockerfile", REPAIR_DOCKERFILE.format(base=base)),
        ("token", REPAIR_TOKEN),
        ("download.sh", REPAIR_DOWNLOAD),
    ):
        (place / name).write_text(text)


def _repaired(sandbox: Sandbox, _answer: object) -> Iterator[Observed]:
    place = sandbox.directory / "repair"
    if not (place / "Dockerfile").is_file():
        raise Misunderstood('there is no repair/Dockerfile; lab.break_("03.r") writes it')
    sandbox.base()
    try:
        image = sandbox.build_directory(place)
    except LabError as error:
        yield Observed(met=False, detail=str(error).partition("\n")[0])
        return
    yield Observed(met=True)
    yield _prints_the_report(sandbox, image)
    found = next(_copies(image, sandbox.base(), REPAIR_TOKEN.strip().encode()), None)
    yield Observed(met=found is None, detail=found or "")
    said = REPAIR_TOKEN.strip() in repr(image.config.history)
    yield Observed(met=not said, detail="docker history shows it" if said else "")


def _prints_the_report(sandbox: Sandbox, image: Image) -> Observed:
    try:
        printed = sandbox.output(image).strip()
    except LabError as error:
        return Observed(met=False, detail=error.message)
    return Observed(met=printed == "12 rows", detail="" if printed == "12 rows" else f"it prints {printed[:60]!r}")


def _copies(image: Image, base: Image, secret: bytes) -> Iterator[str]:
    """Yield the place of each file on top of the base image that contains the secret."""
    for number, layer in enumerate(image.layers, 1):
        if layer in base.layers:
            continue
        root = image._data.driver.diff_path(layer.cache_id)
        for path in sorted(root.rglob("*")):
            if not path.is_symlink() and path.is_file() and secret in path.read_bytes():
                yield f"/{path.relative_to(root)} in layer {number} of {len(image.layers)} holds it"


# -- what the checks need ----------------------------------------------------------------------


def _lab_image(sandbox: Sandbox) -> Image:
    with contextlib.suppress(ImageNotFound):
        return sandbox.engine.images.get(LAB_IMAGE)
    dockerfile = DOCKERFILE.format(base=sandbox.base().tags[0], apache=APACHE)
    return sandbox.build(dockerfile, **{"run-httpd.sh": START, "index.html": "It works!\n"})


EXERCISES = (
    Exercise(
        "03.1",
        ("the number is right",),
        _number_of_layers,
        (
            "An instruction that changes files makes a layer; one that changes only the config makes none.",
            "In image.history() the steps that change only the config have the size 0B.",
            "Count the lines above the base image whose size is not 0B. A small file has a size, too.",
        ),
    ),
    Exercise(
        "03.2",
        ("it has fewer layers than the lab's image", "the container keeps running", "Apache serves a page"),
        _fewer_layers,
        (
            "Each RUN makes a layer.",
            "A RUN takes several commands, as a line of a shell does.",
            "RUN apt-get update && apt-get install -y --no-install-recommends apache2",
        ),
    ),
    Exercise(
        "03.3",
        (
            "at most 100 MB lie on top of the base image",
            "the container keeps running",
            "Apache serves a page",
            "process 1 is apache2",
            "docker stop takes at most 2 s",
        ),
        _within_the_budget,
        (
            "image.history() shows the size of each step. Which one is the largest, and what does it write?",
            "A file that a later RUN deletes stays in the layer below. Delete it in the RUN that writes it.",
            "RUN apt-get update && apt-get install … && apt-get clean && rm -rf /var/lib/apt/lists/*",
        ),
    ),
    Exercise(
        "03.4",
        ("without a word it prints: Hello, world", "with the word Ada it prints: Hello, Ada", "it runs as daemon"),
        _greets,
        (
            "ENTRYPOINT is the part of the command that stays, CMD the part that docker run replaces.",
            "In exec form the words of CMD become the arguments of ENTRYPOINT. echo prints its arguments.",
            'ENTRYPOINT ["echo", "Hello,"] and CMD ["world"]; USER daemon is an instruction of its own.',
        ),
    ),
    Exercise(
        "03.r",
        ("the image builds", "a container prints the report", "no layer holds the token", "nor does the history"),
        _repaired,
        (
            "docker history shows a layer for COPY token, and deleting it later adds one more layer.",
            "The token must not be copied into the image. RUN can see a file of the context without a copy.",
            "RUN --mount=type=bind,source=token,target=/token sh /download.sh",
        ),
        prepare=_break,
    ),
)
