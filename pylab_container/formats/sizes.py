"""Amounts of bytes, as people write and read them."""

from __future__ import annotations

import re

from pylab_container.errors import InvalidInput

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def human(count: float) -> str:
    """Bytes with a decimal unit and three significant digits, as `docker images` shows them: "187MB"."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.3g}{units[0]}" if count < 999.5 or len(units) == 1 else f"1{units[1]}"


def human_precise(count: float) -> str:
    """Bytes with a decimal unit and four significant digits, as `docker system df` shows them: "180.9MB"."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.4g}{units[0]}"


def human_binary(count: float) -> str:
    """Bytes with a binary unit and four significant digits, as `docker info` shows memory: "7.654GiB"."""
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while count >= 1024 and len(units) > 1:
        count /= 1024
        units.pop(0)
    return f"{count:.4g}{units[0]}"


def parse(text: str) -> int:
    """An amount of memory as `-m` takes it: a number and b, k, m or g (powers of 1024). Raises InvalidInput."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*(?:b|([kmgt])(?:i?b)?)?", text.strip().lower())
    if match is None:
        raise InvalidInput(f'invalid size: "{text}"', hint="write a number and a unit: 512m, 2g")
    return int(float(match[1]) * _UNITS[match[2] or ""])
