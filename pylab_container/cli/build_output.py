"""The output of `build` besides its steps: the table of --explain, the plan of --dry-run, the warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pylab_container.cli import tables
from pylab_container.dockerfile.lint import linter
from pylab_container.errors import LabError
from pylab_container.text.sizes import human

if TYPE_CHECKING:
    from pylab_container.build.report import BuildPlan, BuildReport, StepReport
    from pylab_container.dockerfile.lint.linter import LintWarning

_INSTRUCTION_WIDTH = 40


# ---- tables ------------------------------------------------------------------------------------


def explanation(report: BuildReport) -> str:
    """Return the table of --explain with a line of totals."""
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
        return "gone"  # pruned concurrently


def plan(planned: BuildPlan) -> str:
    """Return the output of --dry-run."""
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
    """Return the output of --check, in the words of `docker build --check`."""
    if not warnings:
        return "Check complete, no warnings found.\n"
    many = f"{len(warnings)} warnings have" if len(warnings) > 1 else "1 warning has"
    return "\n".join([f"Check complete, {many} been found!\n", *map(linter.render, warnings)])


def warned(warnings: Sequence[LintWarning]) -> str:
    """Return a short list of the warnings for the end of a build."""
    many = f"{len(warnings)} warnings" if len(warnings) > 1 else "1 warning"
    lines = [f" - {warning.rule}: {warning.message} (line {warning.line})" for warning in warnings]
    return "\n".join([f" {many} found (labctr build --check tells more):", *lines])
