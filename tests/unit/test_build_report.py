"""How a notebook shows builds: tables, the timeline, warnings, and progress."""

from __future__ import annotations

import itertools
import re
import threading
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from pylab_container.build.report import BuildPlan, BuildReport, PlannedStep, StepReport
from pylab_container.dockerfile.lint.linter import LintWarning
from pylab_container.events import BuildOutput, BuildStep, BuildWarning, Progress
from pylab_container.notebook import widgets
from pylab_container.notebook.builds import build_table, plan_view, report_view
from pylab_container.notebook.timeline import Timeline, round_step
from pylab_container.notebook.widgets import ProgressBar

HOSTILE = "RUN echo </text><script>alert('&')</script>"
WARNING = LintWarning(
    rule="JSONArgsRecommended",
    message="a shell becomes process 1",
    hint='write CMD ["nginx"]',
    lab="labs/04_nginx.ipynb#3.-Is-it-running?",
    source="Dockerfile",
    line=2,
    end_line=2,
    text="CMD nginx",
    excerpt="",
)


def step(
    number: int,
    instruction: str = "RUN x",
    *,
    stage: str = "0",
    cache: str = "miss",
    reason: str = "",
    started: float = 0.0,
    seconds: float = 1.0,
) -> StepReport:
    return StepReport(
        number=number, of=9, stage=stage, instruction=instruction, image_id="", cache=cache, reason=reason,
        started=started, seconds=seconds,
    )  # fmt: skip


def report(*steps: StepReport, seconds: float = 10.0, warnings: tuple[LintWarning, ...] = ()) -> BuildReport:
    return BuildReport(steps, seconds, warnings)


# -- tables ------------------------------------------------------------------------------------


def test_a_build_of_one_stage_that_was_in_the_cache_has_no_columns_for_stages_and_reasons() -> None:
    table = build_table(report(step(1, "FROM a", cache=""), step(2, cache="hit")))
    assert table.headings == ("STEP", "INSTRUCTION", "CACHE", "TIME", "SIZE", "FILES")
    assert table.rows == (("1/9", "FROM a", "", "1.0 s", "", ""), ("2/9", "RUN x", "hit", "1.0 s", "", ""))


def test_stages_and_reasons_have_columns_where_they_differ() -> None:
    table = build_table(report(step(1, stage="one"), step(2, stage="two", reason="changed: a")))
    assert table.headings[:5] == ("STEP", "STAGE", "INSTRUCTION", "CACHE", "WHY")
    assert table.rows[1][:5] == ("2/9", "two", "RUN x", "miss", "changed: a")


def test_an_instruction_of_many_lines_takes_one_in_the_table() -> None:
    text = build_table(report(step(1, "RUN <<EOF\n" + "make\n" * 40 + "EOF"))).rows[0][1]
    assert text.startswith("RUN <<EOF make make")
    assert text.endswith("…")
    assert len(text) == 90


def test_a_report_without_steps_is_a_table_without_rows() -> None:
    assert repr(report_view(report())) == "STEP   INSTRUCTION   CACHE   TIME   SIZE   FILES"
    assert "<svg" not in report_view(report())._repr_html_()


def test_a_plan_says_what_the_cache_has_and_which_stages_are_not_needed() -> None:
    steps = (PlannedStep(1, 2, "web", "FROM a", "", ""), PlannedStep(2, 2, "web", "RUN b", "miss", "new"))
    view = plan_view(BuildPlan("web", steps, {"web": ()}, left_out=("tests", "docs")))
    assert repr(view).splitlines() == [
        "STEP   INSTRUCTION   CACHE   WHY",
        "1/2    FROM a",
        "2/2    RUN b         miss    new",
        "not needed for web: tests, docs",
    ]
    assert "<p>not needed for web: tests, docs</p>" in view._repr_html_()


# -- warnings ----------------------------------------------------------------------------------


def test_a_warning_says_where_and_what_to_do_and_links_to_the_lab_beside_the_notebook() -> None:
    view = report_view(report(step(1), warnings=(WARNING,)))
    sentence = 'Dockerfile:2: a shell becomes process 1; write CMD ["nginx"] (JSONArgsRecommended).'
    assert repr(view).splitlines()[-1] == f"⚠ {sentence} See {WARNING.lab}"
    assert '<a href="04_nginx.ipynb#3.-Is-it-running?">3. Is it running?</a>' in view._repr_html_()


def test_html_of_reports_and_plans_is_escaped() -> None:
    hostile = replace(WARNING, message=HOSTILE, source=HOSTILE)
    shown = report_view(report(step(1, HOSTILE, stage=HOSTILE, reason=HOSTILE), step(2), warnings=(hostile,)))
    planned = plan_view(BuildPlan(HOSTILE, (), {}, left_out=(HOSTILE,)))
    for text in (shown._repr_html_(), planned._repr_html_()):
        assert "<script>" not in text
        assert "&lt;script&gt;" in text


# -- the timeline ------------------------------------------------------------------------------


def drawing(timeline: Timeline) -> ElementTree.Element:
    """The SVG, which must be well-formed."""
    svg = ElementTree.fromstring(timeline._repr_html_()).find("div/svg")
    assert svg is not None
    return svg


def bars(timeline: Timeline) -> list[tuple[float, float, float]]:
    """Left edge, right edge and top of each bar."""
    found = []
    for rectangle in drawing(timeline).findall("g/rect"):
        x, width, y = (float(rectangle.attrib[name]) for name in ("x", "width", "y"))
        found.append((x, x + width, y))
    return found


