"""The door to RE2: search for a user's regular expression in time linear in the text.

Docker's filters are Go's regular expressions, whose syntax is RE2's: without look-around and backreferences.
Python's `re` backtracks: `^(a+)+$` takes exponential time, during which `re` holds the interpreter lock (GIL), so one
listing would block every other thread. Syntax: github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

from collections.abc import Callable

from pylab_container.errors import InvalidInput
from pylab_container.host.extras import extra

MAX_PATTERN_LENGTH = 64 << 10  # characters; RE2 itself limits the size of the compiled program
MAX_AUTOMATON_SIZE = 8 << 20  # bytes; above it RE2 falls back to a slower matcher, which is still linear


def searcher(pattern: str) -> Callable[[str], bool]:
    """Return a predicate: whether a text contains a match.

    Raises InvalidInput for a wrong expression, MissingExtra.
    """
    with extra("run"):
        import re2  # late: most filters are plain names, for which no command should load a library

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_AUTOMATON_SIZE
    try:
        if len(pattern) > MAX_PATTERN_LENGTH:
            raise re2.error(b"expression is too long")
        expression = re2.compile(pattern, options=options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        shown = ascii(pattern[:200])
        raise InvalidInput(f"invalid filter value {shown}: {reason}", hint="write a name, or a part of it") from None
    return lambda text: expression.search(text.encode(errors="replace").decode()) is not None
