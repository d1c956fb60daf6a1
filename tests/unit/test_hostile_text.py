"""Parsing users' text takes linear time: no regular expression backtracks catastrophically (ReDoS).

A quadratic pattern takes 64 times as long for text that is 8 times as long. Processor time of the thread is compared
with itself, so the machine's speed and load do not matter.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable

import pytest

from pylab_container.docker import filters, image_filters
from pylab_container.dockerfile import expansion
from pylab_container.dockerfile.filemode import FileMode
from pylab_container.dockerfile.instructions import duration
from pylab_container.dockerfile.lint import linter
from pylab_container.dockerfile.parser import parse
from pylab_container.dockerfile.ports import exposed_ports
from pylab_container.dockerfile.stages import MOST_STAGES, Stages
from pylab_container.errors import DockerfileError, InvalidInput
from pylab_container.oci import reference
from pylab_container.oci.ports import parse_expose
from pylab_container.registry import challenge
from pylab_container.text import sizes, timestamps
from pylab_container.text.jsontext import NotJson, refuse_deep

_SHORT, _TIMES = 7_500, 8  # a line of a Dockerfile has 65,535 bytes at most
_MOST_TIMES_AS_LONG = 24
_ANY_TIME = 0.1  # seconds of processor time: so little does no harm, and its ratios are noise


def seconds(work: Callable[[int], object], length: int) -> float:
    begun = time.thread_time()
    with contextlib.suppress(InvalidInput):
        work(length)
    return time.thread_time() - begun


def assert_linear(work: Callable[[int], object]) -> None:
    """Fail if work takes much more than 8 times as long for 8 times as much."""
    short = min(seconds(work, _SHORT) for _ in range(2))
    long = seconds(work, _SHORT * _TIMES)
    if long >= _ANY_TIME + _MOST_TIMES_AS_LONG * short:  # a busy machine: once more
        long = seconds(work, _SHORT * _TIMES)
    assert long < _ANY_TIME + _MOST_TIMES_AS_LONG * short, f"{short:.3f} s, and {long:.3f} s for {_TIMES} times as much"


def read(text: str) -> None:
    linter.lint(parse(text), text=text, source="Dockerfile")


DOCKERFILES: dict[str, Callable[[int], str]] = {
    "directive with blanks": lambda n: "# a = b" + " " * n + "x\nFROM a\nRUN x",
    "comment of blanks": lambda n: "#" + " " * n + "x\nFROM a\nRUN x",
    "duration of digits": lambda n: "FROM a\nHEALTHCHECK --interval=" + "1" * n + " CMD x\n",
    "duration of parts": lambda n: "FROM a\nHEALTHCHECK --interval=" + "1.s" * (n // 3) + "x CMD x\n",
    "retries": lambda n: "FROM a\nHEALTHCHECK --retries=" + "1" * n + " CMD x\n",
    "overlapping ports": lambda n: "FROM a\nEXPOSE " + "".join(f"{i}-60000 " for i in range(1, n // 10)) + "\n",
    "escaped quotes": lambda n: "FROM a\nRUN " + '"' + '\\"' * (n // 2) + " # x\n",
    "open quotes in a label": lambda n: "FROM a\nLABEL a=" + "'x" * (n // 2) + "\n",
    "backslashes": lambda n: "FROM a\nCMD a" + "\\" * n + "\n b\n",
    "backslashes and blanks": lambda n: "FROM a\nCMD a" + "\\ " * (n // 2) + "b\n",
    "digits before a here-document": lambda n: "FROM a\nRUN " + "1" * n + "<<a\nb\na\n",
    "here-documents": lambda n: "FROM a\n" + "RUN <<a\na\n" * (n // 11),
    "symbolic mode": lambda n: "FROM a\nCOPY --chmod=" + "u+r" * (n // 3) + "! x y\n",
    "mode": lambda n: "FROM a\nCOPY --chmod=" + "7" * n + " x y\n",
    "base name": lambda n: "FROM " + "a-" * (n // 2) + "\nRUN x\n",
    "platform": lambda n: "FROM --platform=" + "a/" * (n // 2) + " a\nRUN x\n",
    "undefined variables": lambda n: "FROM a\n" + "".join(f"ENV aa{i}=$ab{i}\n" for i in range(n // 20)),
    "long undefined variables": lambda n: f"FROM a\nENV {'a' * (n // 3)}=1 b=${'a' * (n // 3)}b\n",
    "variables": lambda n: "FROM a\n" + "".join(f"ENV a{i}=1\n" for i in range(n // 12)),
    "ONBUILD in ONBUILD": lambda n: "FROM a\n" + "ONBUILD " * (n // 8) + "RUN a\n",
}


@pytest.mark.parametrize("text", DOCKERFILES.values(), ids=DOCKERFILES.keys())
def test_a_dockerfile_is_read_and_checked_in_linear_time(text: Callable[[int], str]) -> None:
    assert_linear(lambda length: read(text(length)))


WORDS: dict[str, Callable[[int], object]] = {
    "text": lambda n: expansion.expand("x" * n, {}),
    "words": lambda n: expansion.expand_words("x " * (n // 2), {}),
    "values": lambda n: expansion.expand("$A" * (n // 2), {"A": "1"}),
    "quotes": lambda n: expansion.expand('"' + "x" * n + '"', {}),
    "prefix": lambda n: expansion.expand("${A#*a*b}", {"A": "a" * n}),
    "suffix": lambda n: expansion.expand("${A%%a*a*b}", {"A": "a" * n}),
    "replacement": lambda n: expansion.expand("${A//a*b/x}", {"A": "a" * n + "\n" + "ab" * n}),
    "many stars": lambda n: expansion.expand(f"${{A/{'*a' * 100}b/}}", {"A": "a" * (n // 4)}),
    "until": lambda n: timestamps.moment("1" * n, now=0),
    "until of parts": lambda n: timestamps.moment("1.1" * (n // 3), now=0),
    "duration": lambda n: duration("1" * n),
    "size": lambda n: sizes.parse("1." + "1" * n),
    "mode": lambda n: FileMode.parse("u+r" * (n // 3) + "!"),
    "reference": lambda n: reference.parse("a-" * (n // 2)),
    "reference of domains": lambda n: reference.parse("a." * (n // 2) + "/a"),
    "challenge": lambda n: challenge.parse("Bearer " + "".join(f"a{i}=b," for i in range(n // 8))),
    "challenge of blanks": lambda n: challenge.parse("Bearer a" + " " * n),
    "filter": lambda n: filters.text_test(["^(a+)+$"])("a" * n + "b"),
    "filter with choices": lambda n: filters.text_test(["(a|aa)*(a|aa)*c"])("a" * n),
    "filter of repetitions": lambda n: filters.text_test(["(.*)(.*)(.*)(.*)[^a]"])("a" * n),
    "reference filter": lambda n: image_filters.matching_names(["a" * 200], ["*a" * 50 + "b"] * (n // 1000)),
}


@pytest.mark.parametrize("work", WORDS.values(), ids=WORDS.keys())
def test_words_take_linear_time(work: Callable[[int], object]) -> None:
    assert_linear(work)


def test_a_chain_of_onbuild_is_refused_and_not_followed() -> None:
    with pytest.raises(DockerfileError, match="Chaining ONBUILD"):
        parse("FROM a\n" + "ONBUILD " * 5000 + "RUN a\n")


def test_exposed_ports_have_a_limit() -> None:
    with pytest.raises(InvalidInput, match="more than 196605 ports"):
        exposed_ports(*(f"{first}-65535" for first in range(1, 10)))
    assert len(exposed_ports("1-65535", "1-65535/udp", "1-65535/sctp")) == 196605


def test_exposed_ports_of_a_container_have_a_limit() -> None:
    with pytest.raises(InvalidInput, match="more than 196605 ports"):
        parse_expose(f"{first}-65535" for first in range(1, 10_000))


def test_variables_that_double_have_a_limit() -> None:
    variables = {"A": "x" * (1 << 20)}
    budget = expansion.Budget()
    for _ in range(4):
        assert expansion.expand("$A", variables, budget=budget)
    with pytest.raises(InvalidInput, match="more than 4194304 characters"):
        expansion.expand("$A", variables, budget=budget)
    with pytest.raises(InvalidInput, match="more than 4194304 characters"):
        expansion.expand(f"${{A//x/{'y' * 1000}}}", variables)


@pytest.mark.parametrize("pattern", ["(", "a**", "(?=x)", "(?<!a)b", r"(a)\1", "a" * 70_000 + "."])
def test_a_filter_that_is_no_regular_expression_of_re2_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput, match="invalid filter value"):
        filters.text_test([pattern])


def test_names_are_searched_for_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    assert filters.text_test(["web"])("/my-web-1")
    assert not filters.text_test(["web"])("/db")


def test_stages_have_a_limit() -> None:
    with pytest.raises(DockerfileError, match="more than 1000 stages") as caught:
        Stages.of(parse("FROM a\n" * 1_100), source="Dockerfile", buildargs={}, platform={})
    assert caught.value.line == MOST_STAGES + 1


@pytest.mark.parametrize(
    "text", ["[" * 201, '{"a":' * 201, "[" * 100_000, '["]",' + "[" * 300, "[1]" * 300 + "[" * 201]
)
def test_a_document_that_is_too_deep_never_reaches_a_parser(text: str) -> None:
    with pytest.raises(NotJson, match="nested too deeply"):
        refuse_deep(text)


@pytest.mark.parametrize(
    "text", ["[" * 200, "[1]" * 1000, '"' + "[" * 1000 + '"', '["\\"' + "[" * 1000 + '"]', '"' + "{" * 500]
)
def test_a_wide_document_and_brackets_in_strings_are_not_deep(text: str) -> None:
    refuse_deep(text)
