"""From a Dockerfile to an image.

    recipe.py            the options, and the parsed Dockerfile
    remote.py            a context from a URL or a git repository
    opened_context.py    the folder or archive of the caller, and its Dockerfile
    context.py           the files that COPY and ADD may read
    stage.py             one stage, instruction by instruction
    copy_instruction.py  COPY and ADD; sources.py finds and digests what they copy
    running.py           RUN; mounts.py mounts what it sees beside the image
    cache.py             finds the image of an earlier build, or explains a miss
    workspace.py         what the stages share
    services.py          what the caller provides: a runner for RUN, base images, the linter

dockerfile/parser.py parses the file, dockerfile/stages.py finds the stages that the target needs. Each instruction
adds an image on top of the previous one. The image records the instruction's words: they are shown as its history, and
together with the parent image they are the key of the build cache. Stages that do not depend on each other are built
concurrently.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pylab_container.build import remote
from pylab_container.build.opened_context import OpenedContext, open_context
from pylab_container.build.recipe import BuildOptions as BuildOptions
from pylab_container.build.recipe import Recipe
from pylab_container.build.report import BuildPlan, PlannedStep
from pylab_container.build.services import Services
from pylab_container.build.stage import StageBuilder
from pylab_container.build.step import StageImage, Stopped
from pylab_container.build.workspace import PROXY_ARGUMENTS, Workspace
from pylab_container.dockerfile.instructions import fault
from pylab_container.dockerfile.warning import CHECK_ARGUMENT
from pylab_container.errors import Conflict, StepRefused
from pylab_container.events import BuildStep, BuildStepStarted, BuildWarning
from pylab_container.images import naming
from pylab_container.images.build_report import BuildReport
from pylab_container.images.image import Image
from pylab_container.store.data_root import DataRoot
from pylab_container.store.leases import Lease
from pylab_container.store.transactions import making

if TYPE_CHECKING:
    from concurrent.futures import Future

STOP_POLL_INTERVAL = 0.2  # seconds between two checks whether the build has ended


def build(
    data: DataRoot,
    services: Services,
    source: str | Path | BinaryIO,
    options: BuildOptions,
    *,
    stop: threading.Event | None = None,
) -> Image:
    """Build the target and the stages that it needs, and name its image.

    source  the context, as for remote.fetched()
    stop    stops the build once it is set: no further step begins, and the running commands are killed

    Raises DockerfileError, ImageNotFound, BuildFailed with the last lines of the failed command, and Conflict if the
    build was stopped. The images of earlier steps stay: they are the cache of the next attempt.
    """
    with _opened(data, services, source, options) as build:
        with _stopped_by(stop, build.workspace):
            image_id = build.run().image_id
        if not image_id:  # FROM scratch without another instruction; the words are moby's (builder.go, build())
            hint = "FROM scratch alone is nothing: COPY a file"
            words = "No image was generated. Is your Dockerfile empty?"
            workspace = build.workspace
            raise fault(workspace.target.origin, words, source=workspace.source, hint=hint, kind=StepRefused)
        for name in options.names:
            naming.tag(data, image_id, name.familiar)
        return Image(data, image_id, build.report())


def plan(data: DataRoot, services: Services, source: str | Path | BinaryIO, options: BuildOptions) -> BuildPlan:
    """Return what build() would do, without executing a step.

    All steps after a stage's first miss count as misses.

    Raises as build().
    """
    with _opened(data, services, source, options, is_plan=True) as build:
        build.run()
        return build.plan()


@contextlib.contextmanager
def opened_context(data: DataRoot, source: str | Path | BinaryIO, options: BuildOptions) -> Iterator[OpenedContext]:
    """Fetch and open the context of a build while the block runs.

    Raises InvalidInput, NotFound, RuntimeFailed.
    """
    with (
        remote.fetched(data, source) as local_source,
        open_context(local_source, data.scratch, dockerfile=options.dockerfile) as context,
    ):
        yield context


@contextlib.contextmanager
def _opened(
    data: DataRoot, services: Services, source: str | Path | BinaryIO, options: BuildOptions, *, is_plan: bool = False
) -> Iterator[Build]:
    with (
        # The lease is opened first and so ends last. Until then it protects layers of images that a concurrent prune
        # or `rmi` removes, and afterwards it discards the containers of RUN that are left.
        making(data, services.runner.discard) as lease,
        opened_context(data, source, options) as (context, text, name),
    ):
        yield Build(data, services, Recipe.read(context, text, name, options), lease, is_plan=is_plan)


@contextlib.contextmanager
def _stopped_by(stop: threading.Event | None, workspace: Workspace) -> Iterator[None]:
    """Stop the build when the event is set while the block runs; then raise Conflict."""
    done = threading.Event()

    # A thread, because the build itself waits in system calls. It polls, because it waits for two events: the request
    # to stop, and the end of the build.
    def watch(stop: threading.Event) -> None:
        while not done.is_set():
            if stop.wait(STOP_POLL_INTERVAL):
                workspace.stop()
                return

    if stop is not None:
        threading.Thread(target=watch, args=(stop,), name="watcher", daemon=True).start()
    try:
        yield
    except Stopped:
        raise Conflict("the build was stopped", hint="build again: completed steps are in the cache") from None
    finally:
        done.set()


class Build:
    """Runs the stages of one build, in one thread each. Make one, call run() once."""

    def __init__(self, data: DataRoot, services: Services, recipe: Recipe, lease: Lease, *, is_plan: bool) -> None:
        """Raises DockerfileError, InvalidInput."""
        self.workspace = Workspace(data, services, recipe, lease, wait_for_stage=self._stage_image, is_plan=is_plan)
        self._futures: dict[int, Future[StageImage]] = {}
        # Stages that only an ONBUILD trigger of a base image names. Stages.needed() cannot know them: it reads the
        # Dockerfile, and the trigger is in the image.
        self._trigger_futures: dict[int, Future[StageImage]] = {}
        self._lock = threading.Lock()

    def run(self) -> StageImage:
        """Build the target and the stages that it needs; returns the target's image.

        Raises as build().
        """
        workspace = self.workspace
        # ARGs before the first FROM belong to no stage and make no image; docker counts them as steps, too.
        for number, instruction in enumerate(workspace.stages.before, 1):
            workspace.emit(BuildStepStarted(number, workspace.total, instruction.original))
            workspace.emit(BuildStep(number, workspace.total, instruction.original, image_id="", cache="", seconds=0))
        if len(workspace.needed) == 1:
            image = StageBuilder(workspace, workspace.target).run()
        else:
            image = self._run_concurrently()
        self._warn_of_unused_arguments()
        return image

    def _run_concurrently(self) -> StageImage:
        """Build each stage in a thread of its own; a stage that needs another stage's image waits for it."""
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait  # late: most builds have one stage

        workspace = self.workspace
        # No deadlock: a stage depends on earlier stages only, each stage has a thread of its own, and the pool starts
        # the threads in the order of submission. So a stage waits only for stages that have started.
        with ThreadPoolExecutor(max_workers=len(workspace.needed), thread_name_prefix="stage") as threads:
            with self._lock:  # the first stages already run, and _stage_image() reads the dictionary
                for stage in workspace.needed:
                    self._futures[stage.index] = threads.submit(StageBuilder(workspace, stage).run)
            try:
                wait(self._futures.values(), return_when=FIRST_EXCEPTION)
            finally:
                # Leaving the pool joins its threads. Without this, an error or Ctrl-C would take effect only when the
                # commands of the other stages have ended.
                workspace.stop()
        errors = [error for future in self._futures.values() if (error := future.exception())]
        # stop() makes the other stages raise Stopped: the error that caused it is raised before its consequences.
        for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
            raise error
        return self._futures[workspace.target.index].result()

    def _stage_image(self, index: int) -> StageImage:
        """Return the image of a stage; waits until it is built. Raises the error of its build."""
        with self._lock:
            future = self._futures.get(index) or self._trigger_futures.get(index)
        return future.result() if future else self._build_for_trigger(index)

    def _build_for_trigger(self, index: int) -> StageImage:
        """Build a stage in the caller's thread. Single flight: another thread that needs it waits for the result."""
        from concurrent.futures import Future

        with self._lock:
            is_first = index not in self._trigger_futures
            future = self._trigger_futures.setdefault(index, Future())
        # Without the lock: the stage may wait for the image of another stage, which takes the lock in _stage_image().
        if is_first:
            try:
                future.set_result(StageBuilder(self.workspace, self.workspace.stages.stages[index]).run())
            except BaseException as error:  # noqa: BLE001 - any error must wake the other threads; result() raises it
                future.set_exception(error)
        return future.result()

    def _warn_of_unused_arguments(self) -> None:
        # A value that no ARG requests is probably a misspelled name (moby buildargs.go, WarnOnUnusedBuildArgs).
        workspace = self.workspace
        known = {*workspace.used_arguments, *PROXY_ARGUMENTS, *workspace.platform_arguments, CHECK_ARGUMENT}
        unused = sorted({*workspace.options.buildargs, *workspace.options.valueless} - known)
        if unused:
            workspace.emit(BuildWarning(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed"))

    def report(self) -> BuildReport:
        """Return what was done."""
        steps = sorted(self.workspace.steps, key=lambda step: step.number)
        return BuildReport(tuple(steps), time.monotonic() - self.workspace.started, self.workspace.warnings)

    def plan(self) -> BuildPlan:
        """Return what would be done, after run() of a plan."""
        workspace = self.workspace
        steps = tuple(
            PlannedStep(step.number, step.of, step.stage, step.instruction, step.cache, step.reason)
            for step in sorted(workspace.steps, key=lambda step: step.number)
        )
        labels = {stage.index: stage.label for stage in workspace.stages.stages}
        return BuildPlan(
            target=workspace.target.label,
            steps=steps,
            needs={stage.label: tuple(labels[index] for index in stage.needs) for stage in workspace.needed},
            left_out=tuple(stage.label for stage in workspace.stages.stages if stage not in workspace.needed),
            warnings=workspace.warnings,
        )
