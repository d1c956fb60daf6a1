"""A container's life with the real docker command in every version of the API, against Docker's daemon and ours."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.compat.command_lines import Done, differences, run
from tests.compat.docker_lines import LIFE

LINES = textwrap.dedent(LIFE).strip().splitlines()


@pytest.fixture(scope="module")
def their_life(sockets: tuple[Path, Path]) -> Callable[[str], list[Done]]:
    """Docker's life in a version, which is lived once."""
    return cache(lambda version: live(version, sockets[0]))


def live(version: str, socket: Path) -> list[Done]:
    """Run the lines of a life in one version of the API."""
    return [run(f"export DOCKER_API_VERSION={version}; {line}", socket, version) for line in LINES]


@pytest.mark.parametrize(
    "version", ["1.24", "1.30", "1.35", "1.40", "1.41", "1.42", "1.43", "1.44", "1.45", "1.46", "1.47"]
)
def test_a_life_goes_as_with_dockers_daemon_in_every_version(
    version: str, sockets: tuple[Path, Path], their_life: Callable[[str], list[Done]]
) -> None:
    newest = min(version, "1.41")  # that dockerd knows
    with ThreadPoolExecutor(1) as thread:
        theirs = thread.submit(their_life, newest)
        ours = live(version, sockets[1])
    found = [
        difference
        for line, expected, got in zip(LINES, theirs.result(), ours, strict=True)
        for difference in differences(line, replace(expected, output=expected.output.replace(newest, version)), got)
    ]
    assert not found, "\n".join(found)
