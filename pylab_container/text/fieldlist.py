"""Option values that are a list of fields: type=bind,source=/a,"target=/b,c". One record of CSV (RFC 4180)."""

from __future__ import annotations

import csv

from pylab_container.errors import InvalidInput
from pylab_container.text.golang import quoted

_SHOWN_CHARACTERS = 80  # of a value that an error repeats


def split_fields(text: str) -> list[str]:
    """Return the fields of an option's value.

    Raises InvalidInput if it is not one record of CSV.
    """
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        shown = quoted(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")
        raise InvalidInput(f"invalid list of fields: {shown}", hint="write NAME=VALUE,NAME=VALUE in one line") from None
