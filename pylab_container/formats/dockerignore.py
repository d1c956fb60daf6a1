"""The patterns of a .dockerignore file: which files stay out of the build context.

The rules are those of Docker's own matcher (moby/patternmatcher):

    *       any characters except /          ?     one character except /
    **      any number of directories        [a-z] one of these; [^a-z] none of these
    \\x      the character x itself           !p    files that p matches come back
    # …     a comment, at the start of a line

Patterns start at the root of the context, with or without a leading slash. What
matches a directory also matches everything below it. The last pattern that matches
a file decides about it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from functools import cached_property

from msgspec import Struct

from pylab_container.errors import InvalidInput

_BYTE_ORDER_MARK = "\ufeff"


class Pattern(Struct, frozen=True, dict=True):
    """One line of the file, cleaned: "./a//b/" and "/a/b" are "a/b"."""

    text: str
    is_exception: bool

    @cached_property
    def matches(self) -> Callable[[str], bool]:
        """Whether the pattern names exactly this path; says nothing about its parents."""
        if self.text.startswith("**") and not _has_special(self.text[2:]):
            return self._ends_like
        compiled = re.compile(expression(self.text))
        return lambda path: compiled.fullmatch(path) is not None

    def _ends_like(self, path: str) -> bool:
        # Docker reads "**name" as "ends in name", also inside a file name; "**/name" wants a whole name.
        ending = self.text[2:]
        return path.endswith(ending) or (ending.startswith("/") and path == ending[1:])

    def may_match_below(self, directory: str) -> bool:
        """Whether some path under `directory` could match. True where that is hard to tell."""
        names = directory.split("/")
        for wanted, name in zip(self.text.split("/"), names, strict=False):
            if "**" in wanted or "[^" in wanted:  # both can match a slash
                return True
            if not re.fullmatch(expression(wanted), name):
                return False
        return True


Matches = tuple[bool, ...]
"""For each pattern, whether it names a path or a directory above it."""


class IgnorePatterns:
    """All patterns of one file, in their order."""

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self.patterns = patterns

    @classmethod
    def parse(cls, text: str) -> IgnorePatterns:
        """The patterns of the text of a .dockerignore file.

        Raises InvalidInput with the line's number for a pattern that cannot match anything by its syntax.
        """
        patterns = []
        for number, line in enumerate(text.removeprefix(_BYTE_ORDER_MARK).split("\n"), start=1):
            if line.startswith("#") or not line.strip():
                continue
            try:
                patterns.append(_pattern(line.strip()))
            except InvalidInput as error:
                raise InvalidInput(f".dockerignore line {number}: {error.message}", hint=error.hint) from None
        return cls(tuple(patterns))

    @classmethod
    def of(cls, patterns: Iterable[str]) -> IgnorePatterns:
        """Patterns that come one by one, as those of COPY --exclude. Raises InvalidInput."""
        return cls(tuple(_pattern(pattern) for pattern in patterns))

    def excludes(self, path: str) -> bool:
        """Whether the file stays out. `path` is relative to the context and "/"-separated.

        The context itself is never excluded.
        """
        path = _clean(path)
        if path == ".":
            return False
        matches: Matches = ()
        for each in [*_parents(path), path]:
            matches = self.matches(each, matches)
        return self.covers(matches)

    def matches(self, path: str, above: Matches = ()) -> Matches:
        """What each pattern says of a path, given what it said of the directory above: a walk asks but once."""
        known = above or (False,) * len(self.patterns)
        return tuple([seen or pattern.matches(path) for seen, pattern in zip(known, self.patterns, strict=True)])

    def covers(self, matches: Matches) -> bool:
        """Whether a path with these matches stays out: the last pattern that names it decides."""
        covered = False
        for pattern, match in zip(self.patterns, matches, strict=True):
            if match and pattern.is_exception == covered:
                covered = not covered
        return covered

    def may_enter(self, directory: str) -> bool:
        """Whether the docker command looks into an excluded `directory` for what a `!` pattern brings back.

        It does where a `!` pattern begins with the directory's own name; a wildcard is not tried.
        """
        start = _clean(directory) + "/"
        return any(f"{pattern.text}/".startswith(start) for pattern in self.patterns if pattern.is_exception)

    def may_contain_exceptions(self, directory: str) -> bool:
        """Whether a walk must enter the excluded `directory` because a `!` pattern may bring back something below it.

        May say True too often, never False wrongly.
        """
        directory = _clean(directory)
        exceptions = [pattern for pattern in self.patterns if pattern.is_exception]
        return any(directory == "." or pattern.may_match_below(directory) for pattern in exceptions)


def _pattern(line: str) -> Pattern:
    is_exception = line.startswith("!")
    text = line.removeprefix("!").strip()
    if not text:
        raise InvalidInput('"!" alone is no pattern', hint="write the pattern of the files to keep after the !")
    text = _clean(text)
    if len(text) > 1:
        text = text.removeprefix("/")
    expression(text)
    return Pattern(text, is_exception)


def _clean(path: str) -> str:
    """Without doubled slashes, "." and "..", as Go's path.Clean. POSIX lets two leading slashes be; Go does not."""
    return re.sub("^//+", "/", posixpath.normpath(path))


def _parents(path: str) -> list[str]:
    """The directories above, from the top: "a/b/c" has "a" and "a/b"."""
    return [path[: slash.start()] for slash in re.finditer("/", path)]


def _has_special(text: str) -> bool:
    return any(character in text for character in "*?[]\\")


_TOKEN = re.compile(
    r"""(?P<anywhere>\*\*/?)
      | (?P<any>\*)
      | (?P<one>\?)
      | \[(?P<negated>\^?)(?P<ranges>(?:\\.|[^\]\\])+)\]
      | \\(?P<escaped>.)
      | (?P<literal>[^\[\\])
    """,
    re.VERBOSE | re.DOTALL,
)


def expression(pattern: str) -> str:
    """The regular expression that a path must match as a whole. Raises InvalidInput where the syntax is wrong."""
    built, position = "", 0
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        if token is None:
            what = "\\ at its end" if pattern[position] == "\\" else "[ without a ] that closes it"
            raise InvalidInput(
                f'the pattern "{pattern}" has a {what}', hint="put a \\ before a character that is meant literally"
            )
        position = token.end()
        built += _token_expression(token, pattern)
    return built


def _token_expression(token: re.Match[str], pattern: str) -> str:
    kind = token.lastgroup
    if kind == "anywhere":
        return "(.*/)?" if token.end() < len(pattern) else ".*"
    if kind == "any":
        return "[^/]*"
    if kind == "one":
        return "[^/]"
    if kind == "ranges":
        return f"[{token['negated']}{_ranges(token['ranges'], pattern)}]"
    return re.escape(token[kind or 0])


def _ranges(text: str, pattern: str) -> str:
    """What stands in brackets: characters and ranges of them, each one escaped for re."""
    character = r"(?:\\(.)|([^\\\-]))"
    expression, position = "", 0
    while position < len(text):
        token = re.compile(f"{character}(?:-{character})?", re.DOTALL).match(text, position)
        first = token and (token[1] or token[2])
        last = token and (token[3] or token[4] or first)
        if not token or not first or not last or last < first:
            raise InvalidInput(
                f'the pattern "{pattern}" has a wrong range in [ ]', hint="a range is written [a-z], a literal - is \\-"
            )
        expression += f"{re.escape(first)}-{re.escape(last)}"
        position = token.end()
    return expression
