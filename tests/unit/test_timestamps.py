"""Times as Docker writes them; the words of `ago` are those of go-units' HumanDuration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylab_container.formats.timestamps import NEVER, ago, parse_rfc3339, rfc3339

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
