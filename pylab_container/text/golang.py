"""Values as Go prints them: docker writes its histories with Go's `%q`, and ours read the same.

Source: Go's documentation of the packages strconv (Quote, QuoteRune), fmt, time (Duration.String) and io/fs.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence

_ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\"}


def quoted(text: str) -> str:
    """A string in double quotes."""
    return '"' + "".join(r"\"" if character == '"' else _escaped(character) for character in text) + '"'


def quoted_words(words: Sequence[str]) -> str:
    """A list of strings: ["nginx" "-g"]."""
    return "[" + " ".join(quoted(word) for word in words) + "]"


def quoted_rune(number: int) -> str:
    """An integer, which %q takes for a character: 3 is '\\x03', 65 is 'A'."""
    character = chr(number) if 0 <= number <= 0x10FFFF and not 0xD800 <= number < 0xE000 else "\ufffd"
    return "'" + (r"\'" if character == "'" else _escaped(character)) + "'"


def _escaped(character: str) -> str:
    number = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8, as Python keeps it
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x20 or number == 0x7F:
        return f"\\x{number:02x}"
    if character.isprintable():
        return character
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def truth(text: str) -> bool | None:
    """What strconv.ParseBool makes of a text; None where it is neither true nor false."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    return False if text in ("0", "f", "F", "false", "FALSE", "False") else None


def duration(nanoseconds: int) -> str:
    """A length of time: 1m30s, 1.5s, 500ms, 0s."""
    if nanoseconds == 0:
        return "0s"
    if abs(nanoseconds) < 10**9:
        scale, unit = next(each for each in ((10**6, "ms"), (10**3, "µs"), (1, "ns")) if abs(nanoseconds) >= each[0])
        return _decimal(nanoseconds, scale) + unit
    sign, rest = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    hours, rest = divmod(rest, 3600 * 10**9)
    minutes, rest = divmod(rest, 60 * 10**9)
    seconds = _decimal(rest, 10**9) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else sign + seconds


# Bits of Go's fs.FileMode, which lie elsewhere than those of stat(2); permissions are the same.
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
    """A st_mode as the number that Go writes for a file's mode (package io/fs, FileMode)."""
    bits = sum(there for here, there in _FILE_BITS.items() if mode & here)
    return _FILE_KINDS.get(stat.S_IFMT(mode), 0) | bits | (mode & 0o777)


def _decimal(number: int, scale: int) -> str:
    whole, rest = divmod(abs(number), scale)
    digits = len(str(scale)) - 1
    fraction = f".{rest:0{digits}}".rstrip("0").rstrip(".") if rest else ""
    return f"{'-' if number < 0 else ''}{whole}{fraction}"
