"""Amounts of bytes with units: formatting for people, parsing of options."""

from __future__ import annotations

import re

from pylab_container.errors import InvalidInput

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def human(count: float) -> str:
    """Format bytes with a decimal unit and three digits, as `docker images` does: "187MB"."""
    number, unit, larger = _scaled(count, 1000, _DECIMAL)
    # From 999.5 on, three digits round to 1000, which %g would write as 1e+03.
    return f"{number:.3g}{unit}" if number < 999.5 or not larger else f"1{larger}"


def human_precise(count: float) -> str:
    """Format bytes with a decimal unit and four digits, as `docker system df` does: "180.9MB"."""
    number, unit, _ = _scaled(count, 1000, _DECIMAL)
    return f"{number:.4g}{unit}"


def human_binary(count: float) -> str:
    """Format bytes with a binary unit and four digits, as `docker info` does: "7.654GiB"."""
    number, unit, _ = _scaled(count, 1024, _BINARY)
    return f"{number:.4g}{unit}"


def _scaled(count: float, base: int, units: tuple[str, ...]) -> tuple[float, str, str]:
    """Return (count in the largest unit that keeps it at least 1, this unit, the next larger unit or "")."""
    position = 0
    while count >= base and position < len(units) - 1:
        count /= base
        position += 1
    return count, units[position], "".join(units[position + 1 : position + 2])


def parse(text: str) -> int:
    """Parse a size such as the value of `-m`: a number and b, k, m, g or t.

    The units are powers of 1024. Returns bytes.
    Source: docker/go-units, RAMInBytes.

    Raises InvalidInput.
    """
    match = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*(?:b|([kmgt])(?:i?b)?)?", text.strip().lower())
    if match is None:
        raise InvalidInput(f'invalid size: "{text}"', hint="write a number and a unit: 512m, 2g")
    return int(float(match[1]) * _UNITS[match[2] or ""])
