"""The place where a check tries an answer: images and containers with names of its own, removed afterwards.

with Sandbox(engine, directory, lock=lock, base=base) as sandbox:
    image = sandbox.build('FROM debian12\\nCMD ["nginx"]')
    container = sandbox.start(image)
    sandbox.process_one(container)          "nginx"

The sandbox uses the data root of the lab, because the base image and the cache of builds are there. Everything that it
makes carries the label LABEL, so that what a killed kernel leaves is removed by the next sandbox.
"""

from __future__ import annotations

import contextlib
import http.client
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, Unpack

from msgspec import Struct

from pylab_container.docker.options import ContainerOptions
from pylab_container.engine import Engine
from pylab_container.engine.containers import Container
from pylab_container.errors import BuildFailed, ContainerNotFound, LabError
from pylab_container.events import BuildStep
from pylab_container.host.files import locked, read_text_or_empty
from pylab_container.host.random_ids import random_hex
from pylab_container.images.image import Image
from pylab_container.notebook.experiments import await_program

LABEL = "pylab.check"
"""The label of a sandbox's containers; its value is the sandbox's name."""

REPOSITORY = "lab-check"
"""The repository of a sandbox's images."""

ANSWER_DEADLINE_S = 10.0
"""How long a server may take until it accepts connections."""

LONGEST_PAGE_BYTES = 1 << 20
"""How much of a page is read."""

RUNS_S = 3.0
"""How long a container is observed that should keep running. `service apache2 start` ends after 1.3 s."""

STOP_GRACE_S = 10.0
"""How long docker stop waits before it kills."""


class Page(Struct, frozen=True):
    """The answer of a web server. status 0: none came, and body says why.

    server  the header Server: "nginx/1.22.1"
    """

    status: int
    body: str
    server: str = ""


class Stop(Struct, frozen=True):
    """How a container ended after docker stop."""

    seconds: float
    exit_status: int


class Sandbox:
    """Images and containers of one check.

    directory  the lab's directory, where the student's files are
    lock       the lock file of all sandboxes: one check runs at a time, so that what another one left can be removed
    base       returns the base image of lab 01, and makes it if it is missing
    """

    def __init__(self, engine: Engine, directory: Path, *, lock: Path, base: Callable[[], Image]) -> None:
        self.engine = engine
        self.directory = directory
        self.base = base
        self._lock = lock
        self._held = contextlib.ExitStack()
        self._name = random_hex(4)
        self._built = 0
        self._steps: list[str] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(self._lock))
            self._sweep()
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._held:
            self._sweep()

    # ---- making ----

    def build(self, dockerfile: str, **files: str) -> Image:
        """Build an image from a Dockerfile and the context's other files. Raises what images.build() raises."""
        with tempfile.TemporaryDirectory(prefix="lab-check-") as context:
            for name, text in {"Dockerfile": dockerfile, **files}.items():
                Path(context, name).write_text(text)
            return self.build_directory(Path(context))

    def build_directory(self, context: Path) -> Image:
        """Build an image from a directory. Raises what images.build() raises."""
        self._built += 1
        with self.engine.events.collected() as events:
            try:
                return self.engine.images.build(context, tag=f"{REPOSITORY}:{self._name}-{self._built}")
            except BuildFailed as error:
                self._steps.append(error.image_id)
                raise
            finally:
                steps = [event for event in events if isinstance(event, BuildStep) and event.cache == "miss"]
                self._steps += [event.image_id for event in sorted(steps, key=lambda step: step.number)]

    def commit(self, container: Container) -> Image:
        """Make an image of a container."""
        self._built += 1
        return container.commit(f"{REPOSITORY}:{self._name}-{self._built}")

    def start(
        self, image: Image, command: Sequence[str] | None = None, **options: Unpack[ContainerOptions]
    ) -> Container:
        """Start a container in the background. Raises what run() raises."""
        container = self.engine.containers.run_detached(image, command, **self._marked(options))
        await_program(container)
        return container

    def output(self, image: Image, command: Sequence[str] | None = None, **options: Unpack[ContainerOptions]) -> str:
        """Run a container to its end and return its standard output. Raises what run() raises."""
        output = self.engine.containers.run(image, command, remove=True, **self._marked(options))
        return output.decode(errors="replace")

    def _marked(self, options: ContainerOptions) -> ContainerOptions:
        """Return the options with a name of this sandbox and its label."""
        options["name"] = f"check-{self._name}-{random_hex(3)}"
        options["labels"] = {LABEL: self._name}
        return options

    # ---- observing ----

    def runs(self, container: Container) -> bool:
        """Return whether the container still runs after RUNS_S."""
        try:
            container.wait(timeout=RUNS_S)
        except TimeoutError:
            return True
        return False

    def process_one(self, container: Container) -> str:
        """Return the name of process 1, "" if the container does not run (proc(5), /proc/pid/comm)."""
        return read_text_or_empty(f"/proc/{container.pid}/comm").strip() if container.pid else ""

    def fetch(self, container: Container, path: str = "/", *, port: int = 80) -> Page:
        """Ask the container's web server for a page, until it answers, ends or ANSWER_DEADLINE_S has passed."""
        deadline = time.monotonic() + ANSWER_DEADLINE_S
        while True:
            address = container.address if container.pid else ""
            if not address:
                return Page(0, "the container does not run")
            connection = http.client.HTTPConnection(address, port, timeout=2)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read(LONGEST_PAGE_BYTES).decode(errors="replace")
                return Page(answer.status, body, answer.headers.get("Server", ""))
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > deadline:
                    return Page(0, f"no answer on port {port}: {error}")
                time.sleep(0.1)
            finally:
                connection.close()

    def stop(self, container: Container) -> Stop:
        """Stop the container as docker stop does, and measure how long it takes."""
        begin = time.monotonic()
        container.stop(timeout=STOP_GRACE_S)
        status = container.wait(timeout=STOP_GRACE_S)
        return Stop(time.monotonic() - begin, status)

    # ---- removing ----

    def _sweep(self) -> None:
        """Remove what sandboxes made: the containers before the images that they use. Idempotent."""
        for container in self.engine.containers.list(all=True, filters={"label": [LABEL]}):
            with contextlib.suppress(ContainerNotFound):
                container.remove(force=True, v=True)
        for image in self.engine.images.list(REPOSITORY):
            for tag in image.tags:
                if tag.startswith(f"{REPOSITORY}:"):
                    with contextlib.suppress(LabError):
                        self.engine.images.remove(tag)
        # Removing a name removes the steps below it, but not those of other stages, nor those of a failed build.
        while self._steps:
            with contextlib.suppress(LabError):
                self.engine.images.remove(self._steps.pop())
