"""From a Dockerfile to an image: one instruction, one image on top of the last.

Each instruction becomes a `Step`: what it is called in the image's history, and how it
changes files, if at all. A step whose words were carried out on the same image before is
found again: that is the build cache. It is no extra file; every image remembers its
parent and the words that made it (moby builder/dockerfile, the classic builder, does the
same, and the histories are equal).
"""

from __future__ import annotations

import os
import posixpath
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.engine import configuration, copying, launch, names, recovery
from pylab_container.engine.configuration import Configuration
from pylab_container.engine.context import BuildContext, Source
from pylab_container.engine.image import DOCKER_VERSION, Image, machine_architecture
from pylab_container.errors import BuildFailed, DockerfileError, ImageNotFound, InvalidInput
from pylab_container.formats import dockerfile, expansion
from pylab_container.formats import reference as references
from pylab_container.formats.events import BuildOutput, BuildStep, BuildStepStarted
from pylab_container.formats.image import EMPTY_CONFIG, ImageConfig, child_config
from pylab_container.formats.instructions import Instruction, fault
from pylab_container.store.layers import Layer
from pylab_container.store.leases import Lease

if TYPE_CHECKING:
    from pylab_container.engine import Engine

_LAST_LINES = 20
# Known to every build without ARG, and kept out of histories: they say where a build ran, not what it is.
_PROXY_ARGUMENTS = tuple(
    name
    for word in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (word, word.upper())
)


@dataclass(frozen=True)
class Step:
    """One instruction, ready to be carried out.

    words   how the image's container_config records it; also the key of the build cache
    action  changes files and returns the layer; None where only the config changes
    reason  why the cache cannot have it, "" where it may
    """

    words: tuple[str, ...]
    action: Callable[[], Layer | None] | None = None


@dataclass(frozen=True)
class BuildReport:
    """What a build did, step by step; `seconds` for the whole."""

    steps: tuple[BuildStep, ...]
    seconds: float


@dataclass
class _Stage(Configuration):
    """What the instructions so far have made.

    image_id, image  the last image; "" and None for FROM scratch
    config           its container configuration, as the next image will have it
    """

    image_id: str = ""
    image: ImageConfig | None = None
    author: str = ""


