"""Patterns of .dockerignore: what they keep out, what they let in, which ones are refused."""

from __future__ import annotations

import pytest

from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.errors import InvalidInput


def excludes(patterns: str, path: str) -> bool:
    return IgnorePatterns.parse(patterns).excludes(path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("a", "a"),
        ("a", "a/b/c"),
        ("/a", "a"),
        ("./a//b/", "a/b"),
        ("a/../b", "b"),
        ("*", "a"),
        ("*.log", "x.log"),
        ("*/x", "a/x"),
        ("?x", "ax"),
        ("[a-c]x", "bx"),
        ("[^a-c]x", "dx"),
        ("a\\*", "a*"),
        ("a\\]", "a]"),
        ("[\\]]", "]"),
        ("**", "a/b/c"),
        ("**/x", "x"),
        ("**/x", "a/b/x"),
        ("**/x", "a/x/below"),
        ("**x", "a/yx"),
        ("**/*.go", "a/b.go"),
        ("a/**", "a/b/c"),
        ("a/**/b", "a/b"),
        ("a/**/b", "a/x/y/b"),
        ("a.(b)+{c}$|^", "a.(b)+{c}$|^"),
        ("é?", "éü"),
    ],
)
def test_a_pattern_excludes_what_it_matches_and_all_below(pattern: str, path: str) -> None:
    assert excludes(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("a", "b/a"),
        ("a", "ab"),
        ("*.log", "a/x.log"),
        ("*", "."),
        ("**", "."),
        ("?", "ab"),
        ("a*b", "a/b"),
        ("a?b", "a/b"),
        ("a\\*", "ab"),
        ("a/**", "a"),
        ("**/.x", "a.x"),
        ("a.b", "axb"),
        ("[a-c]x", "dx"),
        ("", "a"),
        ("/", "a"),
    ],
)
def test_a_pattern_leaves_other_paths_alone(pattern: str, path: str) -> None:
    assert not excludes(pattern, path)


@pytest.mark.parametrize(
    ("patterns", "path", "excluded"),
    [
        ("*\n!a", "a", False),
        ("*\n!a", "b", True),
        ("!a\n*", "a", True),
        ("docs\n!docs/README.md", "docs/README.md", False),
        ("docs\n!docs/README.md", "docs/other", True),
        ("*\n!a\na/secret", "a/secret", True),
        ("*\n! /a/b ", "a/b/c", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
    ],
)
def test_the_last_pattern_that_matches_decides(patterns: str, path: str, *, excluded: bool) -> None:
    assert excludes(patterns, path) is excluded


def test_comments_spaces_line_ends_and_a_byte_order_mark_are_taken_off() -> None:
    parsed = IgnorePatterns.parse("\ufeff# note\r\n  a  \r\n\r\n#b\n #c\n")
    assert [pattern.text for pattern in parsed.patterns] == ["a", "#c"]


@pytest.mark.parametrize(
    "pattern", ["!", "! ", "[", "a[", "[^", "[]a]", "[-]", "[x-]", "[a-b-c]", "[z-a]", "a\\", "[a"]
)
def test_a_pattern_without_meaning_is_refused_with_its_line(pattern: str) -> None:
    with pytest.raises(InvalidInput, match=r"\.dockerignore line 2: ") as caught:
        IgnorePatterns.parse(f"fine\n{pattern}\n")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("patterns", "directory", "enter"),
    [
        ("*", "a", False),
        ("*\n!a/b/c", "a", True),
        ("*\n!a/b/c", "a/b", True),
        ("*\n!a/b/c", "a/x", False),
        ("*\n!a/b/c", "b", False),
        ("*\n!a", "a/b", True),
        ("*\n!*/keep", "a", True),
        ("*\n!*/keep", "a/b", False),
        ("*\n!**/keep", "a/b", True),
        ("*\n!a", ".", True),
        ("*", ".", False),
    ],
)
def test_a_walker_enters_only_directories_that_may_hold_exceptions(
    patterns: str, directory: str, *, enter: bool
) -> None:
    assert IgnorePatterns.parse(patterns).may_contain_exceptions(directory) is enter
