"""Values in the text formats of Go's standard library.

dockerd writes image histories and errors with Go's fmt, so equal text needs equal formatting. Sources: Go's
documentation of the packages strconv (Quote, QuoteRune, ParseBool), fmt, time (Duration.String, ParseDuration), io/fs.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence

_ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\"}


def quoted(text: str) -> str:
    """Quote a string as strconv.Quote does."""
    return '"' + "".join(r"\"" if character == '"' else _escaped(character) for character in text) + '"'


def quoted_words(words: Sequence[str]) -> str:
    """Format a list of strings as %q does: ["nginx" "-g"]."""
    return "[" + " ".join(quoted(word) for word in words) + "]"


def quoted_rune(number: int) -> str:
    """Format an integer as %q does, which takes it for a code point: 3 is '\\x03', 65 is 'A'."""
    character = chr(number) if 0 <= number <= 0x10FFFF and not 0xD800 <= number < 0xE000 else "\ufffd"
    return "'" + (r"\'" if character == "'" else _escaped(character)) + "'"


def _escaped(character: str) -> str:
    number = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8, decoded with surrogateescape (PEP 383)
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x20 or number == 0x7F:
        return f"\\x{number:02x}"
    if character.isprintable():
        return character
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def truth(text: str) -> bool | None:
    """Parse a boolean as strconv.ParseBool does; None if the text is not a boolean."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    return False if text in ("0", "f", "F", "false", "FALSE", "False") else None


_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, micro sign
    "μs": 10**3,  # U+03BC, Greek letter mu
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
# A text has only one way to match. In `\d+\.?\d*` digits could be split in many ways, and backtracking through all
# of them takes quadratic time.
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_DURATION = re.compile(f"(?:{_DURATION_PART.pattern})+", re.ASCII)


def parse_duration(text: str) -> int | None:
    """Parse a duration without a sign, as time.ParseDuration does: "1m30s", "1.5h".

    Returns nanoseconds, or None.

    None stands for other texts, and for durations that exceed an int64, as in Go. It also stands for "0" without a
    unit, which Go accepts: each caller decides what a bare number means.
    """
    if not _DURATION.fullmatch(text):
        return None
    parts = [float(number) * _NANOSECONDS[unit] for number, unit in _DURATION_PART.findall(text)]
    return sum(map(round, parts)) if sum(parts) < 2**63 else None


def duration(nanoseconds: int) -> str:
    """Format a duration as Duration.String does: 1m30s, 1.5s, 500ms, 0s."""
    if nanoseconds == 0:
        return "0s"
    if abs(nanoseconds) < 10**9:
        scale, unit = next(pair for pair in ((10**6, "ms"), (10**3, "µs"), (1, "ns")) if abs(nanoseconds) >= pair[0])
        return _decimal(nanoseconds, scale) + unit
    sign, rest = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    hours, rest = divmod(rest, 3600 * 10**9)
    minutes, rest = divmod(rest, 60 * 10**9)
    seconds = _decimal(rest, 10**9) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else sign + seconds


# Bits of Go's fs.FileMode. The type and set-id bits differ from those of stat(2); the permission bits are the same.
_FILE_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: (1 << 26) | (1 << 21),
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_FILE_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


def file_mode(mode: int) -> int:
    """Convert a st_mode into the number of Go's fs.FileMode, as the Engine API has it."""
    bits = sum(go_bit for bit, go_bit in _FILE_BITS.items() if mode & bit)
    return _FILE_KINDS.get(stat.S_IFMT(mode), 0) | bits | (mode & 0o777)


def _decimal(number: int, scale: int) -> str:
    """Format number / scale without trailing zeros. scale: a power of ten."""
    whole, rest = divmod(abs(number), scale)
    digits = len(str(scale)) - 1
    fraction = f".{rest:0{digits}}".rstrip("0").rstrip(".") if rest else ""
    return f"{'-' if number < 0 else ''}{whole}{fraction}"