class Builder:
    """One build. Make one, call build() once."""

    def __init__(
        self,
        engine: Engine,
        context: BuildContext,
        *,
        source: str,
        buildargs: Mapping[str, str],
        labels: Mapping[str, str],
        nocache: bool,
    ) -> None:
        """source is the Dockerfile's path in the context. Raises DockerfileError, InvalidInput."""
        self._engine = engine
        self._context = context
        self._source = source
        self._file = dockerfile.parse(context.read(source), name=source)
        self._buildargs = dict(buildargs)
        self._labels = dict(labels)
        self._children = None if nocache else _Children(engine)
        self._globals: dict[str, str | None] = {}
        self._stage: _Stage | None = None
        self._done: list[BuildStep] = []
        self._lease: Lease

    def build(self, name: references.Reference | None = None) -> Image:
        """Carry out all instructions and name the last image.

        Raises DockerfileError, ImageNotFound, BuildFailed with the failed command's last
        lines. The images of the steps before stay, as the cache of the next attempt.
        """
        with recovery.making(self._engine) as self._lease:
            return self._build(name)

    def _build(self, name: references.Reference | None) -> Image:
        started = time.monotonic()
        instructions = self._file.instructions
        total = len(instructions) + bool(self._labels)
        for number, instruction in enumerate(instructions, 1):
            self._carry_out(instruction, number, total)
        stage = self._current(instructions[-1])
        if self._labels:
            self._step(
                total, total, configuration.label_text(self._labels), lambda: self._add_labels(stage, self._labels)
            )
        if not stage.image_id:
            raise fault(
                instructions[-1],
                "no image was generated",
                source=self._source,
                hint="FROM scratch alone is nothing: COPY a file",
            )
        if name:
            self._engine.images.tag(Image(self._engine, stage.image_id), name.familiar)
        report = BuildReport(tuple(self._done), time.monotonic() - started)
        return Image(self._engine, stage.image_id, report)

    # ---- one instruction ----

    def _carry_out(self, instruction: Instruction, number: int, total: int) -> None:
        try:
            self._step(number, total, instruction.original, lambda: self._translate(instruction))
        except DockerfileError:
            raise
        except InvalidInput as error:
            # Whatever the instruction asked for makes no sense: say where it stands.
            raise fault(instruction, error.message, source=self._source, hint=error.hint) from error

    def _step(self, number: int, total: int, text: str, translate: Callable[[], Step | None]) -> None:
        self._engine.events.emit(BuildStepStarted(number, total, text))
        started = time.monotonic()
        step = translate()
        cache = reason = ""
        if step is not None:
            cache, reason = self._commit(step)
        image_id = self._stage.image_id if self._stage else ""
        done = BuildStep(number, total, text, image_id, cache, time.monotonic() - started, reason)
        self._engine.events.emit(done)
        self._done.append(done)

    def _translate(self, instruction: Instruction) -> Step | None:
        """What to do for an instruction; the stage's config is changed on the way. None: no image."""
        if instruction.keyword == "FROM":
            self._stage = self._from(instruction)
            return None
        if instruction.keyword == "ARG" and self._stage is None:
            for name, value in instruction.pairs():
                self._globals[name] = self._buildargs.get(name, self._expand_global(value))
            return None
        stage = self._current(instruction)
        handler = _HANDLERS.get(instruction.keyword)
        if handler is None or instruction.heredocs or (instruction.flags and instruction.keyword != "FROM"):
            what = instruction.keyword if handler is None else "this form of it"
            raise fault(
                instruction,
                f"{what} is not supported yet",
                source=self._source,
                hint="write it without flags and here-documents",
            )
        return handler(self, stage, instruction)

    def _commit(self, step: Step) -> tuple[str, str]:
        """Make the step's image, or find it. Returns "hit" or "miss", and on a miss why."""
        stage = self._current(None)
        parent = stage.image_id
        if self._children is None:
            found, reason = None, "the cache was not asked (--no-cache)"
        else:
            found, reason = (
                self._children.find(parent, step.words),
                "no image was made from the one above with these words",
            )
        if found:
            stage.image_id, stage.image = found, self._engine.images.held(found, self._lease)
            return "hit", ""
        layer = step.action() if step.action else None
        config = {**stage.config, "Image": parent}
        image = child_config(
            stage.image,
            config=config,
            container_config={**config, "Cmd": list(step.words)},
            created=self._engine.now(),
            created_by=" ".join(step.words),
            diff_id=layer.diff_id if layer else None,
            author=stage.author,
            architecture=machine_architecture(),
            version=DOCKER_VERSION,
        )
        stage.image_id = self._engine.images.add(image, parent=parent, action="built").id
        stage.image = image
        return "miss", reason

    def _current(self, instruction: Instruction | None) -> _Stage:
        if self._stage is None:
            first = instruction or self._file.instructions[0]
            raise fault(
                first,
                "no build stage in current context",
                source=self._source,
                hint="a Dockerfile begins with FROM image",
            )
        return self._stage

    # ---- the instructions ----

    def _from(self, instruction: Instruction) -> _Stage:
        name = self._expand_global(instruction.arguments[0]) or ""
        if self._stage is not None or instruction.flags:
            raise fault(instruction, "a second stage is not supported yet", source=self._source, hint="use one FROM")
        if name == "scratch":
            return _Stage({**EMPTY_CONFIG, "Env": [launch.DEFAULT_PATH]})
        if not name:
            raise fault(
                instruction,
                f"base name ({instruction.arguments[0]}) should not be blank",
                source=self._source,
                hint="the ARG in it has no value: give it a default before FROM, or --build-arg",
            )
        try:
            image = self._engine.images.get(name)
            base = self._engine.images.held(image.id, self._lease)
        except ImageNotFound as error:
            raise ImageNotFound(f"{self._source}:{instruction.line}: {error.message}", hint=error.hint) from error
        config = {**EMPTY_CONFIG, **base.config}
        if not any(entry.startswith("PATH=") for entry in config["Env"] or ()):
            config["Env"] = [*(config["Env"] or ()), launch.DEFAULT_PATH]
        return _Stage(config, image_id=image.id, image=base, author=base.author)

    def _run(self, stage: _Stage, instruction: Instruction) -> Step:
        words = stage.command(instruction)
        environment = [f"{name}={value}" for name, value in sorted(self._run_arguments(stage).items())]
        visible = [entry for entry in environment if entry.partition("=")[0] not in _PROXY_ARGUMENTS]
        recorded = (f"|{len(visible)}", *visible, *words) if visible else tuple(words)
        return Step(recorded, lambda: self._run_container(stage, words, environment))

    def _run_arguments(self, stage: _Stage) -> dict[str, str]:
        """The ARGs that a RUN sees as variables: those with a value that no ENV hides."""
        given = {name: self._buildargs[name] for name in _PROXY_ARGUMENTS if name in self._buildargs}
        declared = {name: value for name, value in stage.arguments.items() if value is not None}
        environment = stage.environment
        return {name: value for name, value in {**given, **declared}.items() if name not in environment}

    def _run_container(self, stage: _Stage, words: list[str], environment: list[str]) -> Layer | None:
        """Run the words in a temporary container and keep what they changed."""
        engine = self._engine
        container_id = names.generate_id()
        self._lease.claim("container", container_id)
        config = {**stage.config, "Cmd": words, "Entrypoint": None, "Hostname": container_id[:12]}
        config["Env"] = launch.merge_environment(config["Env"] or (), environment)
        mounts = tuple(engine.containers.mounts_for((), config.get("Volumes") or {}))
        container = engine.containers.add(container_id, stage.image_id, config, {}, mounts=mounts)
        try:
            last: deque[bytes] = deque(maxlen=_LAST_LINES)
            with container.start_attached() as attachment:
                while (packet := attachment.receive()) is not None:
                    engine.events.emit(BuildOutput(packet[1].decode(errors="replace")))
                    last.append(packet[1])
            status = container.wait()
            if status != 0:
                raise BuildFailed(
                    f"The command '{' '.join(words)}' returned a non-zero code: {status}",
                    hint="its last words are above; run the base image and try the command by hand",
                    status=status,
                    output=b"".join(last),
                )
            return engine.layers.adopt(
                engine.layers.writable(container_id), self._lease, newest=engine.source_date_epoch
            )
        finally:
            container.remove(force=True, v=True)

    def _copy(self, stage: _Stage, instruction: Instruction) -> Step:
        *patterns, last = (stage.expand(word, instruction) for word in instruction.arguments)
        sources = [source for pattern in patterns for source in self._context.find(pattern)]
        destination = _absolute(stage, last)
        if len(sources) > 1 and not destination.endswith("/"):
            raise fault(
                instruction,
                f"When using {instruction.keyword} with more than one source file, "
                "the destination must be a directory and end with a /",
                source=self._source,
                hint=f"write {last}/",
                at=instruction.arguments[-1],
            )
        unpack = instruction.keyword == "ADD"
        digest = self._context.digest(sources)
        words = (*stage.shell, f"#(nop) {instruction.keyword} {digest} in {last} ")
        return Step(words, lambda: self._copy_layer(stage, sources, destination, unpack=unpack))

    def _copy_layer(self, stage: _Stage, sources: list[Source], destination: str, *, unpack: bool) -> Layer | None:
        def change(root: Path) -> None:
            copying.copy(self._context, sources, destination, root, unpack=unpack)

        return self._changed(stage, change)

    def _workdir(self, stage: _Stage, instruction: Instruction) -> Step:
        words = (*stage.shell, f"#(nop) {configuration.INSTRUCTIONS['WORKDIR'](stage, instruction)}")
        directory = stage.config["WorkingDir"]
        return Step(words, lambda: self._changed(stage, lambda root: copying.make_directory(root, directory)))

    def _changed(self, stage: _Stage, change: Callable[[Path], None]) -> Layer | None:
        """Mount a writable layer on the stage's image, let change write to it, and keep it as a layer."""
        layers = self._engine.layers
        container_id = secrets.token_hex(32)
        self._lease.claim("container", container_id)
        with self._engine.images.commit_lock():
            writable = layers.create_writable(container_id, stage.image.chain_id if stage.image else "")
        try:
            change(layers.driver.mount(writable.mount_id))
            return layers.adopt(writable, self._lease, newest=self._engine.source_date_epoch)
        finally:
            layers.remove_writable(container_id)

    def _configure(self, stage: _Stage, instruction: Instruction) -> Step:
        text = configuration.INSTRUCTIONS[instruction.keyword](stage, instruction)
        return _note(stage.shell, text)  # SHELL is told by the shell that it names

    def _add_labels(self, stage: _Stage, labels: Mapping[str, str]) -> Step:
        return _note(stage.shell, configuration.add_labels(stage, labels))

    def _arg(self, stage: _Stage, instruction: Instruction) -> Step:
        told = []
        for name, default in instruction.pairs():
            value = None if default is None else stage.expand(default, instruction)
            if value is None:
                value = self._globals.get(name)
            stage.arguments[name] = self._buildargs.get(name, value)
            told.append(name if default is None else f"{name}={value}")
        return _note(stage.shell, f"ARG {' '.join(told)}")

    def _maintainer(self, stage: _Stage, instruction: Instruction) -> Step:
        stage.author = instruction.arguments[0]
        return _note(stage.shell, f"MAINTAINER {stage.author}")

    def _expand_global(self, word: str | None) -> str | None:
        known = {name: value for name, value in self._globals.items() if value is not None}
        return None if word is None else expansion.expand(word, known, escape=self._file.escape)


