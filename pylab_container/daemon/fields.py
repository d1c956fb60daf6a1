"""Fields of a JSON document that a client sent, each of the type that it must have.

null, and nothing at all, stand for the empty value of the type. Names are found in any case of letters,
as Go's encoding/json finds them. All functions raise InvalidInput for a value of another type.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pylab_container.daemon.call import Json
from pylab_container.errors import InvalidInput

Value = TypeVar("Value")

_KINDS: dict[type[Any], str] = {
    str: "a text",
    bool: "true or false",
    int: "a number",
    list: "a list",
    dict: "an object",
}


def text(document: Json, name: str) -> str:
    """A string."""
    return _typed(document, name, str) or ""


def flag(document: Json, name: str, *, default: bool = False) -> bool:
    """True or false."""
    value = _typed(document, name, bool)
    return default if value is None else value


def number(document: Json, name: str) -> int | None:
    """A whole number; None where there is none."""
    return _typed(document, name, int)


def child(document: Json, name: str) -> Json:
    """An object."""
    return _typed(document, name, dict) or {}


def children(document: Json, name: str) -> list[Json]:
    """A list of objects."""
    return [_checked(one, name, dict) for one in _typed(document, name, list) or []]


def texts(document: Json, name: str) -> list[str]:
    """A list of strings."""
    return [_checked(one, name, str) for one in _typed(document, name, list) or []]


def labels(document: Json, name: str) -> dict[str, str]:
    """An object whose values are strings."""
    return {key: _checked(value, name, str) for key, value in child(document, name).items()}


def raw(document: Json, name: str) -> Any:
    """Whatever is there."""
    value = document.get(name)
    if value is None:
        value = next((document[key] for key in document if key.lower() == name.lower()), None)
    return value


def _typed(document: Json, name: str, kind: type[Value]) -> Value | None:
    value = raw(document, name)
    return None if value is None else _checked(value, name, kind)


def _checked(value: object, name: str, kind: type[Value]) -> Value:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidInput(f"invalid value of {name}: {value!r:.80}", hint=f"it is {_KINDS[kind]}")
    return value
