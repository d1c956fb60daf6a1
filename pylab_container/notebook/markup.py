"""HTML of which every part from outside is escaped.

File names, labels, log lines and image names are shown in the page of a JupyterLab, where a script of theirs could
run commands as the user. So whatever is shown as HTML is of the type Html, and only this module makes one: out of
a template that is written in the kit, and values that it escapes. A widget gets Html through widgets.content(), and
tests/unit/test_markup.py proves that no other module of notebook/ writes HTML in another way.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from pylab_container.text.visible import visible_lines


class Html(str):
    """Text that a browser may interpret."""

    __slots__ = ()


def markup(template: str, /, **values: object) -> Html:
    """The template with its {names} filled in, each value escaped unless it is Html already.

    The template is a literal of the kit. {{ stands for a brace; a value may be used in an attribute within quotes.
    """
    return Html(template.format_map({name: _escaped(value) for name, value in values.items()}))


def _escaped(value: object) -> str:
    return value if isinstance(value, Html) else html.escape(visible_lines(str(value)))


def joined(parts: Iterable[Html], between: str = "") -> Html:
    """Several parts one after the other, with a text or Html between them."""
    return Html(_escaped(between).join(parts))
