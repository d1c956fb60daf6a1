"""One stage: its instructions one after the other, each an image on top of the last.

Each instruction becomes a `Step`: what it is called in the image's history, and how it changes
files, if at all. The words are also its key in the build cache. moby's classic builder
(builder/dockerfile) does the same, and the histories are equal.
"""

from __future__ import annotations

import contextlib
import posixpath
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pylab_container.build import copy_instruction, platforms, running
from pylab_container.build.report import StepReport
from pylab_container.build.sources import is_url
from pylab_container.build.step import NotMade, StageImage, Step
from pylab_container.dockerfile import expansion, parser
from pylab_container.dockerfile.instructions import Heredoc, Instruction, fault
from pylab_container.dockerfile.stages import Stage
from pylab_container.errors import DockerfileError, ImageNotFound, InvalidInput, StepRefused
from pylab_container.events import BuildStep, BuildStepStarted
from pylab_container.images import configuration, lookup
from pylab_container.images.image import DOCKER_VERSION, machine_architecture
from pylab_container.oci import reference as references
from pylab_container.oci.environment import DEFAULT_PATH
from pylab_container.oci.image import EMPTY_CONFIG, ImageConfig, child_config
from pylab_container.store import layer_content
from pylab_container.store.layer_store import Layer

if TYPE_CHECKING:
    from pylab_container.build.builder import Build

_ABOVE = "the step above is to be made anew"


