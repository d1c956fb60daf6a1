"""RUN: execute a command in a temporary container, and keep its changes as a layer.

    create the container → run the command → remove the mount points → turn the writable layer into an image layer

The directory of the writable layer is renamed, not copied, unless the container stays afterwards (`keep`).
"""

from __future__ import annotations

import codecs
import contextlib
import posixpath
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.build.cache import STEP_MARK
from pylab_container.build.context import BuildContext
from pylab_container.build.mounts import MountPoints, Mounts, recorded_words
from pylab_container.build.runner import RunRequest
from pylab_container.build.step import NotBuilt, StageImage, Step
from pylab_container.build.workspace import Workspace
from pylab_container.dockerfile.heredocs import Heredoc, parse_heredoc
from pylab_container.dockerfile.instructions import Instruction
from pylab_container.dockerfile.runmount import RunMount, parse_mount
from pylab_container.dockerfile.stages import Stage
from pylab_container.errors import BuildFailed, InvalidInput, LabError, NotFound
from pylab_container.events import BuildContainer, BuildContainerRemoved, BuildOutput
from pylab_container.host.random_ids import generate_container_id
from pylab_container.images import creation
from pylab_container.images.image import DOCKER_VERSION, machine_architecture
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.environment import merge_environment
from pylab_container.oci.image import child_config
from pylab_container.oci.mounts import MountPoint
from pylab_container.store import layer_content
from pylab_container.store.layer_store import Layer

KEPT_OUTPUT = 20  # last chunks of a command's output that its error has
SCRIPT_DIRECTORY = "/dev/pipes"  # where here-documents are mounted as programs, as with BuildKit


class _StepMount(Struct, frozen=True):
    """One --mount of a RUN: its absolute mount point, and the tree that its source is in, if any."""

    mount: RunMount
    target: str
    files: BuildContext | None


class _Run(Struct, frozen=True):
    """One translated RUN.

    words        the command; empty for RUN [], which executes the image's own command
    environment  "NAME=value" of the arguments that the command sees
    script       a here-document to mount as a program
    place        position and text of the instruction, for the error
    """

    words: list[str]
    environment: list[str]
    mounts: list[_StepMount]
    script: Heredoc | None
    network: str
    number: int
    place: str


def translate(
    workspace: Workspace, stage: Stage, image: StageImage, instruction: Instruction, scope: contextlib.ExitStack
) -> Step:
    """Return the step of a RUN.

    scope  keeps the files of other stages mounted until the step has ended

    Raises InvalidInput; NotBuilt in a plan.
    """
    if image.unknown:
        raise NotBuilt
    _refuse_unsupported(instruction)
    words, script = _command(image, instruction)
    mounts, recorded = _mounts(workspace, stage, image, instruction, scope)
    if network := instruction.flag("network") or "":
        recorded.append(f"--network={network}")
    arguments = _visible_arguments(image)
    environment = [f"{name}={value}" for name, value in sorted(arguments.items())]
    # The words begin with "|2 A=1 B=2", as in moby (dispatchers.go, prependEnvOnCmd): no command starts with |, so the
    # arguments cannot be taken for one. They are sorted, because the order of ARGs does not change the result. The
    # command also sees the proxies, which need no ARG, but they must not be part of the cache's key.
    declared = [entry for entry in environment if entry.partition("=")[0] in image.arguments]
    recorded += [f"|{len(declared)}", *declared] if environment else []
    recorded += [*words, script.text] if script else words
    is_trigger = instruction not in stage.instructions
    where = f"ONBUILD of {stage.base}" if is_trigger else f"{workspace.source}:{instruction.line}"
    run = _Run(
        words,
        environment,
        mounts,
        script,
        _resolve_network(workspace, network),
        workspace.number_of(stage, instruction),
        f"{where}: {instruction.original}",
    )
    # The caller looks the words up in the cache first, and executes only after a miss.
    return Step(tuple(recorded), lambda: _Execution(workspace, image, run, scope).execute())


def _refuse_unsupported(instruction: Instruction) -> None:
    security = instruction.flag("security")
    if security not in (None, "sandbox"):
        raise InvalidInput(
            f"security.{security} is not allowed", hint="leave --security out: a step has the rights of a container"
        )
    if instruction.flag("device") is not None:
        raise InvalidInput(
            "RUN --device is not supported", hint="leave --device out: a step cannot use devices of the machine"
        )


