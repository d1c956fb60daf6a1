"""The output of build, from events, reports and plans that the tests construct."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from pylab_container.build.report import BuildPlan, BuildReport, PlannedStep, StepReport
from pylab_container.cli.build_output import checked, explanation, plan, warned
from pylab_container.docker.build_output import Presenter
from pylab_container.dockerfile.lint.linter import LintWarning
from pylab_container.events import (
    BuildContainer,
    BuildContainerRemoved,
    BuildOutput,
    BuildStep,
    BuildStepStarted,
    BuildWarning,
    ContainerChanged,
    Event,
)

CONTAINER = "c" * 64
REMOVED = BuildContainerRemoved(CONTAINER, 1)


class Screen:
    """A presenter and what it has printed."""

    def __init__(self) -> None:
        self.text = ""
        self.presenter = Presenter(self._write)

    def _write(self, text: str) -> None:
        self.text += text

    def show(self, *events: Event) -> str:
        """Return the output that these events add to the screen."""
        before = self.text
        for event in events:
            self.presenter(event)
        return self.text.removeprefix(before)


def started(number: int, instruction: str = "RUN x", of: int = 4) -> BuildStepStarted:
    return BuildStepStarted(number, of, instruction)


def ended(number: int, *, cache: str = "miss", triggers: int = 0) -> BuildStep:
    return BuildStep(number, 4, "", f"sha256:{number:064}", cache, 0.1, triggers=triggers)


def image(number: int) -> str:
    return f" ---> {number:064}"[:18] + "\n"


def test_a_step_is_told_as_docker_tells_it() -> None:
    shown = Screen().show(started(1), BuildContainer(CONTAINER, 1), BuildOutput("said\n", 1), REMOVED, ended(1))
    assert shown == (
        "Step 1/4 : RUN x\n ---> Running in cccccccccccc\nsaid\n"
        f"Removing intermediate container cccccccccccc\n{image(1)}"
    )


def test_a_container_that_stays_is_not_said_to_be_removed() -> None:
    shown = Screen().show(started(1), BuildContainer(CONTAINER, 1), BuildOutput("said", 1), ended(1))
    assert shown == f"Step 1/4 : RUN x\n ---> Running in cccccccccccc\nsaid\n{image(1)}"


def test_a_step_out_of_the_cache_says_so() -> None:
    assert Screen().show(started(1), ended(1, cache="hit")) == f"Step 1/4 : RUN x\n ---> Using cache\n{image(1)}"


def test_the_first_step_is_shown_live_and_the_others_wait_for_their_turn() -> None:
    screen = Screen()
    assert screen.show(started(1)) == "Step 1/4 : RUN x\n"
    assert screen.show(started(3), BuildOutput("three\n", 3)) == ""
    assert screen.show(BuildOutput("one\n", 1)) == "one\n"
    assert screen.show(ended(3), started(4), BuildOutput("four ", 4)) == ""
    assert screen.show(ended(1)) == image(1)
    assert screen.show(started(2)) == "Step 2/4 : RUN x\n"
    assert screen.show(ended(2)) == f"{image(2)}Step 3/4 : RUN x\nthree\n{image(3)}Step 4/4 : RUN x\nfour "
    assert screen.show(BuildOutput("more\n", 4), ended(4)) == f"more\n{image(4)}"


def test_whatever_the_order_of_stages_each_step_is_one_block_and_they_are_in_order() -> None:
    def stage(*numbers: int) -> list[Event]:
        return [event for n in numbers for event in (started(n), BuildOutput(f"{n}\n", n), ended(n))]

    one, two = stage(1, 2), stage(3, 4)
    wanted = Screen().show(*one, *two)
    for places in itertools.combinations(range(12), 6):
        first, second = iter(one), iter(two)
        mixed = [next(first if place in places else second) for place in range(12)]
        assert Screen().show(*mixed) == wanted


def test_triggers_are_part_of_their_from() -> None:
    shown = Screen().show(
        started(1, "FROM parent"),
        ended(1, cache="", triggers=2),
        started(1, "RUN trigger"),
        BuildContainer(CONTAINER, 1),
        REMOVED,
        ended(1),
        started(1, "ENV A=1"),
        ended(1, cache="hit"),
        started(2),
    )
    assert shown == (
        "Step 1/4 : FROM parent\n# Executing 2 build triggers\n ---> Running in cccccccccccc\n"
        f"Removing intermediate container cccccccccccc\n ---> Using cache\n{image(1)}Step 2/4 : RUN x\n"
    )
    assert "# Executing 1 build trigger\n" in Screen().show(started(1), ended(1, cache="", triggers=1))


def test_a_line_that_a_command_left_open_is_ended() -> None:
    shown = Screen().show(started(1), BuildOutput("no ", 1), BuildOutput("end", 1), ended(1))
    assert shown == f"Step 1/4 : RUN x\nno end\n{image(1)}"


def test_after_a_failure_what_was_held_back_is_printed_but_not_what_only_waited() -> None:
    screen = Screen()
    screen.show(started(1), BuildOutput("still at it", 1))
    screen.show(started(2), BuildContainer(CONTAINER, 2), BuildOutput("oops", 2), started(4))
    before = screen.text
    screen.presenter.close()
    assert screen.text.removeprefix(before) == "\nStep 2/4 : RUN x\n ---> Running in cccccccccccc\noops\n"


def test_warnings_are_printed_at_once_and_other_events_not_at_all() -> None:
    assert Screen().show(BuildWarning("careful"), ContainerChanged("started", CONTAINER, "name")) == "careful\n"


# -- tables ------------------------------------------------------------------------------------


def step(number: int, instruction: str, cache: str, reason: str = "") -> StepReport:
    return StepReport(number, 2, "base", instruction, "", cache, reason, 0.0, 1.5)


def test_explain_gives_each_step_a_line_and_sums_up() -> None:
    report = BuildReport((step(1, "FROM a", ""), step(2, f"RUN {'long ' * 20}", "miss", "ARG V is gone")), seconds=3.0)
    lines = explanation(report).splitlines()
    assert lines[0].split() == ["STEP", "STAGE", "INSTRUCTION", "CACHE", "SECONDS", "ADDED", "FILES", "WHY"]
    assert lines[1].split() == ["1/2", "base", "FROM", "a", "1.50"]
    assert lines[2].endswith("ARG V is gone")
    assert "…" in lines[2]
    assert lines[-1] == "2 steps in 3.00 seconds: 0 from the cache, 1 made anew, 0B of new layers"


def test_a_plan_names_the_stages_what_they_need_and_what_is_left_out() -> None:
    steps = (PlannedStep(1, 2, "a", "FROM x", "", ""), PlannedStep(2, 2, "b", "RUN y", "miss", "no such step yet"))
    text = plan(BuildPlan("b", steps, needs={"a": (), "b": ("a",)}, left_out=("test",)))
    assert [line.split() for line in text.splitlines()[:3]] == [["STAGE", "NEEDS"], ["a", "-"], ["b", "a"]]
    assert "Left out, for b does not need it: test" in text
    assert text.splitlines()[-1] == "Nothing was made. In the cache: 0; to be made: 1."


# -- warnings ----------------------------------------------------------------------------------

WARNING = LintWarning(
    rule="JSONArgsRecommended",
    message="a shell becomes process 1",
    hint='write CMD ["sh"]',
    lab="labs/04_nginx.ipynb#3.-Is-it-running?",
    source="Dockerfile",
    line=2,
    end_line=2,
    text="CMD sh",
    excerpt="   2 | >>> CMD sh",
)


@pytest.mark.parametrize(
    ("count", "first"),
    [
        (0, "Check complete, no warnings found."),
        (1, "Check complete, 1 warning has been found!"),
        (2, "Check complete, 2 warnings have been found!"),
    ],
)
def test_a_check_counts_its_warnings_as_docker_does(count: int, first: str) -> None:
    text = checked([WARNING] * count)
    assert text.splitlines()[0] == first
    assert text.count("WARNING: JSONArgsRecommended - labs/") == count
    assert text.endswith("\n")


def test_a_build_tells_its_warnings_in_a_line_each() -> None:
    other = replace(WARNING, line=7)
    assert warned([WARNING, other]).splitlines() == [
        " 2 warnings found (labctr build --check tells more):",
        " - JSONArgsRecommended: a shell becomes process 1 (line 2)",
        " - JSONArgsRecommended: a shell becomes process 1 (line 7)",
    ]
