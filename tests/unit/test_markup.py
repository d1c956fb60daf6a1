"""notebook/markup.py: names that others chose are text in a notebook and on its pages, and nothing more."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ipywidgets
import nbformat
import pytest
from msgspec.structs import replace
from nbformat.v4 import new_code_cell, new_notebook, new_output

from pylab_container.build.report import BuildPlan, BuildReport, PlannedStep, StepReport
from pylab_container.dockerfile.lint.linter import LintWarning
from pylab_container.errors import LabError
from pylab_container.events import BuildOutput, BuildWarning, LayerTransfer, NetworkChanged, TransferMessage
from pylab_container.notebook import display, regenerate, trees, widgets
from pylab_container.notebook.builds import plan_view, report_view
from pylab_container.notebook.display import ErrorCard, Note, Table, event_table
from pylab_container.notebook.markup import Html, joined, markup
from pylab_container.notebook.timeline import Timeline
from pylab_container.notebook.transfers import TransferView

HOSTILE = "\"'><img src=x onerror=alert(1)>&$\\href{javascript:alert(2)}{x}$\x1b]0;owned\x07\x9b31m\u202e"
NOTEBOOK = Path(trees.__file__).parent


def is_plain(shown: str) -> bool:
    """Return whether a text contains no control sequence of the hostile text."""
    return not any(character in shown for character in "\x1b\x07\x9b\u202e")


def is_harmless(shown: str) -> bool:
    """Return whether a text contains no HTML element of the hostile text either."""
    return "<img" not in shown and is_plain(shown)


# -- the type ----------------------------------------------------------------------------------


def test_values_are_escaped_and_html_is_not() -> None:
    inner = markup("<b>{text}</b>", text="<i>")
    assert markup('<p title="{title}">{inner}</p>', title='"', inner=inner) == '<p title="&quot;"><b>&lt;i&gt;</b></p>'
    assert joined([inner, inner], "<") == f"{inner}&lt;{inner}"
    assert type(joined([inner])) is Html


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in NOTEBOOK.rglob("*.py"):
        yield path.name, ast.parse(path.read_text())


def test_only_the_module_markup_makes_html() -> None:
    """A template is a literal, each representation is Html, and widgets that interpret text get it from there."""
    faults = []
    for name, tree in _modules():
        for node in ast.walk(tree):
            match node:
                case ast.Import(names=[ast.alias(name="html")]) if name != "markup.py":
                    faults.append(f"{name}:{node.lineno} imports html")
                case ast.FunctionDef(name="_repr_html_", returns=ast.Name(id="Html")):
                    wrapped = ("output(", "framed(", "self.table()._repr_html_(")
                    returned = [ast.unparse(one.value or one) for one in ast.walk(node) if isinstance(one, ast.Return)]
                    if not all(text.startswith(wrapped) for text in returned):
                        faults.append(f"{name}:{node.lineno} may be typeset by MathJax")
                case ast.FunctionDef(name="_repr_html_"):
                    faults.append(f"{name}:{node.lineno} returns plain text")
                case ast.Call(func=ast.Name(id="Html")) if name != "markup.py":
                    faults.append(f"{name}:{node.lineno} makes Html")
                case ast.Call(func=ast.Name(id="markup"), args=[ast.JoinedStr(), *_]):
                    faults.append(f"{name}:{node.lineno} has a template with values in it")
                case ast.Attribute(attr="HTML" | "HTMLMath" | "Label" | "Markdown") if name != "widgets.py":
                    faults.append(f"{name}:{node.lineno} interprets text")
    assert faults == []


# -- every output ------------------------------------------------------------------------------

STEP = StepReport(
    number=1, of=2, stage=HOSTILE, instruction=f"{HOSTILE} x", image_id="", cache="miss", reason=HOSTILE, started=0.0,
    seconds=1.0,
)  # fmt: skip
WARNING = LintWarning(
    rule=HOSTILE, message=HOSTILE, hint=HOSTILE, lab=HOSTILE, source=HOSTILE, line=1, end_line=1, text="", excerpt=""
)
REPORT = BuildReport((STEP, replace(STEP, number=2, stage="b")), 2.0, (WARNING,))
TREE = trees.Tree(HOSTILE, (trees.TreeEntry((HOSTILE,), f" -> {HOSTILE}"),))


@pytest.mark.parametrize(
    "shown",
    [
        Table((HOSTILE,), ((HOSTILE,), (HOSTILE * 3,))),
        Note("no", HOSTILE),
        ErrorCard(LabError(HOSTILE, hint=HOSTILE)),
        event_table([NetworkChanged(HOSTILE)]),
        TREE,
        trees.Tree(HOSTILE, (), before=TREE),
        report_view(REPORT),
        plan_view(BuildPlan(HOSTILE, (PlannedStep(1, 1, HOSTILE, HOSTILE, "", HOSTILE),), {}, left_out=(HOSTILE,))),
        Timeline(REPORT),
    ],
    ids=lambda shown: type(shown).__name__,
)
def test_what_a_notebook_displays_is_escaped(shown: Any) -> None:
    assert is_harmless(shown._repr_html_())
    assert shown._repr_html_().startswith('<div class="mathjax_ignore tex2jax_ignore">')
    assert is_plain(repr(shown))


def _texts(widget: ipywidgets.Widget) -> Iterator[str]:
    yield str(getattr(widget, "value", ""))
    for child in getattr(widget, "children", ()):
        yield from _texts(child)


def _explore(tmp_path: Path) -> None:
    (tmp_path / HOSTILE.replace("/", "")).write_text("")
    layer = SimpleNamespace(cache_id="c" * 64, diff_id="d" * 72, chain_id="e" * 72, size=1)
    driver = SimpleNamespace(diff_path=lambda _: tmp_path)
    image: Any = SimpleNamespace(layers=[layer], _data=SimpleNamespace(driver=driver))
    widgets.layer_explorer(image)


def _progress(_: Path) -> None:
    bar = widgets.ProgressBar(HOSTILE)
    bar.show()
    for event in (BuildOutput(f"{HOSTILE}\n", 1), BuildWarning(HOSTILE)):
        bar.update(event)
    bar.finish()


def _notice(_: Path) -> None:
    notice = widgets.Notice(HOSTILE)
    notice.show()
    notice.say(HOSTILE)


def _transfer(_: Path) -> None:
    view = TransferView(HOSTILE)
    widgets.show(view.view, HOSTILE)
    view.update(TransferMessage(HOSTILE, HOSTILE))
    view.update(LayerTransfer(HOSTILE, HOSTILE, 1, 2))
    view.update(LayerTransfer(HOSTILE, HOSTILE, 2, 2))
    view.draw()


@pytest.mark.parametrize("use", [_explore, _progress, _notice, _transfer])
def test_what_a_widget_shows_is_escaped_and_not_set_by_mathjax(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Path], None]
) -> None:
    displayed: list[ipywidgets.Widget] = []
    texts: list[str] = []
    monkeypatch.setattr(widgets, "display", lambda data, **_: texts.append(data["text/plain"]))
    present = widgets.show

    def show(widget: ipywidgets.Widget, text: str) -> None:
        displayed.append(widget)
        present(widget, text)

    monkeypatch.setattr(widgets, "show", show)
    use(tmp_path)
    shown = [text for widget in displayed for text in _texts(widget)]
    assert any("onerror" in text for text in shown)
    assert all(map(is_harmless, shown))
    assert all(map(is_plain, texts))
    assert not any(isinstance(one, ipywidgets.Label | ipywidgets.HTMLMath) for one in displayed)


def test_an_error_in_a_cell_is_escaped() -> None:
    shell = SimpleNamespace(_showtraceback=lambda *_: None)
    (line,) = display._show_error(shell, LabError, LabError(HOSTILE, hint=HOSTILE), None)
    assert is_plain(line.removeprefix("\x1b[31mLabError\x1b[0m"))


def test_reports_and_pages_are_escaped(tmp_path: Path) -> None:
    outcome = regenerate.Outcome(HOSTILE, 2, 1, 1.0, HOSTILE)
    assert is_harmless(regenerate.report_page([outcome]))
    assert is_harmless(regenerate.report_text([outcome]))
    cell = new_code_cell("", id="cell", outputs=[new_output("stream", text=HOSTILE), _output(Note("no", HOSTILE))])
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "lab.ipynb")
    regenerate.write_page(tmp_path / "lab.ipynb", images=tmp_path)
    page = (tmp_path / "lab.html").read_text()
    assert page.count("onerror=alert(1)") == page.count("&lt;img src=x onerror=alert(1)&gt;") >= 2


def _output(shown: Note) -> Any:
    data = {"text/plain": repr(shown), "text/html": shown._repr_html_()}
    return new_output("display_data", data=data)