def _command(image: StageImage, instruction: Instruction) -> tuple[list[str], Heredoc | None]:
    """Return the words to run, and a here-document to mount as a program.

    RUN cat <<EOF   the shell gets the whole text, with the here-document as the input of the command
    RUN <<EOF       the here-document is the shell's script; if it begins with #!, it is a program of its own
    """
    if not instruction.heredocs:
        return image.command(instruction), None
    text, first = instruction.arguments[0], instruction.heredocs[0]
    if parse_heredoc(text) is None:
        documents = "".join(f"\n{document.content}{document.name}" for document in instruction.heredocs)
        return [*image.shell, text + documents], None
    if first.content.startswith("#!"):
        return [*image.shell, posixpath.join(SCRIPT_DIRECTORY, first.name)], first
    return [*image.shell, first.text], None


def _mounts(
    workspace: Workspace, stage: Stage, image: StageImage, instruction: Instruction, scope: contextlib.ExitStack
) -> tuple[list[_StepMount], list[str]]:
    """Return the mounts of a RUN, and the words that the history records for them."""
    mounts, recorded = [], []
    expand = image.expander(instruction)
    for key, value in instruction.flags:
        if key == "mount" and value is not None:
            mount = parse_mount(value, expand)
            files = workspace.files_of(mount.stage, scope, stage) if mount.stage or mount.kind == "bind" else None
            target = posixpath.join(image.config.get("WorkingDir") or "/", mount.target)
            mounts.append(_StepMount(mount, posixpath.normpath(target), files))
            recorded.append(recorded_words(mount, value, files))
    return mounts, recorded


def _visible_arguments(image: StageImage) -> dict[str, str]:
    """Return the arguments that a RUN sees as variables: those with a value, unless an ENV has the same name."""
    # "ENV always overrides an ARG instruction of the same name" (Dockerfile reference, "Using ARG variables").
    declared = {name: value for name, value in image.arguments.items() if value is not None}
    environment = image.environment
    return {name: value for name, value in {**image.proxies, **declared}.items() if name not in environment}


def _resolve_network(workspace: Workspace, written: str) -> str:
    """Return the network of a RUN: that of its flag, else of the build's options. Raises InvalidInput."""
    network = written if written and written != "default" else workspace.options.network
    if network in ("", "default"):
        return "bridge"
    if network in ("bridge", "none", "host") or network.startswith("container:"):
        return network
    try:
        return workspace.services.runner.find_network(network)
    except NotFound as error:
        hint = f"use default, none, host or the network of a user; {error.hint}"
        raise InvalidInput(f'unsupported network mode "{network}"', hint=hint) from None


