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
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from msgspec import Struct

from pylab_container.errors import InvalidInput
from pylab_container.text.globs import Glob, Globs, Steps, ignore_steps

_BYTE_ORDER_MARK = "\ufeff"
_STEPS_TOGETHER = 4096
"""Characters of the patterns of one automaton. A larger automaton costs less time and more memory."""


class Pattern(Struct, frozen=True, dict=True):
    """One line of the file, cleaned: "./a//b/" and "/a/b" are "a/b"."""

    text: str
    is_exception: bool

    @cached_property
    def steps(self) -> Steps:
        """What the text means. Raises InvalidInput where its syntax is wrong."""
        return ignore_steps(self.text)

    @cached_property
    def _glob(self) -> Glob:
        return Glob(self.steps)

    def matches(self, path: str) -> bool:
        """Whether the pattern names exactly this path, as opposed to a directory above it."""
        return self._glob.matches(path)

    def may_match_below(self, directory: str) -> bool:
        """Whether a path in `directory` could match, or the pattern names `directory` or one above it."""
        return self._glob.may_match_below(directory)


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
        return path != "." and self.covers(path)

    def covers(self, path: str) -> bool:
        """Whether the last pattern that names a clean path, or a directory above it, excludes it."""
        last = self._matcher.last(path)
        return last is not None and not self.patterns[last].is_exception

    @cached_property
    def _matcher(self) -> _Matcher:
        return _Matcher([pattern.steps for pattern in self.patterns])

    def may_enter(self, directory: str) -> bool:
        """Whether the docker command looks into an excluded `directory` for what a `!` pattern brings back.

        It does where a `!` pattern begins with the directory's own name; a wildcard is not tried.
        """
        start = _clean(directory) + "/"
        exceptions = self._sorted_exceptions
        position = bisect_left(exceptions, start)
        return position < len(exceptions) and exceptions[position].startswith(start)

    @cached_property
    def _sorted_exceptions(self) -> list[str]:
        return sorted(f"{pattern.text}/" for pattern in self.patterns if pattern.is_exception)

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
    pattern = Pattern(text, is_exception)
    pattern.steps  # noqa: B018 (it raises InvalidInput)
    return pattern


def _clean(path: str) -> str:
    """Without doubled slashes, "." and "..", as Go's path.Clean. POSIX lets two leading slashes be; Go does not."""
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned


class _Matcher:
    """Finds the last of many patterns that names a path: those without wildcards in a table, the others in groups."""

    def __init__(self, patterns: Sequence[Steps]) -> None:
        # Of patterns that say the same, the last decides alone.
        numbers = {steps: number for number, steps in enumerate(patterns)}
        literals = {steps: "".join(step.literal for step in steps) for steps in numbers if _is_literal(steps)}
        self._literals = {text: numbers[steps] for steps, text in literals.items()}
        self._groups: list[tuple[Globs, list[int]]] = []
        for group in _grouped(sorted(numbers[steps] for steps in numbers if steps not in literals), patterns):
            self._groups.append((Globs([patterns[number] for number in group]), group))

    def last(self, path: str) -> int | None:
        """The highest number of a pattern that names the path or a directory above it."""
        ends = [position for position, character in enumerate(path) if character == "/"]
        last = -1
        if self._literals:
            last = max(self._literals.get(path[:end], -1) for end in (*ends, len(path)))
        for globs, numbers in reversed(self._groups):
            if numbers[-1] > last:
                last = max(last, _last_in_group(globs, numbers, path))
        return last if last >= 0 else None


def _last_in_group(globs: Globs, numbers: Sequence[int], path: str) -> int:
    states, found = globs.start, 0
    for character in path:
        if character == "/":
            found |= states & globs.ends
        states = globs.after(states, character)
        if not states:
            break
    last = globs.last(found | states)
    return -1 if last is None else numbers[last]


def _is_literal(steps: Steps) -> bool:
    return all(step.literal for step in steps)


def _grouped(numbers: Iterable[int], patterns: Sequence[Steps]) -> Iterator[list[int]]:
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
