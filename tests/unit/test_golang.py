"""Values as Go prints them. The expected texts are what Go's own fmt and time print."""

from __future__ import annotations

import pytest

from pylab_container.text import golang


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (500_000_000, "500ms"),
        (1_000_000_000, "1s"),
        (1_500_000_000, "1.5s"),
        (60_000_000_000, "1m0s"),
        (90_000_000_000, "1m30s"),
        (3_600_000_000_000, "1h0m0s"),
        (-2_000_000, "-2ms"),
    ],
)
def test_durations_read_as_in_go(nanoseconds: int, text: str) -> None:
    assert golang.duration(nanoseconds) == text
    assert golang.parse_duration(text.removeprefix("-")) == abs(nanoseconds)


@pytest.mark.parametrize("text", ["", "5", "0", "1", "-1s", "1 s", "1d", "1s\n", "٣s", "2562048h", "1" * 400 + "s"])
def test_texts_that_are_not_durations_or_exceed_an_int64_are_none(text: str) -> None:
    assert golang.parse_duration(text) is None


@pytest.mark.parametrize(
    ("number", "text"), [(0, r"'\x00'"), (3, r"'\x03'"), (10, r"'\n'"), (39, r"'\''"), (65, "'A'")]
)
def test_an_integer_is_quoted_as_a_character(number: int, text: str) -> None:
    assert golang.quoted_rune(number) == text


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("a b", '"a b"'),
        ('say "x"', r'"say \"x\""'),
        ("\x01\t\\", r'"\x01\t\\"'),
        ("ü€", '"ü€"'),
        ("\u200b", r'"\u200b"'),
    ],
)
def test_strings_are_quoted_as_in_go(word: str, text: str) -> None:
    assert golang.quoted(word) == text


@pytest.mark.parametrize(
    ("mode", "number"),
    [
        (0o100644, 0o644),
        (0o040755, 0x80000000 | 0o755),
        (0o120777, 0x08000000 | 0o777),
        (0o020620, 0x04200000 | 0o620),
        (0o060660, 0x04000000 | 0o660),
        (0o010644, 0x02000000 | 0o644),
        (0o140755, 0x01000000 | 0o755),
        (0o104755, 0x00800000 | 0o755),
        (0o102755, 0x00400000 | 0o755),
        (0o041777, 0x80000000 | 0x00100000 | 0o777),
    ],
)
def test_a_files_mode_is_the_number_that_go_writes(mode: int, number: int) -> None:
    assert golang.file_mode(mode) == number
