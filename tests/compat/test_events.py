"""events: run one session with dockerd and with labctr, and compare the events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.commands import Labctr
from tests.support.dockerd import Docker
from tests.support.sides import docker
from tests.support.waiting import eventually

Told = list[tuple[str, str, tuple[str, ...]]]
"""(Type, Action, the names of its attributes), in the order of time."""


def session(run: Callable[..., str], base: Path, scratch: Path) -> Told:
    """A day in the life of an engine; its events."""
    begin = time.time()

    def told(*filters: str) -> list[str]:
        span = ("--since", f"{begin:.6f}", "--until", f"{time.time():.6f}")
        return run("events", *span, *filters, "--format", "{{json .}}").splitlines()

    def until_told(action: str, times: int) -> None:
        """dockerd emits the event of an exit after its answer to the client: other events might come first."""
        eventually(lambda: len(told("--filter", f"event={action}")) >= times)

    (scratch / "file").write_text("x")
    run("import", str(base), "busybox:1")
    run("tag", "busybox:1", "other:1")
    run("rmi", "other:1")
    run("save", "-o", str(scratch / "saved.tar"), "busybox:1")
    run("volume", "create", "data")
    run("volume", "rm", "data")
    run("create", "--name", "web", "--network", "none", "-l", "a=b", "busybox:1", "sleep", "1000")
    run("start", "web")
    run("exec", "web", "true")
    until_told("exec_die", 1)
    run("exec", "web", "sh", "-c", "exit 3")
    until_told("exec_die", 2)
    run("exec", "web", "nosuch")
    run("exec", "-d", "-w", "/nosuch", "web", "true")
    run("top", "web")
    run("cp", str(scratch / "file"), "web:/tmp/file")
    run("cp", "web:/tmp/file", str(scratch / "back"))
    run("export", "-o", str(scratch / "exported.tar"), "web")
    run("commit", "--pause=false", "-m", "hello", "web", "made:1")
    run("rename", "web", "other")
    run("rename", "other", "web")
    run("update", "--restart", "no", "web")
    run("pause", "web")
    run("unpause", "web")
    run("kill", "-s", "HUP", "web")
    run("restart", "-t", "0", "web")
    run("stop", "-t", "0", "web")
    run("rm", "-v", "web")
    run("run", "--rm", "--name", "short", "--network", "none", "busybox:1", "echo", "hi")
    until_told("destroy", 3)  # a volume's, that of "web" and this one
    run("run", "-d", "--name", "anon", "--network", "none", "-v", "/anon", "busybox:1", "sleep", "1000")
    run("rm", "-f", "-v", "anon")
    run("create", "--name", "idle", "--network", "none", "busybox:1", "true")
    run("container", "prune", "-f")
    run("build", "--network", "none", "-t", "built:1", str(scratch / "context"))
    run("rmi", "built:1")
    run("rmi", "made:1")
    for kind in ("image", "volume", "network", "builder"):
        run(kind, "prune", "-f")
    return [_of_interest(json.loads(line)) for line in told()]


def _of_interest(document: dict[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    return document["Type"], document["Action"], tuple(sorted(document["Actor"]["Attributes"]))


def test_a_session_is_told_as_docker_tells_it(
    empty_dockerd: Docker, cli: Labctr, busybox_tar: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox:1\nRUN true\n")
    ours = session(lambda *words: cli(*words, check=False).stdout, busybox_tar, tmp_path)
    theirs = session(lambda *words: docker(empty_dockerd.socket, *words).stdout.decode(), busybox_tar, tmp_path)
    assert len(theirs) > 70
    assert ours == theirs
