r"""Globs: patterns in which * and ? stand for other characters, matched in time linear in the text.

`re` tries one way to match, goes back and tries the next: `*a*a*a*a*ab` against a name of 200 times "a" takes it
hours, during which it holds the interpreter. Patterns come from users, so they are matched by an automaton here,
which follows all ways at once (Thompson, "Regular expression search algorithm", 1968).

A pattern is a row of steps. The steps that a match may be at are the bits of one integer, so that a character moves
all of them in a few operations (Baeza-Yates and Gonnet, "A new approach to text searching", 1992):

    pattern  a * b         bit 0: a is next    bit 1: the star    bit 2: b is next    bit 3: the end, a match
    text     ""  {0}       "a"  {1, 2}         "ab"  {1, 2, 3}    "abc"  {1, 2}       "abcb"  {1, 2, 3}

Three languages are made of the same steps: match_steps() is Go's filepath.Match, ignore_steps() adds the ** of
.dockerignore, shell_steps() is for ${NAME#pattern}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from msgspec import Struct

from pylab_container.errors import InvalidInput

LONGEST = 4096
"""Characters of a pattern with wildcards, as many as a path may have (PATH_MAX). It bounds an automaton's memory."""
_CACHED_CHARACTERS = 256

Ranges = tuple[tuple[str, str], ...]


class Step(Struct, frozen=True):
    """One step of a pattern: the characters that it takes, and how many of them.

    ranges       the first and last characters of ranges
    negated      it takes what is in no range
    repeats      it takes any number of characters, also none: a star
    directories  it takes any number of whole directories, each with its slash, also none: **/
    """

    ranges: Ranges = ()
    negated: bool = False
    repeats: bool = False
    directories: bool = False

    @property
    def literal(self) -> str:
        """The one character that it takes; "" if it takes others too."""
        first, last = self.ranges[0] if len(self.ranges) == 1 else ("", "-")
        return first if first == last and not (self.negated or self.repeats) else ""


Steps = tuple[Step, ...]

_ANY = Step(negated=True, repeats=True)
_DIRECTORIES = Step(negated=True, directories=True)
_IN_A_NAME = Step((("/", "/"),), negated=True)
_STAR_IN_A_NAME = Step((("/", "/"),), negated=True, repeats=True)
_IN_A_LINE = Step((("\n", "\n"),), negated=True)
_STAR_IN_A_LINE = Step((("\n", "\n"),), negated=True, repeats=True)


# ---- matching ------------------------------------------------------------------------


class Globs:
    """Patterns that read a text together. What it costs is the length of the text times that of all patterns / 64."""

    def __init__(self, patterns: Sequence[Steps]) -> None:
        self.start = self.ends = 0
        self._literal: dict[str, int] = {}
        self._taking: dict[tuple[Ranges, bool], int] = {}
        self._staying: dict[tuple[Ranges, bool], int] = {}
        self._stars = self._optional = 0
        self._pattern_at: dict[int, int] = {}
        self._moves: dict[str, tuple[int, int]] = {}
        position = 0
        for number, steps in enumerate(patterns):
            self.start |= 1 << position
            for step in steps:
                self._add(step, 1 << position)
                position += 1
            self.ends |= 1 << position
            self._pattern_at[position] = number
            position += 1
        self.start = self._entered(self.start)

    def _add(self, step: Step, bit: int) -> None:
        characters = (step.ranges, step.negated)
        if step.repeats or step.directories:
            self._staying[characters] = self._staying.get(characters, 0) | bit
            self._optional |= bit
            self._stars |= bit if step.repeats else 0
        if literal := "/" if step.directories else step.literal:
            self._literal[literal] = self._literal.get(literal, 0) | bit
        elif not step.repeats:
            self._taking[characters] = self._taking.get(characters, 0) | bit

    def after(self, states: int, character: str) -> int:
        """The states after one more character; 0 when nothing that begins like the text so far can match."""
        taking, staying = self._moves.get(character) or self._moves_of(character)
        stayed = states & staying
        # A star that took a character may be done with it; directories are done at a slash only.
        return stayed | self._entered(((states & taking) << 1) | ((stayed & self._stars) << 1))

    def _moves_of(self, character: str) -> tuple[int, int]:
        """The steps that a character completes, and those that may take it and go on."""
        taking = self._literal.get(character, 0)
        for (ranges, negated), bits in self._taking.items():
            taking |= bits if _takes(ranges, character, negated=negated) else 0
        staying = 0
        for (ranges, negated), bits in self._staying.items():
            staying |= bits if _takes(ranges, character, negated=negated) else 0
        if len(self._moves) < _CACHED_CHARACTERS:
            self._moves[character] = (taking, staying)
        return taking, staying

    def _entered(self, states: int) -> int:
        """The states, and those behind steps that may take nothing. Such steps are never more than two in a row."""
        while skipped := ((states & self._optional) << 1) & ~states:
            states |= skipped
        return states

    def last(self, states: int) -> int | None:
        """The number of the last pattern that the text so far matches."""
        ended = states & self.ends
        return self._pattern_at[ended.bit_length() - 1] if ended else None


