"""Amounts of bytes, as go-units writes (HumanSizeWithPrecision 3) and reads (RAMInBytes) them."""

from __future__ import annotations

import pytest

from pylab_container.errors import InvalidInput
from pylab_container.text.sizes import human, parse


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1024, "1.02kB"),
        (1_240_000, "1.24MB"),
        (187_400_000, "187MB"),
        (1_000_000_000, "1GB"),
        (999_499, "999kB"),
        (999_600, "1MB"),
        (999_999_999_999, "1TB"),
        (5 * 10**15, "5PB"),
    ],
)
def test_a_size_has_three_digits_and_a_decimal_unit(count: int, text: str) -> None:
    assert human(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("32", 32),
        ("32b", 32),
        ("32k", 32 << 10),
        ("32K", 32 << 10),
        ("32kb", 32 << 10),
        ("32Kib", 32 << 10),
        ("32 m", 32 << 20),
        (" 1g ", 1 << 30),
        ("2T", 2 << 40),
        ("32.5kB", 33280),
        ("0.3k", 307),
        ("0", 0),
    ],
)
def test_an_amount_is_read_with_binary_units(text: str, count: int) -> None:
    assert parse(text) == count


@pytest.mark.parametrize(
    "text", ["", "hello", "-32", "32.", ".", " ", "32mm", "32bb", "32bib", "1e3", "k", "9" * 400 + "k"]
)
def test_what_is_no_amount_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidInput, match="512m"):
        parse(text)
