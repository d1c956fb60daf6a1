"""Options that are a list of fields: type=bind,source=/a,"target=/b,c". One line of CSV (RFC 4180), as in docker."""

from __future__ import annotations

import csv

from pylab_container.errors import InvalidInput
from pylab_container.text.golang import quoted


def split_fields(text: str) -> list[str]:
    """The fields of an option's value. Raises InvalidInput for what is not one line of CSV."""
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        shown = quoted(text if len(text) <= 80 else f"{text[:80]}…")
        raise InvalidInput(f"invalid list of fields: {shown}", hint="write NAME=VALUE,NAME=VALUE in one line") from None
