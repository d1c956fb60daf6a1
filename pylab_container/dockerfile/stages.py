"""The stages of a Dockerfile and their dependencies.

    ARG BASE=debian:12
    FROM $BASE AS compile         stage 0, depends on an image
    RUN make
    FROM scratch AS test          stage 1: the target does not depend on it, so it is not built
    FROM scratch                  stage 2: the last one, and so the default target; depends on stage 0
    COPY --from=compile /a.out /

A stage depends on the stages in its FROM, COPY --from and RUN --mount=from. A stage can name earlier stages only, so
dependencies have no cycle, and the file's order is a topological order. Stages that do not depend on each other can
be built concurrently. Source: Dockerfile reference, "FROM"; Docker documentation, "Multi-stage builds".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from pylab_container.dockerfile import expansion
from pylab_container.dockerfile.instructions import Instruction, fault, nearest
from pylab_container.dockerfile.parser import Dockerfile
from pylab_container.dockerfile.runmount import stage_of
from pylab_container.errors import InvalidInput, StepRefused

# Resolving names takes quadratic time, since each stage is compared with the earlier ones. A build also starts a thread
# for each stage.
MOST_STAGES = 1000
"""Maximum number of stages of a file."""
_NO_STAGE = "no build stage in current context"  # BuildKit's message: instructions/parse.go


class Stage(Struct, frozen=True):
    """A FROM and the instructions up to the next one.

    name      the name after AS, in lower case; "" without
    origin    the FROM
    base      the name after FROM, with its variables expanded
    platform  value of --platform; "" without
    needs     indexes of the stages that this one depends on, in ascending order
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
        """Name for messages: the stage's name, or "stage-2"."""
        return self.name or f"stage-{self.index}"


class Stages(Struct, frozen=True):
    """All stages of a file.

    before     the ARGs before the first FROM
    arguments  their values by name, for FROM and for an ARG without default in a stage; None for an ARG without a value
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
        """Return the stages of a parsed file.

        source     name of the file, for errors
        buildargs  values of --build-arg
        platform   predefined arguments, which FROM can use without ARG: TARGETARCH, …

        Raises DockerfileError for an instruction outside a stage and for a FROM without a name.
        """
        before, after = _split_at_first_from(dockerfile.instructions, source)
        arguments = _arguments(before, buildargs, platform)
        # An ARG without a value is unset and not empty, so that FROM ${BASE-debian:12} gets its default.
        known = {**platform, **{name: value for name, value in arguments.items() if value is not None}}
        stages: list[Stage] = []
        for origin, instructions in _split(after):
            if len(stages) == MOST_STAGES:
                hint = "split the Dockerfile"
                raise fault(origin, f"more than {MOST_STAGES} stages", source=source, hint=hint, kind=StepRefused)
            stages.append(_stage(origin, instructions, stages, known, source))
        return cls(tuple(stages), before, arguments, source)

    def target(self, name: str | None) -> Stage:
        """Return the stage with a name or number; the last one for None or "". Raises InvalidInput."""
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
        """Return the target and all stages that it depends on, in the file's order.

        every  return all stages up to the target; Docker's classic builder builds all of them
        """
        if every:
            return self.stages[: target.index + 1]
        needed = {target.index}
        # Dependencies have lower indexes, so one pass from the target upwards finds all of them.
        for stage in reversed(self.stages[: target.index + 1]):
            if stage.index in needed:
                needed.update(stage.needs)
        return tuple(stage for stage in self.stages if stage.index in needed)


def find_stage(name: str, earlier: Sequence[Stage]) -> int | None:
    """Return the index of a stage for COPY --from or --target: by name, else by number.

    None if there is no match.
    """
    # Of several stages with one name the last counts.
    for stage in reversed(earlier):
        if stage.name and stage.name == name.lower():
            return stage.index
    # str.isdigit() is also true for digits of other scripts, and for superscripts, which int() rejects.
    if name.isascii() and name.isdigit() and int(name) < len(earlier):
        return int(name)
    return None


def _split_at_first_from(
    instructions: Sequence[Instruction], source: str
) -> tuple[tuple[Instruction, ...], tuple[Instruction, ...]]:
    """Return (the ARGs before the first FROM, the instructions from it on). Raises DockerfileError."""
    first = next((index for index, instruction in enumerate(instructions) if instruction.keyword == "FROM"), None)
    before = tuple(instructions[:first])
    for instruction in before:
        if instruction.keyword != "ARG":
            hint = "a Dockerfile begins with FROM image; only ARG may stand before it"
            raise fault(instruction, _NO_STAGE, source=source, hint=hint, kind=StepRefused)
    if first is None:
        hint = "a Dockerfile needs a FROM image"
        raise fault(instructions[-1], _NO_STAGE, source=source, hint=hint, kind=StepRefused)
    return before, tuple(instructions[first:])


def _arguments(
    instructions: Sequence[Instruction], buildargs: Mapping[str, str], platform: Mapping[str, str]
) -> dict[str, str | None]:
    """Return the values of the ARGs before the first FROM."""
    values: dict[str, str | None] = {}
    known, budget = dict(platform), expansion.Budget()
    for instruction in instructions:
        for name, default in instruction.pairs():
            value = platform.get(name)
            if default is not None:
                value = expansion.expand(default, known, escape=instruction.escape, budget=budget)
            values[name] = value = buildargs.get(name, value)
            # An ARG without a value hides a predefined argument of the same name.
            known.pop(name, None)
            if value is not None:
                known[name] = value
    return values


def _split(instructions: Sequence[Instruction]) -> Iterator[tuple[Instruction, list[Instruction]]]:
    """Yield each FROM with the instructions of its stage. The first instruction is a FROM."""
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
    # FROM sees only the ARGs before the first FROM and the predefined ones. It ends the scope of all others, because an
    # image is chosen before anything in a stage has happened (Dockerfile reference, "How ARG and FROM interact").
    written, *alias = origin.arguments
    base = expansion.expand(written, known, escape=origin.escape)
    if not base:
        raise fault(
            origin,
            f"base name ({written}) should not be blank",
            source=source,
            hint="its ARG has no value: give it a default before the first FROM, or use --build-arg",
            at=written,
        )
    # A name that is not an earlier stage is an image, even if a later stage has it: BuildKit resolves names in order.
    # So dependencies always have lower indexes.
    needs = [find_base(base, earlier)]
    needs += [find_stage(name, earlier) for instruction in instructions for name in _sources(instruction)]
    return Stage(
        index=len(earlier),
        name=alias[1].lower() if alias else "",  # names are case-insensitive, as in BuildKit
        origin=origin,
        base=base,
        platform=expansion.expand(origin.flag("platform") or "", known, escape=origin.escape),
        instructions=tuple(instructions),
        needs=tuple(sorted({index for index in needs if index is not None})),
    )


def find_base(base: str, earlier: Sequence[Stage]) -> int | None:
    """Return the index of the stage that FROM names; None if it names an image."""
    # Unlike in COPY --from, a number is not an index here: FROM 1 pulls docker.io/library/1.
    return next((stage.index for stage in reversed(earlier) if stage.name and stage.name == base.lower()), None)


def _sources(instruction: Instruction) -> Iterator[str]:
    """Yield the names of stages or images that an instruction takes files from."""
    # ADD has no --from: its sources are the context and URLs. A RUN can have several mounts.
    if instruction.keyword == "COPY" and (name := instruction.flag("from")):
        yield name
    if instruction.keyword == "RUN":
        for key, value in instruction.flags:
            if key == "mount" and value and (stage := stage_of(value)):
                yield stage
