"""When each step of a build began and how long it took, drawn as SVG: a lane a stage, a bar a step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from pylab_container.build.report import BuildReport, StepReport
from pylab_container.notebook.display import in_one_line
from pylab_container.notebook.markup import Html, joined, markup

# In pixels, as long as the notebook is wide enough.
_WIDTH = 720
_MARGIN = 12
_TEXT = 16
_BAR = 20
_NARROWEST = 4
_DIGIT = 7

_FULL = "#2a6fb0"  # tells from a white and from a black background, and white text from it


class Bar(Struct, frozen=True):
    """A step in the drawing: where it begins and how wide it is, in pixels."""

    step: StepReport
    x: float
    width: float

    @property
    def text(self) -> str:
        """As much of "4 RUN" as there is room for."""
        keyword = self.step.instruction.partition(" ")[0].upper()
        texts = (f"{self.step.number} {keyword}", str(self.step.number))
        return next((text for text in texts if _DIGIT * len(text) + 4 <= self.width), "")


class Timeline(Struct, frozen=True):
    """When each step of a build began and how long it took: a lane a stage, as SVG.

    A full bar was made anew, a hollow one came from the cache or makes nothing. Its text tells no times,
    so that a saved notebook changes little.
    """

    report: BuildReport

    def __repr__(self) -> str:
        stages = len(self.report.stages)
        return f"timeline: {len(self.report.steps)} steps in {stages} stage{'s'[: stages != 1]}"

    def _repr_html_(self) -> Html:
        # JupyterLab takes SVG, but not its words, out of a notebook that nobody has run yet: they get no size.
        return markup('<div style="font-size: 0; margin-top: 8px">{svg}</div>', svg=self._svg())

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
        """The bars of a stage below its name; a stage alone needs none."""
        top = number * self._lane_height + 1  # half of a bar's outline is outside it
        name = markup("")
        if len(self.report.stages) > 1:
            name = markup('<text x="{x}" y="{y}">{name}</text>', x=_MARGIN, y=top + 12, name=in_one_line(stage))
            top += _TEXT
        steps = [step for step in self.report.steps if step.stage == stage]
        return joined([name, *(_bar(bar, top) for bar in scale.bars(steps))])


class _Scale:
    """From seconds to pixels."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(seconds, 0.001)
        self._pixels = (_WIDTH - 2 * _MARGIN) / self.seconds

    def x(self, seconds: float) -> float:
        return _MARGIN + seconds * self._pixels

    def bars(self, steps: Sequence[StepReport]) -> list[Bar]:
        """The bars of one lane. Each can be seen and none hides another, if need be some pixels from its place."""
        narrowest = min(_NARROWEST, (_WIDTH - 2 * _MARGIN) / (len(steps) or 1) - 1)
        bars: list[Bar] = []
        end = float(_MARGIN)
        for step in sorted(steps, key=lambda step: (step.started, step.number)):
            x = max(self.x(step.started), end)
            bars.append(Bar(step, x, max(self.x(step.started + step.seconds) - x - 1, narrowest)))
            end = x + bars[-1].width + 1
        return _pushed_left(bars, narrowest)

    def drawn(self, bottom: int) -> Html:
        """Lines at round seconds, with their numbers below."""
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
    """Where a text must begin so that it does not stick out."""
    room = min(x, _WIDTH - x)
    return "middle" if room > 2 * _MARGIN else "start" if x < _WIDTH / 2 else "end"


def _pushed_left(bars: Sequence[Bar], narrowest: float) -> list[Bar]:
    """The bars, with those that narrow ones pushed over the right edge pushed back."""
    placed: list[Bar] = []
    limit = float(_WIDTH - _MARGIN)
    for bar in reversed(bars):
        x = min(bar.x, limit - narrowest)
        placed.append(Bar(bar.step, x, min(bar.width, limit - x)))
        limit = x - 1
    return placed[::-1]


def round_step(seconds: float, most: int = 8) -> float:
    """The smallest of … 0.1, 0.2, 0.5, 1, 2, 5 … seconds that fits at most `most` times."""
    power = 10.0 ** math.floor(math.log10(seconds / most))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * most >= seconds)


_MADE = markup('fill="{colour}" stroke="{colour}"', colour=_FULL)
_FOUND = markup('fill="none" stroke="currentColor"')
_NOTHING = markup('fill="none" stroke="currentColor" stroke-dasharray="2 2"')
_KINDS = {
    "miss": (_MADE, "made anew (miss)"),
    "hit": (_FOUND, "from the cache (hit)"),
    "": (_NOTHING, "nothing to make"),
}


def _bar(bar: Bar, top: int) -> Html:
    step = bar.step
    look, meaning = _KINDS[step.cache]
    told = f"{step.number}/{step.of} {in_one_line(step.instruction)}: {step.seconds:.2f} s, {meaning}"
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
        '<g><title>{told}</title><rect x="{x}" y="{y}" width="{width}" height="{height}" rx="2" {look}'
        # Also the inside of a hollow bar answers the mouse.
        ' pointer-events="all"/>{text}</g>',
        told=told,
        x=f"{bar.x:.1f}",
        y=top,
        width=f"{bar.width:.1f}",
        height=_BAR,
        look=look,
        text=text,
    )


def _legend(steps: Iterable[StepReport], bottom: int) -> Html:
    """What full and hollow mean, as far as the drawing has both."""
    parts, x = [], _MARGIN
    used = {step.cache for step in steps}
    for kind, (look, meaning) in _KINDS.items():
        if kind in used:
            box = '<rect x="{x}" y="{y}" width="14" height="10" rx="2" {look}/>'
            parts.append(markup(box, x=x, y=bottom - 10, look=look))
            parts.append(markup('<text x="{x}" y="{y}">{meaning}</text>', x=x + 20, y=bottom - 1, meaning=meaning))
            x += 150
    return joined(parts)