class Glob:
    """One pattern."""

    def __init__(self, steps: Steps) -> None:
        literals = [step.literal for step in steps]
        self._text = "".join(literals) if all(literals) else None
        self._steps = steps
        self._globs = Globs([steps] if self._text is None else [])

    def matches(self, text: str) -> bool:
        """Whether the pattern matches the whole text."""
        if self._text is not None:
            return text == self._text
        states = self._globs.start
        for character in text:
            states = self._globs.after(states, character)
            if not states:
                return False
        return bool(states & self._globs.ends)

    def may_match_below(self, directory: str) -> bool:
        """Whether the pattern may match a path in a directory, or names the directory or one above it."""
        if self._text is not None:
            return self._text.startswith(f"{directory}/") or f"{directory}/".startswith(f"{self._text}/")
        states = self._globs.start
        for character in f"{directory}/":
            if character == "/" and states & self._globs.ends:
                return True
            states = self._globs.after(states, character)
        return bool(states)

    def lengths(self, text: str, start: int = 0) -> Iterator[int]:
        """How long the matches are that begin at a place of the text, the shortest first."""
        if self._text is not None:
            if text.startswith(self._text, start):
                yield len(self._text)
            return
        states = self._globs.start
        for position in range(start, len(text)):
            if states & self._globs.ends:
                yield position - start
            states = self._globs.after(states, text[position])
            if not states:
                return
        if states & self._globs.ends:
            yield len(text) - start

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the pattern matches, from left to right: the longest match at each place, none inside another.

        An empty match that touches the one before it does not count, as in Go's regexp.
        """
        if self._text:
            start = text.find(self._text)
            while start >= 0:
                yield start, start + len(self._text)
                start = text.find(self._text, start + len(self._text))
            return
        begins, end, before = self._beginnings(text), 0, -1
        while (start := begins.find(1, end)) >= 0:
            longest = max(self.lengths(text, start))
            if longest or start != before:
                yield start, start + longest
            before = start + longest
            end = before if longest else start + 1

    def _beginnings(self, text: str) -> bytearray:
        """For each place of a text whether a match begins there: the pattern read backwards says it in one pass."""
        found = bytearray(len(text) + 1)
        backwards = Globs([self._steps[::-1]])
        states = backwards.start
        for position in range(len(text), -1, -1):
            states |= backwards.start
            found[position] = bool(states & backwards.ends)
            if position:
                states = backwards.after(states, text[position - 1])
        return found


def _takes(ranges: Ranges, character: str, *, negated: bool) -> bool:
    return any(first <= character <= last for first, last in ranges) != negated


# ---- the languages -------------------------------------------------------------------


def match_steps(pattern: str) -> Steps:
    """A pattern of Go's filepath.Match: *, ? and [a-z] match no slash, [^a-z] does. Raises InvalidInput."""
    return _path_steps(pattern, directories=False)


