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


def output(content: Html) -> Html:
    """Wrap the HTML of a whole output, so that JupyterLab and exported pages do not typeset $…$ in it.

    JupyterLab's MathJax 3 skips elements of the class mathjax_ignore, the MathJax 2 of nbconvert's pages those of
    tex2jax_ignore. $LABCTR_ROOT … $LAB would be a formula.
    """
    return markup('<div class="mathjax_ignore tex2jax_ignore">{content}</div>', content=content)


def joined(parts: Iterable[Html], between: str = "") -> Html:
    """Concatenate the parts, with a text or Html between them."""
    return Html(_escaped(between).join(parts))
