"""HTML in which every value from outside is escaped.

JupyterLab shows file names, labels, log lines and image names in its page, where an injected script could run commands
as the user. Everything that is shown as HTML therefore has the type Html. Only this module creates it, from a template
in the kit's source and from values that it escapes. A widget gets Html through widgets.content().
tests/unit/test_markup.py proves that no other module of notebook/ creates HTML in another way.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from pylab_container.text.visible import visible_lines


class Html(str):
    """Text that a browser may interpret."""

    __slots__ = ()


def markup(template: str, /, **values: object) -> Html:
    """Fill the {names} of a template with values, escaped unless they are Html.

    The template is a literal in the kit's source. {{ stands for a brace. An attribute with a value needs quotes.
    """
    return Html(template.format_map({name: _escaped(value) for name, value in values.items()}))


def _escaped(value: object) -> str:
    return value if isinstance(value, Html) else html.escape(visible_lines(str(value)))


def joined(parts: Iterable[Html], between: str = "") -> Html:
    """Concatenate the parts, with a text or Html between them."""
    return Html(_escaped(between).join(parts))
