"""Salvage a damaged JSON object: each field that is intact and has the right type."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pylab_container.errors import CorruptStore
from pylab_container.oci.image import Json
from pylab_container.store.reading import read_bytes

DECODER = json.JSONDecoder()


def salvage(path: Path, base: Json, accepts: Callable[[Json], object], *, fields: Iterable[str]) -> Json:
    """Return base with each field replaced by the file's value, if accepts allows the result.

    accepts  raises ValueError, KeyError or TypeError for a document that cannot be used
    fields   the names of the fields to search the file for
    """
    try:
        text = read_bytes(path).decode(errors="replace")
    except (CorruptStore, OSError):
        return base
    document = base
    for name in fields:
        for value in _values(text, name):
            candidate = {**document, name: value}
            if _is_accepted(candidate, accepts):
                document = candidate
                break
    return document


def _values(text: str, name: str) -> Iterable[object]:
    """Yield each value that follows a field's name in the text; nested objects may have a field of the same name."""
    for match in re.finditer(rf'"{re.escape(name)}"\s*:\s*', text):
        try:
            value, _ = DECODER.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            continue
        yield value


def _is_accepted(document: Json, accepts: Callable[[Json], object]) -> bool:
    try:
        accepts(document)
    except (ValueError, KeyError, TypeError):
        return False
    return True
