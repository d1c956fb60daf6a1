"""State that the stages of one build share: options, cache, images, files, and the report."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pylab_container.build.cache import Cache
from pylab_container.build.context import BuildContext
from pylab_container.build.recipe import Recipe
from pylab_container.build.services import Services
from pylab_container.build.step import NotBuilt, StageImage, Stopped
from pylab_container.dockerfile.instructions import Instruction
from pylab_container.dockerfile.stages import Stage, find_base, find_stage
from pylab_container.errors import ImageNotFound, InvalidInput, LabError
from pylab_container.events import BuildWarning, Event
from pylab_container.host.random_ids import generate_container_id
from pylab_container.images import lookup
from pylab_container.images.build_report import StepReport
from pylab_container.images.image import Image
from pylab_container.images.obtain import PullPolicy
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.image import ImageConfig
from pylab_container.store.data_root import DataRoot
from pylab_container.store.layer_store import WritableLayer
from pylab_container.store.leases import Lease

PROXY_ARGUMENTS = tuple(
    name
    for word in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (word, word.upper())
)
"""Arguments that every build knows without ARG (Dockerfile reference, "Predefined ARGs").

The history and the key of the cache leave them out: they describe the network of this machine, not the image.
"""


class Workspace:
    """Shared by the threads of one build, each of which builds one stage.

    data            the data root with images and layers
    services        the services of the build's caller
    lease           claims layers and containers until an image needs them
    wait_for_stage  returns the image of an earlier stage, by the stage's index; waits until it is built
    is_plan         no step is executed and no event is emitted
    started         the time at which the build began, in seconds of the monotonic clock
    """

    def __init__(
        self,
        data: DataRoot,
        services: Services,
        recipe: Recipe,
        lease: Lease,
        *,
        wait_for_stage: Callable[[int], StageImage],
        is_plan: bool,
    ) -> None:
        """Raises DockerfileError, InvalidInput."""
        self.data = data
        self.services = services
        self.source = recipe.name
        self.options = recipe.options
        self.platform_arguments = recipe.platform
        self.lease = lease
        self.wait_for_stage = wait_for_stage
        self.is_plan = is_plan
        self.started = time.monotonic()
        self.stages = recipe.stages()
        self.target = self.stages.target(self.options.target)
        self.needed = self.stages.needed(self.target, every=self.options.every_stage)
        self.warnings = services.check(recipe)
        self.cache = Cache(data, is_used=not self.options.nocache, sources=self._cache_sources())
        self.steps: list[StepReport] = []
        self.used_arguments: set[str] = set(self.stages.arguments)
        self._context = recipe.context
        self._context.check = self.check_stopped  # a walk of a large context can take longer than a RUN
        self._numbers = self._number_steps()
        self._first_misses: dict[int, int] = {}
        self._running: set[ContainerId] = set()
        self._lock = threading.RLock()
        self._is_stopped = False

    # -- steps and their numbers -------------------------------------------------------------------

    @property
    def total(self) -> int:
        """The number of steps, including the ARGs before the first FROM and the labels of the options."""
        return len(self._numbers) + len(self.options.labels)

    def _number_steps(self) -> dict[int, int]:
        """Return the number of each step, from 1, by the identity of its instruction."""
        # By identity, because two equal lines of a file are two steps.
        instructions = [instruction for stage in self.needed for instruction in (stage.origin, *stage.instructions)]
        return {id(instruction): number for number, instruction in enumerate([*self.stages.before, *instructions], 1)}

    def number_of(self, stage: Stage, instruction: Instruction) -> int:
        """Return the number of a step. A trigger has the number of its FROM: docker does not count triggers."""
        return self._numbers.get(id(instruction), self._numbers.get(id(stage.origin), 0))

    # -- stopping ----------------------------------------------------------------------------------

    def stop(self) -> None:
        """Prevent all stages from beginning another step, and kill the commands that run. Idempotent."""
        # Under the lock, running() either sees that the build is stopped, or its container is in the set. A container
        # in the set may not have started yet; the Runner checks again after the start.
        with self._lock:
            self._is_stopped = True
            for container_id in self._running:
                with contextlib.suppress(LabError):  # it has not started yet, or has exited since
                    self.services.runner.kill(container_id)

    @property
    def is_stopped(self) -> bool:
        """Whether another stage has failed, or the user has stopped the build."""
        return self._is_stopped

    def check_stopped(self) -> None:
        """Raise Stopped if the build is stopped."""
        if self._is_stopped:
            raise Stopped

    @contextlib.contextmanager
    def running(self, container_id: ContainerId) -> Iterator[None]:
        """Register a container while its command runs, so that stop() kills it. Raises Stopped."""
        with self._lock:
            self.check_stopped()
            self._running.add(container_id)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(container_id)

    # -- images and files --------------------------------------------------------------------------

    def base_stage(self, stage: Stage) -> int | None:
        """Return the index of the stage that a stage continues; None if its FROM names an image."""
        return find_base(stage.base, self.stages.stages[: stage.index])

    def base_image(self, name: str, platform: str = "") -> Image:
        """Return an image, pulled if it is missing, or always with the option pull.

        A plan pulls nothing.

        Raises ImageNotFound, Unauthorized, Unreachable.
        """
        policy: PullPolicy = "always" if self.options.pull else "missing"
        return self.services.base_image(name, "never" if self.is_plan else policy, platform)

    def files_of(self, name: str, scope: contextlib.ExitStack, stage: Stage) -> BuildContext:
        """Return the source of a COPY or a mount: the context, or the files of a stage or image.

        name   of the stage or image; "" is the context
        scope  unmounts the files when it is closed

        Raises InvalidInput, ImageNotFound; NotBuilt in a plan.
        """
        if not name:
            return self._context
        # A writable layer, because a mount is needed and RUN --mount may write to it (rw); the writes are discarded.
        writable = scope.enter_context(self.writable(self._image_of(name, stage)))
        root = BuildContext.of_root(self.data.layers.driver.mount(writable.mount_id))
        root.check = self.check_stopped
        return root

    def _image_of(self, name: str, stage: Stage) -> ImageConfig | None:
        """Return the config of an earlier stage's image, or of a stored image; None for an empty FROM scratch."""
        index = find_stage(name, self.stages.stages[: stage.index])
        if index is not None:
            stage_image = self.wait_for_stage(index)
            if stage_image.unknown:
                raise NotBuilt
            return stage_image.image
        if name.isascii() and name.isdigit():
            hint = f"stages are counted from 0, and only those above count: here {stage.index}"
            reason = "refers to current build stage" if int(name) == stage.index else "index out of bounds"
            raise InvalidInput(f"invalid from flag value {name}: {reason}", hint=hint)
        try:
            image_id = self.base_image(name).id
        except (ImageNotFound, InvalidInput) as error:
            hint = f"no earlier stage has this name either; {error.hint}"
            raise type(error)(f"invalid from flag value {name}: {error.message}", hint=hint) from error
        return lookup.hold(self.data, image_id, self.lease)

    @contextlib.contextmanager
    def writable(self, image: ImageConfig | None) -> Iterator[WritableLayer]:
        """Create a writable layer on top of an image (None: of nothing) while the block runs."""
        container_id = generate_container_id()
        self.lease.claim("container", container_id)
        with self.data.images_lock():
            writable = self.data.layers.create_writable(container_id, image.chain_id if image else "")
        try:
            yield writable
        finally:
            self.data.layers.remove_writable(container_id)

    # -- arguments and secrets ---------------------------------------------------------------------

    @property
    def proxies(self) -> dict[str, str]:
        """The build arguments that every stage knows without ARG."""
        return {name: self.options.buildargs[name] for name in PROXY_ARGUMENTS if name in self.options.buildargs}

    def argument(self, name: str, default: str | None) -> str | None:
        """Return the value of an ARG: the one of the options, else its default."""
        self.used_arguments.add(name)
        return self.options.buildargs.get(name, default)

    def secret(self, name: str) -> bytes | None:
        """Return the content of a secret, None if the options do not have it. Raises InvalidInput."""
        value = self.options.secrets.get(name)
        if value is None or isinstance(value, bytes):
            return value
        try:
            return Path(value).read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"cannot read secret {name} from {value}: {error.strerror}", hint="check --secret"
            ) from error

    # -- the report --------------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Emit an event, unless this is a plan."""
        if not self.is_plan:
            self.data.emit(event)

    def record_step(self, step: StepReport) -> None:
        """Add a step to the report."""
        with self._lock:
            self.steps.append(step)

    def record_miss(self, stage: Stage, number: int) -> None:
        """Record the first step of a stage that was not in the cache."""
        with self._lock:
            self._first_misses.setdefault(stage.index, number)

    def earlier_miss(self, stage: Stage) -> str:
        """Explain a miss by an earlier miss in the stage or its base; "" without one."""
        base = self.base_stage(stage)
        number = self._first_misses.get(stage.index) or (0 if base is None else self._first_misses.get(base, 0))
        return f"step {number} was made anew" if number and not self.options.nocache else ""

    def _cache_sources(self) -> list[str] | None:
        """Return the ids of the images of --cache-from; None without the option."""
        if not self.options.cache_from:
            return None
        image_ids: list[str] = []
        for name in self.options.cache_from:
            try:
                image_ids.append(lookup.find(self.data, name))
            except ImageNotFound:
                self.data.emit(BuildWarning(f"{name} is not here: --cache-from goes without it"))
        return image_ids
