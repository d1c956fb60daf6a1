"""From a Dockerfile to an image.

    recipe.py    what is asked for, and checking.py what a careful reader would say about it
    remote.py    a context from a URL or a git repository
    context.py   the files that it may copy          stage.py     one stage, instruction by instruction
    copying.py   COPY and ADD                        running.py   RUN, and mounts.py what it sees besides the image
    cache.py     what was made before, and why not   report.py    what was done
    presenter.py the steps as they go on, in docker's words

dockerfile/parser.py reads the file, dockerfile/stages.py tells which stages the target needs. Each
instruction becomes an image on top of the last, with the words that made it: that is the history,
and the build cache. Stages that do not need each other are made at the same time.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from pylab_container.build import checking
from pylab_container.build.cache import Cache
from pylab_container.build.context import BuildContext, OpenedContext, open_context
from pylab_container.build.recipe import BuildOptions as BuildOptions
from pylab_container.build.recipe import Recipe
from pylab_container.build.report import BuildPlan, BuildReport, PlannedStep, StepReport
from pylab_container.build.running import PROXY_ARGUMENTS
from pylab_container.build.stage import StageBuilder
from pylab_container.build.step import NotMade, StageImage, Stopped
from pylab_container.docker.credentials import CredentialFile
from pylab_container.dockerfile.instructions import Instruction, fault
from pylab_container.dockerfile.lint import linter
from pylab_container.dockerfile.lint.linter import LintWarning
from pylab_container.dockerfile.stages import Stage, find_base, find_stage
from pylab_container.errors import Conflict, ImageNotFound, InvalidInput, LabError, StepRefused
from pylab_container.events import BuildStep, BuildStepStarted, BuildWarning, Event
from pylab_container.images import lookup, naming
from pylab_container.images.image import Image
from pylab_container.maintenance.failures import explaining
from pylab_container.oci import reference as references
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.image import ImageConfig
from pylab_container.store.layer_store import WritableLayer
from pylab_container.store.transactions import making

if TYPE_CHECKING:
    from concurrent.futures import Future

    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container
    from pylab_container.store.leases import Lease

_LOOK = 0.2  # seconds between two looks whether a build is done that somebody may stop


def build(
    engine: Engine, source: str | Path | BinaryIO, options: BuildOptions, *, stop: threading.Event | None = None
) -> Image:
    """Carry out what the target needs, and name its image.

    stop  once it is set, no other step begins, and the command that runs is killed

    Raises DockerfileError, ImageNotFound, BuildFailed with the failed command's last lines, Conflict where it
    was stopped. The images of the steps before stay, as the cache of the next attempt.
    """
    with _opened(engine, source, options) as build:
        with _ended_by(stop, build):
            made = build.run()
        if not made.image_id:
            hint = "FROM scratch alone is nothing: COPY a file"
            words = "No image was generated. Is your Dockerfile empty?"
            raise fault(build.target.origin, words, source=build.source, hint=hint, kind=StepRefused)
        for name in options.names:
            naming.tag(engine.data, made.image_id, name.familiar)
        return Image(engine.data, made.image_id, build.report())


def plan(engine: Engine, source: str | Path | BinaryIO, options: BuildOptions) -> BuildPlan:
    """What build() would do; nothing is made. A step behind the first miss of its stage counts as a miss."""
    with _opened(engine, source, options) as build:
        build.only_planned = True
        build.run()
        return build.plan()


def check(engine: Engine, source: str | Path | BinaryIO, options: BuildOptions) -> tuple[LintWarning, ...]:
    """What a careful reader would say about a Dockerfile, as `docker build --check`. Raises DockerfileError."""
    with _context(engine, source, options) as (context, text, name):
        return checking.warnings(engine, Recipe.read(context, text, name, options), options.target or None)


@contextlib.contextmanager
def _ended_by(stop: threading.Event | None, build: Build) -> Iterator[None]:
    """End the build when the event is set while the block runs."""
    done = threading.Event()

    def watch(wanted: threading.Event) -> None:
        while not done.is_set():
            if wanted.wait(_LOOK):
                build.stop()
                return

    watcher = threading.Thread(target=watch, args=(stop,), name="watcher", daemon=True)
    if stop is not None:
        watcher.start()
    try:
        yield
    except Stopped:
        raise Conflict("the build was stopped", hint="build again: what was made is in the cache") from None
    finally:
        done.set()


@contextlib.contextmanager
def _context(engine: Engine, source: str | Path | BinaryIO, options: BuildOptions) -> Iterator[OpenedContext]:
    from pylab_container.build import remote  # most contexts are here

    with (
        remote.brought(engine, source) as here,
        open_context(here, engine.data.scratch, dockerfile=options.dockerfile) as opened,
    ):
        yield opened


@contextlib.contextmanager
def _opened(engine: Engine, source: str | Path | BinaryIO, options: BuildOptions) -> Iterator[Build]:
    with (
        making(engine.data, engine.containers.discard) as lease,
        _context(engine, source, options) as (context, text, name),
    ):
        yield Build(engine, Recipe.read(context, text, name, options), lease)


class Build:
    """One build: what its stages share."""

    def __init__(self, engine: Engine, recipe: Recipe, lease: Lease) -> None:
        """Raises DockerfileError, InvalidInput."""
        self.engine = engine
        self.source = recipe.name
        self.options = recipe.options
        self.platform_arguments = recipe.platform
        self.lease = lease
        self.only_planned = False
        self.started = time.monotonic()
        self.stages = recipe.stages()
        self.target = self.stages.target(self.options.target)
        self.warnings = checking.warnings(engine, recipe, self.options.target)
        checking.refuse(recipe, self.warnings)
        self.cache = Cache(engine, asked=not self.options.nocache, sources=self._cache_sources())
        self._context = recipe.context
        self._context.check = self.check_stopped
        self._needed = self.stages.needed(self.target, every=self.options.every_stage)
        self._numbers = self._count()
        self._results: dict[int, Future[StageImage]] = {}
        self._extra: dict[int, StageImage] = {}
        self._missed: dict[int, int] = {}
        self._running: set[Container] = set()
        self._done: list[StepReport] = []
        self._used_arguments: set[str] = set(self.stages.arguments)
        self._lock = threading.RLock()
        self._stopped = False

    @property
    def total(self) -> int:
        """How many steps there are."""
        return len(self._numbers) + len(self.options.labels)

    @property
    def proxies(self) -> dict[str, str]:
        """The values given for arguments that every stage knows without ARG."""
        return {name: self.options.buildargs[name] for name in PROXY_ARGUMENTS if name in self.options.buildargs}

    def run(self) -> StageImage:
        """Make the target and the stages that it needs; returns the target's image."""
        for number, instruction in enumerate(self.stages.before, 1):  # they are worth something to FROM alone
            self.emit(BuildStepStarted(number, self.total, instruction.original))
            self.emit(BuildStep(number, self.total, instruction.original, image_id="", cache="", seconds=0))
        with explaining(self.engine.data.path):
            made = self._run_alone() if len(self._needed) == 1 else self._run_together()
        known = {*self._used_arguments, *PROXY_ARGUMENTS, *self.platform_arguments, linter.CHECK_ARGUMENT}
        unused = sorted({*self.options.buildargs, *self.options.valueless} - known)
        if unused:
            self.emit(BuildWarning(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed"))
        return made

    def report(self) -> BuildReport:
        """What was done."""
        steps = sorted(self._done, key=lambda step: step.number)
        return BuildReport(tuple(steps), time.monotonic() - self.started, self.warnings)

    def plan(self) -> BuildPlan:
        """What would be done, after a run() with only_planned."""
        steps = tuple(
            PlannedStep(step.number, step.of, step.stage, step.instruction, step.cache, step.reason)
            for step in sorted(self._done, key=lambda step: step.number)
        )
        labels = {stage.index: stage.label for stage in self.stages.stages}
        return BuildPlan(
            target=self.target.label,
            steps=steps,
            needs={stage.label: tuple(labels[index] for index in stage.needs) for stage in self._needed},
            left_out=tuple(stage.label for stage in self.stages.stages if stage not in self._needed),
            warnings=self.warnings,
        )

    # ---- stages, one after the other or together ----

    def _run_alone(self) -> StageImage:
        return StageBuilder(self, self.target).run()

    def _run_together(self) -> StageImage:
        """A thread a stage; one that needs another's result waits for it. Those begin first that others may need."""
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait  # most builds have one stage

        with ThreadPoolExecutor(max_workers=len(self._needed), thread_name_prefix="stage") as threads:
            with self._lock:
                for stage in self._needed:
                    self._results[stage.index] = threads.submit(StageBuilder(self, stage).run)
            try:
                wait(self._results.values(), return_when=FIRST_EXCEPTION)
            finally:
                self.stop()
        errors = [error for future in self._results.values() if (error := future.exception())]
        for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
            raise error
        return self._results[self.target.index].result()

    def result(self, index: int) -> StageImage:
        """What another stage has made; waits for its end."""
        with self._lock:
            future = self._results.get(index)
            if future is None:  # only a trigger of the base image asks for it
                made = self._extra.get(index) or StageBuilder(self, self.stages.stages[index]).run()
                self._extra[index] = made
                return made
        return future.result()

    def stop(self) -> None:
        """Let no stage begin another step, and end the commands that run."""
        with self._lock:
            self._stopped = True
            for container in self._running:
                with contextlib.suppress(LabError):
                    container.kill()

    @property
    def stopped(self) -> bool:
        """Whether another stage has failed, or the user has had enough."""
        return self._stopped

    def check_stopped(self) -> None:
        """Raises Stopped where another stage has failed."""
        if self._stopped:
            raise Stopped

    @contextlib.contextmanager
    def running(self, container: Container) -> Iterator[None]:
        """Note that a container runs, so that the failure of another stage ends it."""
        with self._lock:
            self.check_stopped()
            self._running.add(container)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(container)

    # ---- what the stages ask ----

    def number_of(self, stage: Stage, instruction: Instruction) -> int:
        """The number of a step, from 1; a trigger of the base image counts as its FROM."""
        return self._numbers.get(id(instruction), self._numbers.get(id(stage.origin), 0))

    def base_of(self, stage: Stage) -> int | None:
        """The index of the earlier stage that FROM names, None for an image."""
        return find_base(stage.base, self.stages.stages[: stage.index])

    def files_of(self, name: str, scope: contextlib.ExitStack, stage: Stage) -> BuildContext:
        """Where COPY or a mount takes its files from: the context, or a stage or image, mounted until scope closes."""
        if not name:
            return self._context
        index = find_stage(name, self.stages.stages[: stage.index])
        if index is None and name.isascii() and name.isdigit():
            hint = f"stages are counted from 0, and only those above count: here {stage.index}"
            reason = "refers to current build stage" if int(name) == stage.index else "index out of bounds"
            raise InvalidInput(f"invalid from flag value {name}: {reason}", hint=hint)
        if index is None:
            image: ImageConfig | None = lookup.hold(self.engine.data, self._image_named(name).id, self.lease)
        else:
            made = self.result(index)
            if made.unknown:
                raise NotMade
            image = made.image
        writable = scope.enter_context(self.writable(image))
        root = BuildContext.of_root(self.engine.data.layers.driver.mount(writable.mount_id))
        root.check = self.check_stopped
        return root

    def base_image(self, name: str, platform: str = "") -> Image:
        """The image that an instruction names, pulled where it is missing, or where a newer one is wanted.

        A plan pulls nothing. Raises as ImageCollection.obtain().
        """
        pull: Literal["missing", "always", "never"] = "always" if self.options.pull else "missing"
        return self.engine.images.obtain(
            name,
            pull="never" if self.only_planned else pull,
            platform=platform,
            auth_config=self._auth_config(name),
        )

    def _auth_config(self, name: str) -> Mapping[str, str] | None:
        known = self.options.auth_configs
        if known is None:
            return None
        return CredentialFile({"auths": dict(known)}).entry(references.parse(name).domain)

    def _image_named(self, name: str) -> Image:
        try:
            return self.base_image(name)
        except (ImageNotFound, InvalidInput) as error:
            hint = f"no earlier stage has this name either; {error.hint}"
            raise type(error)(f"invalid from flag value {name}: {error.message}", hint=hint) from error

    @contextlib.contextmanager
    def writable(self, image: ImageConfig | None) -> Iterator[WritableLayer]:
        """A writable layer on top of an image, for as long as the block runs."""
        container_id = ContainerId(secrets.token_hex(32))
        self.lease.claim("container", container_id)
        with self.engine.data.images_lock():
            writable = self.engine.data.layers.create_writable(container_id, image.chain_id if image else "")
        try:
            yield writable
        finally:
            self.engine.data.layers.remove_writable(container_id)

    def argument(self, name: str, default: str | None) -> str | None:
        """The value of an ARG: the command line's, else its default."""
        self._used_arguments.add(name)
        return self.options.buildargs.get(name, default)

    def secret(self, name: str) -> bytes | None:
        """The content of a secret, None where nobody gave it."""
        value = self.options.secrets.get(name)
        if value is None or isinstance(value, bytes):
            return value
        try:
            return Path(value).read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"cannot read secret {name} from {value}: {error.strerror}", hint="check --secret"
            ) from error

    # ---- what the stages tell ----

    def emit(self, event: Event) -> None:
        """Tell everybody; a plan tells nobody."""
        if not self.only_planned:
            self.engine.data.emit(event)

    def done(self, step: StepReport) -> None:
        """Note what a step did."""
        with self._lock:
            self._done.append(step)

    def missed(self, stage: Stage, number: int) -> None:
        """Note that a step was not in the cache: those above it cannot be."""
        with self._lock:
            self._missed.setdefault(stage.index, number)

    def reason(self, stage: Stage) -> str:
        """Why a step cannot be in the cache, because of what came before it; "" where that is no reason."""
        base = self.base_of(stage)
        number = self._missed.get(stage.index) or (0 if base is None else self._missed.get(base, 0))
        return f"step {number} was made anew" if number and not self.options.nocache else ""

    # ---- how ----

    def _count(self) -> dict[int, int]:
        """The number of each step, counted over the ARGs before the first FROM and the needed stages."""
        instructions = [instruction for stage in self._needed for instruction in (stage.origin, *stage.instructions)]
        return {id(instruction): number for number, instruction in enumerate([*self.stages.before, *instructions], 1)}

    def _cache_sources(self) -> Sequence[str] | None:
        if not self.options.cache_from:
            return None
        found = []
        for name in self.options.cache_from:
            try:
                found.append(self.engine.images.get(name).id)
            except ImageNotFound:
                self.engine.data.emit(BuildWarning(f"{name} is not here: --cache-from goes without it"))
        return found
