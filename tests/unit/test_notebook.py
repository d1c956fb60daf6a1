"""What notebooks show, and what every lab's notebook must have."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median

import nbformat
import pytest

from pylab_container.build.report import BuildReport, StepReport
from pylab_container.errors import DockerfileError, ImageNotFound
from pylab_container.events import BuildOutput, ImageChanged, LayerRemoved, OverlayUnmounted, Progress
from pylab_container.notebook import exercises, trees
from pylab_container.notebook.builds import report_view
from pylab_container.notebook.display import ErrorCard, Note, Table, event_table, listed, portable
from pylab_container.notebook.exercises import numbered
from pylab_container.notebook.magics import wants_terminal

ID = "0123456789ab" + 52 * "c"
OTHER = "fedcba987654" + 52 * "d"
LABS = sorted((Path(__file__).resolve().parents[2] / "labs").glob("[0-9]*.ipynb"))
SANITIZE = Path(__file__).resolve().parents[1] / "nbval_sanitize.cfg"

# -- display -----------------------------------------------------------------------------------


def test_a_table_is_as_wide_as_its_widest_cells_and_ends_without_spaces() -> None:
    table = Table(("NAME", "SIZE"), (("debian12", "1B"), ("x", "")))
    assert repr(table) == "NAME       SIZE\ndebian12   1B\nx"


def test_a_table_without_rows_shows_its_headings() -> None:
    assert repr(Table(("NAME",), ())) == "NAME"


def test_html_is_escaped() -> None:
    hostile = "<script>alert(1)</script>"
    for shown in (Table((hostile,), ((hostile,),)), Note("ok", hostile), ErrorCard(ImageNotFound(hostile))):
        assert "<script>" not in shown._repr_html_()
        assert "&lt;script&gt;" in shown._repr_html_()


def test_directories_of_the_machine_are_shown_as_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTR_ROOT", "/data")
    monkeypatch.setenv("LAB", "/data/labs/01")
    assert portable("/data/labs/01/bookworm.tar /data/overlay2") == "$LAB/bookworm.tar $LABCTR_ROOT/overlay2"
    assert portable("/data-of-others /data") == "/data-of-others $LABCTR_ROOT"


def test_a_data_root_inside_a_labs_directory_is_not_mistaken_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTR_ROOT", "/data/labs/05/root")
    monkeypatch.setenv("LAB", "/data/labs/05")
    assert portable("/data/labs/05/root/overlay2 /data/labs/05/hand") == "$LABCTR_ROOT/overlay2 $LAB/hand"


def test_long_ids_are_cut_to_twelve_digits() -> None:
    assert portable(f"{ID}-init sha256:{OTHER}") == "0123456789ab…-init sha256:fedcba987654…"


def test_a_dockerfile_error_keeps_its_caret_under_the_mistake() -> None:
    error = DockerfileError("bad", hint="fix it", source="Dockerfile", line=2, column=8, text="EXPOSE x")
    assert repr(ErrorCard(error)).splitlines()[1:] == ["    EXPOSE x", "           ^", "Hint: fix it"]


def test_events_are_told_as_sentences_without_running_commentary() -> None:
    events = [Progress("layer", 1), BuildOutput("noise"), ImageChanged("tagged", f"sha256:{ID}", "x:1")]
    assert event_table(events).rows == (("image changed", "image tagged 0123456789ab as x:1"),)


def test_only_the_kinds_of_events_that_were_asked_for_are_told() -> None:
    events = [LayerRemoved(f"sha256:{ID}", OTHER), OverlayUnmounted(ID, "/m")]
    assert [row[0] for row in event_table(events, (OverlayUnmounted,)).rows] == ["overlay unmounted"]


def test_ordinary_lists_are_no_tables() -> None:
    assert listed([]) is None
    assert listed([1, 2]) is None


# -- magics ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["run -it x bash", "run -d -t x", "run --name c1000 -it x", "exec -e A=1 --tty c sh", "run --rm -ti x"]
)
def test_a_command_that_asks_for_a_terminal_is_recognised(line: str) -> None:
    assert wants_terminal(line.split())


@pytest.mark.parametrize(
    "line", ["run -d x", "exec c tar -t", "build -t name .", "run -e T=-t x", "run --name -t x", "ps", "", "images -a"]
)
def test_other_commands_run_without_a_terminal(line: str) -> None:
    assert not wants_terminal(line.split())


# -- trees -------------------------------------------------------------------------------------


def make(directory: Path, *names: str) -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.touch()


def test_a_tree_is_drawn_as_the_tree_command_draws_it(tmp_path: Path) -> None:
    make(tmp_path, "a/one", "a/two", "b/", "c")
    (tmp_path / "d").symlink_to("a/one")
    assert trees.read(tmp_path, depth=3, title="top").lines() == [
        "top", "├── a/", "│   ├── one", "│   └── two", "├── b/", "├── c", "└── d -> a/one",
    ]  # fmt: skip


def test_what_lies_too_deep_or_in_a_closed_directory_is_counted(tmp_path: Path) -> None:
    make(tmp_path, "a/b/one", "a/b/two", "diff/one")
    lines = trees.read(tmp_path, depth=2, closed=("diff",), title="top").lines()
    assert lines == ["top", "├── a/", "│   └── b/  [2 entries]", "└── diff/  [1 entry]"]


def test_a_directory_that_is_not_there_gives_an_empty_tree(tmp_path: Path) -> None:
    assert trees.read(tmp_path / "missing", depth=2, title="top").lines() == ["top", "(nothing there)"]


def test_ids_keep_the_order_in_which_they_were_met(tmp_path: Path) -> None:
    order = trees.Order()
    make(tmp_path, f"{OTHER}/")
    trees.read(tmp_path, depth=1, order=order)
    make(tmp_path, f"{ID}/", f"{ID}-init/", "names")
    lines = trees.read(tmp_path, depth=1, order=order, title="top").lines()
    assert lines[1:] == ["├── names", "├── fedcba987654…/", "├── 0123456789ab…/", "└── 0123456789ab…-init/"]


def test_short_links_are_in_the_order_of_what_they_point_to(tmp_path: Path) -> None:
    order = trees.Order()
    make(tmp_path, f"{OTHER}/", "l/")
    trees.read(tmp_path, depth=1, order=order)
    (tmp_path / "l" / ("A" * 26)).symlink_to(f"../{ID}/diff")
    (tmp_path / "l" / ("B" * 26)).symlink_to(f"../{OTHER}/diff")
    assert [entry.path[0][0] for entry in trees.read(tmp_path / "l", depth=1, order=order).entries] == ["B", "A"]


def test_a_difference_marks_what_came_and_what_went(tmp_path: Path) -> None:
    make(tmp_path, "a/old", "b/")
    before = trees.read(tmp_path, depth=3, title="top")
    (tmp_path / "a/old").unlink()
    make(tmp_path, "a/new", "c/deep")
    after = trees.read(tmp_path, depth=3)
    assert trees.Tree("top", after.entries, before).lines() == [
        "  top", "  ├── a/", "+ │   ├── new", "- │   └── old", "  ├── b/", "+ └── c/", "+     └── deep",
    ]  # fmt: skip


def test_a_changed_count_is_shown_as_before_and_after(tmp_path: Path) -> None:
    make(tmp_path, "diff/one")
    before = trees.read(tmp_path, depth=1)
    make(tmp_path, "diff/two")
    lines = trees.Tree("top", trees.read(tmp_path, depth=1).entries, before).lines()
    assert lines == ["  top", "- ├── diff/  [1 entry]", "+ └── diff/  [2 entries]"]


def test_a_directory_that_vanished_is_shown_whole(tmp_path: Path) -> None:
    make(tmp_path, "a/b/c")
    before = trees.read(tmp_path, depth=3)
    after = trees.read(tmp_path / "missing", depth=3)
    lines = trees.Tree("top", after.entries, before).lines()
    assert lines == ["  top", "- └── a/", "-     └── b/", "-         └── c"]


# -- exercises ---------------------------------------------------------------------------------


def test_an_exercise_that_nobody_tried_shows_its_hint() -> None:
    for exercise in numbered.EXERCISES.values():
        note = exercise.judge(None, None)
        assert note.kind == "open"
        assert exercise.hint in note.text


# -- the labs ----------------------------------------------------------------------------------


def notebook(path: Path) -> nbformat.NotebookNode:
    found: nbformat.NotebookNode = nbformat.read(path, as_version=4)
    return found


def headings(path: Path) -> list[str]:
    text = "\n".join(cell.source for cell in notebook(path).cells if cell.cell_type == "markdown")
    return re.findall(r"^#+ .*$", text, re.MULTILINE)


def test_there_are_six_labs() -> None:
    assert [path.name[:2] for path in LABS] == ["00", "01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_a_lab_has_one_title_and_the_sections_of_every_lab(path: Path) -> None:
    found = headings(path)
    assert len([heading for heading in found if heading.startswith("# ")]) == 1
    assert found[0].startswith(f"# Lab {path.name[:2]}: ")
    wanted = ["## Overview", "## Prerequisites", "## Exercises", "## Summary", "## What's next"]
    if f"{path.name[:2]}.r" in exercises.EXERCISES:  # a lab in the new form: the overview is the head
        wanted = ["## Exercises", "## Summary", "## Questions to yourself", "## What's next"]
    assert [heading for heading in found if heading in wanted] == wanted


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_a_lab_has_one_cell_with_parameters_before_all_other_code(path: Path) -> None:
    code = [cell for cell in notebook(path).cells if cell.cell_type == "code"]
    assert ["parameters" in cell.metadata.get("tags", []) for cell in code].index(True) == 0
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert notebook(path).metadata.kernelspec.language == "python"


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_a_labs_cells_are_small_and_explained(path: Path) -> None:
    cells = notebook(path).cells
    code = [
        len(re.sub("^### .*\n", "", cell.source, flags=re.M).splitlines()) for cell in cells if cell.cell_type == "code"
    ]
    assert median(code) <= 2
    assert max(code) <= 12
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in cells)
    assert "cccc" not in kinds, "four cells without a word between them"


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_a_labs_cells_have_stable_ids(path: Path) -> None:
    ids = [cell.id for cell in notebook(path).cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(rf"{path.name[:2]}-\d\d", cell_id) for cell_id in ids)


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_a_lab_was_executed_in_order_and_names_no_path_of_the_machine(path: Path) -> None:
    text = path.read_text()
    code = [cell for cell in notebook(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "data-root" not in text
    assert not re.search(r"/(?:home|root|tmp|build|work/\w+)/", text)
    assert "papermill" not in text


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_a_lab_has_a_check_for_each_of_its_exercises(path: Path) -> None:
    source = "\n".join(cell.source for cell in notebook(path).cells if cell.cell_type == "code")
    number = path.name[:2]
    known = [str(n) for lab, n in numbered.EXERCISES if lab == number]
    known += [key for key in exercises.EXERCISES if key.startswith(f"{number}.")]
    assert re.findall(r'lab\.check\("?([\w.]+)', source) == known


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_each_prediction_of_a_lab_is_compared(path: Path) -> None:
    source = "\n".join(cell.source for cell in notebook(path).cells if cell.cell_type == "code")
    asked = re.findall(r'lab\.predict\(\s*"([\w.]+)"', source)
    assert asked == re.findall(r'lab\.compare\(\s*"([\w.]+)"', source)
    assert all(key.startswith(f"{path.name[:2]}.") for key in asked)


def test_a_solution_is_between_two_lines_that_the_student_edition_cuts_at() -> None:
    for path in LABS:
        for cell in notebook(path).cells:
            marks = re.findall("^### (BEGIN|END) SOLUTION$", cell.source, flags=re.MULTILINE)
            assert marks in ([], ["BEGIN", "END"])
            assert cell.source.count("SOLUTION") == len(marks)


# -- the sanitize file -------------------------------------------------------------------------


def rules() -> list[tuple[str, str]]:
    """As nbval reads them."""
    return re.findall("^regex: (.*)$\n^replace: (.*)$", SANITIZE.read_text(), flags=re.MULTILINE)


def test_no_rule_is_dropped_and_every_rule_replaces_by_something() -> None:
    assert len(rules()) == SANITIZE.read_text().count("\n[")
    assert all(regex.strip() and replace.strip() for regex, replace in rules())


@pytest.mark.parametrize("heading", re.findall(r"^\[.*\]$", SANITIZE.read_text(), re.MULTILINE))
def test_every_rule_is_needed_by_a_lab(heading: str) -> None:
    titles = re.findall(r"^\[.*\]$", SANITIZE.read_text(), re.MULTILINE)
    regex, _ = rules()[titles.index(heading)]
    outputs = [
        part
        for path in LABS
        for cell in notebook(path).cells
        for output in cell.get("outputs", [])
        for part in ([output.text] if "text" in output else output.get("data", {}).values())
    ]
    assert any(re.search(regex, part) for part in outputs)


def sanitized(text: str) -> str:
    for regex, replace in rules():
        text = re.sub(regex, replace, text)
    return text


def test_two_runs_of_a_listing_are_equal_once_sanitized() -> None:
    first = "IMAGE ID       CREATED                  SIZE\n9223c5786c4c   Less than a second ago   187MB\n"
    second = "IMAGE ID       CREATED         SIZE\n7bc399ab72aa   3 seconds ago   1.67GB\n"
    assert sanitized(first) == sanitized(second)


def test_two_runs_of_a_build_are_equal_once_sanitized() -> None:
    def shown(seconds: float) -> str:
        step = StepReport(1, 1, "0", "RUN x", "", "miss", "", seconds / 2, seconds / 2)
        return report_view(BuildReport((step,), seconds))._repr_html_()

    assert shown(0.02) != shown(17.5)
    assert sanitized(shown(0.02)) == sanitized(shown(17.5))


def test_a_listing_of_another_image_is_still_another_one() -> None:
    assert sanitized("debian12   latest   9223c5786c4c") != sanitized("debian13   latest   9223c5786c4c")