def test_a_bar_lies_where_its_seconds_are() -> None:
    [first, second] = bars(Timeline(report(step(1, started=0, seconds=5), step(2, started=5, seconds=5))))
    assert first == pytest.approx((12, 359, 1), abs=1)
    assert second == pytest.approx((360, 707, 1), abs=1)


@pytest.mark.parametrize("count", [1, 20, 120, 400])
@pytest.mark.parametrize("began", [0.0, 5.0, 10.0])
def test_bars_of_steps_too_short_to_see_stay_apart_and_inside(count: int, began: float) -> None:
    steps = [step(number, started=began + number * 1e-5, seconds=1e-5) for number in range(count)]
    placed = bars(Timeline(report(*steps)))
    assert len(placed) == count
    assert placed[0][0] >= 11.9
    assert placed[-1][1] <= 708.1
    assert all(left < right for left, right, _ in placed)
    assert all(before[1] < after[0] + 0.11 for before, after in itertools.pairwise(placed))


def test_each_stage_has_a_lane_with_its_name() -> None:
    timeline = Timeline(report(step(1, stage="one"), step(2, stage="two & more"), step(3, stage="one", started=2)))
    tops = [top for _, _, top in bars(timeline)]
    assert tops[0] == tops[1] < tops[2]
    names = [text.text for text in drawing(timeline).findall("text")]
    assert {"one", "two & more"} < set(names)


def test_hit_and_miss_differ_in_more_than_colour() -> None:
    timeline = Timeline(report(step(1, cache="hit"), step(2, started=2), step(3, cache="", started=4)))
    looks = [(bar.attrib["fill"], bar.get("stroke-dasharray")) for bar in drawing(timeline).findall("g/rect")]
    assert looks == [("none", None), ("#2a6fb0", None), ("none", "2 2")]
    words = [text.text for text in drawing(timeline).findall("text")]
    assert words[-3:] == ["made anew (miss)", "from the cache (hit)", "nothing to make"]


def test_the_drawing_has_a_title_a_description_and_says_of_each_bar_what_it_is() -> None:
    svg = drawing(Timeline(report(step(1, HOSTILE, seconds=2.5))))
    assert [child.tag for child in svg][:2] == ["title", "desc"]
    assert svg.attrib["role"] == "img"
    [told] = svg.findall("g/title")
    assert told.text == f"1/9 {HOSTILE}: 2.50 s, made anew (miss)"


def test_text_and_hollow_bars_have_the_colour_of_the_theme() -> None:
    svg = drawing(Timeline(report(step(1, cache="hit"))))
    colours = {child.attrib[name] for child in svg.iter() for name in ("fill", "stroke") if name in child.attrib}
    assert colours == {"currentColor", "none"}


def test_a_timeline_is_one_line_that_tells_no_times_as_text() -> None:
    timeline = Timeline(report(step(1, "RUN <<EOF\na\nEOF"), step(2, stage="1"), seconds=3.21))
    assert "\n" not in timeline._repr_html_()
    assert repr(timeline) == "timeline: 2 steps in 2 stages"


@pytest.mark.parametrize(("seconds", "unit"), [(0.014, 0.002), (1, 0.2), (6.95, 1), (8, 1), (22, 5), (700, 100)])
def test_the_scale_has_few_and_round_numbers(seconds: float, unit: float) -> None:
    assert round_step(seconds) == pytest.approx(unit)


def test_a_build_that_took_no_time_can_be_drawn() -> None:
    assert len(bars(Timeline(report(step(1, seconds=0.0), seconds=0.0)))) == 1


# -- progress ----------------------------------------------------------------------------------


def done(number: int, of: int) -> BuildStep:
    return BuildStep(number, of, "RUN x", "", "miss", 0.1)


def test_steps_of_stages_that_end_out_of_order_never_move_the_bar_back() -> None:
    bar, shares = ProgressBar("build"), []
    for number in (4, 1, 5, 2):
        bar.update(done(number, 5))
        shares.append(bar.bar.value)
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert bar.label.value == "build: 4 of 5 steps"


def test_threads_may_report_at_the_same_time() -> None:
    bar = ProgressBar("build")

    def report() -> None:
        for number in range(100):
            bar.update(done(number, 400))

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bar.bar.value == 1.0
    assert bar.label.value == "build: 400 of 400 steps"


def test_the_last_words_of_a_step_are_shown_while_it_runs() -> None:
    bar = ProgressBar("build")
    bar.update(BuildOutput("Get:1\n10%\r20%\rdone\n", 3))
    assert bar.label.value == "build: step 3: done"


def test_output_that_comes_faster_than_an_eye_can_read_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widgets, "time", SimpleNamespace(monotonic=lambda: 1000.0))  # all at one moment
    bar = ProgressBar("build")
    bar.update(done(1, 2))
    bar.update(BuildOutput("line\n", 2))
    bar.update(Progress("layer", 5, 10))
    assert bar.label.value == "build: 1 of 2 steps"


def test_warnings_of_a_build_stand_beside_it_in_the_end() -> None:
    bar = ProgressBar("build")
    bar.update(BuildWarning("the argument V was not used"))
    bar.finish()
    assert bar.label.value == "build: done; the argument V was not used"


def test_a_build_that_failed_leaves_the_bar_where_it_stopped() -> None:
    bar = ProgressBar("build")
    bar.update(done(1, 2))
    bar.finish(failed=True)
    assert (bar.bar.value, bar.bar.bar_style, bar.label.value) == (0.5, "danger", "build: 1 of 2 steps")


def test_the_numbers_of_the_timeline_are_hidden_where_only_its_words_remain() -> None:
    """JupyterLab keeps the text of an SVG that it does not trust."""
    assert re.search(r'<div style="font-size: 0[;"]', Timeline(report(step(1)))._repr_html_())
