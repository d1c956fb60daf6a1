"""JSON from outside: one error for all that can be wrong with it, in words about the text and not about its parser."""

from __future__ import annotations

import json
import re
from typing import Any

_DEEPEST = 200
"""Levels that a document may have; Docker's have about ten."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


class NotJson(ValueError):
    """The text is not a usable JSON document; str() says why, as "it is nested too deeply"."""


def refuse_deep(text: str) -> None:
    """Raise NotJson for a text that is nested deeper than any document of Docker's, before a parser reads it.

    A parser would recurse to the end of the interpreter's stack. A finalizer that runs there, as the garbage collector
    pleases, fails: its cleaning up is lost.
    """
    if text.count("[") + text.count("{") <= _DEEPEST:
        return
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
            if depth > _DEEPEST:
                raise NotJson("it is nested too deeply")
        elif token[0] in ("]", "}"):
            depth -= 1


def parse_json(text: bytes | str) -> Any:
    """The document that a text is. Raises NotJson, also for one that is nested hundreds of levels deep."""
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text))
        refuse_deep(text)
        return json.loads(text)
    except NotJson:
        raise
    except ValueError:  # also bytes that are not UTF-8, and a number of more than 4300 digits
        raise NotJson("it is not JSON") from None
