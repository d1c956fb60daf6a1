"""RUN: a command in a container; what it changed becomes a layer: by renaming its directory, if the container goes."""

from __future__ import annotations

import codecs
import contextlib
import posixpath
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.build.cache import STEP_MARK
from pylab_container.build.mounts import MountPoints, Mounts, described
from pylab_container.build.step import NotMade, StageImage, Step
from pylab_container.containers import random_names, sandbox
from pylab_container.docker.options import merge_environment
from pylab_container.dockerfile.instructions import Heredoc, Instruction, parse_heredoc
from pylab_container.dockerfile.runmount import RunMount, parse_mount
from pylab_container.dockerfile.stages import Stage
from pylab_container.errors import BuildFailed, InvalidInput, LabError, NotFound
from pylab_container.events import BuildContainer, BuildContainerRemoved, BuildOutput
from pylab_container.images.image import DOCKER_VERSION, machine_architecture
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.image import child_config
from pylab_container.oci.mounts import declared_volume
from pylab_container.store import layer_content
from pylab_container.store.layer_store import Layer
from pylab_container.store.mountpoints import place_mounts

if TYPE_CHECKING:
    from pylab_container.build.builder import Build
    from pylab_container.build.context import BuildContext
    from pylab_container.engine.container import Container

_LAST_LINES = 20
_SCRIPTS = "/dev/pipes"

# Known to every build without ARG, and kept out of histories: they say where a build ran, not what it is.
PROXY_ARGUMENTS = tuple(
    name
    for word in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (word, word.upper())
)


class _Run(Struct, frozen=True):
    """One RUN: its words, its environment, what it sees besides the image, and its network."""

    words: list[str]
    environment: list[str]
    mounts: list[tuple[RunMount, str, BuildContext | None]]
    script: Heredoc | None
    network: str
    number: int
    place: str


def translate(
    build: Build, stage: Stage, made: StageImage, instruction: Instruction, scope: contextlib.ExitStack
) -> Step:
    """What to do for a RUN. scope keeps the files of other stages mounted until the step has ended."""
    if made.unknown:
        raise NotMade
    _refuse(instruction)
    words, script = _command(made, instruction)
    mounts, told = [], []
    expand = made.expander(instruction)
    for key, value in instruction.flags:
        if key == "mount" and value is not None:
            mount = parse_mount(value, expand)
            files = build.files_of(mount.stage, scope, stage) if mount.stage or mount.kind == "bind" else None
            target = posixpath.join(made.config.get("WorkingDir") or "/", mount.target)
            mounts.append((mount, posixpath.normpath(target), files))
            told.append(described(mount, value, files))
    if network := instruction.flag("network") or "":
        told.append(f"--network={network}")
    environment = [f"{name}={value}" for name, value in sorted(_arguments(made).items())]
    visible = [entry for entry in environment if entry.partition("=")[0] in made.arguments]
    recorded = (*told, *((f"|{len(visible)}", *visible) if environment else ()), *words)
    if script:
        recorded = (*recorded, script.text)
    where = f"{build.source}:{instruction.line}" if instruction in stage.instructions else f"ONBUILD of {stage.base}"
    number = build.number_of(stage, instruction)
    place = f"{where}: {instruction.original}"
    run = _Run(words, environment, mounts, script, _network(build, network), number, place)
    return Step(recorded, lambda: _Execution(build, made, run, scope).carry_out())


def _refuse(instruction: Instruction) -> None:
    security = instruction.flag("security")
    if security not in (None, "sandbox"):
        raise InvalidInput(
            f"security.{security} is not allowed", hint="a build step has no more rights than a container"
        )
    if instruction.flag("device") is not None:
        raise InvalidInput("RUN --device is not supported", hint="a build step sees no devices of the machine")


def _command(made: StageImage, instruction: Instruction) -> tuple[list[str], Heredoc | None]:
    """The words to run. A here-document is given to the shell, or is the shell's text, or a program of its own."""
    if not instruction.heredocs:
        return made.command(instruction), None
    text, first = instruction.arguments[0], instruction.heredocs[0]
    if parse_heredoc(text) is None:
        documents = "".join(f"\n{document.content}{document.name}" for document in instruction.heredocs)
        return [*made.shell, text + documents], None
    if first.content.startswith("#!"):
        return [*made.shell, posixpath.join(_SCRIPTS, first.name)], first
    return [*made.shell, first.text], None


def _arguments(made: StageImage) -> dict[str, str]:
    """The ARGs that a RUN sees as variables: those with a value that no ENV hides."""
    declared = {name: value for name, value in made.arguments.items() if value is not None}
    environment = made.environment
    return {name: value for name, value in {**made.given, **declared}.items() if name not in environment}


def _network(build: Build, written: str) -> str:
    network = written if written and written != "default" else build.options.network
    if network in ("", "default"):
        return "bridge"
    if network in ("bridge", "none", "host") or network.startswith("container:"):
        return network
    try:
        return build.engine.networks.get(network).name
    except NotFound as error:
        hint = f"there are default, none and host, and the networks of users; {error.hint}"
        raise InvalidInput(f'unsupported network mode "{network}"', hint=hint) from None


