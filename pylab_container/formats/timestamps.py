"""Points in time and spans of time as Docker writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from pylab_container.errors import InvalidInput

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time: how Docker writes "has not happened"."""

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)\Z")


def rfc3339(nanoseconds: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 in UTC, without trailing zeros, as Go's RFC3339Nano."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    # Not strftime(): it writes the year 1, Go's zero time, without its zeros.
    text = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
    return f"{text}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


def parse_rfc3339(text: str) -> int:
    """The inverse: nanoseconds since the epoch. Raises ValueError for anything else."""
    match = _RFC3339.match(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    moment = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return int(moment.timestamp()) * 10**9 + int((match[2] or "0").ljust(9, "0"))


_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:h|m|s))+\Z")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|m|s)")
_SECONDS = {"h": 3600, "m": 60, "s": 1}


def moment(text: str, *, now: float) -> float:
    """Seconds since 1970: from an RFC 3339 time, such seconds, or a span before now, "1h30m". Raises InvalidInput."""
    if _SPAN.match(text):
        return now - sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    try:
        return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else parse_rfc3339(text) / 10**9
    except ValueError:
        raise InvalidInput(
            f'invalid time: "{text}"', hint="write 2026-11-24T08:00:00Z, or 10m for ten minutes ago"
        ) from None


def ago(nanoseconds: int) -> str:
    """How long ago, roughly, in the docker command's words: "15 seconds", "About an hour", "3 weeks"."""
    seconds = max(0, nanoseconds // 10**9)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = (seconds + 1800) // 3600  # to the nearest hour, half an hour up
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    for unit, length, until in (
        ("days", 24, 24 * 7 * 2),
        ("weeks", 24 * 7, 24 * 30 * 2),
        ("months", 24 * 30, 24 * 365 * 2),
    ):
        if hours < until:
            return f"{hours // length} {unit}"
    return f"{hours // (24 * 365)} years"
