"""The exercises of lab 02: what a commit takes from a container, and what it does not."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

from pylab_container.engine import Engine
from pylab_container.errors import ContainerNotFound, ImageNotFound
from pylab_container.images.image import Image
from pylab_container.notebook.exercises import servers
from pylab_container.notebook.exercises.answers import as_image, as_text
from pylab_container.notebook.exercises.exercise import Exercise, Observed
from pylab_container.notebook.sandbox import Sandbox
from pylab_container.oci.ids import CacheId

APACHE = "RUN apt-get update\nRUN apt-get install -y --no-install-recommends apache2\n"
"""The installation as lab 03 writes it, so that a check finds it in the build cache."""

APACHE_IMAGE = "debian12-httpd:v1"
"""The image that this lab commits. A check builds another one if it is missing."""

FOREGROUND = ["apachectl", "-D", "FOREGROUND"]

BUDGET_BYTES = 100_000_000
"""What may lie on top of the base image. The server needs 55 MB; apt's lists and caches 170 MB."""

REPAIR_IMAGE = "repair02:v1"
REPAIR_PAGE = "the page of repair02\n"
REPAIR_VOLUME = "repair02-pages"


# -- the exercises -----------------------------------------------------------------------------


def _changed_file(sandbox: Sandbox, answer: object) -> Iterator[Observed]:
    """The answer is a path in the container, or below an upper directory on the host."""
    name = as_text(answer).rpartition("/diff/")[2].strip("/")
    base = sandbox.base()
    installed = _apache(sandbox.engine, base) or sandbox.build(f"FROM {base.tags[0]}\n{APACHE}")
    upper = [layer.cache_id for layer in installed.layers[len(base.layers) :]]
    changed = any(_is_file(installed, layer, name) for layer in upper)
    yield Observed(met=changed, detail="" if changed else f"no layer of the installation has a file /{name}")
    below = any(_is_file(base, layer.cache_id, name) for layer in base.layers)
    yield Observed(met=below, detail="" if below else f"the base image has no file /{name}")


def _starts_by_itself(sandbox: Sandbox, answer: object) -> Iterator[Observed]:
    image = as_image(sandbox, answer)
    base = sandbox.base()
    same = image.layers[: len(base.layers)] == base.layers
    yield Observed(met=same, detail="" if same else "its lowest layer is another one")
    container, running = servers.started(sandbox, image)
    yield running
    if container is not None:
        yield servers.serves(sandbox, container, "Apache")


def _within_the_budget(sandbox: Sandbox, answer: object) -> Iterator[Observed]:
    image = as_image(sandbox, answer)
    base = sandbox.base()
    same = image.layers[: len(base.layers)] == base.layers
    yield Observed(met=same, detail="" if same else "its lowest layer is another one")
    sizes = [layer.size for layer in image.layers[len(base.layers) :]] if same else [image.size]
    small = sum(sizes) <= BUDGET_BYTES
    shown = " + ".join(f"{size / 1e6:.0f}" for size in sizes)
    yield Observed(met=small, detail="" if small else f"{shown} MB")
    container, running = servers.started(sandbox, image, FOREGROUND)
    if container is None:
        yield running
        return
    yield servers.serves(sandbox, container, "Apache")


def _survives(sandbox: Sandbox, answer: object) -> Iterator[Observed]:
    """The answer is the set of places whose content a commit takes."""
    places = _places(answer)
    for place, taken in _taken(sandbox).items():
        said = place in places
        detail = f"the new image {'has' if taken else 'does not have'} the file"
        yield Observed(met=said == taken, detail="" if said == taken else detail)


def _places(answer: object) -> set[str]:
    """Return the paths of an answer, a list of paths or one text with spaces or commas between them."""
    if isinstance(answer, (list, tuple, set, frozenset)):
        return {as_text(path).rstrip("/") for path in answer}
    return {word.rstrip("/") for word in as_text(answer).replace(",", " ").split()}


PLACES = ("/etc", "/data", "/tmp", "/dev/shm")