def ignore_steps(pattern: str) -> Steps:
    """A pattern of a .dockerignore, where ** stands for any number of directories. Raises InvalidInput.

    Source: moby/patternmatcher. "**name" at the beginning matches what ends in "name", also in a file's name.
    """
    if pattern.startswith("**") and pattern[2:3] != "/" and not any(special in pattern[2:] for special in "*?[]\\"):
        return (_ANY, *map(_literal, pattern[2:]))
    return _path_steps(pattern, directories=True)


def shell_steps(pattern: str) -> Steps:
    r"""A pattern of ${NAME#pattern}: * and ? match within a line, \ goes before * ? \ } and /. Raises InvalidInput."""
    steps: list[Step] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "*":
            _append(steps, _STAR_IN_A_LINE)
        elif character == "?":
            steps.append(_IN_A_LINE)
        elif character == "\\":
            position += 1
            character = pattern[position : position + 1]
            if not character or character not in "*?\\}/":
                raise InvalidInput(
                    f'the pattern "{pattern}" has no meaning', hint=r"a \ goes before * ? \ } and / only"
                )
            steps.append(_literal(character))
        else:
            steps.append(_literal(character))
        position += 1
    return _bounded(steps)


def _path_steps(pattern: str, *, directories: bool) -> Steps:
    steps: list[Step] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if directories and pattern.startswith("**", position - 1):
            position += 2 if pattern.startswith("/", position + 1) else 1
            _append(steps, _DIRECTORIES if position < len(pattern) else _ANY)
        elif character == "*":
            _append(steps, _STAR_IN_A_NAME)
        elif character == "?":
            steps.append(_IN_A_NAME)
        elif character == "[":
            step, position = _bracket(pattern, position)
            steps.append(step)
        elif character == "\\":
            if position == len(pattern):
                raise _misspelt(pattern, "\\ at its end")
            steps.append(_literal(pattern[position]))
            position += 1
        else:
            steps.append(_literal(character))
    return _bounded(steps)


def _bracket(pattern: str, position: int) -> tuple[Step, int]:
    """What [ ] takes, and where the pattern goes on. position is behind the [."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[tuple[str, str]] = []
    while not pattern.startswith("]", position) or not ranges:
        first, position = _bracketed(pattern, position)
        last = first
        if pattern.startswith("-", position):
            last, position = _bracketed(pattern, position + 1)
        if last < first:
            raise _misspelt(pattern, "wrong range in [ ]")
        ranges.append((first, last))
    return Step(tuple(ranges), negated=negated), position + 1


def _bracketed(pattern: str, position: int) -> tuple[str, int]:
    """One character inside [ ], and where the pattern goes on."""
    escaped = pattern.startswith("\\", position)
    character = pattern[position + escaped : position + escaped + 1]
    if not character:
        raise _misspelt(pattern, "[ without a ] that closes it")
    if not escaped and character in "-]":
        raise _misspelt(pattern, "wrong range in [ ]")
    return character, position + escaped + 1


def _misspelt(pattern: str, what: str) -> InvalidInput:
    hint = "put a \\ before a character that is meant literally; a range is written [a-z]"
    return InvalidInput(f'the pattern "{pattern}" has a {what}', hint=hint)


def _append(steps: list[Step], step: Step) -> None:
    """Add a step that may take nothing. The same one twice in a row matches the same as once."""
    if steps[-1:] != [step]:
        steps.append(step)


def _bounded(steps: list[Step]) -> Steps:
    if len(steps) > LONGEST and not all(step.literal for step in steps):
        raise InvalidInput(
            f"a pattern with wildcards has {len(steps)} characters, more than {LONGEST}", hint="write shorter patterns"
        )
    return tuple(steps)


@lru_cache(1024)
def _literal(character: str) -> Step:
    return Step(((character, character),))
