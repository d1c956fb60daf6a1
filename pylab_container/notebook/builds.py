"""Displays of a build in a notebook: a table of its steps, a timeline, and the warnings about its Dockerfile.

nbval compares tables after tests/nbval_sanitize.cfg has removed times and sizes. A timeline consists of times, so a
rule there ignores the whole drawing, which is one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from pylab_container.build.report import BuildPlan, BuildReport, FileCounts, PlannedStep, StepReport
from pylab_container.dockerfile.lint.linter import LintWarning
from pylab_container.errors import LabError
from pylab_container.notebook.display import Table, in_one_line
from pylab_container.notebook.markup import Html, joined, markup, output
from pylab_container.notebook.timeline import Timeline
from pylab_container.text import sizes
from pylab_container.text.visible import visible


def install(shell: Any) -> None:
    """Register the displays of build reports and plans in an IPython shell."""
    as_text = shell.display_formatter.formatters["text/plain"]
    as_html = shell.display_formatter.formatters["text/html"]
    for kind, view in ((BuildReport, report_view), (BuildPlan, plan_view)):
        as_text.for_type(kind, lambda shown, printer, _, view=view: printer.text(repr(view(shown))))
        as_html.for_type(kind, lambda shown, view=view: view(shown)._repr_html_())


class View(Struct, frozen=True):
    """The display of a build, from top to bottom."""

    table: Table
    timeline: Timeline | None
    notes: tuple[str, ...]
    warnings: Sequence[LintWarning]

    def __repr__(self) -> str:
        return "\n".join([repr(self.table), *map(visible, (*self.notes, *map(_warning_text, self.warnings)))])

    def _repr_html_(self) -> Html:
        parts = [self.table._repr_html_(), *([self.timeline._repr_html_()] if self.timeline else [])]
        parts += [markup("<p>{note}</p>", note=note) for note in self.notes]
        if self.warnings:
            parts.append(markup("<ul>{items}</ul>", items=joined(map(_warning_html, self.warnings))))
        return output(joined(parts))


def report_view(report: BuildReport) -> View:
    """Return the display of a finished build."""
    return View(build_table(report), Timeline(report) if report.steps else None, (), report.warnings)


def plan_view(plan: BuildPlan) -> View:
    """Return the display of a planned build, with the stages that the target does not need."""
    notes = (f"not needed for {plan.target}: {', '.join(plan.left_out)}",) if plan.left_out else ()
    return View(plan_table(plan), None, notes, plan.warnings)


# -- tables ------------------------------------------------------------------------------------


def build_table(report: BuildReport) -> Table:
    """Return a table of a build's instructions: cache result, reason, duration and changes.

    FILES counts the files that the instruction added (+), changed (~) and removed (-).
    """
    rows = [
        (*_words(step), f"{step.seconds:.1f} s", sizes.human(step.bytes) if step.layer else "", _files_text(step))
        for step in report.steps
    ]
    return _without_constant_columns(Table((*_HEADINGS, "TIME", "SIZE", "FILES"), tuple(rows)))


def plan_table(plan: BuildPlan) -> Table:
    """Return a table of a planned build: for each instruction the cache result with its reason."""
    return _without_constant_columns(Table(_HEADINGS, tuple(map(_words, plan.steps))))


_HEADINGS = ("STEP", "STAGE", "INSTRUCTION", "CACHE", "WHY")


def _words(step: StepReport | PlannedStep) -> tuple[str, ...]:
    return (f"{step.number}/{step.of}", step.stage, in_one_line(step.instruction), step.cache, step.reason)


def _without_constant_columns(table: Table) -> Table:
    """Remove the columns STAGE and WHY if they have the same value in every row."""
    kept = [
        column
        for column, heading in enumerate(table.headings)
        if heading not in ("STAGE", "WHY") or len({row[column] for row in table.rows}) > 1
    ]
    first, *rows = (tuple(line[column] for column in kept) for line in (table.headings, *table.rows))
    return Table(first, tuple(rows))


def _files_text(step: StepReport) -> str:
    if step.layer is None:
        return ""
    counts = _files(step)
    return f"+{counts.added} ~{counts.changed} -{counts.removed}" if counts else "gone"


def _files(step: StepReport) -> FileCounts | None:
    """Return None if the layer has been deleted: a report can be older than the last prune."""
    try:
        return step.files
    except (LabError, OSError):
        return None


# -- warnings ----------------------------------------------------------------------------------


def _warning_text(warning: LintWarning) -> str:
    return f"⚠ {_sentence(warning)} See {warning.lab}"


def _warning_html(warning: LintWarning) -> Html:
    return markup(
        '<li>⚠ {sentence} See <a href="{link}">{heading}</a></li>',
        sentence=_sentence(warning),
        # The link is relative to the notebook, which is in labs/ itself.
        link=warning.lab.removeprefix("labs/"),
        heading=warning.lab.partition("#")[2].replace("-", " "),
    )


def _sentence(warning: LintWarning) -> str:
    hint = f"; {warning.hint}" if warning.hint else ""
    return f"{warning.source}:{warning.line}: {warning.message}{hint} ({warning.rule})."
