"""One line of a session with the docker command against one daemon, and the difference between two."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.compat.docker_lines import OTHER_WORDS, REFUSED
from tests.support.dockerd import environment


@dataclass(frozen=True)
class Done:
    """The result of a line, with values that differ between runs (ids, times) replaced."""

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
    """Run one line in a shell; $SIDE is a name for the side and this run alone."""
    done = subprocess.run(
        ["sh", "-c", line],
        env={**environment(socket), "SIDE": f"{side}-{os.getpid()}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Done(done.returncode, normal(done.stdout), normal(done.stderr))


def differences(line: str, expected: Done, got: Done) -> list[str]:
    if line in REFUSED:
        status, words = REFUSED[line]
        return [] if got.status == status and words in got.complaints else [f"$ {line}\n  ours: {got}"]
    other_words = line in OTHER_WORDS and (got.status, got.output) == (expected.status, expected.output)
    return [] if got == expected or other_words else [f"$ {line}\n  docker's: {expected}\n  ours:     {got}"]
