"""The timeline of a build as SVG: one lane for each stage, one bar for each step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from pylab_container.build.report import BuildReport, StepReport
from pylab_container.notebook.display import in_one_line
from pylab_container.notebook.markup import Html, joined, markup, output

# Pixels, unless the notebook is narrower.
_WIDTH = 720
_MARGIN = 12
_TEXT = 16  # height of a line of text
_BAR = 20  # height of a bar
_MIN_BAR_WIDTH = 4
_DIGIT = 7  # width of a character

_FULL = "#2a6fb0"  # contrasts with a white and a black background, and with white text


class Bar(Struct, frozen=True):
    """The bar of a step: its left edge and its width in pixels."""

    step: StepReport
    x: float
    width: float

    @property
    def text(self) -> str:
        """The longest label that fits: "4 RUN", "4" or ""."""
        keyword = self.step.instruction.partition(" ")[0].upper()
        texts = (f"{self.step.number} {keyword}", str(self.step.number))
        return next((text for text in texts if _DIGIT * len(text) + 4 <= self.width), "")


class Timeline(Struct, frozen=True):
    """The start and the duration of each step of a build, as SVG with one lane for each stage.

    A filled bar is a step that ran. A hollow bar came from the cache or creates nothing. The text representation has no
    times, so that a saved notebook changes little.
    """

    report: BuildReport

    def __repr__(self) -> str:
        stages = len(self.report.stages)
        return f"timeline: {len(self.report.steps)} steps in {stages} stage{'s'[: stages != 1]}"

    def _repr_html_(self) -> Html:
        # In an untrusted notebook JupyterLab removes SVG elements but keeps their text: the font size hides it.
        return output(markup('<div style="font-size: 0; margin-top: 8px">{svg}</div>', svg=self._svg()))

    def _svg(self) -> Html:
        scale = _Scale(max([self.report.seconds, *(step.started + step.seconds for step in self.report.steps)]))
        lanes = [self._lane(number, stage, scale) for number, stage in enumerate(self.report.stages)]
        bottom = self._lane_height * len(lanes)
        height = bottom + 2 * _TEXT + 8
        described = f"{self!r}, {self.report.seconds:.1f} s in all. The table has the same numbers."
        return markup(
            '<svg class="build-timeline" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'role="img" aria-label="Timeline of the build" fill="currentColor" font-size="11" '
            'font-family="sans-serif" style="max-width: 100%; height: auto">'
            "<title>Timeline of the build</title><desc>{described}</desc>{scale}{lanes}{legend}</svg>",
            width=_WIDTH,
            height=height,
            described=described,
            scale=scale.drawn(bottom),
            lanes=joined(lanes),
            legend=_legend(self.report.steps, height - 5),
        )

    @property
    def _lane_height(self) -> int:
        return _BAR + 8 + (_TEXT if len(self.report.stages) > 1 else 0)

    def _lane(self, number: int, stage: str, scale: _Scale) -> Html:
        """Draw the bars of a stage, below its name if there are several stages."""
        top = number * self._lane_height + 1  # half of a bar's outline is outside the bar
        name = markup("")
        if len(self.report.stages) > 1:
            name = markup('<text x="{x}" y="{y}">{name}</text>', x=_MARGIN, y=top + 12, name=in_one_line(stage))
            top += _TEXT
        steps = [step for step in self.report.steps if step.stage == stage]
        return joined([name, *(_bar(bar, top) for bar in scale.bars(steps))])


class _Scale:
    """The conversion of seconds to pixels."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(seconds, 0.001)
        self._pixels = (_WIDTH - 2 * _MARGIN) / self.seconds

    def x(self, seconds: float) -> float:
        return _MARGIN + seconds * self._pixels

    def bars(self, steps: Sequence[StepReport]) -> list[Bar]:
        """Return the bars of one lane.

        Bars are widened and moved by some pixels so that all are visible.
        """
        narrowest = min(_MIN_BAR_WIDTH, (_WIDTH - 2 * _MARGIN) / (len(steps) or 1) - 1)
        bars: list[Bar] = []
        end = float(_MARGIN)
        for step in sorted(steps, key=lambda step: (step.started, step.number)):
            x = max(self.x(step.started), end)
            bars.append(Bar(step, x, max(self.x(step.started + step.seconds) - x - 1, narrowest)))
            end = x + bars[-1].width + 1
        return _pushed_left(bars, narrowest)

    def drawn(self, bottom: int) -> Html:
        """Draw lines at round numbers of seconds, with the numbers below."""
        unit = round_step(self.seconds)
        parts = []
        for number in range(int(self.seconds / unit) + 1):
            x = f"{self.x(number * unit):.1f}"
            parts.append(
                markup(
                    '<line x1="{x}" x2="{x}" y1="0" y2="{bottom}" stroke="currentColor" stroke-opacity="0.25"/>'
                    '<text x="{x}" y="{below}" text-anchor="{anchor}">{seconds} s</text>',
                    x=x,
                    bottom=bottom,
                    below=bottom + 12,
                    anchor=_anchor(float(x)),
                    seconds=f"{number * unit:g}",
                )
            )
        return joined(parts)


