"""Here-documents: <<EOF in an instruction, and the lines up to EOF (POSIX, XCU 2.7.4)."""

from __future__ import annotations

import re

from msgspec import Struct

from pylab_container.dockerfile.expansion import literal_words
from pylab_container.errors import InvalidInput

# After BuildKit's reHeredoc (parser.go). The digits are a file descriptor, as in sh: RUN 3<<EOF.
_HEREDOC = re.compile(r"\d*<<(-?)\s*([^<]*)", re.ASCII)


class Heredoc(Struct, frozen=True):
    """A here-document: `<<EOF` in an instruction, and the lines up to EOF (POSIX, XCU 2.7.4).

    name     the delimiter, without quotes
    content  the lines, unchanged, with their line ends
    expand   variables in the content are expanded: no part of the delimiter was quoted
    chomp    leading tabs are removed: written <<-
    """

    name: str
    content: str
    expand: bool
    chomp: bool

    @property
    def text(self) -> str:
        """The content after the removal of leading tabs, if requested."""
        # Only tabs, as in sh: the content itself can then be indented with spaces.
        return re.sub(r"(?m)^\t+", "", self.content) if self.chomp else self.content


def parse_heredoc(word: str) -> Heredoc | None:
    """Parse a word such as <<EOF or 3<<-"EOF".

    Returns a here-document without content; None for other words.

    Raises InvalidInput for an unbalanced quote.
    """
    match = _HEREDOC.fullmatch(word)
    if not match or not match[2]:
        return None
    plain = literal_words(match[2], keep_quotes=False, keep_escapes=False)
    quoted = literal_words(match[2], keep_escapes=False)
    if len(plain) != 1:
        return None
    # Quoting any part of the delimiter turns expansion off for the whole content. Comparing the two forms shows quotes
    # that were syntax; an escaped quote is in both.
    expand = _count_quotes(plain[0]) == _count_quotes(quoted[0])
    return Heredoc(plain[0], "", expand, match[1] == "-")


def heredoc_reference(argument: str) -> Heredoc | None:
    """As parse_heredoc(), but return None for an unbalanced quote: the argument was split at a space inside quotes."""
    try:
        return parse_heredoc(argument)
    except InvalidInput:
        return None


def _count_quotes(text: str) -> int:
    return text.count("'") + text.count('"')
