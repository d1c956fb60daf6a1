"""Regular expressions of users, searched for by RE2 in time linear in the text.

Docker's filters are Go's regular expressions, whose syntax is RE2's: without look-around and references back.
Python's `re` is not used for them: against `^(a+)+$` it tries exponentially many ways to match, and it holds the
interpreter, so that one listing would stop every other thread. Syntax: github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

from collections.abc import Callable

from pylab_container.errors import InvalidInput
from pylab_container.host.extras import extra

with extra("run"):
    import re2

_LONGEST = 64 << 10  # characters of an expression; RE2 itself bounds what it compiles to
_MEMORY = 8 << 20  # bytes of an automaton; where that does not suffice RE2 is slower, but not more than linear


def searcher(pattern: str) -> Callable[[str], bool]:
    """The function that says whether a text has a match somewhere. Raises InvalidInput for a wrong expression."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        if len(pattern) > _LONGEST:
            raise re2.error(b"expression is too long")
        expression = re2.compile(pattern, options=options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        shown = ascii(pattern[:200])
        raise InvalidInput(f"invalid filter value {shown}: {reason}", hint="write a name, or a part of it") from None
    return lambda text: expression.search(text.encode(errors="replace").decode()) is not None
