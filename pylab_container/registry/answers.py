"""What a registry or a server of tokens says, taken as data: addresses, numbers and documents that may be nonsense.

Each function answers with a value or with one RegistryFailed in words about the answer. Sending the same
request again would bring the same answer, so this error is final; Unreachable is the one that is tried again.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from pylab_container.errors import RegistryFailed
from pylab_container.text.jsontext import NotJson, parse_json

LONGEST_EXCERPT = 500
"""Characters of an answer that an error shows."""
_HINT = "is this the address of a registry?"


def parts_of(address: str, what: str) -> SplitResult:
    """An address that a server gave, taken apart; `what` it is the address of. Raises RegistryFailed."""
    try:
        parts = urlsplit(address)
        _ = parts.port, parts.hostname  # read late by urlsplit(), and only then found wrong
    except ValueError:
        shown = address[:LONGEST_EXCERPT]
        raise RegistryFailed(f'"{shown}" cannot be the address of {what}', hint=_HINT) from None
    return parts


def joined(base: str, address: str) -> str:
    """Where an address leads that a registry gave, as Location or Link, from a base. Raises RegistryFailed."""
    parts_of(address, "anything in a registry")
    return urljoin(base, address)


def number_of(text: str) -> int:
    """The value of a header such as Content-Length, 0 where it is not a number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def document_of(text: bytes, place: str) -> Any:
    """The JSON document in an answer from a place. Raises RegistryFailed."""
    try:
        return parse_json(text)
    except NotJson as error:
        raise RegistryFailed(f"{place} does not answer with JSON: {error}", hint=_HINT) from None
