"""The stages of a Dockerfile, what each one needs, and so which ones a target needs.

    ARG BASE=debian:12
    FROM $BASE AS compile         stage 0, needs an image
    RUN make
    FROM scratch AS test          stage 1: nobody asks for it, nobody makes it
    FROM scratch                  stage 2, the last one and so the target; needs stage 0:
    COPY --from=compile /a.out /

A stage is needed where the target's FROM, COPY --from or RUN --mount=from names it, or where
a needed stage's does. Stages that do not need each other can be made at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from pylab_container.dockerfile import expansion
from pylab_container.dockerfile.instructions import Instruction, fault, nearest
from pylab_container.dockerfile.parser import Dockerfile
from pylab_container.dockerfile.runmount import stage_of
from pylab_container.errors import InvalidInput, StepRefused

MOST_STAGES = 1000
"""Each stage is compared with those above it, and stages that a build needs have a thread each."""
_NO_STAGE = "no build stage in current context"


class Stage(Struct, frozen=True):
    """One FROM and what follows up to the next.

    name      what AS calls it, in small letters; "" without
    base      the name after FROM with its variables replaced
    platform  of --platform, "" without
    needs     the indexes of the stages that this one cannot be made without
    """

    index: int
    name: str
    origin: Instruction
    base: str
    platform: str
    instructions: tuple[Instruction, ...]
    needs: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """What people call it: its name, else "stage-2"."""
        return self.name or f"stage-{self.index}"


class Stages(Struct, frozen=True):
    """All stages of a file.

    before     the ARGs before the first FROM
    arguments  what they are worth to FROM, and to an ARG of a stage that names them
    """

    stages: tuple[Stage, ...]
    before: tuple[Instruction, ...]
    arguments: Mapping[str, str | None]
    source: str

    @classmethod
    def of(
        cls,
        dockerfile: Dockerfile,
        *,
        source: str,
        buildargs: Mapping[str, str],
        platform: Mapping[str, str],
    ) -> Stages:
        """The stages of a parsed file.

        source     the file's name, for errors
        buildargs  values that the user gives for ARGs
        platform   the arguments that FROM knows without ARG: TARGETARCH and the like

        Raises DockerfileError for an instruction outside of a stage and a FROM without a name.
        """
        first = next((i for i, each in enumerate(dockerfile.instructions) if each.keyword == "FROM"), None)
        before = dockerfile.instructions[:first]
        for instruction in before:
            if instruction.keyword != "ARG":
                hint = "a Dockerfile begins with FROM image; only ARG may stand before it"
                raise fault(instruction, _NO_STAGE, source=source, hint=hint, kind=StepRefused)
        if first is None:
            hint = "a Dockerfile needs a FROM image"
            raise fault(dockerfile.instructions[-1], _NO_STAGE, source=source, hint=hint, kind=StepRefused)
        arguments = _arguments(before, buildargs, platform)
        known = {**platform, **{name: value for name, value in arguments.items() if value is not None}}
        made: list[Stage] = []
        for origin, instructions in _split(dockerfile.instructions[first:]):
            if len(made) == MOST_STAGES:
                hint = "split the Dockerfile"
                raise fault(origin, f"more than {MOST_STAGES} stages", source=source, hint=hint, kind=StepRefused)
            made.append(_stage(origin, instructions, made, known, source))
        return cls(tuple(made), tuple(before), arguments, source)

    def target(self, name: str | None) -> Stage:
        """The stage of this name or number; the last one for None. Raises InvalidInput."""
        if not name:
            return self.stages[-1]
        index = find_stage(name, self.stages)
        if index is None:
            names = [stage.name for stage in self.stages if stage.name]
            hint = nearest(name, names, otherwise=f"the stages are {', '.join(names)}")
            if not names:
                hint = f"no stage has a name (FROM … AS name); their numbers go from 0 to {len(self.stages) - 1}"
            raise InvalidInput(f"failed to reach build target {name} in {self.source}", hint=hint)
        return self.stages[index]

    def needed(self, target: Stage, *, every: bool = False) -> tuple[Stage, ...]:
        """The target and all stages that it needs, in the file's order; every: all before it, needed or not."""
        if every:
            return self.stages[: target.index + 1]
        wanted = {target.index}
        for stage in reversed(self.stages[: target.index + 1]):
            if stage.index in wanted:
                wanted.update(stage.needs)
        return tuple(stage for stage in self.stages if stage.index in wanted)


def find_stage(name: str, earlier: Sequence[Stage]) -> int | None:
    """The index of the stage that COPY --from or --target names: by its name, else by its number."""
    for stage in reversed(earlier):
        if stage.name and stage.name == name.lower():
            return stage.index
    if name.isascii() and name.isdigit() and int(name) < len(earlier):
        return int(name)
    return None


def _arguments(
    instructions: Sequence[Instruction], buildargs: Mapping[str, str], platform: Mapping[str, str]
) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    known, budget = dict(platform), expansion.Budget()
    for instruction in instructions:
        for name, default in instruction.pairs():
            value = platform.get(name)
            if default is not None:
                value = expansion.expand(default, known, escape=instruction.escape, budget=budget)
            found[name] = value = buildargs.get(name, value)
            known.pop(name, None)
            if value is not None:
                known[name] = value
    return found


def _split(instructions: Sequence[Instruction]) -> Iterator[tuple[Instruction, list[Instruction]]]:
    origin, collected = instructions[0], list[Instruction]()
    for instruction in instructions[1:]:
        if instruction.keyword == "FROM":
            yield origin, collected
            origin, collected = instruction, []
        else:
            collected.append(instruction)
    yield origin, collected


def _stage(
    origin: Instruction,
    instructions: Sequence[Instruction],
    earlier: Sequence[Stage],
    known: Mapping[str, str],
    source: str,
) -> Stage:
    written, *alias = origin.arguments
    base = expansion.expand(written, known, escape=origin.escape)
    if not base:
        raise fault(
            origin,
            f"base name ({written}) should not be blank",
            source=source,
            hint="the ARG in it has no value: give it a default before FROM, or --build-arg",
            at=written,
        )
    needs = [find_base(base, earlier)]
    needs += [find_stage(name, earlier) for instruction in instructions for name in _sources(instruction)]
    return Stage(
        index=len(earlier),
        name=alias[1].lower() if alias else "",
        origin=origin,
        base=base,
        platform=expansion.expand(origin.flag("platform") or "", known, escape=origin.escape),
        instructions=tuple(instructions),
        needs=tuple(sorted({index for index in needs if index is not None})),
    )


def find_base(base: str, earlier: Sequence[Stage]) -> int | None:
    """The index of the stage that FROM names: by its name alone, a number is an image."""
    return next((stage.index for stage in reversed(earlier) if stage.name and stage.name == base.lower()), None)


def _sources(instruction: Instruction) -> Iterator[str]:
    """What an instruction takes files from: the names of stages or images."""
    if instruction.keyword == "COPY" and (name := instruction.flag("from")):
        yield name
    if instruction.keyword == "RUN":
        for key, value in instruction.flags:
            if key == "mount" and value and (stage := stage_of(value)):
                yield stage
