"""The real docker command, line by line, against Docker's daemon and against ours."""

from __future__ import annotations

import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.compat.command_lines import differences, run
from tests.compat.docker_lines import OTHER_WORDS, REFUSED, SESSIONS
from tests.support.sides import IMAGE, docker


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_with_docker_goes_as_with_dockers_daemon(name: str, sockets: tuple[Path, Path]) -> None:
    found = []
    with ThreadPoolExecutor(2) as both:
        for line in textwrap.dedent(SESSIONS[name]).strip().splitlines():
            expected, got = both.map(run, (line, line), sockets, ("theirs", "ours"))
            found += differences(line, expected, got)
    assert not found, "\n".join(found)


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
