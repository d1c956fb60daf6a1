"""Globs: what they match, and that each character of a text is looked at once, whatever the pattern is."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.errors import InvalidInput
from pylab_container.text import globs
from pylab_container.text.globs import Glob, Globs, PatternSteps, ignore_steps, match_steps, shell_steps


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The characters that automata took, in their order."""
    taken: list[str] = []
    after = Globs.after

    def counted(self: Globs, states: int, character: str) -> int:
        taken.append(character)
        return after(self, states, character)

    monkeypatch.setattr(Globs, "after", counted)
    return taken


HOSTILE = ("*a" * 300 + "b", "*" * 2000 + "b", "?*" * 300 + "b", "*a*" * 300 + "b", "[a]*" * 300 + "b")


@pytest.mark.parametrize("pattern", HOSTILE)
@pytest.mark.parametrize("language", [match_steps, ignore_steps, shell_steps])
def test_each_character_is_looked_at_once(
    language: Callable[[str], PatternSteps], pattern: str, looked: list[str]
) -> None:
    assert not Glob(language(pattern)).matches("a" * 4000)
    assert len(looked) <= 4000


@pytest.mark.parametrize("pattern", HOSTILE)
def test_many_patterns_of_an_ignore_file_look_at_each_character_once(pattern: str, looked: list[str]) -> None:
    patterns = IgnorePatterns.parse("\n".join(f"**/{pattern}{number}" for number in range(5)))
    assert not patterns.excludes("/".join(["a" * 50] * 50))
    assert len(looked) <= 5 * 50 * 51


def test_ten_thousand_patterns_are_a_table_and_few_automata(looked: list[str]) -> None:
    names = "\n".join(f"directory/file{number}" for number in range(9000))
    patterns = IgnorePatterns.parse(f"{names}\n" + "\n".join(f"*.suffix{number}" for number in range(1000)))
    assert patterns.excludes("directory/file8999/below")
    assert not patterns.excludes("directory/file9000")
    assert patterns.excludes("x.suffix999")
    assert len(looked) < 200


@pytest.mark.parametrize("pattern", ["a*b", "*a*b*c", "?*b", "*", "", "b"])
def test_all_matches_in_a_text_are_found_in_linear_time(pattern: str, looked: list[str]) -> None:
    list(Glob(shell_steps(pattern)).spans("a" * 2000 + "\n" + "ab" * 1000))
    assert len(looked) <= 3 * 4001


def test_shortest_and_longest_matches_and_replacements_are_those_of_a_backtracking_engine() -> None:
    chance = random.Random(7)
    for _ in range(2000):
        pattern = "".join(chance.choice("*?ab") for _ in range(chance.randrange(6)))
        text = "".join(chance.choice("aab\n") for _ in range(chance.randrange(9)))
        expression = "".join({"*": ".*", "?": "."}.get(character, character) for character in pattern)
        longest, shortest = re.match(expression, text), re.match(expression.replace(".*", ".*?"), text)
        lengths = list(Glob(shell_steps(pattern)).lengths(text))
        assert lengths[:1] == ([shortest.end()] if shortest else []), (pattern, text)
        assert lengths[-1:] == ([longest.end()] if longest else []), (pattern, text)
        spans, end = [], 0
        for match in re.finditer(expression, text):
            if not match.end() == match.start() == end > 0:  # Go finds no empty match where the last one ended
                spans.append(match.span())
                end = match.end()
        assert list(Glob(shell_steps(pattern)).spans(text)) == spans, (pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("a*", "a/b", False),
        ("a[^x]b", "a/b", True),
        ("[!a]", "!", True),
        ("**", "a/b", False),
        ("a[\\]]", "a]", True),
        ("[a-cx]", "x", True),
    ],
)
def test_match_steps_are_those_of_go(pattern: str, text: str, *, matches: bool) -> None:
    assert Glob(match_steps(pattern)).matches(text) is matches


def test_a_pattern_with_wildcards_is_as_long_as_a_path_may_be_at_most() -> None:
    assert not Glob(ignore_steps("x*" + "a" * (globs.LONGEST - 2))).matches("x")
    with pytest.raises(InvalidInput, match="more than 4096"):
        ignore_steps("x*" + "a" * globs.LONGEST)
    assert Glob(shell_steps("a" * 100_000)).matches("a" * 100_000)
