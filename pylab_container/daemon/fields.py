"""Typed access to the fields of a JSON document that shapes.read() has checked.

null and a missing field are the empty value of the type.
"""

from __future__ import annotations

from typing import cast

from pylab_container.oci.image import Json


def text(document: Json, name: str) -> str:
    """Return a string."""
    return cast(str, document.get(name) or "")


def flag(document: Json, name: str, *, default: bool = False) -> bool:
    """Return a boolean."""
    value = document.get(name)
    return default if value is None else cast(bool, value)


def number(document: Json, name: str) -> int | None:
    """Return an integer, or None for null and a missing field."""
    return cast(int | None, document.get(name))


def child(document: Json, name: str) -> Json:
    """Return an object."""
    return cast(Json, document.get(name) or {})


def children(document: Json, name: str) -> list[Json]:
    """Return an array of objects."""
    return cast(list[Json], document.get(name) or [])


def texts(document: Json, name: str) -> list[str]:
    """Return an array of strings."""
    return cast(list[str], document.get(name) or [])


def labels(document: Json, name: str) -> dict[str, str]:
    """Return an object whose values are strings."""
    return cast(dict[str, str], document.get(name) or {})
