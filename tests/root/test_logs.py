"""logs: the output of containers, from conmon's file, also while that is replaced."""

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
from pylab_container.images.image import Image
from pylab_container.runtime import logs
from pylab_container.runtime.logs import read_log
from tests.support.commands import Labctr
from tests.support.waiting import PATIENCE, eventually

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
    replaced = logs._is_replaced

    def late(*arguments: Any) -> bool:
        write(log, "last of the old")
        write(tmp_path / "new", "first of the new")
        (tmp_path / "new").rename(log)
        return replaced(*arguments)

    monkeypatch.setattr(logs, "_is_replaced", late)
    lines = [line.data for line in read_log(log, follow=lambda: False)]
    assert lines == [b"one\n", b"last of the old\n", b"first of the new\n"]


def test_a_follower_waits_for_a_log_that_does_not_exist_yet(tmp_path: Path) -> None:
    log = tmp_path / "container.log"
    steps = iter(["nothing", "write", "end"])

    def follow() -> bool:
        step = next(steps)
        if step == "write":
            write(log, "late")
        return step != "end"

    assert [line.data for line in read_log(log, follow=follow)] == [b"late\n"]


def test_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert list(read_log(tmp_path / "nosuch")) == []


def test_a_follower_ends_when_it_is_stopped(engine: Engine, image: Image) -> None:
    script = "while :; do echo x; sleep 0.05; done"
    web = engine.containers.run_detached(image, ["sh", "-c", script], network_mode="none")
    stop = threading.Event()
    lines = web.log_lines(follow=True, stop=stop)
    assert next(lines).data == b"x\n"
    threading.Timer(0.1, stop.set).start()
    assert {line.data for line in lines} <= {b"x\n"}
    assert stop.is_set()  # and not before
    assert list(web.log_lines(follow=True, tail=0, until=time.time() - 1)) == []
    documents = web.stats(stop=stop)
    assert list(documents) == []


# -- the command -------------------------------------------------------------------------------


@pytest.mark.usefixtures("image")
def test_times_are_given_as_docker_takes_them(cli: Labctr) -> None:
    cli("run", "--name", "web", "busybox:1", "echo", "x")
    now = time.time()
    earlier = datetime.fromtimestamp(now - 3600, UTC)
    all_of_it = ("10m", "1h30m", f"{now - 60:.3f}", f"{earlier:%Y-%m-%dT%H:%M}Z", f"{earlier:%Y-%m-%d}Z", "2026-01-02")
    for since in all_of_it:
        assert cli("logs", "--since", since, "web").stdout == "x\n", since
        assert cli("logs", "--until", since, "web").stdout == "", since
    for bad in ("noon", "2026-13-01", ""):
        done = cli("logs", f"--since={bad}", "web", check=False)
        assert ("invalid time" in done.stderr) == bool(bad), bad


@pytest.mark.usefixtures("image")
def test_log_options_are_recorded_and_unknown_ones_refused(cli: Labctr) -> None:
    cli("create", "--name", "plain", *SLEEP)
    cli("create", "--name", "sized", "--log-driver", "json-file", "--log-opt", "max-size=1m", *SLEEP)
    show = ("inspect", "-f", "{{json .HostConfig.LogConfig}}")
    assert cli(*show, "plain").stdout == '{"Type":"json-file","Config":{}}\n'
    assert cli(*show, "sized").stdout == '{"Type":"json-file","Config":{"max-size":"1m"}}\n'
    done = cli("create", "--log-opt", "compress=true", *SLEEP, check=False)
    assert (done.returncode, "unknown log opt 'compress'" in done.stderr) == (1, True)


@pytest.mark.usefixtures("image")
def test_streams_times_and_tails(labctr: Labctr, cli: Labctr) -> None:
    script = "echo one; echo two >&2; until [ -e /go ]; do sleep 0.1; done; echo three; printf unfinished"
    cli("run", "-d", "--name", "web", "busybox:1", "sh", "-c", script)
    eventually(lambda: ((first := cli("logs", "web")).stdout, first.stderr) == ("one\n", "two\n"))
    cli("exec", "web", "touch", "/go")  # the next line is read later, and has another time
    cli("wait", "web")
    done = labctr("logs", "web")
    assert (done.stdout, done.stderr) == ("one\nthree\nunfinished", "two\n")
    assert cli("logs", "--tail", "1", "web").stdout == "unfinished"
    assert cli("logs", "-n", "0", "web").stdout == ""
    assert cli("logs", "--tail", "x", "web").stdout == done.stdout  # docker takes that for all
    stamped = cli("logs", "-t", "--details", "web").stdout.splitlines()
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z  one", stamped[0])
    third = stamped[1].split()[0]
    assert cli("logs", "--since", third, "web").stdout.startswith("three\n")
    assert cli("logs", "--until", third, "web").stdout.startswith("one\n")
    assert cli("logs", "nosuch", check=False).returncode == 1


@pytest.mark.usefixtures("image")
def test_output_of_several_runs_stays(cli: Labctr) -> None:
    cli("run", "--name", "web", "busybox:1", "echo", "again")
    cli("start", "-a", "web")
    assert cli("logs", "web").stdout == "again\nagain\n"


@pytest.mark.usefixtures("image")
def test_following_ends_with_the_container(cli: Labctr, command: list[str], repository: Path) -> None:
    script = "for i in 1 2 3; do echo $i; sleep 0.2; done"
    cli("run", "-d", "--name", "web", "busybox:1", "sh", "-c", script)
    done = subprocess.run(
        [*command, "logs", "-f", "web"], capture_output=True, text=True, timeout=PATIENCE, cwd=repository, check=True
    )
    assert done.stdout == "1\n2\n3\n"


@pytest.mark.usefixtures("image")
def test_a_log_with_a_maximum_size_stays_small_and_can_be_followed(
    cli: Labctr, command: list[str], repository: Path
) -> None:
    # In bursts of less than a file, each when the one before was read: of two files that are full between two looks
    # a follower misses the first.
    script = "i=0; while read x; do for j in $(seq 20); do i=$((i+1)); echo line $i; done; done"
    options = ["--log-opt", "max-size=2k"]
    container_id = cli("create", "-i", "--name", "web", *options, "busybox:1", "sh", "-c", script).stdout.strip()
    starting = [*command, "start", "-i", "web"]
    with subprocess.Popen(starting, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=repository) as running:
        assert running.stdin is not None
        eventually(lambda: cli("ps", "-q").stdout)
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
    (kept,) = (root / "containers" / container_id).glob("*log*")
    assert kept.name == f"{container_id}-json.log"
    assert kept.stat().st_size <= 2048
    assert cli("logs", "web").stdout.endswith("line 300\n")


@pytest.mark.usefixtures("image")
def test_a_container_without_a_log_reports_it(cli: Labctr) -> None:
    assert cli("run", "--name", "web", "--log-driver", "none", "busybox:1", "echo", "x").stdout == "x\n"
    done = cli("logs", "web", check=False)
    assert (done.returncode, "configured logging driver does not support reading" in done.stderr) == (1, True)
