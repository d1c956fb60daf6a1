"""Fields of a JSON document that was read by its shape (shapes.py).

null, and nothing at all, stand for the empty value of the type.
"""

from __future__ import annotations

from typing import cast

from pylab_container.daemon.call import Json


def text(document: Json, name: str) -> str:
    """A string."""
    return cast(str, document.get(name) or "")


def flag(document: Json, name: str, *, default: bool = False) -> bool:
    """True or false."""
    value = document.get(name)
    return default if value is None else cast(bool, value)


def number(document: Json, name: str) -> int | None:
    """A whole number; None where there is none."""
    return cast(int | None, document.get(name))


def child(document: Json, name: str) -> Json:
    """An object."""
    return cast(Json, document.get(name) or {})


def children(document: Json, name: str) -> list[Json]:
    """A list of objects."""
    return cast(list[Json], document.get(name) or [])


def texts(document: Json, name: str) -> list[str]:
    """A list of strings."""
    return cast(list[str], document.get(name) or [])


def labels(document: Json, name: str) -> dict[str, str]:
    """An object whose values are strings."""
    return cast(dict[str, str], document.get(name) or {})
