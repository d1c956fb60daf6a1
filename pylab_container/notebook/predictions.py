"""A question before an experiment, and the prediction beside what happened.

    lab.predict("04.a", "Which container ends first?", ["shell form", "list", "all the same"])
    …
    lab.compare("04.a", "list")

A question never blocks Run All: an unanswered one shows what happened, and that there was no prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from pylab_container.errors import InvalidInput
from pylab_container.host.extras import extra
from pylab_container.notebook.display import framed
from pylab_container.notebook.markup import Html, joined, markup, output
from pylab_container.notebook.progress import Progress
from pylab_container.notebook.widgets import show
from pylab_container.text.visible import visible_lines

with extra("labs"):
    import ipywidgets
    from IPython.display import display


class Question(Struct, frozen=True):
    """A question with its choices, as a saved notebook shows it.

    choice  the prediction, "" if there is none
    """

    key: str
    text: str
    choices: tuple[str, ...]
    choice: str = ""

    def __repr__(self) -> str:
        marks = ("●" if choice == self.choice else "○" for choice in self.choices)
        lines = [f"  {mark} {choice}" for mark, choice in zip(marks, self.choices, strict=True)]
        return visible_lines("\n".join([f"prediction {self.key}: {self.text}", *lines]))

    def _repr_html_(self) -> Html:
        items = joined(markup("<li>{choice}</li>", choice=choice) for choice in self.choices)
        head = markup("<p><b>Predict:</b> {text}</p><ul>{items}</ul>", text=self.text, items=items)
        if not self.choice:
            return output(head)
        return output(joined([head, markup("<p>Your prediction: {choice}</p>", choice=self.choice)]))


class Comparison(Struct, frozen=True):
    """A prediction beside what happened. predicted is "" if there was none."""

    key: str
    predicted: str
    happened: str

    def __repr__(self) -> str:
        yours = self.predicted or "you made no prediction"
        return visible_lines(f"{self._mark} prediction {self.key}\n  predicted  {yours}\n  happened   {self.happened}")

    def _repr_html_(self) -> Html:
        return framed(repr(self), {"✔": "ok", "✘": "no", "○": "open"}[self._mark])

    @property
    def _mark(self) -> str:
        return "○" if not self.predicted else "✔" if self.predicted == self.happened else "✘"


def ask(progress: Progress, key: str, text: str, choices: Sequence[str], choice: str | None) -> None:
    """Show a question; a click on a choice records it. choice: the prediction, for a keyboard or papermill."""
    if choice is not None:
        if choice not in choices:
            raise InvalidInput(f"{choice} is none of the choices", hint=f"choose one of: {', '.join(choices)}")
        progress.predicted(key, choice)
    before = progress.read().predictions.get(key)
    known = before.choice if before and before.choice in choices else ""
    question = Question(key, text, tuple(choices), known)
    buttons = ipywidgets.RadioButtons(options=list(choices), value=known or None, layout={"width": "max-content"})
    buttons.observe(lambda change: progress.predicted(key, change["new"]), names="value")
    # The question is shown beside the widget, which a notebook without a kernel cannot show.
    display(question)
    show(buttons, f"to answer in code: lab.predict({key!r}, …, choice=…)")


def compare(progress: Progress, key: str, happened: str) -> Comparison:
    """Return the prediction beside what happened, in the words of the question's choices."""
    before = progress.read().predictions.get(key)
    return Comparison(key, before.choice if before else "", happened)
