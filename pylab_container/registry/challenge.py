"""Parse the header WWW-Authenticate, with which a server answers 401.

    WWW-Authenticate: Bearer realm="https://auth.example/token",service="registry",scope="repository:a:pull"
    WWW-Authenticate: Basic realm="staff"

Source: RFC 9110, 11.6.1 (grammar: 11.2); the distribution project's token specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# A parameter, or the name of a scheme. Both are tokens; only a parameter's is followed by "=".
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))')
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=\s|,|\Z)")
_ESCAPED = re.compile(r"\\(.)")


class Challenge(Struct, frozen=True):
    """One way to authenticate: the scheme, and {parameter: value}. Scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse(header: str) -> list[Challenge]:
    """Parse the challenges of a header, in order. Everything after the first syntax error is ignored."""
    challenges: list[Challenge] = []
    parameters: dict[str, str] = {}
    position = 0
    while position < len(header):
        # Commas separate both parameters and challenges, so only "=" shows which one follows (RFC 9110, 11.6.1).
        if challenges and (match := _PARAMETER.match(header, position)):
            value = _ESCAPED.sub(r"\1", match[2]) if match[2] is not None else match[3]
            parameters[match[1].lower()] = value
        elif match := _SCHEME.match(header, position):
            parameters = {}
            challenges.append(Challenge(match[1].lower(), parameters))
        else:
            break
        position = match.end()
    return challenges
