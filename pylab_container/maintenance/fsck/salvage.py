"""What can still be read of a JSON object that is damaged: each field that is whole and of the right type."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pylab_container.errors import CorruptStore
from pylab_container.oci.image import Json
from pylab_container.store.reading import read_bytes

_DECODER = json.JSONDecoder()


def salvage(path: Path, base: Json, accepts: Callable[[Json], object], *, fields: Iterable[str]) -> Json:
    """base with those of its fields replaced that the file still says in a form that accepts.

    accepts  raises ValueError, KeyError or TypeError for a document that cannot be used
    fields   those to look for
    """
    try:
        text = read_bytes(path).decode(errors="replace")
    except (CorruptStore, OSError):
        return base
    found = base
    for name in fields:
        for value in _values(text, name):
            candidate = {**found, name: value}
            if _is_accepted(candidate, accepts):
                found = candidate
                break
    return found


def _values(text: str, name: str) -> Iterable[object]:
    """The values that stand behind a field's name; a name may also occur further inside."""
    for match in re.finditer(rf'"{re.escape(name)}"\s*:\s*', text):
        try:
            value, _ = _DECODER.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            continue
        yield value


def _is_accepted(document: Json, accepts: Callable[[Json], object]) -> bool:
    try:
        accepts(document)
    except (ValueError, KeyError, TypeError):
        return False
    return True