def _anchor(x: float) -> str:
    """Return the text-anchor that keeps a text at x inside the drawing."""
    room = min(x, _WIDTH - x)
    return "middle" if room > 2 * _MARGIN else "start" if x < _WIDTH / 2 else "end"


def _pushed_left(bars: Sequence[Bar], narrowest: float) -> list[Bar]:
    """Move bars to the left that widened ones have moved beyond the right edge."""
    placed: list[Bar] = []
    limit = float(_WIDTH - _MARGIN)
    for bar in reversed(bars):
        x = min(bar.x, limit - narrowest)
        placed.append(Bar(bar.step, x, min(bar.width, limit - x)))
        limit = x - 1
    return placed[::-1]


def round_step(seconds: float, most: int = 8) -> float:
    """Return the smallest interval that divides seconds at most `most` times.

    Intervals are … 0.1, 0.2, 0.5, 1, 2, 5 … seconds.
    """
    power = 10.0 ** math.floor(math.log10(seconds / most))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * most >= seconds)


_FILLED = markup('fill="{colour}" stroke="{colour}"', colour=_FULL)
_HOLLOW = markup('fill="none" stroke="currentColor"')
_DASHED = markup('fill="none" stroke="currentColor" stroke-dasharray="2 2"')
_KINDS = {
    "miss": (_FILLED, "made anew (miss)"),
    "hit": (_HOLLOW, "from the cache (hit)"),
    "": (_DASHED, "nothing to make"),
}


def _bar(bar: Bar, top: int) -> Html:
    step = bar.step
    look, meaning = _KINDS[step.cache]
    title = f"{step.number}/{step.of} {in_one_line(step.instruction)}: {step.seconds:.2f} s, {meaning}"
    text = markup("")
    if bar.text:
        text = markup(
            '<text x="{x}" y="{y}" text-anchor="middle"{colour}>{text}</text>',
            x=f"{bar.x + bar.width / 2:.1f}",
            y=top + 14,
            colour=markup(' fill="white"' if step.cache == "miss" else ""),
            text=bar.text,
        )
    return markup(
        '<g><title>{title}</title><rect x="{x}" y="{y}" width="{width}" height="{height}" rx="2" {look}'
        # The inside of a hollow bar shows the tooltip, too.
        ' pointer-events="all"/>{text}</g>',
        title=title,
        x=f"{bar.x:.1f}",
        y=top,
        width=f"{bar.width:.1f}",
        height=_BAR,
        look=look,
        text=text,
    )


def _legend(steps: Iterable[StepReport], bottom: int) -> Html:
    """Draw the meaning of the kinds of bars that occur."""
    parts, x = [], _MARGIN
    used = {step.cache for step in steps}
    for kind, (look, meaning) in _KINDS.items():
        if kind in used:
            box = '<rect x="{x}" y="{y}" width="14" height="10" rx="2" {look}/>'
            parts.append(markup(box, x=x, y=bottom - 10, look=look))
            parts.append(markup('<text x="{x}" y="{y}">{meaning}</text>', x=x + 20, y=bottom - 1, meaning=meaning))
            x += 150
    return joined(parts)
