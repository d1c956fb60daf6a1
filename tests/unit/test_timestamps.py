"""Times as Docker writes them; the words of `ago` are those of go-units' HumanDuration."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylab_container.errors import InvalidInput
from pylab_container.text.timestamps import NEVER, ago, moment, parse_rfc3339, rfc3339

SECOND, MINUTE, HOUR, DAY = 10**9, 60 * 10**9, 3600 * 10**9, 24 * 3600 * 10**9


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (1_767_225_599_123_456_789, "2025-12-31T23:59:59.123456789Z"),
        (10 * SECOND, "1970-01-01T00:00:10Z"),
    ],
)
def test_a_time_is_written_without_trailing_zeros_and_read_back(nanoseconds: int, text: str) -> None:
    assert rfc3339(nanoseconds) == text
    assert parse_rfc3339(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z"),
        ("2026-01-02T03:04:05.25-00:30", "2026-01-02T03:34:05.25Z"),
        ("2026-01-02T03:04:05.1234567891Z", "2026-01-02T03:04:05.123456789Z"),
    ],
)
def test_offsets_and_more_digits_than_nanoseconds_are_understood(text: str, same: str) -> None:
    assert parse_rfc3339(text) == parse_rfc3339(same)


def test_go_s_zero_time_survives() -> None:
    assert rfc3339(parse_rfc3339(NEVER)) == NEVER


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-01-02", "2026-01-02 03:04:05Z", "2026-13-02T03:04:05Z", "2026-01-02T03:04:05", NEVER + "\n"],
)
def test_anything_else_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)


@given(st.integers(-(62 * 10**18), 250 * 10**18))
def test_every_time_of_the_calendar_reads_back(nanoseconds: int) -> None:
    assert parse_rfc3339(rfc3339(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("nanoseconds", "words"),
    [
        (-5 * SECOND, "Less than a second"),
        (SECOND - 1, "Less than a second"),
        (SECOND, "1 second"),
        (59 * SECOND, "59 seconds"),
        (MINUTE, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (59 * MINUTE, "59 minutes"),
        (60 * MINUTE, "About an hour"),
        (89 * MINUTE, "About an hour"),
        (90 * MINUTE, "2 hours"),
        (150 * MINUTE, "3 hours"),
        (47 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
        (3 * 365 * DAY, "3 years"),
    ],
)
def test_how_long_ago_is_told_in_docker_s_words(nanoseconds: int, words: str) -> None:
    assert ago(nanoseconds) == words


# -- what --since and --until take --------------------------------------------------------------

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("10m", 600),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("+1m", 60),
        ("-1m", -60),
        ("250ms", 0.25),
        ("1h0m0.5s", 3600.5),
        ("0s", 0),
    ],
)
def test_a_span_is_counted_back_from_now(text: str, before: float) -> None:
    assert moment(text, now=NOW) == NOW - before


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.5+01:00", "2026-01-02T02:04:05.5Z"),
        ("2026-01-02T03:04Z", "2026-01-02T03:04:00Z"),
        ("2026-01-02T03-01:00", "2026-01-02T04:00:00Z"),
        ("2026-01-02Z", "2026-01-02T00:00:00Z"),
        ("2026-01-02+02:00", "2026-01-01T22:00:00Z"),
    ],
)
def test_a_time_may_lack_its_last_parts(text: str, same: str) -> None:
    assert moment(text, now=NOW) == parse_rfc3339(same) / 10**9


@pytest.mark.parametrize("text", ["2026-07-02", "2026-07-02T03", "2026-07-02T03:04", "2026-07-02T03:04:05.25"])
def test_a_time_without_a_zone_is_local(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-03:00")  # POSIX counts westwards: three hours ahead of UTC
    time.tzset()
    try:
        assert moment(text, now=NOW) == moment(f"{text}+03:00", now=NOW)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_seconds_may_have_a_fraction() -> None:
    assert moment("1700000000", now=NOW) == 1_700_000_000
    assert moment("1700000000.25", now=NOW) == 1_700_000_000.25
    assert moment("0", now=NOW) == 0


@pytest.mark.parametrize(
    "text",
    ["", "noon", "1h 30m", "10x", "m", "2026-13-01", "2026-01-02T25", "2026-01-02T03:04:05Z\n", "1e3", "-5", "-"],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid time"):
        moment(text, now=NOW)
