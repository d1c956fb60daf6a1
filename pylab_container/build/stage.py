"""One stage: each instruction adds an image on top of the previous one.

    translate the instruction to a Step → find the step's image in the cache; else execute the step and store an image

A Step has the instruction's words for the image's history, which are also its key in the build cache, and a function if
it changes files. moby's classic builder (builder/dockerfile) works in the same way, and the histories are equal.
"""

from __future__ import annotations

import contextlib
import posixpath
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from pylab_container.build import copy_instruction, platforms, running
from pylab_container.build.download import is_url
from pylab_container.build.step import NotBuilt, StageImage, Step
from pylab_container.build.workspace import Workspace
from pylab_container.dockerfile import expansion, parser
from pylab_container.dockerfile.instructions import Heredoc, Instruction, fault
from pylab_container.dockerfile.stages import Stage
from pylab_container.errors import DockerfileError, ImageNotFound, InvalidInput, StepRefused
from pylab_container.events import BuildStep, BuildStepStarted
from pylab_container.images import configuration, creation, lookup
from pylab_container.images.build_report import StepReport
from pylab_container.images.image import DOCKER_VERSION, machine_architecture
from pylab_container.oci import reference as references
from pylab_container.oci.environment import DEFAULT_PATH
from pylab_container.oci.image import EMPTY_CONFIG, ImageConfig, child_config
from pylab_container.store import layer_content
from pylab_container.store.layer_store import Layer

_STEP_ABOVE = "the step above is to be made anew"
_OTHER_STAGE = "it needs a stage that is to be made"

Translate = Callable[[], Step | None]
"""Translates an instruction. Returns None for a FROM, which only selects an image."""


