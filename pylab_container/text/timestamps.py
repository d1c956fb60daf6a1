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


# A span of time as Go's time.ParseDuration reads it.
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SPAN = re.compile(rf"([-+]?)((?:{_PART.pattern})+)\Z")
_SECONDS = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
# RFC 3339 of which parts may be left out from behind: a date, an hour, a zone.
_MOMENT = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:T(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d+))?)?)?)?"
    r"(?P<zone>[Zz]|[+-]\d\d:\d\d)?\Z"
)


def moment(text: str, *, now: float) -> float:
    """Seconds since 1970, from what docker's --since and --until take. Raises InvalidInput for anything else.

    It is a span before now ("1h30m", "1.5s"), such seconds with or without a fraction, or RFC 3339 with fewer
    parts: "2026-11-24T08:00:00.5+01:00", "2026-11-24T08:00", "2026-11-24"; in local time where no zone is given.
    Source: moby, api/types/time/timestamp.go.
    """
    if span := _SPAN.match(text):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(span[2]))
        return now + seconds if span[1] == "-" else now - seconds
    if re.fullmatch(r"\d{1,18}(\.\d*)?", text):
        return float(text)
    try:
        return _calendar(text)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f'invalid time: "{text}"', hint="write 2026-11-24T08:00:00Z, or 10m for ten minutes ago"
        ) from None


def _calendar(text: str) -> float:
    """Raises ValueError."""
    match = _MOMENT.match(text)
    if match is None:
        raise ValueError(f"not a time: {text!r}")
    parts = [match[name] or "00" for name in ("hour", "minute", "second")]
    zone = (match["zone"] or "").upper().replace("Z", "+00:00")
    whole = datetime.fromisoformat(f"{match['date']}T{':'.join(parts)}{zone}").timestamp()
    return whole + float(f"0.{match['fraction'] or 0}")


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
