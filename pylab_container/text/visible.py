"""Escape untrusted text before it is printed on a terminal or written into a line of a file.

Labels, file names in layers, commands, a registry's errors and host names are chosen by others. A newline injects
a line into a file such as /etc/hosts. An escape sequence moves a terminal's cursor, changes its title or hides the
text after it (ECMA-48); a terminal answers some of them with input, as if the user had typed it.
"""

from __future__ import annotations

import re

from pylab_container.errors import InvalidInput
from pylab_container.text.golang import quoted

# C0 and C1 controls and DEL; bidirectional formatting characters, which reorder the text on the screen (UAX #9,
# CVE-2021-42574 "Trojan Source"); line and paragraph separators; and surrogates, which stand for bytes that are not
# UTF-8 (PEP 383) and cannot be encoded. Text and not re.compile(): most commands print no such text, and need not
# compile the pattern, which takes 1 ms; re keeps the compiled one.
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
_UNSAFE_IN_LINES = _UNSAFE.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f")


def visible(text: str) -> str:
    r"""Return text with unsafe characters escaped: "\x1b[31m", "\n", "\u202e".

    A byte that is not UTF-8 is "\xff".
    """
    return re.sub(_UNSAFE, _escaped, text) if not text.isprintable() else text


def visible_lines(text: str) -> str:
    """As visible(), for a text of several lines: newlines and tabs are kept."""
    return re.sub(_UNSAFE_IN_LINES, _escaped, text) if not text.isprintable() else text


def visible_json(text: str) -> str:
    """As visible_lines(), for a JSON document: unsafe characters become JSON's own escapes."""
    return re.sub(_UNSAFE_IN_LINES, lambda match: f"\\u{ord(match[0]):04x}", text) if not text.isprintable() else text


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    if 0xDC80 <= number <= 0xDCFF:  # a byte, decoded with surrogateescape (PEP 383)
        return f"\\x{number - 0xDC00:02x}"
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(
        match[0], f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
    )


def check_line(text: str, kind: str) -> str:
    """Return text if it is safe in one line of a file.

    Raises InvalidInput. kind: a noun for the message.
    """
    if not text.isprintable() and re.search(_UNSAFE, text):
        raise InvalidInput(f"invalid {kind}: {quoted(text)}", hint="leave out newlines and control characters")
    return text
