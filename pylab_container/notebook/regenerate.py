"""Run the labs with papermill and write a report: the command behind scripts/labs.

    build/labs/01_base_image.ipynb   the executed notebook, with papermill's times
    build/labs/01_base_image.html    the executed notebook as a page
    build/labs/report.{md,html}      one line for each lab
    build/labs/data-root/            the data root of the labs

Labs run in order and share one data root, because later labs use images of earlier ones. After a failed lab the others
still run, so that the report contains every failure.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from pylab_container.errors import InvalidInput, LabError
from pylab_container.host.extras import extra
from pylab_container.notebook.markup import Html, joined, markup
from pylab_container.text.visible import visible

with extra("labs"):
    import nbformat
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellControlSignal, DeadKernelError
    from nbconvert import HTMLExporter
    from papermill.exceptions import PapermillException
    from tqdm import tqdm
    from traitlets.config import Config

# Contains only a random model id; the text/plain output describes the widget. nbval ignores it, too.
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

# Failures of one lab that do not affect the others: a cell raised, timed out or killed the kernel, the kernel does not
# exist, or the file is not a notebook (ValueError covers JSON and schema).
LAB_FAILURES = (PapermillException, CellControlSignal, DeadKernelError, NoSuchKernel, ValueError)

# Unix sockets instead of TCP ports on the loopback device: the kernels of the labs are root.
KERNELS = Config({"KernelManager": {"transport": "ipc"}})

Parameter = int | float | bool | str | None


class Outcome(Struct, frozen=True):
    """The result of one lab.

    cells    number of code cells that are not empty
    ran      number of them that ended, with or without an error
    seconds  wall-clock time, including the start of the kernel
    error    first line of the error, "" without one
    """

    lab: str
    cells: int
    ran: int
    seconds: float
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error and self.ran == self.cells

    @property
    def result(self) -> str:
        return "ok" if self.ok else f"failed: {self.error or 'not every cell ran'}"


# -- running -----------------------------------------------------------------------------------


def run_lab(
    lab: Path, output: Path, parameters: Mapping[str, Parameter], *, cell_done: Callable[[], None]
) -> tuple[Outcome, nbformat.NotebookNode | None]:
    """Execute one lab with its own kernel, and write the executed notebook to output.

    Returns the outcome and, if every cell ran, the executed notebook.
    """
    started = time.monotonic()
    error, executed = "", None
    try:
        executed = papermill.execute_notebook(
            lab,
            output,
            parameters=parameters,
            kernel_name="python3",
            cwd=lab.parent,
            progress_bar=False,
            coalesce_streams=True,  # the division of output into messages depends on timing
            config=KERNELS,
            on_cell_executed=lambda cell, **_: None if is_injected(cell) else cell_done(),
        )
    except LAB_FAILURES as failure:
        error = first_line(failure)
    seconds = time.monotonic() - started
    cells = code_cells(lab)
    # The injected cell does not belong to the lab.
    ran = sum(1 for cell in code_cells(output) if cell.execution_count and not is_injected(cell)) if cells else 0
    return Outcome(lab.stem, len(cells), ran, seconds, error), executed


def first_line(failure: Exception) -> str:
    """Return the exception in one line, as in the last line of a traceback."""
    name = getattr(failure, "ename", type(failure).__name__)
    text = str(getattr(failure, "evalue", failure)).strip()
    return f"{name}: {text.splitlines()[0]}" if text else str(name)


def code_cells(notebook: Path) -> list[nbformat.NotebookNode]:
    """Return the code cells that are not empty; none if the file is missing or not a notebook."""
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except (OSError, ValueError):
        return []
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def is_injected(cell: nbformat.NotebookNode) -> bool:
    return "injected-parameters" in cell.metadata.get("tags", [])


@contextlib.contextmanager
def data_root(path: Path) -> Iterator[None]:
    """Set $LABCTR_ROOT to path for kernels that start while the block runs."""
    before = os.environ.get("LABCTR_ROOT")
    os.environ["LABCTR_ROOT"] = str(path)
    try:
        yield
    finally:
        os.environ.pop("LABCTR_ROOT")
        if before is not None:
            os.environ["LABCTR_ROOT"] = before


def run_labs(labs: Sequence[Path], output: Path, parameters: Mapping[str, Parameter], *, write: bool) -> list[Outcome]:
    """Run the labs in order with one progress bar.

    write  update the reference of each lab that succeeds
    """
    outcomes = []
    known = {lab: known_parameters(lab) for lab in labs} if parameters else {}
    cells = sum(len(code_cells(lab)) for lab in labs)
    with data_root(output / "data-root"), tqdm(total=cells, unit="cell", dynamic_ncols=True) as bar:
        for lab in labs:
            bar.set_description(lab.stem)
            accepted = {name: value for name, value in parameters.items() if name in known[lab]}
            outcome, executed = run_lab(lab, output / lab.name, accepted, cell_done=bar.update)
            outcomes.append(outcome)
            write_page(output / lab.name, images=lab.parent)
            if write and outcome.ok and executed is not None:
                write_reference(lab, executed)
    return outcomes


# -- the committed reference -------------------------------------------------------------------


def write_reference(lab: Path, executed: nbformat.NotebookNode) -> None:
    """Replace the outputs of the lab by those of executed, and change nothing else.

    Cell ids, metadata and text stay, so papermill's times and paths are not copied: a second run with the same output
    writes the same bytes.
    """
    notebook = nbformat.read(lab, as_version=4)
    ours = [cell for cell in notebook.cells if cell.cell_type == "code"]
    theirs = [cell for cell in executed.cells if cell.cell_type == "code"]
    for cell, ran in zip(ours, theirs, strict=True):
        cell.execution_count = ran.execution_count
        cell.outputs = [reproducible(output) for output in ran.outputs]
    nbformat.write(notebook, lab)


def reproducible(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the output without parts that differ between runs. Idempotent."""
    kept: nbformat.NotebookNode = nbformat.from_dict(output)
    if "data" in kept:
        kept.data.pop(WIDGET_VIEW, None)
    return kept


