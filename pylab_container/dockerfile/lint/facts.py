"""Input of the linter's rules: a Dockerfile, and the state before each of its instructions.

A rule about `COPY $SOURCE /` depends on the variables that are defined before the COPY. So collect() simulates a
build: it follows the instructions in their order, but tracks only variables and the use of SHELL and WORKDIR.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.dockerfile.expansion import Budget, expand, expand_heredoc
from pylab_container.dockerfile.heredocs import Heredoc
from pylab_container.dockerfile.instructions import Instruction
from pylab_container.dockerfile.parser import Dockerfile, parse_syntax
from pylab_container.dockerfile.stages import Stage, Stages, find_base
from pylab_container.errors import DockerfileError, InvalidInput

# The PATH of a container whose image sets none: BuildKit, system.DefaultPathEnvUnix.
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PREDEFINED = {
    *(f"{side}{part}" for side in ("BUILD", "TARGET") for part in ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")),
    "TARGETSTAGE",
}
# ARGs that switch BuildKit's software bill of materials (SBOM) on. A file declares them, but does not use their values.
_SBOM_SETTINGS = {"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"}

# A stage copies the variables of the stage that it is based on. A hostile file, with many stages and many variables,
# would take quadratic time and memory; its last stages are not checked.
_MAXIMUM_COPIED = 1_000_000  # variables
_CHANGING = ("ARG", "ENV", "SHELL", "WORKDIR")


class BaseImage(Struct, frozen=True):
    """Properties of an image that the rules use.

    environment  its ENV
    own_shell    it was built with SHELL
    triggers     its ONBUILD instructions
    platform     "linux/amd64"; "" if unknown
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    own_shell: bool = False
    triggers: tuple[str, ...] = ()
    platform: str = ""


