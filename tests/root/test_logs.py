"""logs: what a container printed, from conmon's file, also while it is begun anew."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.engine.images.image import Image
from pylab_container.runtime import logs
from pylab_container.runtime.logs import read_log
from tests.support.commands import Labctr

SLEEP = ("busybox:1", "sleep", "1000")


def write(path: Path, *texts: str, mode: str = "a") -> None:
    with path.open(mode) as file:
        for text in texts:
            file.write(f"2026-11-24T08:00:00.5+00:00 stdout F {text}\n")


# -- the file ----------------------------------------------------------------------------------


def test_a_follower_goes_on_with_the_file_that_replaces_the_log(tmp_path: Path) -> None:
    log = tmp_path / "container.log"
    write(log, "one")
    steps = iter(["append", "replace", "append", "end"])

    def follow() -> bool:
        step = next(steps)
        if step == "append":
            write(log, "more")
        elif step == "replace":
            write(log, "last of the old")
            write(tmp_path / "new", "first of the new")
            (tmp_path / "new").rename(log)
        return step != "end"

    lines = [line.data for line in read_log(log, follow=follow)]
    assert lines == [b"one\n", b"more\n", b"last of the old\n", b"first of the new\n", b"more\n"]


def test_a_follower_misses_nothing_that_comes_between_reading_a_log_and_its_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "container.log"
    write(log, "one")
    replaced = logs._replaced

    def late(*arguments: Any) -> bool:
        write(log, "last of the old")
        write(tmp_path / "new", "first of the new")
        (tmp_path / "new").rename(log)
        return replaced(*arguments)

    monkeypatch.setattr(logs, "_replaced", late)
    lines = [line.data for line in read_log(log, follow=lambda: False)]
    assert lines == [b"one\n", b"last of the old\n", b"first of the new\n"]


def test_a_follower_waits_for_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    log = tmp_path / "container.log"
    steps = iter(["nothing", "write", "end"])

    def follow() -> bool:
        step = next(steps)
        if step == "write":
            write(log, "late")
        return step != "end"

    assert [line.data for line in read_log(log, follow=follow)] == [b"late\n"]


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list(read_log(tmp_path / "nosuch")) == []


def test_a_follower_ends_when_it_is_told_to(engine: Engine, image: Image) -> None:
    script = "while :; do echo x; sleep 0.05; done"
    web = engine.containers.run_detached(image, ["sh", "-c", script], network_mode="none")
    stop = threading.Event()
    lines = web.log_lines(follow=True, stop=stop)
    assert next(lines).data == b"x\n"
    threading.Timer(0.3, stop.set).start()
    assert {line.data for line in lines} <= {b"x\n"}
    assert stop.is_set()  # and not before
    assert list(web.log_lines(follow=True, tail=0, until=time.time() - 1)) == []
    documents = web.stats(stop=stop)
    assert list(documents) == []


# -- the command -------------------------------------------------------------------------------


@pytest.mark.usefixtures("image")
def test_times_are_given_as_docker_takes_them(labctr: Labctr) -> None:
    labctr("run", "--name", "web", "busybox:1", "echo", "x")
    now = time.time()
    earlier = datetime.fromtimestamp(now - 3600, UTC)
    all_of_it = ("10m", "1h30m", f"{now - 60:.3f}", f"{earlier:%Y-%m-%dT%H:%M}Z", f"{earlier:%Y-%m-%d}Z", "2026-01-02")
    for since in all_of_it:
        assert labctr("logs", "--since", since, "web").stdout == "x\n", since
        assert labctr("logs", "--until", since, "web").stdout == "", since
    for bad in ("noon", "2026-13-01", ""):
        done = labctr("logs", f"--since={bad}", "web", check=False)
        assert ("invalid time" in done.stderr) == bool(bad), bad


@pytest.mark.usefixtures("image")
def test_options_of_a_log_are_recorded_and_none_is_ignored(labctr: Labctr) -> None:
    labctr("create", "--name", "plain", *SLEEP)
    labctr("create", "--name", "sized", "--log-driver", "json-file", "--log-opt", "max-size=1m", *SLEEP)
    show = ("inspect", "-f", "{{json .HostConfig.LogConfig}}")
    assert labctr(*show, "plain").stdout == '{"Type":"json-file","Config":{}}\n'
    assert labctr(*show, "sized").stdout == '{"Type":"json-file","Config":{"max-size":"1m"}}\n'
    done = labctr("create", "--log-opt", "compress=true", *SLEEP, check=False)
    assert (done.returncode, "unknown log opt 'compress'" in done.stderr) == (1, True)


@pytest.mark.usefixtures("image")
def test_streams_times_and_tails(labctr: Labctr) -> None:
    script = "echo one; echo two >&2; until [ -e /go ]; do sleep 0.1; done; echo three; printf unfinished"
    labctr("run", "-d", "--name", "web", "busybox:1", "sh", "-c", script)
    while ((first := labctr("logs", "web")).stdout, first.stderr) != ("one\n", "two\n"):
        time.sleep(0.05)
    labctr("exec", "web", "touch", "/go")  # what comes next is read later, and has another time
    labctr("wait", "web")
    done = labctr("logs", "web")
    assert (done.stdout, done.stderr) == ("one\nthree\nunfinished", "two\n")
    assert labctr("logs", "--tail", "1", "web").stdout == "unfinished"
    assert labctr("logs", "-n", "0", "web").stdout == ""
    assert labctr("logs", "--tail", "x", "web").stdout == done.stdout  # docker takes that for all
    stamped = labctr("logs", "-t", "--details", "web").stdout.splitlines()
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z  one", stamped[0])
    third = stamped[1].split()[0]
    assert labctr("logs", "--since", third, "web").stdout.startswith("three\n")
    assert labctr("logs", "--until", third, "web").stdout.startswith("one\n")
    assert labctr("logs", "nosuch", check=False).returncode == 1


@pytest.mark.usefixtures("image")
def test_output_of_several_runs_stays(labctr: Labctr) -> None:
    labctr("run", "--name", "web", "busybox:1", "echo", "again")
    labctr("start", "-a", "web")
    assert labctr("logs", "web").stdout == "again\nagain\n"


@pytest.mark.usefixtures("image")
def test_following_ends_with_the_container(labctr: Labctr, command: list[str], repository: Path) -> None:
    script = "for i in 1 2 3; do echo $i; sleep 0.2; done"
    labctr("run", "-d", "--name", "web", "busybox:1", "sh", "-c", script)
    done = subprocess.run(
        [*command, "logs", "-f", "web"], capture_output=True, text=True, timeout=60, cwd=repository, check=True
    )
    assert done.stdout == "1\n2\n3\n"


@pytest.mark.usefixtures("image")
def test_a_log_with_a_largest_size_stays_small_and_can_be_followed(
    labctr: Labctr, command: list[str], repository: Path
) -> None:
    # In bursts of less than a file, each when the one before was read: of two files that are full between two looks
    # a follower misses the first.
    script = "i=0; while read x; do for j in $(seq 20); do i=$((i+1)); echo line $i; done; done"
    options = ["--log-opt", "max-size=2k"]
    container_id = labctr("create", "-i", "--name", "web", *options, "busybox:1", "sh", "-c", script).stdout.strip()
    starting = [*command, "start", "-i", "web"]
    with subprocess.Popen(starting, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=repository) as running:
        assert running.stdin is not None
        while labctr("ps", "-q").stdout == "":
            time.sleep(0.05)
        with subprocess.Popen([*command, "logs", "-f", "web"], stdout=subprocess.PIPE, cwd=repository) as following:
            assert following.stdout is not None
            lines = []
            for _ in range(15):
                running.stdin.write(b"\n")
                running.stdin.flush()
                lines += [following.stdout.readline().decode().rstrip() for _ in range(20)]
            running.stdin.close()
            lines += following.stdout.read().decode().splitlines()
    assert lines == [f"line {number}" for number in range(1, 301)]
    root = Path(command[command.index("--root") + 1])
    assert (root / "containers" / container_id / "container.log").stat().st_size <= 2048
    assert labctr("logs", "web").stdout.endswith("line 300\n")


@pytest.mark.usefixtures("image")
def test_a_container_without_a_log_says_so(labctr: Labctr) -> None:
    assert labctr("run", "--name", "web", "--log-driver", "none", "busybox:1", "echo", "x").stdout == "x\n"
    done = labctr("logs", "web", check=False)
    assert (done.returncode, "configured logging driver does not support reading" in done.stderr) == (1, True)
