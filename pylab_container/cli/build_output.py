"""What `build` prints: the steps while they are made, the table of --explain, the plan of --dry-run, the warnings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pylab_container.cli import tables
from pylab_container.errors import LabError
from pylab_container.formats import events, linter
from pylab_container.formats.sizes import human

if TYPE_CHECKING:
    from pylab_container.engine.builder.report import BuildPlan, BuildReport, StepReport
    from pylab_container.formats.linter import LintWarning

_INSTRUCTION_WIDTH = 40


@dataclass
class _Block:
    """What there is to print about one step.

    held       what waits for the step's turn
    container  where its command runs
    open       how many instructions are still to end: its own, and after a FROM the triggers of the image
    begun      its first line has been written
    at_start   nothing stands on the present line
    """

    held: str = ""
    container: str = ""
    open: int = 1
    begun: bool = False
    at_start: bool = True


class Presenter:
    """Prints the events of a build as docker's classic builder told it: one step after the other.

    Stages may be made at the same time. The lowest step that has not ended is shown while it goes on;
    what the steps behind it say is held back until their turn. No step waits for a later one.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        """write must not raise: it is called in the threads that build."""
        self._write = write
        self._shown = 1
        self._blocks: dict[int, _Block] = {}
        self._lock = threading.Lock()

    def __call__(self, event: events.Event) -> None:
        """Take the next event; those that are not a build's are ignored."""
        with self._lock:
            match event:
                case events.BuildStepStarted():
                    self._started(event)
                case events.BuildContainer(container_id, number):
                    self._block(number).container = container_id[:12]
                    self._say(number, f" ---> Running in {container_id[:12]}\n")
                case events.BuildOutput(text, number):
                    self._say(number, text)
                case events.BuildStep():
                    self._ended(event)
                case events.BuildWarning(text):
                    self._write(f"{text}\n")

    def close(self) -> None:
        """Print what is still held back: a step failed, and others had begun. Of those that only waited, nothing."""
        with self._lock:
            for number, block in sorted(self._blocks.items()):
                if number > self._shown and block.open and not block.container:
                    continue
                self._shown = max(self._shown, number)
                self._release(number)
                self._new_line(number)

    def _started(self, event: events.BuildStepStarted) -> None:
        block = self._block(event.number)
        if not block.begun:  # a trigger is part of its FROM
            block.begun = True
            self._say(event.number, f"Step {event.number}/{event.of} : {event.instruction}\n")

    def _ended(self, event: events.BuildStep) -> None:
        number, block = event.number, self._block(event.number)
        self._new_line(number)
        if event.cache == "hit":
            self._say(number, " ---> Using cache\n")
        if block.container:
            self._say(number, f"Removing intermediate container {block.container}\n")
            block.container = ""
        if event.triggers:
            self._say(number, f"# Executing {event.triggers} build trigger{'s'[: event.triggers != 1]}\n")
        block.open += event.triggers - 1
        if not block.open:
            self._say(number, f" ---> {tables.short_id(event.image_id)}\n")
            self._show_next()

    def _show_next(self) -> None:
        while (block := self._blocks.get(self._shown)) and not block.open:
            self._shown += 1
            self._release(self._shown)

    def _say(self, number: int, text: str) -> None:
        if not text:
            return
        block = self._block(number)
        block.at_start = text.endswith("\n")
        if number <= self._shown:
            self._write(text)
        else:
            block.held += text

    def _new_line(self, number: int) -> None:
        """End a line that the step's command left open."""
        if not self._block(number).at_start:
            self._say(number, "\n")

    def _release(self, number: int) -> None:
        if (block := self._blocks.get(number)) and block.held:
            self._write(block.held)
            block.held = ""

    def _block(self, number: int) -> _Block:
        return self._blocks.setdefault(number, _Block())


# ---- tables ------------------------------------------------------------------------------------


def explanation(report: BuildReport) -> str:
    """The table of --explain, and a line with the totals."""
    headings = ["STEP", "STAGE", "INSTRUCTION", "CACHE", "SECONDS", "ADDED", "FILES", "WHY"]
    rows = [
        (
            f"{step.number}/{step.of}",
            step.stage,
            _shortened(step.instruction),
            step.cache,
            f"{step.seconds:.2f}",
            human(step.bytes) if step.layer else "",
            _files(step),
            step.reason,
        )
        for step in report.steps
    ]
    caches = [step.cache for step in report.steps]
    added = sum(step.bytes for step in report.steps if step.cache == "miss")
    total = (
        f"{len(rows)} steps in {report.seconds:.2f} seconds: {caches.count('hit')} from the cache, "
        f"{caches.count('miss')} made anew, {human(added)} of new layers"
    )
    return f"{_table(headings, rows)}\n\n{total}"


def _files(step: StepReport) -> str:
    if step.layer is None:
        return ""
    try:
        return f"+{step.files.added} ~{step.files.changed} -{step.files.removed}"
    except LabError:
        return "gone"  # pruned meanwhile


def plan(planned: BuildPlan) -> str:
    """What --dry-run prints."""
    stages = [(stage, ", ".join(needs) or "-") for stage, needs in planned.needs.items()]
    headings = ["STEP", "STAGE", "INSTRUCTION", "CACHE", "WHY"]
    steps = [
        (f"{step.number}/{step.of}", step.stage, _shortened(step.instruction), step.cache, step.reason)
        for step in planned.steps
    ]
    left_out = [f"Left out, for {planned.target} does not need it: {stage}" for stage in planned.left_out]
    caches = [step.cache for step in planned.steps]
    total = f"Nothing was made. In the cache: {caches.count('hit')}; to be made: {caches.count('miss')}."
    return "\n".join([_table(["STAGE", "NEEDS"], stages), *left_out, "", _table(headings, steps), "", total])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(line.rstrip() for line in tables.render(headings, rows).splitlines())


def _shortened(instruction: str) -> str:
    return tables.shortened(" ".join(instruction.split()), _INSTRUCTION_WIDTH)


# ---- warnings ----------------------------------------------------------------------------------


def checked(warnings: Sequence[LintWarning]) -> str:
    """What --check prints, in the words of `docker build --check`."""
    if not warnings:
        return "Check complete, no warnings found.\n"
    many = f"{len(warnings)} warnings have" if len(warnings) > 1 else "1 warning has"
    return "\n".join([f"Check complete, {many} been found!\n", *map(linter.render, warnings)])


def warned(warnings: Sequence[LintWarning]) -> str:
    """The same in short, for the end of a build."""
    many = f"{len(warnings)} warnings" if len(warnings) > 1 else "1 warning"
    lines = [f" - {warning.rule}: {warning.message} (line {warning.line})" for warning in warnings]
    return "\n".join([f" {many} found (labctr build --check tells more):", *lines])