class StageBuilder:
    """Builds one stage of one build. Make one, call run() once."""

    def __init__(self, workspace: Workspace, stage: Stage) -> None:
        self._workspace = workspace
        self._data = workspace.data
        self._stage = stage
        self._image: StageImage
        self._triggers: list[Instruction] = []
        # Closed after each step, and then used for the next one: a step's mounts must not outlive it.
        self._scope = contextlib.ExitStack()

    def run(self) -> StageImage:
        """Execute all instructions; returns the stage's image.

        Raises DockerfileError, ImageNotFound, and BuildFailed with the last lines of the failed command. The images of
        earlier steps stay: they are the cache of the next attempt.
        """
        self._execute_instruction(self._stage.origin, self._from)
        # The triggers come first, as if they stood below FROM (Dockerfile reference, "ONBUILD").
        for instruction in (*self._triggers, *self._stage.instructions):
            self._execute_instruction(instruction, partial(self._translate, instruction))
        if self._stage is self._workspace.target:
            self._add_labels()
        return self._image

    def _add_labels(self) -> None:
        """Execute a LABEL for each label of the build's options."""
        # Sorted, so that the same options give the same steps (moby builder.go, buildLabelOptions).
        labels = self._workspace.options.labels
        for number, (name, value) in enumerate(sorted(labels.items()), self._workspace.total - len(labels) + 1):
            self._execute(number, f"LABEL {name}={value}", partial(self._add_label, name, value))

    # -- one instruction ---------------------------------------------------------------------------

    def _execute_instruction(self, instruction: Instruction, translate: Translate) -> None:
        with self._errors_located(instruction):
            self._execute(self._workspace.number_of(self._stage, instruction), instruction.original, translate)

    def _execute(self, number: int, text: str, translate: Translate) -> None:
        """Execute a step or take it from the cache, and report it."""
        workspace = self._workspace
        workspace.check_stopped()
        workspace.emit(BuildStepStarted(number, workspace.total, text, self._stage.label))
        started = time.monotonic()
        with self._scope:
            cache, reason, layer = self._outcome(number, translate)
        report = StepReport(
            number=number,
            of=workspace.total,
            stage=self._stage.label,
            instruction=text,
            image_id=self._image.image_id,
            cache=cache,
            reason=reason,
            started=started - workspace.started,
            seconds=time.monotonic() - started,
            layer=layer,
            layers=self._data.layers,
        )
        workspace.record_step(report)
        workspace.emit(
            BuildStep(
                number,
                workspace.total,
                text,
                report.image_id,
                cache,
                report.seconds,
                reason,
                self._stage.label,
                triggers=len(self._triggers) if translate == self._from else 0,
            )
        )

    def _outcome(self, number: int, translate: Translate) -> tuple[str, str, Layer | None]:
        """Translate a step, then find or execute it.

        Returns "hit", "miss" or "" (FROM), the reason for a miss, and the layer that the step has added.
        """
        try:
            # Also before a hit: the translation applies the instruction to the config, on which later words depend.
            step = translate()
        except NotBuilt:  # a plan can translate config instructions after a miss, but no COPY and no RUN
            reason = _STEP_ABOVE if self._image.unknown else _OTHER_STAGE
            self._image.unknown = True
            return "miss", reason, None
        if step is None:
            return "", "", None
        return self._find_or_make(step, number)

    @contextlib.contextmanager
    def _errors_located(self, instruction: Instruction) -> Iterator[None]:
        """Add the file and the line of an instruction to the errors of the block."""
        try:
            yield
        except DockerfileError:
            raise
        except InvalidInput as error:
            source = self._source(instruction)
            raise fault(instruction, error.message, source=source, hint=error.hint, kind=StepRefused) from error
        except ImageNotFound as error:
            place = f"{self._source(instruction)}:{instruction.line}"
            raise ImageNotFound(f"{place}: {error.message}", hint=error.hint) from error

    def _source(self, instruction: Instruction) -> str:
        """Return the name of the text that contains the instruction, for errors."""
        is_trigger = any(instruction is trigger for trigger in self._triggers)
        return f"ONBUILD of {self._stage.base}" if is_trigger else self._workspace.source

    def _translate(self, instruction: Instruction) -> Step:
        """Translate an instruction; this changes the stage's config."""
        return _TRANSLATORS[instruction.keyword](self, instruction)

    # -- the step's image --------------------------------------------------------------------------

    def _find_or_make(self, step: Step, number: int) -> tuple[str, str, Layer | None]:
        """Take the step's image from the cache, or execute the step. Returns as _outcome()."""
        image, cache = self._image, self._workspace.cache
        if image.unknown:
            return "miss", _STEP_ABOVE, None
        parent = image.image_id
        # Without the lock, two stages with the same step would both miss, and both execute it (check-then-act race).
        with cache.single_flight(parent, step.words):
            if cached_id := cache.find(parent, step.words):
                before = image.image
                image.image_id = cached_id
                # hold() claims the layers before they are used: a concurrent prune may remove the image.
                image.image = lookup.hold(self._data, cached_id, self._workspace.lease)
                return "hit", "", self._layer_above(before, image.image)
            # The reason is looked up before the image of this step is added, which would be found as a match.
            reason = self._workspace.earlier_miss(self._stage) or cache.explain(parent, step.words, step.fingerprints)
            self._workspace.record_miss(self._stage, number)
            if self._workspace.is_plan:
                image.unknown = True
                return "miss", reason, None
            layer = step.action() if step.action else None
            self._add_image(step, layer)
        return "miss", reason, layer

    def _add_image(self, step: Step, layer: Layer | None) -> None:
        stage_image = self._image
        # Docker records the parent's id in the config, too (moby evaluator.go, updateRunConfig).
        config = {**stage_image.config, "Image": stage_image.image_id}
        image = child_config(
            stage_image.image,
            config=config,
            container_config={**config, "Cmd": list(step.words)},  # the key that Cache.find() compares
            created=self._data.now(),
            created_by=" ".join(step.words),
            diff_id=layer.diff_id if layer else None,
            author=stage_image.author,
            architecture=machine_architecture(),
            version=DOCKER_VERSION,
        )
        parent, stage_image.image = stage_image.image_id, image
        stage_image.image_id = creation.add(self._data, image, parent=parent, action="built")
        self._workspace.cache.remember(stage_image.image_id, parent, step.fingerprints)

    def _layer_above(self, before: ImageConfig | None, after: ImageConfig) -> Layer | None:
        """Return the layer that a cached image has on top of the image below it; None if the step changed no file."""
        is_same = before is not None and before.chain_id == after.chain_id
        return None if is_same or not after.chain_id else self._data.layers.get(after.chain_id)

    # -- FROM --------------------------------------------------------------------------------------

    def _from(self) -> None:
        """Start with the base: nothing, an earlier stage, or an image."""
        base, earlier_stage = self._stage.base, self._workspace.base_stage(self._stage)
        if earlier_stage is not None:
            self._image = self._workspace.wait_for_stage(earlier_stage).copied()
        elif base == "scratch":
            self._image = StageImage(dict(EMPTY_CONFIG))
        else:
            self._image = self._base_image(base)
        self._image.proxies = self._workspace.proxies
        self._image.check = self._workspace.check_stopped
        config = self._image.config
        # An image without PATH gets Docker's default, and every image that is built on it has it in its config (moby
        # evaluator.go, setDefaultPath).
        if not any(entry.startswith("PATH=") for entry in config["Env"] or ()):
            config["Env"] = [*(config["Env"] or ()), DEFAULT_PATH]
        self._triggers = self._take_triggers()

    def _base_image(self, name: str) -> StageImage:
        references.parse(name)  # an invalid name is reported as invalid, not as missing
        image_id = self._workspace.base_image(name, self._stage.platform).id
        image = lookup.hold(self._data, image_id, self._workspace.lease)
        platforms.check(image, self._stage.platform, name)
        if not self._workspace.is_plan:
            self._workspace.cache.record_base(name, image_id)
        return StageImage({**EMPTY_CONFIG, **image.config}, image_id=image_id, image=image)

    def _take_triggers(self) -> list[Instruction]:
        """Return the instructions of the base image's ONBUILD, and remove them from the config."""
        # Removed before they are executed, so that the images of a child do not pass them on to grandchildren
        # (moby dispatchers.go, initializeStage).
        texts = self._image.config.get("OnBuild") or ()
        self._image.config["OnBuild"] = None
        return [
            instruction
            for text in texts
            for instruction in parser.parse(text, name=f"ONBUILD of {self._stage.base}").instructions
        ]

    # -- instructions that change files ------------------------------------------------------------

    def _run(self, instruction: Instruction) -> Step:
        return running.translate(self._workspace, self._stage, self._image, instruction, self._scope)

    def _copy(self, instruction: Instruction) -> Step:
        """Translate COPY or ADD: the words contain a digest of the files."""
        image = self._image
        if image.unknown:  # a miss for certain, so that the files need not be read
            raise NotBuilt
        *patterns, last = image.expand_all(instruction.arguments, instruction)
        # Checked here and not in the parser: a variable may contain the URL.
        if instruction.keyword == "COPY" and any(is_url(pattern) for pattern in patterns):
            raise InvalidInput("source can't be a URL for COPY", hint="write ADD")
        options = self._with_numeric_owner(self._copy_options(instruction))
        sources = self._copy_sources(instruction, patterns, options)
        destination = _absolute(image, last)
        if len(sources) > 1 and not destination.endswith("/"):
            raise InvalidInput(
                f"When using {instruction.keyword} with more than one source file, "
                "the destination must be a directory and end with a /",
                hint=f"write {last}/",
            )
        # The format is that of performCopy() in moby's internals.go, up to the space at the end. Here and for WORKDIR
        # the mark and the text are one word; other instructions have two (withCmdComment, withCmdCommentString).
        flags = _recorded_flags(instruction.keyword, options)
        words = (*image.shell, f"#(nop) {instruction.keyword} {flags}{sources.digest} in {last} ")

        def change(root: Path) -> None:
            copy_instruction.copy(sources, destination, root, options)

        return Step(words, lambda: self._changed(change, linked=options.link), sources.fingerprints)

    def _copy_sources(
        self, instruction: Instruction, patterns: Sequence[str], options: copy_instruction.CopyOptions
    ) -> copy_instruction.Sources:
        """Find and digest the sources of a COPY or ADD, with its here-documents. Raises InvalidInput."""
        documents = [instruction.heredoc_for(argument) for argument in instruction.arguments[:-1]]
        files = self._workspace.files_of(instruction.flag("from") or "", self._scope, self._stage)
        words = [pattern for pattern, document in zip(patterns, documents, strict=True) if document is None]
        texts = [(document.name, self._content(document)) for document in documents if document]
        try:
            return copy_instruction.gather(files, words, texts, options)
        except InvalidInput as error:
            raise InvalidInput(f"{instruction.keyword} failed: {error.message}", hint=error.hint) from error

    def _copy_options(self, instruction: Instruction) -> copy_instruction.CopyOptions:
        flags = list(self._flags(instruction))
        values = dict(flags)
        return copy_instruction.CopyOptions(
            owner=values.get("chown", ""),
            mode=values.get("chmod", ""),
            parents=values.get("parents") == "true",
            exclude=tuple(value for name, value in flags if name == "exclude"),
            unpack=instruction.keyword == "ADD" and values.get("unpack") != "false",
            unpack_downloads=values.get("unpack") == "true",
            link=values.get("link") == "true",
            checksum=values.get("checksum", ""),
        )

    def _with_numeric_owner(self, options: copy_instruction.CopyOptions) -> copy_instruction.CopyOptions:
        """Resolve --chown for --link: a linked copy is made in an empty tree, without the image's /etc/passwd."""
        if not (options.link and options.owner):
            return options
        with self._workspace.writable(self._image.image) as layer:
            root = self._data.layers.driver.mount(layer.mount_id)
            owner = copy_instruction.find_owner(options.owner, root)
        return replace(options, owner=f"{owner.uid}:{owner.gid}")

    def _flags(self, instruction: Instruction) -> Iterator[tuple[str, str]]:
        expand = self._image.expander(instruction)
        for name, value in instruction.flags:
            yield name, "true" if value is None else expand(value)

    def _content(self, document: Heredoc) -> bytes:
        """Return the content of a here-document as a file."""
        text = expansion.expand_heredoc(document.text, self._image.variables) if document.expand else document.text
        return text.encode(errors="surrogateescape")

    def _workdir(self, instruction: Instruction) -> Step:
        words = (*self._image.shell, f"#(nop) {configuration.INSTRUCTIONS['WORKDIR'](self._image, instruction)}")
        directory = self._image.config["WorkingDir"]
        return Step(words, lambda: self._changed(lambda root: copy_instruction.make_directory(root, directory)))

    def _changed(self, change: Callable[[Path], None], *, linked: bool = False) -> Layer | None:
        """Mount a writable layer on the stage's image, call change with its path, and return it as a layer.

        linked  change sees an empty tree instead of the image's files (COPY --link)
        """
        layers, lease = self._data.layers, self._workspace.lease
        with self._workspace.writable(self._image.image) as writable:
            # A driver that keeps whole trees has no directory for the changes alone.
            changes_only = linked and not layers.driver.keeps_trees
            driver, mount_id = layers.driver, writable.mount_id
            change(driver.diff_path(mount_id) if changes_only else driver.mount(mount_id))
            # adopt() renames the directory, so that the files are written once. The writable layer is removed anyway.
            return layer_content.adopt(layers, writable, lease, newest=self._data.source_date_epoch)

    # -- instructions that change the configuration ------------------------------------------------

    def _configure(self, instruction: Instruction) -> Step:
        text = configuration.INSTRUCTIONS[instruction.keyword](self._image, instruction)
        return self._config_step(text)  # a SHELL is recorded with the new shell

    def _volume(self, instruction: Instruction) -> Step:
        before = set(self._image.config.get("Volumes") or {})  # a path that is a volume already needs no check
        step = self._configure(instruction)
        paths = [path for path in self._image.config["Volumes"] if path not in before]
        return replace(step, action=lambda: self._refuse_files(paths))

    def _refuse_files(self, paths: Sequence[str]) -> None:
        """Raise InvalidInput if the image has a file at the path of a volume."""
        with self._workspace.writable(self._image.image) as layer:
            for path in paths:
                copy_instruction.refuse_file(self._data.layers.driver.mount(layer.mount_id), path)

    def _add_label(self, name: str, value: str) -> Step:
        return self._config_step(configuration.add_labels(self._image, {name: value}))

    def _arg(self, instruction: Instruction) -> Step:
        # An ARG records its default only. The value of --build-arg is part of the words of every RUN below, and of the
        # instructions that expand it: they miss if it changes (Dockerfile reference, "Impact on build caching").
        workspace, recorded = self._workspace, []
        for name, default in instruction.pairs():
            value = None if default is None else self._image.expand(default, instruction)
            if value is None:  # the value of an ARG before the first FROM (moby buildargs.go, getBuildArg)
                value = workspace.stages.arguments.get(name, workspace.platform_arguments.get(name))
            self._image.arguments[name] = workspace.argument(name, value)
            recorded.append(name if default is None else f"{name}={value}")
        return self._config_step(f"ARG {' '.join(recorded)}")

    def _maintainer(self, instruction: Instruction) -> Step:
        self._image.author = instruction.arguments[0]
        return self._config_step(f"MAINTAINER {self._image.author}")

    def _config_step(self, text: str) -> Step:
        """Return the step of an instruction that only changes the config."""
        return Step((*self._image.shell, "#(nop) ", text))


