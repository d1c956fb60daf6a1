"""The tree of errors in the docstring matches the classes."""

from __future__ import annotations

import inspect
import re

import pytest

from pylab_container import errors

DRAWN = re.findall(r"^    ([│ ├└─]*)(\w+) +(\d+)   (\d+)", errors.__doc__ or "", re.MULTILINE)
CLASSES = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.LabError) and kind is not errors.LabError
}


@pytest.mark.parametrize(("branch", "name", "exit_code", "http_status"), DRAWN)
def test_each_error_has_the_drawn_exit_code_and_status(
    branch: str, name: str, exit_code: str, http_status: str
) -> None:
    assert (CLASSES[name].exit_code, CLASSES[name].http_status) == (int(exit_code), int(http_status))


def test_the_drawing_has_every_error_under_its_parent() -> None:
    parents = ["LabError"]
    drawn = {}
    for branch, name, _, _ in DRAWN:
        depth = len(branch) // 4
        drawn[name] = parents[depth - 1]
        parents[depth:] = [name]
    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in CLASSES.items()}


def test_an_error_says_what_to_do() -> None:
    error = errors.Conflict("it runs", hint="stop it first")
    assert str(error) == "it runs\nHint: stop it first"
    assert str(errors.Conflict("it runs")) == "it runs"
    assert (error.message, error.hint) == ("it runs", "stop it first")


def test_a_mistake_in_a_dockerfile_is_pointed_at() -> None:
    error = errors.DockerfileError(
        "unknown instruction: RUNN", hint="did you mean RUN?", source="Dockerfile", line=3, column=2, text="\tRUNN true"
    )
    assert str(error).splitlines() == [
        "Dockerfile:3:2: unknown instruction: RUNN",
        "    \tRUNN true",
        "    \t^",
        "Hint: did you mean RUN?",
    ]


def test_the_caret_is_under_its_column() -> None:
    error = errors.DockerfileError("bad", source="D", line=1, column=5, text="RUN x")
    assert str(error) == "D:1:5: bad\n    RUN x\n        ^"


def test_a_mistake_without_a_line_has_no_caret() -> None:
    assert str(errors.DockerfileError("it is empty", source="D", line=1)) == "D:1:1: it is empty"


def test_a_failed_container_carries_its_status_and_output() -> None:
    error = errors.BuildFailed("RUN false", status=1, output=b"no")
    assert (error.status, error.output, error.exit_code) == (1, b"no", 1)