_HANDLERS: Mapping[str, Callable[[Builder, _Stage, Instruction], Step]] = {
    "RUN": Builder._run,
    "COPY": Builder._copy,
    "ADD": Builder._copy,
    "WORKDIR": Builder._workdir,
    "ARG": Builder._arg,
    "MAINTAINER": Builder._maintainer,
    **dict.fromkeys(
        ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "SHELL", "STOPSIGNAL", "USER", "VOLUME"), Builder._configure
    ),
}


class _Children:
    """Which images were made from which, by which words: the build cache, read off the image store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._by_parent: dict[str, list[str]] = {}
        for image_id in engine.image_store.all():
            self._by_parent.setdefault(engine.image_store.parent(image_id), []).append(image_id)

    def find(self, parent: str, words: tuple[str, ...]) -> str | None:
        """The newest image that was made from parent by these words, None if there is none."""
        newest, when = None, ""
        for image_id in self._by_parent.get(parent, ()):
            try:
                config = self._engine.images.config(image_id)
            except ImageNotFound:
                continue  # removed meanwhile
            made_by = (config.document.get("container_config") or {}).get("Cmd") or ()
            if tuple(made_by) == words and config.created >= when:
                newest, when = image_id, config.created
        return newest


def _note(shell: Sequence[str], text: str) -> Step:
    """The step of an instruction that only changes the config."""
    return Step((*shell, "#(nop) ", text))


def _absolute(stage: _Stage, path: str) -> str:
    """A destination from the root; a slash at its end stays, for it says "directory"."""
    joined = posixpath.join(stage.config.get("WorkingDir") or "/", path)
    cleaned = posixpath.normpath(joined)
    is_directory = path.endswith(("/", "/.")) or path == "."
    return cleaned + "/" if is_directory and cleaned != "/" else cleaned


def dockerfile_path(context: BuildContext, dockerfile: str | None) -> str:
    """Where the Dockerfile is: named by the user (from the current directory or the context), else in the context."""
    if dockerfile is None:
        return "Dockerfile"
    return dockerfile if os.path.isabs(dockerfile) or not os.path.exists(dockerfile) else os.path.abspath(dockerfile)