class StageBuilder:
    """Carries out one stage of one build. Make one, call run() once."""

    def __init__(self, build: Build, stage: Stage) -> None:
        self._build = build
        self._engine = build.engine
        self._stage = stage
        self._made: StageImage
        self._triggers: list[Instruction] = []
        self._open = contextlib.ExitStack()  # what one step needs mounted

    def run(self) -> StageImage:
        """Carry out all instructions.

        Raises DockerfileError, ImageNotFound, BuildFailed with the failed command's last
        lines. The images of the steps before stay, as the cache of the next attempt.
        """
        self._step(self._stage.origin, self._from)
        for trigger in self._triggers:
            self._step(trigger, partial(self._translate, trigger))
        for instruction in self._stage.instructions:
            self._step(instruction, partial(self._translate, instruction))
        labels = self._build.options.labels
        if self._stage is self._build.target:
            for number, (name, value) in enumerate(sorted(labels.items()), self._build.total - len(labels) + 1):
                self._carry_out(number, f"LABEL {name}={value}", partial(self._add_label, name, value))
        return self._made

    # ---- one instruction ----

    def _step(self, instruction: Instruction, translate: Callable[[], Step | None]) -> None:
        """Carry one instruction out, and say where it stands if it makes no sense."""
        with self._pointing_at(instruction):
            self._carry_out(self._build.number_of(self._stage, instruction), instruction.original, translate)

    def _carry_out(self, number: int, text: str, translate: Callable[[], Step | None]) -> None:
        """Make what a step makes, or find what it made before, and tell about it."""
        build = self._build
        build.check_stopped()
        build.emit(BuildStepStarted(number, build.total, text, self._stage.label))
        started = time.monotonic()
        with self._open:
            cache, reason, layer = self._outcome(number, translate)
        report = StepReport(
            number=number,
            of=build.total,
            stage=self._stage.label,
            instruction=text,
            image_id=self._made.image_id,
            cache=cache,
            reason=reason,
            started=started - build.started,
            seconds=time.monotonic() - started,
            layer=layer,
            layers=self._engine.data.layers,
        )
        build.done(report)
        told = BuildStep(number, build.total, text, report.image_id, cache, report.seconds, reason, self._stage.label)
        triggers = len(self._triggers) if translate == self._from else 0
        build.emit(replace(told, triggers=triggers))

    def _outcome(self, number: int, translate: Callable[[], Step | None]) -> tuple[str, str, Layer | None]:
        """Returns "hit", "miss" or "", on a miss the reason, and the layer that came on top."""
        try:
            step = translate()
        except NotMade:
            reason = _ABOVE if self._made.unknown else "it needs a stage that is to be made"
            self._made.unknown = True
            return "miss", reason, None
        if step is None:
            return "", "", None
        return self._commit(step, number)

    @contextlib.contextmanager
    def _pointing_at(self, instruction: Instruction) -> Iterator[None]:
        """Whatever the instruction asked for makes no sense: say where it stands."""
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
        """What the text is called that an instruction stands in."""
        is_trigger = any(instruction is trigger for trigger in self._triggers)
        return f"ONBUILD of {self._stage.base}" if is_trigger else self._build.source

    def _translate(self, instruction: Instruction) -> Step:
        """What to do for an instruction; the stage's config is changed on the way."""
        return _HANDLERS[instruction.keyword](self, instruction)

    def _commit(self, step: Step, number: int) -> tuple[str, str, Layer | None]:
        """Make the step's image, or find it."""
        made, cache = self._made, self._build.cache
        if made.unknown:
            return "miss", _ABOVE, None
        parent = made.image_id
        with cache.turn(parent, step.words):
            if found := cache.find(parent, step.words):
                before = made.image
                made.image_id, made.image = found, lookup.hold(self._engine.data, found, self._build.lease)
                return "hit", "", self._layer_above(before, made.image)
            reason = self._build.reason(self._stage) or cache.explain(parent, step.words, step.fingerprints)
            self._build.missed(self._stage, number)
            if self._build.only_planned:
                made.unknown = True
                return "miss", reason, None
            layer = step.action() if step.action else None
            self._add_image(step, layer)
        return "miss", reason, layer

    def _add_image(self, step: Step, layer: Layer | None) -> None:
        made = self._made
        config = {**made.config, "Image": made.image_id}
        image = child_config(
            made.image,
            config=config,
            container_config={**config, "Cmd": list(step.words)},
            created=self._engine.data.now(),
            created_by=" ".join(step.words),
            diff_id=layer.diff_id if layer else None,
            author=made.author,
            architecture=machine_architecture(),
            version=DOCKER_VERSION,
        )
        parent, made.image = made.image_id, image
        made.image_id = self._engine.images.add(image, parent=parent, action="built").id
        self._build.cache.remember(made.image_id, parent, step.fingerprints)

    def _layer_above(self, before: ImageConfig | None, after: ImageConfig) -> Layer | None:
        same = before is not None and before.chain_id == after.chain_id
        return None if same or not after.chain_id else self._engine.data.layers.get(after.chain_id)

    # ---- FROM ----

    def _from(self) -> None:
        """Start with the base: nothing, an earlier stage, or an image."""
        base, earlier = self._stage.base, self._build.base_of(self._stage)
        if earlier is not None:
            self._made = self._build.result(earlier).copied()
        elif base == "scratch":
            self._made = StageImage(dict(EMPTY_CONFIG))
        else:
            references.parse(base)  # a name that cannot be one is said to be so, not to be missing
            image = self._build.base_image(base, self._stage.platform)
            held = lookup.hold(self._engine.data, image.id, self._build.lease)
            platforms.check(held, self._stage.platform, base)
            config = {**EMPTY_CONFIG, **held.config}
            if not self._build.only_planned:
                self._build.cache.began(base, image.id)
            self._made = StageImage(config, image_id=image.id, image=held)
        self._made.given = self._build.proxies
        self._made.check = self._build.check_stopped
        config = self._made.config
        if not any(entry.startswith("PATH=") for entry in config["Env"] or ()):
            config["Env"] = [*(config["Env"] or ()), DEFAULT_PATH]
        self._triggers = self._take_triggers()

    def _take_triggers(self) -> list[Instruction]:
        """What the ONBUILDs of the base image want done in an image that is built on it."""
        texts = self._made.config.get("OnBuild") or ()
        self._made.config["OnBuild"] = None
        return [
            instruction
            for text in texts
            for instruction in parser.parse(text, name=f"ONBUILD of {self._stage.base}").instructions
        ]

    # ---- RUN, COPY, ADD and WORKDIR: they change files ----

    def _run(self, instruction: Instruction) -> Step:
        return running.translate(self._build, self._stage, self._made, instruction, self._open)

    def _copy(self, instruction: Instruction) -> Step:
        made = self._made
        if made.unknown:
            raise NotMade
        *patterns, last = made.expand_all(instruction.arguments, instruction)
        documents = [instruction.heredoc_for(argument) for argument in instruction.arguments[:-1]]
        if instruction.keyword == "COPY" and any(is_url(pattern) for pattern in patterns):
            raise InvalidInput("source can't be a URL for COPY", hint="write ADD")
        options = self._copy_options(instruction)
        if options.link and options.owner:  # the image's users are not in the tree that a linked copy sees
            with self._build.writable(made.image) as layer:
                owner = copy_instruction.find_owner(
                    options.owner, self._engine.data.layers.driver.mount(layer.mount_id)
                )
                options = replace(options, owner=f"{owner.uid}:{owner.gid}")
        files = self._build.files_of(instruction.flag("from") or "", self._open, self._stage)
        words = [pattern for pattern, document in zip(patterns, documents, strict=True) if document is None]
        texts = [(document.name, self._content(document)) for document in documents if document]
        try:
            sources = copy_instruction.gather(files, words, texts, options)
        except InvalidInput as error:
            raise InvalidInput(f"{instruction.keyword} failed: {error.message}", hint=error.hint) from error
        destination = _absolute(made, last)
        if len(sources) > 1 and not destination.endswith("/"):
            raise InvalidInput(
                f"When using {instruction.keyword} with more than one source file, "
                "the destination must be a directory and end with a /",
                hint=f"write {last}/",
            )
        told = (
            *made.shell,
            f"#(nop) {instruction.keyword} {_told(instruction.keyword, options)}{sources.digest} in {last} ",
        )

        def change(root: Path) -> None:
            copy_instruction.copy(sources, destination, root, options)

        return Step(told, lambda: self._changed(change, linked=options.link), sources.fingerprints)

    def _copy_options(self, instruction: Instruction) -> copy_instruction.CopyOptions:
        given = list(self._flags(instruction))
        flags = dict(given)
        return copy_instruction.CopyOptions(
            owner=flags.get("chown", ""),
            mode=flags.get("chmod", ""),
            parents=flags.get("parents") == "true",
            exclude=tuple(value for name, value in given if name == "exclude"),
            unpack=instruction.keyword == "ADD" and flags.get("unpack") != "false",
            unpack_downloads=flags.get("unpack") == "true",
            link=flags.get("link") == "true",
            checksum=flags.get("checksum", ""),
        )

    def _flags(self, instruction: Instruction) -> Iterator[tuple[str, str]]:
        expand = self._made.expander(instruction)
        for name, value in instruction.flags:
            yield name, "true" if value is None else expand(value)

    def _content(self, document: Heredoc) -> bytes:
        text = expansion.expand_heredoc(document.text, self._made.variables) if document.expand else document.text
        return text.encode(errors="surrogateescape")

    def _workdir(self, instruction: Instruction) -> Step:
        words = (*self._made.shell, f"#(nop) {configuration.INSTRUCTIONS['WORKDIR'](self._made, instruction)}")
        directory = self._made.config["WorkingDir"]
        return Step(words, lambda: self._changed(lambda root: copy_instruction.make_directory(root, directory)))

    def _changed(self, change: Callable[[Path], None], *, linked: bool = False) -> Layer | None:
        """Mount a writable layer on the stage's image, let change write to it, and keep it as a layer.

        linked  change sees an empty tree in place of the image's files (COPY --link)
        """
        layers, lease = self._engine.data.layers, self._build.lease
        with self._build.writable(self._made.image) as writable:
            # A driver that keeps whole trees has no place for a change alone.
            alone = linked and not layers.driver.keeps_trees
            change(layers.driver.diff_path(writable.mount_id) if alone else layers.driver.mount(writable.mount_id))
            return layer_content.adopt(layers, writable, lease, newest=self._engine.data.source_date_epoch)

    # ---- the others: they change the configuration ----

    def _configure(self, instruction: Instruction) -> Step:
        text = configuration.INSTRUCTIONS[instruction.keyword](self._made, instruction)
        return self._note(text)  # SHELL is told by the shell that it names

    def _volume(self, instruction: Instruction) -> Step:
        before = set(self._made.config.get("Volumes") or {})
        step = self._configure(instruction)
        paths = [path for path in self._made.config["Volumes"] if path not in before]
        return replace(step, action=lambda: self._refuse_files(paths))

    def _refuse_files(self, paths: Sequence[str]) -> None:
        """Raises InvalidInput where the image has something that is no directory in a volume's place."""
        with self._build.writable(self._made.image) as layer:
            for path in paths:
                copy_instruction.refuse_file(self._engine.data.layers.driver.mount(layer.mount_id), path)

    def _add_label(self, name: str, value: str) -> Step:
        return self._note(configuration.add_labels(self._made, {name: value}))

    def _arg(self, instruction: Instruction) -> Step:
        build, told = self._build, []
        for name, default in instruction.pairs():
            value = None if default is None else self._made.expand(default, instruction)
            if value is None:
                value = build.stages.arguments.get(name, build.platform_arguments.get(name))
            self._made.arguments[name] = build.argument(name, value)
            told.append(name if default is None else f"{name}={value}")
        return self._note(f"ARG {' '.join(told)}")

    def _maintainer(self, instruction: Instruction) -> Step:
        self._made.author = instruction.arguments[0]
        return self._note(f"MAINTAINER {self._made.author}")

    def _note(self, text: str) -> Step:
        """The step of an instruction that only changes the config."""
        return Step((*self._made.shell, "#(nop) ", text))


_HANDLERS: Mapping[str, Callable[[StageBuilder, Instruction], Step]] = {
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


def _told(keyword: str, options: copy_instruction.CopyOptions) -> str:
    """The flags that the history tells, for the digest does not: no space after --chown, as with docker."""
    chmod = f"--chmod={options.mode} " if options.mode else ""
    marks = {"--parents ": options.parents, "--link ": options.link, "--unpack ": options.unpack_downloads}
    marks["--unpack=false "] = keyword == "ADD" and not options.unpack
    told = chmod + "".join(text for text, given in marks.items() if given)
    return told + (f"--chown={options.owner}" if options.owner else "")


def _absolute(made: StageImage, path: str) -> str:
    """A destination from the root; a slash at its end stays, for it says "directory"."""
    cleaned = posixpath.normpath(posixpath.join("/", made.config.get("WorkingDir") or "/", path))
    is_directory = path.endswith(("/", "/.")) or path == "."
    return cleaned + "/" if is_directory and cleaned != "/" else cleaned
