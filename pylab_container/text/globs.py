r"""Globs: patterns with * and ?, matched in time linear in the length of the text.

Python's `re` backtracks: `*a*a*a*a*ab` against a name of 200 times "a" takes hours, and holds the interpreter lock.
Patterns come from users, so this would be a denial of service. A glob is therefore matched by simulating a
nondeterministic finite automaton, which follows all alternatives at once (Thompson, "Regular expression search
algorithm", 1968).

A pattern is a sequence of steps. The set of active states is the bits of one integer, so that one character updates
all states in a few operations (bit parallelism: Baeza-Yates and Gonnet, "A new approach to text searching", 1992):

    pattern  a * b         bit 0: a is next    bit 1: the star    bit 2: b is next    bit 3: the end, a match
    text     ""  {0}       "a"  {1, 2}         "ab"  {1, 2, 3}    "abc"  {1, 2}       "abcb"  {1, 2, 3}

Three languages compile to these steps: match_steps() is Go's filepath.Match, ignore_steps() adds the ** of
.dockerignore, shell_steps() is for ${NAME#pattern}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from msgspec import Struct

from pylab_container.errors import InvalidInput

LONGEST = 4096
"""Maximum number of characters of a pattern with wildcards (PATH_MAX, limits.h). It bounds an automaton's memory."""
_CACHED_CHARACTERS = 256  # transitions that an automaton remembers; a hostile text may have a million characters

Ranges = tuple[tuple[str, str], ...]


class PatternStep(Struct, frozen=True):
    """One step of a pattern: a set of characters, and how many of them it consumes.

    ranges       (first, last) of each range of the set
    negated      the set is the complement of the ranges
    repeats      consumes zero or more characters: a star
    directories  consumes zero or more whole directories, each with its slash: **/
    """

    ranges: Ranges = ()
    negated: bool = False
    repeats: bool = False
    directories: bool = False

    @property
    def literal(self) -> str:
        """The character, if the step consumes exactly one and always the same; else ""."""
        first, last = self.ranges[0] if len(self.ranges) == 1 else ("", "-")
        return first if first == last and not (self.negated or self.repeats) else ""


PatternSteps = tuple[PatternStep, ...]

_ANY = PatternStep(negated=True, repeats=True)
_DIRECTORIES = PatternStep(negated=True, directories=True)
_IN_A_NAME = PatternStep((("/", "/"),), negated=True)
_STAR_IN_A_NAME = PatternStep((("/", "/"),), negated=True, repeats=True)
_IN_A_LINE = PatternStep((("\n", "\n"),), negated=True)
_STAR_IN_A_LINE = PatternStep((("\n", "\n"),), negated=True, repeats=True)


# ---- matching ------------------------------------------------------------------------


class Globs:
    """Automaton for several patterns.

    Time is O(length of text * length of all patterns / word size).
    """

    def __init__(self, patterns: Sequence[PatternSteps]) -> None:
        self.start = self.ends = 0
        self._literal: dict[str, int] = {}
        self._advancing: dict[tuple[Ranges, bool], int] = {}
        self._staying: dict[tuple[Ranges, bool], int] = {}
        self._stars = self._optional = 0
        self._pattern_at: dict[int, int] = {}
        self._transitions: dict[str, tuple[int, int]] = {}
        position = 0
        for number, steps in enumerate(patterns):
            self.start |= 1 << position
            for step in steps:
                self._add(step, 1 << position)
                position += 1
            self.ends |= 1 << position
            self._pattern_at[position] = number
            position += 1
        self.start = self._closure(self.start)

    def _add(self, step: PatternStep, bit: int) -> None:
        characters = (step.ranges, step.negated)
        if step.repeats or step.directories:
            self._staying[characters] = self._staying.get(characters, 0) | bit
            self._optional |= bit
            self._stars |= bit if step.repeats else 0
        if literal := "/" if step.directories else step.literal:
            self._literal[literal] = self._literal.get(literal, 0) | bit
        elif not step.repeats:
            self._advancing[characters] = self._advancing.get(characters, 0) | bit

    def after(self, states: int, character: str) -> int:
        """Return the states after one more character; 0 if no continuation of the text can match."""
        advancing, staying = self._transitions.get(character) or self._transitions_of(character)
        stayed = states & staying
        # A star may end after any character. A **/ ends only behind a slash, so it is not among _stars.
        return stayed | self._closure(((states & advancing) << 1) | ((stayed & self._stars) << 1))

    def _transitions_of(self, character: str) -> tuple[int, int]:
        """Return (steps that the character completes, steps that consume it and stay active)."""
        advancing = self._literal.get(character, 0)
        for (ranges, negated), bits in self._advancing.items():
            advancing |= bits if _contains(ranges, character, negated=negated) else 0
        staying = 0
        for (ranges, negated), bits in self._staying.items():
            staying |= bits if _contains(ranges, character, negated=negated) else 0
        if len(self._transitions) < _CACHED_CHARACTERS:
            self._transitions[character] = (advancing, staying)
        return advancing, staying

    def _closure(self, states: int) -> int:
        """Return the states and those behind steps that may consume nothing (the epsilon closure)."""
        # At most two such steps are adjacent, ** and *, because _append() drops repetitions: two rounds suffice.
        while skipped := ((states & self._optional) << 1) & ~states:
            states |= skipped
        return states

    def last(self, states: int) -> int | None:
        """Return the highest number of a pattern that matches the whole text so far."""
        ended = states & self.ends
        return self._pattern_at[ended.bit_length() - 1] if ended else None


