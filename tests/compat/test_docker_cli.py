"""The real docker command, line by line, against Docker's daemon and against ours."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.compat.docker_lines import LIFE, OTHER_WORDS, REFUSED, SESSIONS
from tests.support.sides import IMAGE, docker, environment, ours, theirs


@dataclass(frozen=True)
class Done:
    """How a line ended, without what is different in every run."""

    status: int
    output: str
    complaints: str


_CHANGING = (
    (r"\b[0-9a-f]{64}\b", "ID"),
    (r"\b[0-9a-f]{12}\b", "SHORT"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| [+-]\d{4} UTC)?", "TIME"),
    (r"\b(?!10\.9\.8\.7)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b", "ADDRESS"),
    (r"/[^\s\"]*/volumes/", "VOLUMES/"),
    (r"labctr-cp-\d+", "DIRECTORY"),
    (r"failed to create shim task: ", ""),
    # When a container does not start, docker 20.10 stops waiting for its end, and says so if it has the time to.
    (r'(?m)^time="[^"]*" level=error msg="error waiting for container: .*"\n?', ""),
)


def normal(text: str) -> str:
    """A text without what is different in every run."""
    for pattern, word in _CHANGING:
        text = re.sub(pattern, word, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def run(line: str, socket: Path, side: str) -> Done:
    """One line in a shell; $SIDE tells the two apart, and from those of another run on the same machine."""
    done = subprocess.run(
        ["sh", "-c", line],
        env={**environment(socket), "SIDE": f"{side}-{os.getpid()}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Done(done.returncode, normal(done.stdout), normal(done.stderr))


@pytest.fixture(scope="module")
def sockets(busybox_tar: Path, repository: Path) -> Iterator[tuple[Path, Path]]:
    """Docker's daemon and ours, with the same image."""
    with theirs() as their_socket, ours(repository) as our_socket:
        for socket in (their_socket, our_socket):
            assert docker(socket, "import", str(busybox_tar), IMAGE).returncode == 0
        yield their_socket, our_socket


def _differences(line: str, expected: Done, got: Done) -> list[str]:
    if line in REFUSED:
        status, words = REFUSED[line]
        return [] if got.status == status and words in got.complaints else [f"$ {line}\n  ours: {got}"]
    other_words = line in OTHER_WORDS and (got.status, got.output) == (expected.status, expected.output)
    return [] if got == expected or other_words else [f"$ {line}\n  docker's: {expected}\n  ours:     {got}"]


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_with_docker_goes_as_with_dockers_daemon(name: str, sockets: tuple[Path, Path]) -> None:
    differences = []
    with ThreadPoolExecutor(2) as both:
        for line in textwrap.dedent(SESSIONS[name]).strip().splitlines():
            expected, got = both.map(run, (line, line), sockets, ("theirs", "ours"))
            differences += _differences(line, expected, got)
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("version", ["1.24", "1.30", "1.35", "1.40", "1.41", "1.42", "1.43", "1.44", "1.45"])
def test_a_life_goes_as_with_dockers_daemon_in_every_version(version: str, sockets: tuple[Path, Path]) -> None:
    newest = min(version, "1.41")  # that dockerd knows
    differences = []
    for line in textwrap.dedent(LIFE).strip().splitlines():
        expected, got = (
            run(f"export DOCKER_API_VERSION={one}; {line}", socket, one)
            for one, socket in zip((newest, version), sockets, strict=True)
        )
        differences += _differences(line, replace(expected, output=expected.output.replace(newest, version)), got)
    assert not differences, "\n".join(differences)


def test_there_are_at_least_a_hundred_and_twenty_lines() -> None:
    lines = [line for session in SESSIONS.values() for line in session.strip().splitlines()]
    assert len(lines) >= 120
    assert {line.strip() for line in lines} >= OTHER_WORDS | set(REFUSED)


def test_twenty_at_once_each_end_with_their_own_status(sockets: tuple[Path, Path]) -> None:
    def one(number: int) -> tuple[int, bytes]:
        done = docker(sockets[1], "run", "--rm", IMAGE, "sh", "-c", f"echo {number}; exit {number}")
        return done.returncode, done.stdout

    before = docker(sockets[1], "ps", "-aq").stdout  # what builds that failed have left
    with ThreadPoolExecutor(20) as twenty:
        assert list(twenty.map(one, range(20))) == [(number, b"%d\n" % number) for number in range(20)]
    assert docker(sockets[1], "ps", "-aq").stdout == before