_TRANSLATORS: Mapping[str, Callable[[StageBuilder, Instruction], Step]] = {
    "RUN": StageBuilder._run,
    "COPY": StageBuilder._copy,
    "ADD": StageBuilder._copy,
    "WORKDIR": StageBuilder._workdir,
    "ARG": StageBuilder._arg,
    "MAINTAINER": StageBuilder._maintainer,
    "VOLUME": StageBuilder._volume,
    **dict.fromkeys(
        (
            *("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL"),
            *("ONBUILD", "SHELL", "STOPSIGNAL", "USER"),
        ),
        StageBuilder._configure,
    ),
}


def _recorded_flags(keyword: str, options: copy_instruction.CopyOptions) -> str:
    """Return the flags for the words of a COPY or ADD: the digest does not cover them.

    No space follows --chown, as in Docker's histories.
    """
    chmod = f"--chmod={options.mode} " if options.mode else ""
    marks = {"--parents ": options.parents, "--link ": options.link, "--unpack ": options.unpack_downloads}
    marks["--unpack=false "] = keyword == "ADD" and not options.unpack
    flags = chmod + "".join(text for text, is_set in marks.items() if is_set)
    return flags + (f"--chown={options.owner}" if options.owner else "")


def _absolute(image: StageImage, path: str) -> str:
    """Return the absolute path of a destination. A slash at its end is kept: it makes the destination a directory."""
    cleaned = posixpath.normpath(posixpath.join("/", image.config.get("WorkingDir") or "/", path))
    is_directory = path.endswith(("/", "/.")) or path == "."
    return cleaned + "/" if is_directory and cleaned != "/" else cleaned
