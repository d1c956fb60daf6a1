"""What the linter's rules may look at: a Dockerfile, and what each instruction meets.

A rule about `COPY $SOURCE /` has to know which variables there are when the COPY's turn
comes. So the instructions are gone through as a build would, but nothing is done: only
variables, and whether SHELL and WORKDIR were used, are kept track of.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.dockerfile.expansion import Budget, expand, expand_heredoc
from pylab_container.dockerfile.instructions import Heredoc, Instruction
from pylab_container.dockerfile.parser import Dockerfile, parse_syntax
from pylab_container.dockerfile.stages import Stage, Stages, find_base
from pylab_container.errors import DockerfileError, InvalidInput

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PREDEFINED = {
    *(f"{side}{part}" for side in ("BUILD", "TARGET") for part in ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")),
    "TARGETSTAGE",
}
# They are settings for BuildKit's inventory of software, never variables of the file.
_SETTINGS = {"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"}

_MOST_COPIED = 1_000_000
"""Variables that stages take over from others; the rules look at no stage beyond that."""
_CHANGING = ("ARG", "ENV", "SHELL", "WORKDIR")


class BaseImage(Struct, frozen=True):
    """What rules want to know about an image that a FROM names.

    environment  its ENV
    own_shell    whether it chose a shell with SHELL
    triggers     its ONBUILD instructions
    platform     as "linux/amd64"; "" where that is not known
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    own_shell: bool = False
    triggers: tuple[str, ...] = ()
    platform: str = ""


