"""Parse the answers of registries and token servers, which are untrusted: addresses, numbers, documents.

Each function returns a value or raises one RegistryFailed that describes the answer. A retry would get the same answer,
so this error is final. Only Unreachable is retried.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from pylab_container.errors import RegistryFailed
from pylab_container.text.jsontext import NotJson, parse_json

LONGEST_EXCERPT = 500
"""Characters of an answer that an error message shows."""
_HINT = "check that this is the address of a registry"


def parts_of(address: str, what: str) -> SplitResult:
    """Split an address from an answer. what: its purpose, for the error. Raises RegistryFailed."""
    try:
        parts = urlsplit(address)
        # urlsplit() checks the port only when the attribute is read.
        _ = parts.port, parts.hostname
    except ValueError:
        shown = address[:LONGEST_EXCERPT]
        raise RegistryFailed(f'"{shown}" is not a valid address of {what}', hint=_HINT) from None
    return parts


def joined(base: str, address: str) -> str:
    """Resolve an address from a header such as Location or Link against a base. Raises RegistryFailed."""
    parts_of(address, "anything in a registry")
    return urljoin(base, address)


def number_of(text: str) -> int:
    """Parse the value of a header such as Content-Length; 0 if it is not a number."""
    # Longer numbers exceed 64 bits, and int() refuses more than 4300 digits.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def document_of(text: bytes, place: str) -> Any:
    """Parse an answer's JSON document. place: the address that answered, for the error. Raises RegistryFailed."""
    try:
        return parse_json(text)
    except NotJson as error:
        raise RegistryFailed(f"{place} does not answer with JSON: {error}", hint=_HINT) from None
