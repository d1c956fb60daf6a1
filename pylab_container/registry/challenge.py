"""What a server asks for with 401: the header WWW-Authenticate, taken apart.

    WWW-Authenticate: Bearer realm="https://auth.example/token",service="registry",scope="repository:a:pull"
    WWW-Authenticate: Basic realm="staff"

Source: RFC 9110, 11.6.1 (grammar: 11.2); the distribution project's token specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# One parameter, or the name of a scheme, which is followed by no "=".
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))')
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=\s|,|\Z)")
_ESCAPED = re.compile(r"\\(.)")


class Challenge(Struct, frozen=True):
    """One way to authenticate: a scheme in small letters, and its parameters by their names in small letters."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse(header: str) -> list[Challenge]:
    """The challenges of a header, in their order. What is behind the first mistake counts for nothing."""
    challenges: list[Challenge] = []
    parameters: dict[str, str] = {}
    position = 0
    while position < len(header):
        if challenges and (found := _PARAMETER.match(header, position)):
            value = _ESCAPED.sub(r"\1", found[2]) if found[2] is not None else found[3]
            parameters[found[1].lower()] = value
        elif found := _SCHEME.match(header, position):
            parameters = {}
            challenges.append(Challenge(found[1].lower(), parameters))
        else:
            break
        position = found.end()
    return challenges