class Variables(Mapping[str, str]):
    """Variables at one moment: a view of a history that all moments share (a persistent map).

    Each step of a file keeps the variables before it. Separate dictionaries would take memory for steps times
    variables. Only the latest moment may be changed.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._history = {name: ([0], [value]) for name, value in values.items()}
        self._moment = 0

    def later(self) -> Variables:
        """Return the variables at the next moment. Changes there are not visible here."""
        following = Variables({})
        following._history, following._moment = self._history, self._moment + 1
        return following

    def put(self, name: str, value: str) -> None:
        """Set a variable. self must be the latest moment of the history."""
        moments, values = self._history.setdefault(name, ([], []))
        moments.append(self._moment)
        values.append(value)

    def __getitem__(self, name: str) -> str:
        # The moments of a name are in ascending order: find the last value that is not newer than this moment.
        moments, values = self._history[name]
        position = bisect_right(moments, self._moment)
        if not position:
            raise KeyError(name)
        return values[position - 1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, (moments, _) in self._history.items() if moments[0] <= self._moment)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class StageState(Struct):
    """Effects of the instructions of a stage so far.

    environment  variables with a value, from ARG and ENV
    declared     names of ARGs, including those without a value
    own_shell    SHELL was used
    workdir      WORKDIR was used
    """

    environment: Variables
    declared: Variables
    own_shell: bool = False
    workdir: bool = False

    def copy(self) -> StageState:
        """Return the state at the next moment, in the same history."""
        return StageState(self.environment.later(), self.declared.later(), self.own_shell, self.workdir)

    def detached(self) -> StageState:
        """Return the state with a history of its own, for a stage that is based on another one.

        Several stages can continue from one state, so they must not share its history.
        """
        return StageState(
            Variables(dict(self.environment)), Variables(dict(self.declared)), self.own_shell, self.workdir
        )


class LintStep(Struct, frozen=True):
    """An instruction and the state before it. An ARG with several names is one step for each.

    image   the image at the root of the stage's chain of FROMs
    budget  characters of values for all steps together; when it is exhausted, words count as not expandable
    """

    instruction: Instruction
    stage: Stage
    image: str
    state: StageState
    budget: Budget

    def expanded(self, word: str) -> str | None:
        """Return the word with its variables expanded; None after an error."""
        return expanded(word, self.state.environment, self.instruction.escape, self.budget)


class Facts(Struct, frozen=True):
    """Input of a rule.

    lines       lines of the file
    directives  number of parser directives, which are the first lines
    origins     all FROM instructions
    arguments   variables of FROM: predefined ones and ARGs before the first FROM
    defaults    their values without --build-arg
    declared    their names, including those without a value
    steps       instructions of the stages that are built; empty if the stages are not valid
    reached     these stages
    ignored     patterns of .dockerignore; None without such a file
    images      known images by name
    platform    predefined arguments such as TARGETPLATFORM
    """

    lines: Sequence[str]
    directives: int
    instructions: tuple[Instruction, ...]
    origins: tuple[Instruction, ...]
    arguments: Mapping[str, str]
    defaults: Mapping[str, str]
    declared: frozenset[str]
    steps: tuple[LintStep, ...]
    reached: tuple[Stage, ...]
    buildargs: Mapping[str, str]
    ignored: IgnorePatterns | None
    images: Mapping[str, BaseImage]
    platform: Mapping[str, str]

    @property
    def from_on(self) -> tuple[Instruction, ...]:
        """Instructions from the first FROM on."""
        first = self.instructions.index(self.origins[0]) if self.origins else len(self.instructions)
        return self.instructions[first:]


def collect(
    dockerfile: Dockerfile,
    lines: Sequence[str],
    *,
    source: str,
    buildargs: Mapping[str, str],
    target: str | None,
    ignored: IgnorePatterns | None,
    images: Mapping[str, BaseImage],
    platform: Mapping[str, str],
) -> Facts:
    """Return the facts of a file. Arguments as for linter.lint().

    Raises InvalidInput for an unknown target.
    """
    origins = tuple(instruction for instruction in dockerfile.instructions if instruction.keyword == "FROM")
    first = dockerfile.instructions.index(origins[0]) if origins else 0
    above = [instruction for instruction in dockerfile.instructions[:first] if instruction.keyword == "ARG"]
    arguments = _arguments(above, buildargs, platform)
    stages = _stages(dockerfile, source, buildargs, platform)
    reached: tuple[Stage, ...] = ()
    if stages:
        reached = stages.stages if target is None else stages.needed(stages.target(target))
    return Facts(
        lines=lines,
        directives=len(dockerfile.directives),
        instructions=dockerfile.instructions,
        origins=origins,
        arguments=arguments,
        defaults=_arguments(above, {}, platform),
        declared=frozenset({*arguments, *_PREDEFINED, *(name for argument in above for name, _ in argument.pairs())}),
        steps=tuple(_walk(stages, reached, arguments, buildargs, images)) if stages else (),
        reached=reached,
        buildargs=buildargs,
        ignored=ignored,
        images=images,
        platform=platform,
    )


def _stages(
    dockerfile: Dockerfile, source: str, buildargs: Mapping[str, str], platform: Mapping[str, str]
) -> Stages | None:
    """Return the stages; None if they are not valid. The build reports the error, other rules still apply."""
    origins = (instruction for instruction in dockerfile.instructions if instruction.keyword == "FROM")
    if any(len(origin.arguments) not in (1, 3) for origin in origins):
        return None
    try:
        return Stages.of(dockerfile, source=source, buildargs=buildargs, platform=platform)
    except InvalidInput:
        return None


def _arguments(
    instructions: Iterable[Instruction], buildargs: Mapping[str, str], platform: Mapping[str, str]
) -> dict[str, str]:
    arguments, budget = dict(platform), Budget()
    for instruction in instructions:
        for name, default in instruction.pairs():
            value = default if default is None else expanded(default, arguments, instruction.escape, budget)
            value = buildargs.get(name, value)
            if value is not None:
                arguments[name] = value
    return arguments


def _walk(
    stages: Stages,
    reached: Sequence[Stage],
    arguments: Mapping[str, str],
    buildargs: Mapping[str, str],
    images: Mapping[str, BaseImage],
) -> Iterator[LintStep]:
    """Yield each instruction with the state before it. A stage is after the one that it is based on."""
    ended: dict[int, tuple[StageState, str]] = {}
    budget, copied = Budget(), 0
    for stage in reached:
        image = images.get(stage.base, BaseImage())
        parent = find_base(stage.base, stages.stages[: stage.index])
        state, name = (_first_state(image), stage.base) if parent is None else ended[parent]
        if parent is not None:
            state = state.detached()
            copied += len(state.environment)
        if copied > _MAXIMUM_COPIED:
            return
        triggers = image.triggers if parent is None else ()
        inherited = () if parent is None else stages.stages[parent].instructions
        for written in (*_triggers(stage, triggers, inherited), *stage.instructions):
            for instruction in _split_argument(written):
                step = LintStep(instruction, stage, name, state, budget)
                yield step
                if instruction.keyword in _CHANGING:
                    state = state.copy()
                    _apply(step, state, arguments, buildargs)
        ended[stage.index] = state, name


def _first_state(image: BaseImage) -> StageState:
    settings = Variables(dict.fromkeys(_SBOM_SETTINGS, ""))
    return StageState(Variables({"PATH": _DEFAULT_PATH, **image.environment}), settings, own_shell=image.own_shell)


def _triggers(stage: Stage, texts: Iterable[str], inherited: Iterable[Instruction]) -> Iterator[Instruction]:
    """Yield the ONBUILD instructions of the base image or stage, with the position of the FROM that runs them."""
    triggers = [trigger for text in texts for trigger in _parsed(text)]
    triggers += [instruction.trigger for instruction in inherited if instruction.trigger]
    for trigger in triggers:
        yield replace(trigger, line=stage.origin.line, end_line=stage.origin.end_line)


def _parsed(text: str) -> tuple[Instruction, ...]:
    try:
        return parse_syntax(text).instructions
    except DockerfileError:
        return ()


def _split_argument(instruction: Instruction) -> Iterator[Instruction]:
    """Yield one ARG for each name: in `ARG A=1 B=$A` the second uses the first. In ENV it would not."""
    if instruction.keyword != "ARG":
        yield instruction
        return
    for argument in instruction.arguments:
        yield replace(instruction, arguments=(argument,))


def _apply(step: LintStep, state: StageState, arguments: Mapping[str, str], buildargs: Mapping[str, str]) -> None:
    """Add the effect of an instruction to the state after it."""
    instruction = step.instruction
    if instruction.keyword == "SHELL":
        state.own_shell = True
    elif instruction.keyword == "WORKDIR":
        state.workdir = True
    elif instruction.keyword == "ENV":
        pairs = [(step.expanded(key), step.expanded(value or "")) for key, value in instruction.pairs()]
        for key, value in pairs:
            if key and value is not None:
                state.environment.put(key, value)
    elif instruction.keyword == "ARG":
        for name, default in instruction.pairs():
            state.declared.put(name, "")
            value = arguments.get(name) if default is None else step.expanded(default)
            value = buildargs.get(name, value)
            if value is not None:
                state.environment.put(name, value)


def expanded(word: str, variables: Mapping[str, str], escape: str, budget: Budget | None = None) -> str | None:
    """Return the word with its variables expanded; None after an error."""
    try:
        return expand(word, variables, escape=escape, budget=budget)
    except InvalidInput:
        return None


def used_names(word: str, escape: str) -> set[str]:
    """Return the names of the variables that a word uses."""
    names: set[str] = set()
    with contextlib.suppress(InvalidInput):  # ${V:?text} raises, since V is unset; its name is in the set by then
        expand(word, {}, escape=escape, unset=names)
    return names


def used_names_in_heredoc(heredoc: Heredoc) -> set[str]:
    """Return the variables that a here-document uses; none if its delimiter is quoted."""
    names: set[str] = set()
    with contextlib.suppress(InvalidInput):
        expand_heredoc(heredoc.content if heredoc.expand else "", {}, unset=names)
    return names
