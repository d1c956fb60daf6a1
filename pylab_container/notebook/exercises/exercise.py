"""An exercise: criteria that a check observes, and the result to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from pylab_container.engine import Engine
from pylab_container.notebook.display import framed
from pylab_container.notebook.exercises.answers import Misunderstood
from pylab_container.notebook.markup import Html
from pylab_container.notebook.sandbox import Sandbox
from pylab_container.text.visible import visible_lines


class Observed(Struct, frozen=True):
    """What a check observed about one criterion.

    met     whether the criterion is met
    detail  the observation, "http://172.17.0.5/ answers 200"; for an unmet criterion it shows what is wrong
    """

    met: bool
    detail: str = ""


Check = Callable[[Sandbox, Any], Iterator[Observed]]
"""Observes an answer: yields one Observed for each criterion, in order.

It may end early, when a criterion that is not met makes the others impossible. Raises Misunderstood for an answer of
another type than it can understand."""


class Exercise(Struct, frozen=True):
    """One exercise.

    key       "04.2": the lab and the exercise; "04.r" is its repair
    criteria  what has to be true, in the order in which the check observes it
    hints     three, each more exact than the one before
    prepare   makes what a repair begins with; takes the engine, the lab's directory and the base image's name
    """

    key: str
    criteria: tuple[str, ...]
    check: Check
    hints: tuple[str, str, str]
    prepare: Callable[[Engine, Path, str], None] | None = None

    def judge(self, sandbox: Sandbox, answer: object) -> Result:
        """Observe an answer. None stands for a missing answer, unless the exercise is a repair, which has none."""
        if answer is None and self.prepare is None:
            return Result(self.key, (), tried=False)
        observed: list[Observed] = []
        try:
            with sandbox:
                observed.extend(self.check(sandbox, answer))
        except Misunderstood as error:
            return Result(self.key, (), misunderstood=str(error), of=len(self.criteria))
        unseen = Observed(met=False, detail="not observed, because of the one above")
        padded = [*observed, *[unseen] * (len(self.criteria) - len(observed))]
        lines = tuple((name, one.met, one.detail) for name, one in zip(self.criteria, padded, strict=True))
        return Result(self.key, lines, of=len(self.criteria))


class Result(Struct, frozen=True):
    """The result of a check, to show.

    criteria       (name, met, observation) of each criterion
    of             their number
    tried          False: there was no answer yet
    misunderstood  what was given instead of an answer, "" if it was understood
    """

    key: str
    criteria: tuple[tuple[str, bool, str], ...]
    of: int = 0
    tried: bool = True
    misunderstood: str = ""

    @property
    def met(self) -> int:
        """The number of criteria that are met."""
        return sum(met for _, met, _ in self.criteria)

    @property
    def solved(self) -> bool:
        return self.tried and not self.misunderstood and self.met == self.of

    def __repr__(self) -> str:
        head = f"exercise {self.key}   "
        if not self.tried:
            return f"○ {head}not tried yet"
        if self.misunderstood:
            return f"✘ {head}{visible_lines(self.misunderstood)}"
        lines = [f"{'✔' if self.solved else '✘'} {head}{self.met} of {self.of}"]
        for name, met, detail in self.criteria:
            lines.append(f"  {'✔' if met else '✘'} {name}" + (f"   ({visible_lines(detail)})" if detail else ""))
        if not self.solved:
            lines.append(f'  A hint: lab.hint("{self.key}")')
        return "\n".join(lines)

    def _repr_html_(self) -> Html:
        return framed(repr(self), "ok" if self.solved else "no" if self.tried else "open")
