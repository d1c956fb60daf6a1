"""The claims of SECURITY.md name tests that exist."""

from __future__ import annotations

import ast
import functools
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FILES = sorted((REPOSITORY / "tests/security").glob("*.toml"))
AGAINST = {"socket", "lab", "image", "registry", "container", "neighbour", "disk"}


@functools.cache
def names_in(path: str) -> set[str]:
    """The names of the test functions in a file."""
    tree = ast.parse((REPOSITORY / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_each_claim_has_a_row_in_the_threat_model_and_tests_that_exist(file: Path) -> None:
    for claim in tomllib.loads(file.read_text())["claim"]:
        assert claim["holds"].endswith("."), claim
        assert claim["against"] in AGAINST, claim
        assert claim["tests"], claim
        for test in claim["tests"]:
            path, _, name = test.partition("::")
            assert name in names_in(path), f"{file.name}: {test} does not exist"


def test_the_threat_model_has_a_row_for_each_of_them() -> None:
    rows = [line for line in (REPOSITORY / "SECURITY.md").read_text().splitlines() if line.startswith("| **")]
    assert {row.removeprefix("| **").partition("**")[0].split()[-1] for row in rows} == AGAINST


def test_every_area_has_claims() -> None:
    assert FILES
