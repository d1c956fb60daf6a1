"""The command behind scripts/labs, with real kernels."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from pylab_container.errors import InvalidInput
from pylab_container.notebook.regenerate import (
    Outcome,
    choose,
    main,
    report_page,
    report_text,
    reproducible,
    typed,
    write_page,
)


def write_lab(directory: Path, name: str, *sources: str) -> Path:
    """A lab whose first code cell holds the parameters."""
    cells = [new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources)]
    cells[0].metadata["tags"] = ["parameters"]
    directory.mkdir(exist_ok=True)
    path = directory / name
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(metadata=kernel, cells=[new_markdown_cell("# Lab", id="title"), *cells]), path)
    return path


def labs(tmp_path: Path, *arguments: str) -> int:
    return main([*arguments, "--directory", str(tmp_path / "labs"), "--output", str(tmp_path / "out")])


def test_a_failing_lab_is_reported_and_the_next_one_still_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write_lab(tmp_path / "labs", "01_bad.ipynb", "greeting = 'hello'", "raise KeyError('gone')", "'never'")
    write_lab(
        tmp_path / "labs",
        "02_good.ipynb",
        "greeting = 'hello'",
        "import os; print(greeting, os.environ['LABCTR_ROOT'])",
    )
    before = bad.read_bytes()
    assert labs(tmp_path, "--write") == 1
    printed = capsys.readouterr().out
    assert "| 01_bad" in printed
    assert "failed: KeyError: 'gone'" in printed
    assert "1 of 2 labs ok" in printed
    assert "KeyError" in (tmp_path / "out/01_bad.html").read_text()
    assert "02_good.html" in (tmp_path / "out/report.html").read_text()
    assert f"hello {tmp_path}/out/data-root" in (tmp_path / "labs/02_good.ipynb").read_text()
    assert bad.read_bytes() == before, "a failed lab must not change the reference"


def test_writing_the_reference_twice_leaves_the_same_bytes(tmp_path: Path) -> None:
    lab = write_lab(tmp_path / "labs", "01_lab.ipynb", "n = 1", "print('a', flush=True)\nprint('b')\nn + 1")
    ids = [cell.id for cell in nbformat.read(lab, as_version=4).cells]
    assert labs(tmp_path, "--write") == 0
    first = lab.read_bytes()
    assert labs(tmp_path, "--write") == 0
    assert lab.read_bytes() == first
    assert b"papermill" not in first
    notebook = nbformat.read(lab, as_version=4)
    assert [cell.id for cell in notebook.cells] == ids
    assert [output.output_type for output in notebook.cells[2].outputs] == ["stream", "execute_result"]


def test_a_parameter_reaches_the_labs_that_have_it(tmp_path: Path) -> None:
    write_lab(tmp_path / "labs", "01_with.ipynb", "number = 1", "assert number == 7, number")
    write_lab(tmp_path / "labs", "02_without.ipynb", "other = 1", "assert 'number' not in globals()")
    assert labs(tmp_path, "-p", "number", "7") == 0


def test_a_parameter_that_no_lab_has_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lab(tmp_path / "labs", "01_lab.ipynb", "distribution = 'bookworm'")
    assert labs(tmp_path, "-p", "distributon", "trixie") == 2
    assert "the parameters are distribution" in capsys.readouterr().err


def test_a_lab_that_kills_its_kernel_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lab(tmp_path / "labs", "01_lab.ipynb", "import os, signal", "os.kill(os.getpid(), signal.SIGKILL)", "1")
    assert labs(tmp_path) == 1
    assert "failed: DeadKernelError" in capsys.readouterr().out


def test_a_parameter_for_a_file_that_is_no_notebook_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labs").mkdir()
    (tmp_path / "labs/01_broken.ipynb").write_text("{")
    assert labs(tmp_path, "-p", "distribution", "trixie") == 2
    assert "cannot read the parameters of 01_broken.ipynb" in capsys.readouterr().err


def test_the_reference_is_never_written_with_foreign_parameters(tmp_path: Path) -> None:
    write_lab(tmp_path / "labs", "01_lab.ipynb", "distribution = 'bookworm'")
    assert labs(tmp_path, "--write", "-p", "distribution", "trixie") == 2


def test_a_file_that_is_no_notebook_fails_as_a_lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labs").mkdir()
    (tmp_path / "labs/01_broken.ipynb").write_text("{")
    assert labs(tmp_path) == 1
    assert "failed: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["02", "02_commit", "02_commit.ipynb", "labs/02_commit.ipynb"])
def test_a_lab_can_be_named_by_number_name_or_path(tmp_path: Path, name: str) -> None:
    for lab in ("01_base.ipynb", "02_commit.ipynb", "notes.ipynb"):
        (tmp_path / lab).touch()
    assert [lab.name for lab in choose(tmp_path, [name])] == ["02_commit.ipynb"]


def test_labs_run_in_their_order_whatever_order_they_are_named_in(tmp_path: Path) -> None:
    for lab in ("01_base.ipynb", "02_commit.ipynb", "03_build.ipynb"):
        (tmp_path / lab).touch()
    assert [lab.stem for lab in choose(tmp_path, ["03", "01"])] == ["01_base", "03_build"]


@pytest.mark.parametrize("name", ["04", "0", "", "commit"])
def test_a_name_that_no_lab_has_is_an_error_that_lists_the_labs(tmp_path: Path, name: str) -> None:
    (tmp_path / "02_commit.ipynb").touch()
    with pytest.raises(InvalidInput, match="02_commit"):
        choose(tmp_path, [name])


def test_a_directory_without_labs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no labs"):
        choose(tmp_path, [])


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("0.5", 0.5), ("True", True), ("None", None), ("trixie", "trixie"), ("", "")]
)
def test_a_parameter_has_the_type_that_it_looks_like(text: str, value: object) -> None:
    assert typed(text) == value
    assert type(typed(text)) is type(value)


def test_a_widget_leaves_its_text_and_not_its_random_id() -> None:
    output = new_output(
        "display_data", {"text/plain": "IntSlider()", "application/vnd.jupyter.widget-view+json": {"model_id": "5f3c"}}
    )
    assert reproducible(output).data == {"text/plain": "IntSlider()"}
    assert reproducible(reproducible(output)) == reproducible(output)
    assert "application/vnd.jupyter.widget-view+json" in output.data, "the caller's notebook stays as it was"


def test_a_lab_with_cells_that_did_not_run_is_not_ok() -> None:
    assert not Outcome("01_lab", cells=3, ran=2, seconds=1).ok
    assert Outcome("01_lab", cells=3, ran=3, seconds=1).ok
    assert not Outcome("01_lab", cells=3, ran=3, seconds=1, error="KernelDied").ok


def test_an_error_cannot_break_the_report() -> None:
    outcome = Outcome("01_lab", cells=1, ran=1, seconds=1, error="ValueError: <b> | pipe")
    assert "<b>" not in report_page([outcome])
    assert "&lt;b> \\| pipe |" in report_text([outcome])


def test_a_pages_links_lead_to_where_the_labs_links_lead(tmp_path: Path) -> None:
    page = tmp_path / "build/labs/01_lab.ipynb"
    page.parent.mkdir(parents=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell("[tour](../READING.md#tour-1)", id="title")]), page)
    write_page(page, images=tmp_path / "labs")
    assert 'href="../../READING.md#tour-1"' in page.with_suffix(".html").read_text()