class Variables(Mapping[str, str]):
    """Variables as they are at one moment of a history, to which only the latest moment may add.

    Each step of a file remembers what it met. A table for each would have a size of steps times variables.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._history = {name: ([0], [value]) for name, value in values.items()}
        self._moment = 0

    def later(self) -> Variables:
        """The same variables at the next moment: what is put there is not seen here."""
        following = Variables({})
        following._history, following._moment = self._history, self._moment + 1
        return following

    def put(self, name: str, value: str) -> None:
        """Set a variable, at the latest moment of the history."""
        moments, values = self._history.setdefault(name, ([], []))
        moments.append(self._moment)
        values.append(value)

    def __getitem__(self, name: str) -> str:
        moments, values = self._history[name]
        position = bisect_right(moments, self._moment)
        if not position:
            raise KeyError(name)
        return values[position - 1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, (moments, _) in self._history.items() if moments[0] <= self._moment)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class State(Struct):
    """What the instructions of a stage have brought about so far.

    environment  the variables with a value, of ARG and ENV
    declared     the names of ARGs, also of those without a value
    own_shell    SHELL was used
    workdir      WORKDIR was used
    """

    environment: Variables
    declared: Variables
    own_shell: bool = False
    workdir: bool = False

    def copy(self) -> State:
        """One that can change alone."""
        return State(self.environment.later(), self.declared.later(), self.own_shell, self.workdir)

    def alone(self) -> State:
        """One with a history of its own, for a stage that begins where another has ended."""
        return State(Variables(dict(self.environment)), Variables(dict(self.declared)), self.own_shell, self.workdir)


class Step(Struct, frozen=True):
    """An instruction and the state that it meets. An ARG with several names is as many steps.

    image   the image that the stage begins with, at the end of all FROMs
    budget  of values, for all steps together: beyond it rules take words for ones that cannot be expanded
    """

    instruction: Instruction
    stage: Stage
    image: str
    state: State
    budget: Budget

    def expanded(self, word: str) -> str | None:
        """The word with its variables replaced; None where that fails."""
        return expanded(word, self.state.environment, self.instruction.escape, self.budget)


class Facts(Struct, frozen=True):
    """All that a rule may look at.

    lines       of the file
    directives  how many of them are directives, at the top
    origins     every FROM
    arguments   the variables that FROM knows: predefined ones and ARGs above the first FROM
    defaults    their values without any --build-arg
    declared    their names, also of those without a value
    steps       the instructions of the stages that are built; none where the stages make no sense
    reached     these stages
    ignored     the patterns of .dockerignore; None where there is no such file
    """

    lines: Sequence[str]
    directives: int
    instructions: tuple[Instruction, ...]
    origins: tuple[Instruction, ...]
    arguments: Mapping[str, str]
    defaults: Mapping[str, str]
    declared: frozenset[str]
    steps: tuple[Step, ...]
    reached: tuple[Stage, ...]
    buildargs: Mapping[str, str]
    ignored: IgnorePatterns | None
    images: Mapping[str, BaseImage]
    platform: Mapping[str, str]

    @property
    def from_on(self) -> tuple[Instruction, ...]:
        """The instructions from the first FROM on."""
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
    """The facts of a file; see linter.lint() for the arguments. Raises InvalidInput for an unknown target."""
    origins = tuple(each for each in dockerfile.instructions if each.keyword == "FROM")
    first = dockerfile.instructions.index(origins[0]) if origins else 0
    above = [each for each in dockerfile.instructions[:first] if each.keyword == "ARG"]
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
        declared=frozenset({*arguments, *_PREDEFINED, *(name for each in above for name, _ in each.pairs())}),
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
    """None where the build will say what is wrong with the stages; the rules go on without."""
    if any(len(each.arguments) not in (1, 3) for each in dockerfile.instructions if each.keyword == "FROM"):
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
) -> Iterator[Step]:
    """Each instruction with what is known when its turn comes. A stage comes after the one that it begins with."""
    ended: dict[int, tuple[State, str]] = {}
    budget, copied = Budget(), 0
    for stage in reached:
        image = images.get(stage.base, BaseImage())
        parent = find_base(stage.base, stages.stages[: stage.index])
        state, name = (_first_state(image), stage.base) if parent is None else ended[parent]
        if parent is not None:
            state = state.alone()
            copied += len(state.environment)
        if copied > _MOST_COPIED:
            return
        triggers = image.triggers if parent is None else ()
        inherited = () if parent is None else stages.stages[parent].instructions
        for trigger_or_own in (*_triggers(stage, triggers, inherited), *stage.instructions):
            for instruction in _one_argument_each(trigger_or_own):
                step = Step(instruction, stage, name, state, budget)
                yield step
                if instruction.keyword in _CHANGING:
                    state = state.copy()
                    _apply(step, state, arguments, buildargs)
        ended[stage.index] = state, name


def _first_state(image: BaseImage) -> State:
    settings = Variables(dict.fromkeys(_SETTINGS, ""))
    return State(Variables({"PATH": _DEFAULT_PATH, **image.environment}), settings, own_shell=image.own_shell)


def _triggers(stage: Stage, texts: Iterable[str], inherited: Iterable[Instruction]) -> Iterator[Instruction]:
    """The ONBUILD instructions of what the stage begins with. They run at its FROM, so that is their place."""
    found = [trigger for text in texts for trigger in _parsed(text)]
    found += [instruction.trigger for instruction in inherited if instruction.trigger]
    for trigger in found:
        yield replace(trigger, line=stage.origin.line, end_line=stage.origin.end_line)


def _parsed(text: str) -> tuple[Instruction, ...]:
    try:
        return parse_syntax(text).instructions
    except DockerfileError:
        return ()


def _one_argument_each(instruction: Instruction) -> Iterator[Instruction]:
    """In `ARG A=1 B=$A` the second sees the first; in ENV it does not."""
    if instruction.keyword != "ARG":
        yield instruction
        return
    for argument in instruction.arguments:
        yield replace(instruction, arguments=(argument,))


def _apply(step: Step, state: State, arguments: Mapping[str, str], buildargs: Mapping[str, str]) -> None:
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
    """The word with its variables replaced; None where that fails."""
    try:
        return expand(word, variables, escape=escape, budget=budget)
    except InvalidInput:
        return None


def used_names(word: str, escape: str) -> set[str]:
    """The variables that a word uses."""
    names: set[str] = set()
    with contextlib.suppress(InvalidInput):  # ${V:?text} fails for want of a V, but has named it by then
        expand(word, {}, escape=escape, unset=names)
    return names


def used_names_in_heredoc(heredoc: Heredoc) -> set[str]:
    """The variables that a here-document uses; none where its delimiter was quoted."""
    names: set[str] = set()
    with contextlib.suppress(InvalidInput):
        expand_heredoc(heredoc.content if heredoc.expand else "", {}, unset=names)
    return names
