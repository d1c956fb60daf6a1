"""Filters of listings: their values, and the tests that several listings share.

Several values of one filter are alternatives, except labels, which must all match; several filters must all match.
Source: moby api/types/filters, 20.10.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pylab_container.docker import regexes
from pylab_container.errors import InvalidInput

Filters = Mapping[str, str | bool | Sequence[str]]
"""Name → one value or several."""


def values(filters: Filters, name: str) -> tuple[str, ...]:
    """Return the values of one filter as texts; () if it is not set."""
    value = filters.get(name, ())
    if isinstance(value, bool):
        return (str(value).lower(),)
    return (value,) if isinstance(value, str) else tuple(value)


def refuse_unknown(filters: Filters, known: Collection[str]) -> None:
    """Raise InvalidInput for a filter whose name is not in known."""
    for name in filters:
        if name not in known:
            raise InvalidInput(f"Invalid filter '{name}'", hint=f"use one of {', '.join(known)}")


def truth(name: str, text: str) -> bool:
    """Parse the value of the boolean filter `name`. Raises InvalidInput."""
    if text.lower() not in ("1", "true", "0", "false"):
        raise InvalidInput(f"Invalid filter '{name}=[{text}]'", hint="write true or false")
    return text.lower() in ("1", "true")


SPECIAL_CHARACTERS = frozenset("\\.+*?()|[]{}^$")
"""The characters with a meaning of their own in a regular expression."""


def searcher(pattern: str) -> Callable[[str], bool]:
    """Return a predicate: whether a text contains a match of an RE2 expression.

    A pattern without special characters is searched for as a text, without RE2. Raises InvalidInput, MissingExtra.
    """
    if SPECIAL_CHARACTERS.isdisjoint(pattern):
        return lambda text: pattern in text
    return regexes.searcher(pattern)


def text_test(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a predicate: whether a name or id equals a pattern, or contains a match of one.

    Raises InvalidInput.
    """
    texts = set(patterns)
    searchers = [searcher(pattern) for pattern in texts]
    return lambda text: text in texts or any(search(text) for search in searchers)


def has_labels(labels: Mapping[str, str], conditions: Iterable[str]) -> bool:
    """Return whether labels satisfy all conditions, each "name" or "name=value"."""
    pairs = (text.partition("=") for text in conditions)
    return all(name in labels and (not equals or labels[name] == value) for name, equals, value in pairs)
