"""Patterns of a .dockerignore file, which exclude files from the build context.

    *       any characters except /          ?     one character except /
    **      any number of directories        [a-z] one of these; [^a-z] any character except these
    \\x      the character x itself           !p    an exception: files that p matches are included
    # …     a comment, at the start of a line

Patterns are relative to the root of the context, with or without a leading slash. A pattern that matches a directory
also matches everything below it. For each file the last pattern that matches decides. Source: moby/patternmatcher.
"""

from __future__ import annotations

import posixpath
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from msgspec import Struct

from pylab_container.errors import InvalidInput
from pylab_container.text.globs import Glob, Globs, PatternSteps, ignore_steps

_BYTE_ORDER_MARK = "\ufeff"
# An automaton is simulated with integers of one bit for each step, so a larger one takes more time for each character
# and more memory, but fewer automata have to run.
_STEPS_TOGETHER = 4096


class Pattern(Struct, frozen=True, dict=True):
    """A line of the file with its path normalized: "./a//b/" and "/a/b" are "a/b"."""

    text: str
    is_exception: bool

    @cached_property
    def steps(self) -> PatternSteps:
        """The parsed pattern. Raises InvalidInput for a syntax error."""
        return ignore_steps(self.text)

    @cached_property
    def _glob(self) -> Glob:
        return Glob(self.steps)

    def matches(self, path: str) -> bool:
        """Report whether the pattern matches this path itself, not only a directory above it."""
        return self._glob.matches(path)

    def may_match_below(self, directory: str) -> bool:
        """Report whether the pattern can match `directory`, one of its parents, or a path below."""
        return self._glob.may_match_below(directory)


class IgnorePatterns:
    """The patterns of a file, in its order."""

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self.patterns = patterns

    @classmethod
    def parse(cls, text: str) -> IgnorePatterns:
        """Parse a .dockerignore file.

        Raises InvalidInput, with the line's number, for a syntax error.
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
        """Parse separate patterns, such as those of COPY --exclude. Raises InvalidInput."""
        return cls(tuple(_pattern(pattern) for pattern in patterns))

    def excludes(self, path: str) -> bool:
        """Report whether a file is excluded. The root of the context never is.

        path  relative to the context, with slashes
        """
        path = _clean(path)
        return path != "." and self.covers(path)

    def covers(self, path: str) -> bool:
        """Report whether the last match, of a normalized path or one of its parents, excludes it."""
        last = self._matcher.last(path)
        return last is not None and not self.patterns[last].is_exception

    @cached_property
    def _matcher(self) -> _Matcher:
        return _Matcher([pattern.steps for pattern in self.patterns])

    def may_enter(self, directory: str) -> bool:
        """Report whether the docker command searches an excluded `directory` for exceptions.

        It does so if the text of an exception begins with the path of the directory. It does not evaluate wildcards, so
        `!**/keep` is not found in an excluded directory (moby/pkg/archive, TarWithOptions).
        """
        start = _clean(directory) + "/"
        # Of a sorted list, only the first entry that is not smaller can have the prefix.
        exceptions = self._sorted_exceptions
        position = bisect_left(exceptions, start)
        return position < len(exceptions) and exceptions[position].startswith(start)

    @cached_property
    def _sorted_exceptions(self) -> list[str]:
        return sorted(f"{pattern.text}/" for pattern in self.patterns if pattern.is_exception)

    def may_contain_exceptions(self, directory: str) -> bool:
        """Report whether an exception can include a file below the excluded `directory`.

        Never wrongly False.
        """
        directory = _clean(directory)
        exceptions = [pattern for pattern in self.patterns if pattern.is_exception]
        return any(directory == "." or pattern.may_match_below(directory) for pattern in exceptions)


def _pattern(line: str) -> Pattern:
    is_exception = line.startswith("!")
    text = line.removeprefix("!").strip()
    if not text:
        raise InvalidInput('"!" alone is not a pattern', hint="write the pattern of the files to include after the !")
    text = _clean(text)
    if len(text) > 1:
        text = text.removeprefix("/")
    pattern = Pattern(text, is_exception)
    pattern.steps  # noqa: B018 (raises InvalidInput, while the line's number is known)
    return pattern


def _clean(path: str) -> str:
    """Normalize as Go's path.Clean, without doubled slashes, "." and ".."."""
    # posixpath.normpath() keeps two leading slashes, as POSIX permits; path.Clean does not.
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned


class _Matcher:
    """Finds the last of many patterns that matches a path.

    Patterns without wildcards are looked up in a table, the others run as a few automata. A generated file may have
    thousands of lines, and a context ten thousands of files.
    """

    def __init__(self, patterns: Sequence[PatternSteps]) -> None:
        # Of equal patterns only the last counts, as an exception or not.
        numbers = {steps: number for number, steps in enumerate(patterns)}
        literals = {steps: "".join(step.literal for step in steps) for steps in numbers if _is_literal(steps)}
        self._literals = {text: numbers[steps] for steps, text in literals.items()}
        self._groups: list[tuple[Globs, list[int]]] = []
        for group in _grouped(sorted(numbers[steps] for steps in numbers if steps not in literals), patterns):
            self._groups.append((Globs([patterns[number] for number in group]), group))

    def last(self, path: str) -> int | None:
        """Return the highest number of a pattern that matches the path or one of its parents; None if none does."""
        ends = [position for position, character in enumerate(path) if character == "/"]
        last = -1
        if self._literals:
            last = max(self._literals.get(path[:end], -1) for end in (*ends, len(path)))
        # From the last group on: once a match is found, groups of lower numbers need not run.
        for globs, numbers in reversed(self._groups):
            if numbers[-1] > last:
                last = max(last, _last_in_group(globs, numbers, path))
        return last if last >= 0 else None


def _last_in_group(globs: Globs, numbers: Sequence[int], path: str) -> int:
    states, matched = globs.start, 0
    for character in path:
        if character == "/":  # a match here is one of a parent directory
            matched |= states & globs.ends
        states = globs.after(states, character)
        if not states:
            break
    last = globs.last(matched | states)
    return -1 if last is None else numbers[last]


def _is_literal(steps: PatternSteps) -> bool:
    return all(step.literal for step in steps)


def _grouped(numbers: Iterable[int], patterns: Sequence[PatternSteps]) -> Iterator[list[int]]:
    group: list[int] = []
    size = 0
    for number in numbers:
        if group and size + len(patterns[number]) > _STEPS_TOGETHER:
            yield group
            group, size = [], 0
        group.append(number)
        size += len(patterns[number]) + 1
    if group:
        yield group
