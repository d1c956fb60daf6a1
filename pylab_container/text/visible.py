"""Text from outside, where it must not be more than text: in one line of a file, and on a terminal.

Labels, file names in layers, commands, a registry's errors and a container's host names are chosen by others. A
newline in one adds a line to a file of lines; an escape sequence moves a terminal's cursor, changes its title or
hides what comes next (ECMA-48; terminals answer some of them as if the user had typed).
"""

from __future__ import annotations

import re

from pylab_container.errors import InvalidInput
from pylab_container.text.golang import quoted

# C0 and C1 controls and DEL; the signs that reorder text (Unicode 15, "Trojan Source"); line and paragraph separators;
# and halves of UTF-16 pairs, as which Python keeps bytes that are not UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_IN_LINES = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def visible(text: str) -> str:
    r"""The text with control characters escaped: "\x1b[31m", "\n", "\u202e". A byte that is not UTF-8 is "\xff"."""
    return _UNSAFE.sub(_escaped, text) if not text.isprintable() else text


def visible_lines(text: str) -> str:
    """The same for a text of several lines: newlines and tabs stay."""
    return _UNSAFE_IN_LINES.sub(_escaped, text) if not text.isprintable() else text


def visible_json(text: str) -> str:
    """A JSON text, in whose strings these characters are written as JSON's own escapes."""
    return _UNSAFE_IN_LINES.sub(lambda match: f"\\u{ord(match[0]):04x}", text) if not text.isprintable() else text


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    if 0xDC80 <= number <= 0xDCFF:  # os.fsdecode(), PEP 383
        return f"\\x{number - 0xDC00:02x}"
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(
        match[0], f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
    )


def check_line(text: str, what: str) -> str:
    """The text, if it can be a part of one line of a file. Raises InvalidInput, with what the text is."""
    if _UNSAFE.search(text):
        raise InvalidInput(f"invalid {what}: {quoted(text)}", hint="leave out newlines and control characters")
    return text