class _Execution:
    """One RUN while it runs."""

    def __init__(self, build: Build, made: StageImage, run: _Run, scope: contextlib.ExitStack) -> None:
        self._build = build
        self._engine = build.engine
        self._made = made
        self._run = run
        self._id = random_names.generate_id()
        self._mounts = Mounts(build, self._id, scope)

    def carry_out(self) -> Layer | None:
        """make the container → run it → keep its layer, or its root where the command failed."""
        with self._container() as container:
            points = self._mount_points(container)
            status, last = self._wait(container)
            points.clear(container.upper)
            if status != 0:
                raise self._failed(status, last)
            return self._layer(stays=self._stays("always"))

    @contextlib.contextmanager
    def _container(self) -> Iterator[Container]:
        """Where the command runs: removed in the end, unless it is to stay."""
        stays = False
        self._build.lease.claim("container", self._id)
        container = self._create()
        try:
            yield container
            stays = self._stays("always")
        except LabError:
            stays = self._stays("failed", "always")
            raise
        finally:
            if stays:
                self._build.lease.waive("container", self._id)
            else:
                container.remove(force=True, v=True)
                self._build.emit(BuildContainerRemoved(self._id, self._run.number))

    def _stays(self, *wanted: str) -> bool:
        """Whether the container stays; not if it had mounts of its own, for what they showed is gone with the step."""
        return self._build.options.keep in wanted and not self._run.mounts and not self._run.script

    def _create(self) -> Container:
        entries = [self._mounts.entry(mount, target, files) for mount, target, files in self._run.mounts]
        if script := self._run.script:
            entries.append(self._mounts.script(script.name, script.text, posixpath.join(_SCRIPTS, script.name)))
        config = replace(ContainerConfig.parse(self._made.config), hostname=self._id[:12])
        if self._run.words:  # RUN [] runs the image's own command
            nulls = config.nulls | {"Entrypoint"}
            config = replace(config, cmd=tuple(self._run.words), entrypoint=(), nulls=nulls)
        environment = merge_environment(config.env, self._run.environment, self._mounts.environment)
        config = replace(config, env=tuple(environment), nulls=config.nulls - {"Env"})
        volumes = place_mounts(map(declared_volume, sorted(config.volumes)), self._engine.data.path)
        wanted = [entry for entry in entries if entry is not None]
        taken = {entry.destination for entry in wanted}
        return self._engine.containers.add(
            self._id,
            self._made.image_id,
            config,
            sandbox.resolve(
                self._engine,
                replace(
                    self._build.options.limits,
                    network_mode=self._run.network,
                    extra_hosts=tuple(self._build.options.extra_hosts),
                ),
            ),
            mounts=(*(volume for volume in volumes if volume.destination not in taken), *wanted),
        )

    def _mount_points(self, container: Container) -> MountPoints:
        """Of the step's own mounts; the directory of a VOLUME stays in the image, as with docker."""
        targets = [target for mount, target, _ in self._run.mounts if mount.target]
        if not targets:
            return MountPoints(container.upper, ())
        driver, mount_id = self._engine.data.driver, self._engine.data.layers.writable(self._id).mount_id
        return MountPoints(driver.mount(mount_id), targets)

    def _wait(self, container: Container) -> tuple[int, bytes]:
        """Run it to its end, telling what it prints; its exit status and its last words."""
        last: deque[bytes] = deque(maxlen=_LAST_LINES)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._build.emit(BuildContainer(self._id, self._run.number))
        with self._build.running(container), container.start_attached() as attachment:
            if self._build.stopped:  # between the question and the start
                container.kill()
            while (packet := attachment.receive()) is not None:
                self._build.emit(BuildOutput(decoder.decode(packet[1]), self._run.number, packet[0]))
                last.append(packet[1])
        return container.wait(), b"".join(last)

    def _layer(self, *, stays: bool) -> Layer | None:
        """What the command changed; a container that stays keeps its own."""
        layers, lease, newest = self._engine.data.layers, self._build.lease, self._engine.data.source_date_epoch
        writable = layers.writable(self._id)
        store = layer_content.copy if stays else layer_content.adopt
        return store(layers, writable, lease, newest=newest)

    def _failed(self, status: int, last: bytes) -> BuildFailed:
        """The error of a command that failed; it names what holds the root as the command left it."""
        self._build.check_stopped()
        if self._stays("failed", "always"):
            image_id, look = "", ("diff", self._id[:12])
        else:
            image_id = self._kept_root()
            network = () if self._run.network == "bridge" else ("--network", self._run.network)
            look = ("run", "-it", "--rm", *network, image_id[7:19], self._made.shell[0])
        return BuildFailed(
            f"The command '{' '.join(self._run.words)}' returned a non-zero code: {status}",
            hint=f"look around where it failed: {self._engine.command_line(*look)}",
            status=status,
            output=last,
            image_id=image_id,
            place=self._run.place,
        )

    def _kept_root(self) -> str:
        """The image of a failed step. It has no name and no child: the next prune takes it."""
        layer, made = self._layer(stays=False), self._made
        environment = merge_environment(made.config["Env"] or (), self._run.environment)
        config = {**made.config, "Env": environment, "Entrypoint": None}  # a shell shall run, not the image's program
        words = ["#(failed)", *self._run.words]
        image = child_config(
            made.image,
            config=config,
            container_config={**config, "Cmd": words},
            created=self._engine.data.now(),
            created_by=" ".join(words),
            comment="the root of a build step that failed",
            diff_id=layer.diff_id if layer else None,
            architecture=machine_architecture(),
            version=DOCKER_VERSION,
        )
        image_id = self._engine.images.add(image, action="kept").id
        self._engine.data.images.mark(image_id, STEP_MARK)
        return image_id
