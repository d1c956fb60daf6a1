"""JSON from untrusted sources: one error for everything that can be wrong with a document."""

from __future__ import annotations

import json
import re
from typing import Any

_MAXIMUM_DEPTH = 200  # nested arrays and objects; Docker's documents have about ten
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


class NotJson(ValueError):
    """The text is not a usable JSON document; str() is the reason."""


def refuse_deep(text: str) -> None:
    """Raise NotJson if the text is nested deeper than any document of Docker's.

    Call it before a parser: Python's json recurses, and a deep document exhausts the interpreter's stack. The
    RecursionError itself can be caught. But the garbage collector may run a finalizer at that depth, which then fails
    half-way, and its file descriptor or temporary file leaks.
    """
    if text.count("[") + text.count("{") <= _MAXIMUM_DEPTH:
        return
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
            if depth > _MAXIMUM_DEPTH:
                raise NotJson("it is nested too deeply")
        elif token[0] in ("]", "}"):
            depth -= 1


def parse_json(text: bytes | str) -> Any:
    """Return the parsed document.

    Raises NotJson, also for a document that is nested too deeply.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text))
        refuse_deep(text)
        return json.loads(text)
    except NotJson:
        raise
    except ValueError:  # includes UnicodeDecodeError, and integers of more than 4300 digits (CVE-2020-10735)
        raise NotJson("it is not JSON") from None