def _taken(sandbox: Sandbox) -> dict[str, bool]:
    """Write a file in each place, commit, and return which of them the new image has. /data is a volume."""
    base = sandbox.base()
    container = sandbox.start(base, ["sleep", "infinity"], volumes=["/data"])
    container.exec_run(["sh", "-c", "; ".join(f"echo x > {place}/kept" for place in PLACES)])
    image = sandbox.commit(container)
    upper = image.layers[-1].cache_id
    return {place: _is_file(image, upper, f"{place[1:]}/kept") for place in PLACES}


# -- the repair --------------------------------------------------------------------------------


def _break(engine: Engine, _directory: Path, base: str) -> None:
    """Start a container whose page is in a volume, and commit it, as a colleague did."""
    image = _apache(engine, engine.images.get(base)) or _built(engine, base)
    with contextlib.suppress(ContainerNotFound):
        engine.containers.get("repair02").remove(force=True)
    volumes = [f"{REPAIR_VOLUME}:/var/www/html"]
    container = engine.containers.run_detached(image, FOREGROUND, name="repair02", volumes=volumes)
    page = REPAIR_PAGE.strip()
    container.exec_run(["sh", "-c", f'echo "{page}" > /var/www/html/index.html'])
    container.commit(REPAIR_IMAGE, conf={"Cmd": FOREGROUND})


def _repaired(sandbox: Sandbox, _answer: object) -> Iterator[Observed]:
    image = as_image(sandbox, REPAIR_IMAGE)
    container, running = servers.started(sandbox, image)
    yield running
    if container is None:
        return
    yield servers.serves(sandbox, container, "Apache")
    yield servers.serves(sandbox, container, "Apache", REPAIR_PAGE.strip())


# -- what the checks need ----------------------------------------------------------------------


def _apache(engine: Engine, base: Image) -> Image | None:
    """Return this lab's image, if it is here and made on the base image."""
    try:
        image = engine.images.get(APACHE_IMAGE)
    except ImageNotFound:
        return None
    return image if image.layers[: len(base.layers)] == base.layers else None


def _built(engine: Engine, base: str) -> Image:
    return engine.images.build(io.BytesIO(f"FROM {base}\n{APACHE}".encode()), tag="repair02:httpd")


def _is_file(image: Image, cache_id: CacheId, name: str) -> bool:
    return bool(name) and (image._data.driver.diff_path(cache_id) / name).is_file()


EXERCISES = (
    Exercise(
        "02.1",
        ("the installation wrote this file", "the base image has it, too"),
        _changed_file,
        (
            "Which files does a package manager change at each installation?",
            "dpkg keeps the list of all packages in one file, and the linker keeps a cache of all libraries.",
            "Look below /var/lib/dpkg in lab.tree(container.upper, depth=5), and in lab.tree for the base image.",
        ),
    ),
    Exercise(
        "02.2",
        ("it is made on the base image", "a container of it keeps running", "Apache serves a page"),
        _starts_by_itself,
        (
            "An image's config has the field Cmd: the command of a container that is started without one.",
            "commit takes conf={…}, fields of the config. Cmd is a list of words.",
            'container.commit("debian12-httpd:v2", conf={"Cmd": ["apachectl", "-D", "FOREGROUND"]})',
        ),
    ),
    Exercise(
        "02.3",
        ("it is made on the base image", "at most 100 MB lie on top of it", "Apache serves a page"),
        _within_the_budget,
        (
            "lab.tree(container.upper, depth=4) shows which directories do not belong to the server.",
            "A file that the container itself has written is gone when it is deleted before the commit.",
            'container.exec_run(["sh", "-c", "apt-get clean; rm -rf /var/lib/apt/lists/*"]), then commit again.',
        ),
    ),
    Exercise(
        "02.4",
        tuple(f"the file in {place}" for place in PLACES),
        _survives,
        (
            "A commit takes the upper directory. Which of these places are mounts of their own?",
            "docker exec … cat /proc/mounts lists them; a mount covers the upper directory.",
            "/data is a volume and /dev/shm a tmpfs. The other two are directories of the upper directory.",
        ),
    ),
    Exercise(
        "02.r",
        ("a container of repair02:v1 keeps running", "Apache serves a page", "the page is that of repair02"),
        _repaired,
        (
            "Compare /proc/mounts in repair02 with that of web02.",
            "The page is in a volume, and a commit takes the upper directory only.",
            "Write the page into a container without that volume, and commit this one as repair02:v1, with its Cmd.",
        ),
        prepare=_break,
    ),
)
