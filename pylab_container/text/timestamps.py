"""Timestamps and ages in the formats of Docker's API and command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from pylab_container.errors import InvalidInput
from pylab_container.text.golang import parse_duration

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time, which Docker writes for an event that has not happened."""

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)\Z")


def rfc3339(nanoseconds: int) -> str:
    """Format nanoseconds since the epoch as RFC 3339 in UTC: Go's time.RFC3339Nano.

    Trailing zeros of the fraction are omitted.
    """
    seconds, fraction = divmod(nanoseconds, 10**9)
    # strftime("%Y") does not pad years below 1000 in glibc, and Go's zero time is in the year 1.
    text = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
    return f"{text}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


def parse_rfc3339(text: str) -> int:
    """Parse an RFC 3339 time. Returns nanoseconds since the epoch. Raises ValueError."""
    match = _RFC3339.match(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    moment = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return int(moment.timestamp()) * 10**9 + int((match[2] or "0").ljust(9, "0"))


# RFC 3339 with optional parts: everything after the date may be left out, from the end, and also the zone.
_MOMENT = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:T(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d+))?)?)?)?"
    r"(?P<zone>[Zz]|[+-]\d\d:\d\d)?\Z"
)


def moment(text: str, *, now: float) -> float:
    """Parse the value of docker's --since and --until. Returns seconds since the epoch.

    text  a duration before now ("1h30m", "-5m" is in the future), seconds since the epoch with or without a fraction,
          or RFC 3339 with fewer parts: "2026-11-24T08:00:00.5+01:00", "2026-11-24T08:00", "2026-11-24"; local time
          without a zone
    now   seconds since the epoch

    Source: moby, api/types/time/timestamp.go.

    Raises InvalidInput.
    """
    unsigned = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if (nanoseconds := parse_duration(unsigned)) is not None:
        return now + nanoseconds / 10**9 if text.startswith("-") else now - nanoseconds / 10**9
    if re.fullmatch(r"\d{1,18}(\.\d*)?", text):
        return float(text)
    try:
        return _calendar(text)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f'invalid time: "{text}"', hint="write 2026-11-24T08:00:00Z, or 10m for ten minutes ago"
        ) from None


def _calendar(text: str) -> float:
    """Return the seconds since the epoch of a date or time. Raises ValueError."""
    match = _MOMENT.match(text)
    if match is None:
        raise ValueError(f"not a time: {text!r}")
    parts = [match[name] or "00" for name in ("hour", "minute", "second")]
    zone = (match["zone"] or "").upper().replace("Z", "+00:00")
    whole = datetime.fromisoformat(f"{match['date']}T{':'.join(parts)}{zone}").timestamp()
    return whole + float(f"0.{match['fraction'] or 0}")


def ago(nanoseconds: int) -> str:
    """Format an age in the docker command's words: "15 seconds", "About an hour", "3 weeks".

    Source: docker/go-units, HumanDuration.
    """
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
    hours = (seconds + 1800) // 3600  # rounded to the nearest hour, as in go-units
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    for unit, unit_hours, limit_hours in (
        ("days", 24, 24 * 7 * 2),
        ("weeks", 24 * 7, 24 * 30 * 2),
        ("months", 24 * 30, 24 * 365 * 2),
    ):
        if hours < limit_hours:
            return f"{hours // unit_hours} {unit}"
    return f"{hours // (24 * 365)} years"