class Glob:
    """One compiled pattern. A pattern without wildcards is compared as a string instead."""

    def __init__(self, steps: PatternSteps) -> None:
        literals = [step.literal for step in steps]
        self._text = "".join(literals) if all(literals) else None
        self._steps = steps
        self._globs = Globs([steps] if self._text is None else [])

    def matches(self, text: str) -> bool:
        """Report whether the pattern matches the whole text."""
        if self._text is not None:
            return text == self._text
        states = self._globs.start
        for character in text:
            states = self._globs.after(states, character)
            if not states:
                return False
        return bool(states & self._globs.ends)

    def may_match_below(self, directory: str) -> bool:
        """Report whether the pattern can match a directory, one of its parents, or a path below."""
        if self._text is not None:
            return self._text.startswith(f"{directory}/") or f"{directory}/".startswith(f"{self._text}/")
        states = self._globs.start
        for character in f"{directory}/":
            if character == "/" and states & self._globs.ends:
                return True
            states = self._globs.after(states, character)
        return bool(states)

    def lengths(self, text: str, start: int = 0) -> Iterator[int]:
        """Yield the lengths of all matches that begin at start, in ascending order."""
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
        """Yield (start, end) of the leftmost-longest matches that do not overlap.

        An empty match directly behind another match does not count, as in Go's regexp.
        """
        if self._text:
            start = text.find(self._text)
            while start >= 0:
                yield start, start + len(self._text)
                start = text.find(self._text, start + len(self._text))
            return
        begins, position, previous_end = self._beginnings(text), 0, -1
        while (start := begins.find(1, position)) >= 0:
            longest = max(self.lengths(text, start))
            if longest or start != previous_end:
                yield start, start + longest
            previous_end = start + longest
            position = previous_end if longest else start + 1

    def _beginnings(self, text: str) -> bytearray:
        """Return a 1 for each position of text where a match begins.

        Trying the pattern at each position would take quadratic time. The reversed pattern finds all beginnings in one
        pass over the reversed text.
        """
        begins = bytearray(len(text) + 1)
        backwards = Globs([self._steps[::-1]])
        states = backwards.start
        for position in range(len(text), -1, -1):
            states |= backwards.start
            begins[position] = bool(states & backwards.ends)
            if position:
                states = backwards.after(states, text[position - 1])
        return begins


def _contains(ranges: Ranges, character: str, *, negated: bool) -> bool:
    return any(first <= character <= last for first, last in ranges) != negated


# ---- parsers of the three languages ---------------------------------------------------


def match_steps(pattern: str) -> PatternSteps:
    """Parse a pattern of Go's filepath.Match. Raises InvalidInput.

    *, ? and [a-z] do not match a slash; [^a-z] does.
    """
    return _path_steps(pattern, directories=False)


def ignore_steps(pattern: str) -> PatternSteps:
    """Parse a pattern of a .dockerignore file, where ** stands for any number of directories.

    Source: moby/patternmatcher. There a leading "**name" matches every path that ends in "name", even inside a
    file's name.

    Raises InvalidInput.
    """
    if pattern.startswith("**") and pattern[2:3] != "/" and not any(special in pattern[2:] for special in "*?[]\\"):
        return (_ANY, *map(_literal, pattern[2:]))
    return _path_steps(pattern, directories=True)


def shell_steps(pattern: str) -> PatternSteps:
    r"""Parse a pattern of ${NAME#pattern}. Raises InvalidInput.

    * and ? match any character except a newline; \ escapes * ? \ } and /.
    """
    steps: list[PatternStep] = []
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


def _path_steps(pattern: str, *, directories: bool) -> PatternSteps:
    steps: list[PatternStep] = []
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


def _bracket(pattern: str, position: int) -> tuple[PatternStep, int]:
    """Parse a bracket expression. position is behind its [. Returns (step, position behind its ])."""
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
    return PatternStep(tuple(ranges), negated=negated), position + 1


def _bracketed(pattern: str, position: int) -> tuple[str, int]:
    """Parse one character inside [ ]. Returns (character, position behind it)."""
    escaped = pattern.startswith("\\", position)
    character = pattern[position + escaped : position + escaped + 1]
    if not character:
        raise _misspelt(pattern, "[ without a ] that closes it")
    if not escaped and character in "-]":
        raise _misspelt(pattern, "wrong range in [ ]")
    return character, position + escaped + 1


def _misspelt(pattern: str, problem: str) -> InvalidInput:
    hint = "put a \\ before a character that is meant literally; a range is written [a-z]"
    return InvalidInput(f'the pattern "{pattern}" has a {problem}', hint=hint)


def _append(steps: list[PatternStep], step: PatternStep) -> None:
    """Append a step that may consume nothing, except after an equal one: ** and * are the same as once."""
    if steps[-1:] != [step]:
        steps.append(step)


def _bounded(steps: list[PatternStep]) -> PatternSteps:
    if len(steps) > LONGEST and not all(step.literal for step in steps):
        raise InvalidInput(
            f"a pattern with wildcards has {len(steps)} characters, more than {LONGEST}", hint="write shorter patterns"
        )
    return tuple(steps)


@lru_cache(1024)
def _literal(character: str) -> PatternStep:
    return PatternStep(((character, character),))
