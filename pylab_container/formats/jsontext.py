"""JSON from outside: one error for all that can be wrong with it, in words about the text and not about its parser."""

from __future__ import annotations

import json
from typing import Any


class NotJson(ValueError):
    """The text is not a usable JSON document; str() says why, as "it is nested too deeply"."""


def parse_json(text: bytes | str) -> Any:
    """The document that a text is. Raises NotJson, also for one that is nested thousands of levels deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise NotJson("it is nested too deeply") from None
    except ValueError:  # also bytes that are not UTF-8, and a number of more than 4300 digits
        raise NotJson("it is not JSON") from None
