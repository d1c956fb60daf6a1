"""Variables and quotes in the words of a Dockerfile."""

from __future__ import annotations

import pytest

from pylab_container.dockerfile.expansion import expand, expand_heredoc, expand_words, literal_words
from pylab_container.errors import InvalidInput

VARIABLES = {
    "USER": "ann",
    "EMPTY": "",
    "PATH": "/usr/bin:/bin",
    "FILE": "a.tar.gz",
    "WORDS": " two  words ",
    "ÄÖ": "ü",
}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$USER", "ann"),
        ("$USER.x", "ann.x"),
        ("${USER}s", "anns"),
        ("$USERs", ""),
        ("$ÄÖ", "ü"),
        ("a$", "a$"),
        ("a$.b", "a$.b"),
        ("$1x$@$$", "x"),
        ("\\$USER", "$USER"),
        ("\\\\$USER", "\\ann"),
        ("a\\", "a"),
        ("a\\nb", "anb"),
        ("'a $USER \\'", "a $USER \\"),
        ('"a $USER \\" \\$ \\\\ \\n"', 'a ann " $ \\ \\n'),
        ('"it\'s"', "it's"),
        ("'say \"x\"'", 'say "x"'),
        ("a'b'\"c\"", "abc"),
        ("${NONE}", ""),
        ("${USER} }", "ann }"),
        ("a < b << c", "a < b << c"),
    ],
)
def test_variables_are_put_in_and_quotes_taken_away(word: str, expected: str) -> None:
    assert expand(word, VARIABLES) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("${NONE-d}${NONE:-e}", "de"),
        ("${EMPTY-d}${EMPTY:-e}", "e"),
        ("${USER-d}${USER:-e}", "annann"),
        ("${NONE+d}${NONE:+e}", ""),
        ("${EMPTY+d}${EMPTY:+e}", "d"),
        ("${USER+d}${USER:+e}", "de"),
        ("${USER?must}${EMPTY?must}", "ann"),
        ("${NONE:-${NONE:-$USER}}", "ann"),
        ("${NONE:-'a }' \"$USER\"}", "a } ann"),
        ("${NONE:-a\\}b}", "a}b"),
    ],
)
def test_defaults_alternatives_and_demands(word: str, expected: str) -> None:
    assert expand(word, VARIABLES) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("${FILE#*.}", "tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE%.*}", "a.tar"),
        ("${FILE%%.*}", "a"),
        ("${FILE#b}", "a.tar.gz"),
        ("${FILE#?}", ".tar.gz"),
        ("${FILE%[g]z}", "a.tar.gz"),
        ("${PATH/bin/sbin}", "/usr/sbin:/bin"),
        ("${PATH//bin/sbin}", "/usr/sbin:/sbin"),
        ("${PATH//\\//_}", "_usr_bin:_bin"),
        ("${PATH//\\/bin/}", "/usr:"),
        ("${FILE//*/x}", "x"),
        ("${USER//n/$EMPTY}", "a"),
        ("${FILE#$USER}", "a.tar.gz"),
        ("${NONE#a}${NONE/a/b}", ""),
    ],
)
def test_patterns_trim_and_replace(word: str, expected: str) -> None:
    assert expand(word, VARIABLES) == expected


def test_a_star_with_a_backslash_is_a_star() -> None:
    assert expand("${V%%\\**}-${V//\\*/+}", {"V": "a*b*c"}) == "a-a+b+c"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("'open", "single quote"),
        ('"open', "double quote"),
        ('"open\\"', "double quote"),
        ("${", "}"),
        ("${USER", "}"),
        ("${USER:-a", "}"),
        ("${USER:-${EMPTY}", "}"),
        ("${USER/a", "/"),
        ("${USER/a/b", "}"),
        ("${}", "bad substitution"),
        ("${:-a}", "bad substitution"),
        ("${{USER}}", "bad substitution"),
        ("${USER=a}", "operator ="),
        ("${USER:=a}", "operator :="),
        ("${USER^^}", "operator ^"),
        ("${NONE?give me $USER}", "NONE: give me ann"),
        ("${NONE:?}", "NONE: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${USER#\\a}", "pattern"),
        ("${x:-" * 5000, "nested"),
    ],
)
def test_what_cannot_be_expanded_says_why(word: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        expand(word, VARIABLES)
    assert reason in caught.value.message


def test_the_escape_character_can_be_a_backtick() -> None:
    assert expand("C:\\$USER `$USER `` 'a`'", VARIABLES, escape="`") == "C:\\ann $USER ` a`"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("80 $USER\t90", ["80", "ann", "90"]),
        ("a${WORDS}b", ["a", "two", "words", "b"]),
        ('a"${WORDS}"b', ["a two  words b"]),
        ("a\\ b 'c d'", ["a b", "c d"]),
        ("$EMPTY ''", []),
    ],
)
def test_words_are_split_after_expansion_outside_quotes(word: str, expected: list[str]) -> None:
    assert expand_words(word, VARIABLES) == expected


def test_unset_variables_are_collected_by_name() -> None:
    unset: set[str] = set()
    expand("$A ${B:-b} ${C} $USER '$D'", VARIABLES, unset=unset)
    assert unset == {"A", "B", "C"}


def test_a_heredoc_expands_variables_and_leaves_quotes_alone() -> None:
    assert expand_heredoc('it\'s "$USER" \\$USER\n', VARIABLES) == 'it\'s "ann" $USER\n'


def test_literal_words_keep_variables_and_join_a_heredoc_with_its_name() -> None:
    assert literal_words("RUN a << EOF ${x:-y} 'b c' d\\ e") == ["RUN", "a", "<< EOF", "${x:-y}", "'b c'", "d\\ e"]