# -- the report --------------------------------------------------------------------------------


def write_page(notebook: Path, *, images: Path) -> None:
    """Write an HTML page beside the notebook, if the notebook exists.

    Widgets are shown as their text.

    images  the lab's own directory: images, which are embedded, and links that begin with ../ are relative to it
    """
    if not notebook.exists():
        return
    shown = nbformat.read(notebook, as_version=4)
    repository = os.path.relpath(images.parent, notebook.parent)
    for cell in shown.cells:
        if cell.cell_type == "code":
            cell.outputs = [reproducible(output) for output in cell.outputs]
        elif cell.cell_type == "markdown":
            cell.source = cell.source.replace("](../", f"]({repository}/")
    resources = {"metadata": {"name": notebook.stem, "path": str(images)}}
    page, _ = HTMLExporter(embed_images=True).from_notebook_node(shown, resources=resources)
    notebook.with_suffix(".html").write_text(page)


def report_text(outcomes: Sequence[Outcome]) -> str:
    """Return the report as a Markdown table."""
    rows = [("lab", "cells", "seconds", "result")]
    rows += [(_in_markdown(o.lab), f"{o.ran}/{o.cells}", f"{o.seconds:.1f}", _in_markdown(o.result)) for o in outcomes]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["| " + " | ".join([*map(str.ljust, row, widths), row[3]]) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|--------|"
    return "\n".join([lines[0], rule, *lines[1:], "", summary(outcomes)]) + "\n"


def _in_markdown(text: str) -> str:
    """Escape a text for a Markdown table, so that it cannot start HTML or another cell."""
    return visible(text).replace("|", "\\|").replace("<", "&lt;")


def summary(outcomes: Sequence[Outcome]) -> str:
    good = sum(1 for outcome in outcomes if outcome.ok)
    return f"{good} of {len(outcomes)} labs ok, {sum(outcome.seconds for outcome in outcomes):.1f} s"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Labs: {summary}</title>
<style>
body {{ font-family: sans-serif; margin: 2em; }}
td, th {{ padding: .3em 1em; text-align: left; }}
.ok td:last-child {{ color: #1a6b2a; }}
.failed td:last-child {{ color: #a40000; }}
</style>
<h1>Labs</h1>
<p>{summary}</p>
<table>
<tr><th>lab</th><th>cells</th><th>seconds</th><th>result</th></tr>
{rows}
</table>
</html>
"""
_ROW = (
    '<tr class="{kind}"><td><a href="{lab}.html">{lab}</a></td>'
    "<td>{ran}/{cells}</td><td>{seconds}</td><td>{result}</td></tr>"
)


def report_page(outcomes: Sequence[Outcome]) -> Html:
    """Return the report as an HTML page with links to the pages of the labs."""
    rows = [
        markup(
            _ROW,
            kind="ok" if o.ok else "failed",
            lab=o.lab,
            ran=o.ran,
            cells=o.cells,
            seconds=f"{o.seconds:.1f}",
            result=o.result,
        )
        for o in outcomes
    ]
    return markup(_PAGE, summary=summary(outcomes), rows=joined(rows, "\n"))


# -- the command -------------------------------------------------------------------------------


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/labs", description="Run the labs and report.")
    parser.add_argument("labs", nargs="*", metavar="LAB", help="01, 01_base_image or its path; all labs by default")
    parser.add_argument(
        "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="set a parameter in every lab that has it",
    )  # fmt: skip
    parser.add_argument("--write", action="store_true", help="make the outputs the committed reference")
    parser.add_argument("--directory", type=Path, default=Path("labs"), help="where the labs are (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("build/labs"), help="where the results go (%(default)s)")
    return parser.parse_intermixed_args(argv)


def choose(directory: Path, names: Sequence[str]) -> list[Path]:
    """Return the labs that the names select, in order; all without names. Raises InvalidInput."""
    labs = sorted(directory.resolve().glob("[0-9]*.ipynb"))
    there = "there are " + ", ".join(lab.stem for lab in labs) if labs else f"{directory} holds no labs"
    for name in names:
        if not any(is_called(lab, name) for lab in labs):
            raise InvalidInput(f"no lab is called {name}", hint=there)
    if not labs:
        raise InvalidInput("there is no lab to run", hint=there)
    return [lab for lab in labs if not names or any(is_called(lab, name) for name in names)]


def is_called(lab: Path, name: str) -> bool:
    stem = Path(name).name.removesuffix(".ipynb")
    return stem in (lab.stem, lab.stem.split("_")[0])


def known_parameters(lab: Path) -> set[str]:
    """Return the names that the lab's cell tagged `parameters` defines.

    Raises InvalidInput for an unreadable lab.
    """
    try:
        return set(papermill.inspect_notebook(lab))
    except ValueError as error:
        hint = "open it in JupyterLab, choose the Python 3 kernel and save it"
        raise InvalidInput(f"cannot read the parameters of {lab.name}: {error}", hint=hint) from error


def check_parameters(labs: Sequence[Path], parameters: Mapping[str, Parameter]) -> None:
    """Raise InvalidInput for a parameter that no lab has, which papermill would only log."""
    known = set().union(*(known_parameters(lab) for lab in labs)) if parameters else set()
    for name in parameters:
        if name not in known:
            hint = "the parameters are " + ", ".join(sorted(known)) if known else "these labs have no parameters"
            raise InvalidInput(f"no lab has a parameter {name}", hint=hint)


def typed(text: str) -> Parameter:
    """Convert the value of a parameter by the rules of papermill's -p."""
    words: dict[str, Parameter] = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the labs and report.

    Return 0 if every cell of every lab ran, 1 if not, 2 for bad arguments.
    """
    options = parse(sys.argv[1:] if argv is None else argv)
    parameters = {name: typed(value) for name, value in options.parameters}
    try:
        if options.write and parameters:
            raise InvalidInput("--write and -p exclude each other", hint="the reference has the labs' own parameters")
        labs = choose(options.directory, options.labs)
        check_parameters(labs, parameters)
    except LabError as error:
        print(f"scripts/labs: {error}", file=sys.stderr)
        return 2
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    outcomes = run_labs(labs, output, parameters, write=options.write)
    (output / "report.md").write_text(report_text(outcomes))
    (output / "report.html").write_text(report_page(outcomes))
    print(report_text(outcomes), end="")
    return 0 if all(outcome.ok for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