class _Execution:
    """The execution of one RUN. Make one, call execute() once."""

    def __init__(self, workspace: Workspace, image: StageImage, run: _Run, scope: contextlib.ExitStack) -> None:
        self._workspace = workspace
        self._data = workspace.data
        self._runner = workspace.services.runner
        self._image = image
        self._run = run
        self._id = generate_container_id()
        self._mounts = Mounts(workspace, self._id, scope)

    def execute(self) -> Layer | None:
        """Run the command and return its layer, None without a change.

        Raises BuildFailed if the command fails; its root is then kept as a container or as an image.
        """
        with self._container():
            points = self._mount_points()  # before the start: the runtime creates the missing ones
            status, output = self._run_command()
            points.clear(self._upper())  # also after a failure, whose root may become an image
            if status != 0:
                raise self._failure(status, output)
            return self._layer(container_stays=self._stays("always"))

    @contextlib.contextmanager
    def _container(self) -> Iterator[None]:
        """Create the container, and remove it after the block unless the options keep it."""
        stays = False
        # Claimed before it exists: if this process is killed, the next engine that opens the data root discards it.
        self._workspace.lease.claim("container", self._id)
        self._runner.create(self._request())
        try:
            yield
            stays = self._stays("always")
        except LabError:
            # The error of a cancelled command, such as a kill after its exit, is not a failure of the step: its
            # container is of no use and must not stay.
            self._workspace.check_stopped()
            stays = self._stays("failed", "always")
            raise
        finally:
            if stays:
                self._workspace.lease.waive("container", self._id)
            else:
                self._runner.remove(self._id)
                self._workspace.emit(BuildContainerRemoved(self._id, self._run.number))

    def _stays(self, *policies: str) -> bool:
        """Report whether a policy keeps the container. One with mounts never stays: their sources end with the step."""
        return self._workspace.options.keep in policies and not self._run.mounts and not self._run.script

    def _request(self) -> RunRequest:
        mounts = self._mount_entries()  # first: it collects the variables of secrets
        # dockerd's default host name. RUN ignores the ENTRYPOINT of the image, which would get the command as its
        # arguments (moby dispatchers.go, dispatchRun: withEntrypointOverride).
        config = replace(ContainerConfig.parse(self._image.config), hostname=self._id[:12])
        if self._run.words:  # RUN [] runs the image's own command
            nulls = config.nulls | {"Entrypoint"}
            config = replace(config, cmd=tuple(self._run.words), entrypoint=(), nulls=nulls)
        environment = merge_environment(config.env, self._run.environment, self._mounts.environment)
        config = replace(config, env=tuple(environment), nulls=config.nulls - {"Env"})
        options = self._workspace.options
        return RunRequest(
            container_id=self._id,
            image_id=self._image.image_id,
            config=config,
            network=self._run.network,
            extra_hosts=options.extra_hosts,
            limits=options.limits,
            mounts=mounts,
        )

    def _mount_entries(self) -> list[MountPoint]:
        entries = [self._mounts.entry(each.mount, each.target, each.files) for each in self._run.mounts]
        if script := self._run.script:
            path = posixpath.join(SCRIPT_DIRECTORY, script.name)
            entries.append(self._mounts.script(script.name, script.text, path))
        return [entry for entry in entries if entry is not None]

    def _upper(self) -> Path:
        return self._data.driver.diff_path(self._data.layers.writable(self._id).mount_id)

    def _mount_points(self) -> MountPoints:
        """Return the mount points of the step's own mounts, without the image's volumes.

        The directory that is created for a VOLUME stays in the layer, as in Docker's images.
        """
        targets = [each.target for each in self._run.mounts if each.mount.target]
        if not targets:
            return MountPoints(self._upper(), ())
        return MountPoints(self._data.driver.mount(self._data.layers.writable(self._id).mount_id), targets)

    def _run_command(self) -> tuple[int, bytes]:
        """Run the command and emit its output. Returns its exit status and the last output."""
        # A chunk may end in the middle of a UTF-8 character, so the decoder keeps its state between chunks.
        last: deque[bytes] = deque(maxlen=KEPT_OUTPUT)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

        def emit(stream: str, chunk: bytes) -> None:
            self._workspace.emit(BuildOutput(decoder.decode(chunk), self._run.number, stream))
            last.append(chunk)

        self._workspace.emit(BuildContainer(self._id, self._run.number))
        # A stop() before the start kills nothing, because no process exists yet. So the runner asks once more after it.
        with self._workspace.running(self._id):
            status = self._runner.run(self._id, emit, lambda: self._workspace.is_stopped)
        return status, b"".join(last)

    def _layer(self, *, container_stays: bool) -> Layer | None:
        """Make a layer of the container's changes: a copy if the container stays, else by renaming its directory."""
        layers = self._data.layers
        make_layer = layer_content.copy if container_stays else layer_content.adopt
        return make_layer(layers, layers.writable(self._id), self._workspace.lease, newest=self._data.source_date_epoch)

    def _failure(self, status: int, output: bytes) -> BuildFailed:
        """Return the error of a failed command, with the container or the image that has its root. Raises Stopped."""
        # A command that stop() has killed also returns a status, 137, but it is not the cause of the failure.
        self._workspace.check_stopped()
        if self._stays("failed", "always"):
            image_id, look = "", ("diff", self._id[:12])
        else:
            image_id = self._keep_root()
            network = () if self._run.network == "bridge" else ("--network", self._run.network)
            look = ("run", "-it", "--rm", *network, image_id[7:19], self._image.shell[0])
        return BuildFailed(
            f"The command '{' '.join(self._run.words)}' returned a non-zero code: {status}",
            hint=f"look around where it failed: {self._workspace.services.command_line(*look)}",
            status=status,
            output=output,
            image_id=image_id,
            place=self._run.place,
        )

    def _keep_root(self) -> str:
        """Store the root of a failed step as an image; it has no name and no child, so the next prune removes it."""
        layer, stage_image = self._layer(container_stays=False), self._image
        environment = merge_environment(stage_image.config["Env"] or (), self._run.environment)
        # Without the entrypoint `labctr run IMAGE sh` starts a shell, and not the image's program.
        config = {**stage_image.config, "Env": environment, "Entrypoint": None}
        # No step has these words and the image has no parent, so the cache never finds it.
        words = ["#(failed)", *self._run.words]
        image = child_config(
            stage_image.image,
            config=config,
            container_config={**config, "Cmd": words},
            created=self._data.now(),
            created_by=" ".join(words),
            comment="the root of a build step that failed",
            diff_id=layer.diff_id if layer else None,
            architecture=machine_architecture(),
            version=DOCKER_VERSION,
        )
        image_id = creation.add(self._data, image, action="kept")
        self._data.images.mark(image_id, STEP_MARK)
        return image_id
