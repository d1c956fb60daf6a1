"""exec: one more process in a running container, as an object that is created, started, resized and inspected."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.containers import execution
from pylab_container.containers.execution import Exec
from pylab_container.engine.container import Container
from pylab_container.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    InvalidInput,
    LabError,
    NotFound,
    RuntimeFailed,
)
from pylab_container.images.image import Image
from pylab_container.runtime.monitor import Attachment
from tests.support.commands import Labctr, Terminal
from tests.support.waiting import PATIENCE, eventually


@pytest.fixture
def web(engine: Engine, image: Image) -> Container:
    return engine.containers.run_detached(image, ["sleep", "1000"], name="web", network_mode="none")


@pytest.fixture(autouse=True)
def _no_descriptor_and_no_thread_is_left() -> Iterator[None]:
    before, threads = descriptors(), set(threading.enumerate())
    yield
    eventually(lambda: set(threading.enumerate()) <= threads)
    eventually(lambda: descriptors() <= before)


def descriptors() -> set[str]:
    """Return the sockets, pipes and epoll sets that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith(("socket:", "pipe:", "anon_inode:[eventpoll]")):
            found.add(f"{name} {target}")
    return found


def everything(streams: Attachment) -> dict[str, bytes]:
    found = {"stdout": b"", "stderr": b""}
    for stream, data in iter(streams.receive, None):
        found[stream] += data
    return found


def until(streams: Attachment, text: bytes) -> bytes:
    """Return the output up to this text."""
    seen = b""
    while text not in seen:
        piece = streams.receive()
        assert piece is not None, seen
        seen += piece[1]
    return seen


def actions(engine: Engine) -> list[str]:
    events = engine.event_log.read(since=0, until=time.time(), filters={"type": "container"})
    return [event["Action"] for event in events if event["Action"].startswith("exec_")]


# -- its document ------------------------------------------------------------------------------


def test_the_document_shows_the_life_of_a_command(web: Container, engine: Engine) -> None:
    script = "until [ -e /go ]; do sleep 0.1; done; exit 3"
    made = web.exec_create(["sh", "-c", script], user="student", stderr=False)
    assert made.attrs == {
        "ID": made.id,
        "Running": False,
        "ExitCode": None,
        "ProcessConfig": {
            "tty": False,
            "entrypoint": "sh",
            "arguments": ["-c", script],
            "privileged": False,
            "user": "student",
        },
        "OpenStdin": False,
        "OpenStderr": False,
        "OpenStdout": True,
        "CanRemove": False,
        "ContainerID": web.id,
        "DetachKeys": "",
        "Pid": 0,
    }
    assert web.attrs["ExecIDs"] == [made.id]
    made.start_detached()
    assert (made.attrs["Running"], made.attrs["ExitCode"]) == (True, None)
    command = Path(f"/proc/{made.attrs['Pid']}/cmdline")
    eventually(lambda: command.read_bytes().startswith(b"sh\0-c"))  # runc init becomes it
    assert Engine(engine.data_root).containers.get("web").attrs["ExecIDs"] == [made.id]  # another engine sees it, too
    web.exec_run(["touch", "/go"])
    assert made.wait(PATIENCE) == 3
    assert (made.attrs["Running"], made.attrs["ExitCode"]) == (False, 3)
    assert web.attrs["ExecIDs"] is None
    assert engine.executions.get(made.id) is engine.executions.get(made.id[:12]) is made


@pytest.mark.parametrize("name", ["", "nosuch", "f" * 64])
def test_an_unknown_exec_is_not_found(engine: Engine, name: str) -> None:
    with pytest.raises(NotFound, match=f"No such exec instance: {name}"):
        engine.executions.get(name)


def test_create_checks_its_arguments_and_the_container(web: Container) -> None:
    with pytest.raises(InvalidInput, match="No exec command specified"):
        web.exec_create([])
    with pytest.raises(InvalidInput, match="invalid detach keys"):
        web.exec_create(["true"], detach_keys="ctrl-pp")
    with pytest.raises(InvalidInput, match="invalid environment variable"):
        web.exec_create(["true"], environment=["=x"])
    web.pause()
    with pytest.raises(Conflict, match=f"Container {web.id} is paused, unpause the container before exec"):
        web.exec_create(["true"])
    web.unpause()
    web.kill()
    with pytest.raises(Conflict, match=f"Container {web.id} is not running"):
        web.exec_create(["true"])


def test_it_is_started_once(web: Container) -> None:
    made = web.exec_create(["sleep", "1000"])
    web.pause()
    with pytest.raises(Conflict, match="is paused"):
        made.start()
    web.unpause()
    made.start_detached()
    with pytest.raises(Conflict, match=f"Exec command {made.id} is already running"):
        made.start()
    made.kill()
    assert made.wait(PATIENCE) == 128 + signal.SIGKILL
    with pytest.raises(Conflict, match=f"Exec command {made.id} has already run"):
        made.start()


def test_of_many_concurrent_starts_one_succeeds(web: Container) -> None:
    made = web.exec_create(["sh", "-c", "echo x >> /started"])
    refused: list[LabError] = []

    def start() -> None:
        try:
            made.start_detached()
        except Conflict as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.wait(PATIENCE)
    assert len(refused) == 7
    assert web.exec_run(["cat", "/started"]).output == b"x\n"


@pytest.mark.parametrize(
    ("cmd", "options", "error"),
    [
        (["nosuch"], {}, CommandNotFound),
        (["/bin/plain"], {}, CommandNotExecutable),
        (["true"], {"workdir": "/nosuch"}, RuntimeFailed),
        (["true"], {"user": "nosuch"}, InvalidInput),
        (["true"], {"workdir": "relative"}, InvalidInput),
    ],
)
@pytest.mark.parametrize("tty", [False, True])
def test_a_failed_start_is_reported_and_leaves_nothing(
    web: Container,
    engine: Engine,
    cmd: list[str],
    options: dict[str, str],
    error: type[Exception],
    *,
    tty: bool,
) -> None:
    made = web.exec_create(cmd, tty=tty, **options)  # type: ignore[arg-type]
    with pytest.raises(error):
        made.start()
    assert (made.attrs["ExitCode"], made.attrs["Running"], made.attrs["Pid"]) == (126, False, 0)
    assert made.wait(0) == 126
    with pytest.raises(Conflict, match="has already run"):
        made.start()
    eventually(lambda: not list(execution.executions_directory(engine.runtime, web.id).glob("*")))
    assert actions(engine) == [f"exec_create: {cmd[0]} ", f"exec_start: {cmd[0]} "]
    assert web.status == "running"


# -- its streams -------------------------------------------------------------------------------


def test_without_a_terminal_the_streams_are_apart(web: Container) -> None:
    made = web.exec_create(["sh", "-c", "echo out; echo err >&2; exit 4"])
    with made.start() as streams:
        assert everything(streams) == {"stdout": b"out\n", "stderr": b"err\n"}
    assert made.wait(PATIENCE) == 4


def test_short_commands_lose_no_output(web: Container, *, stress: bool) -> None:
    for tty in (False, True) * (20 if stress else 5):
        made = web.exec_create(["echo", "x"], tty=tty)
        with made.start() as streams:
            assert everything(streams)["stdout"] == (b"x\r\n" if tty else b"x\n")
        assert made.wait(PATIENCE) == 0


def test_input_of_any_size_comes_back_whole(web: Container) -> None:
    sent = os.urandom(1 << 20) * 2  # more than all buffers on the way hold
    made = web.exec_create(["cat"], stdin=True)
    with made.start() as streams:

        def feed() -> None:
            streams.send(sent)
            streams.close_stdin()

        feeder = threading.Thread(target=feed)
        feeder.start()
        assert everything(streams)["stdout"] == sent
        feeder.join()
    assert made.wait(PATIENCE) == 0


def test_without_stdin_a_command_reads_end_of_file(web: Container) -> None:
    made = web.exec_create(["cat"])
    with made.start() as streams:
        assert everything(streams)["stdout"] == b""
    assert made.wait(PATIENCE) == 0


def test_a_child_left_in_the_background_does_not_hold_the_streams(web: Container) -> None:
    made = web.exec_create(["sh", "-c", "sleep 1000 & echo x"])
    with made.start() as streams:
        assert everything(streams)["stdout"] == b"x\n"
    assert made.wait(PATIENCE) == 0
    assert b"sleep 1000" in web.exec_run(["ps"]).output


@pytest.mark.parametrize("tty", [False, True])
def test_a_command_runs_on_when_its_client_leaves(web: Container, *, tty: bool) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo much output without a reader; i=$((i+1)); done; touch /done; exit 5"
    made = web.exec_create(["sh", "-c", script], tty=tty)
    made.start().close()
    assert made.wait(PATIENCE) == 5
    assert web.exec_run(["test", "-e", "/done"]).exit_code == 0


def test_a_client_that_does_not_read_blocks_no_other_command(web: Container) -> None:
    flooding = web.exec_create(["yes"])
    with flooding.start():
        assert web.exec_run(["echo", "x"]).output == b"x\n"
        flooding.kill()
    assert flooding.wait(PATIENCE) == 137


def test_a_terminal_has_a_size_keys_and_an_end(web: Container) -> None:
    made = web.exec_create(["sh"], tty=True, stdin=True, environment={"PS1": "> "})
    with made.start(console_size=(33, 44)) as streams:
        until(streams, b"> ")
        streams.send(b"stty size\n")
        until(streams, b"33 44\r\n")
        made.resize(rows=11, columns=22)
        streams.send(b"stty size\n")
        until(streams, b"11 22\r\n")
        streams.send(b"sleep 999; echo status $?\n")
        until(streams, b"$?\r\n")
        # The shell's line editor reads in raw mode, in which ^C sends no signal. So wait until sleep runs.
        eventually(lambda: b"sleep 999" in web.exec_run(["ps"]).output)
        streams.send(b"\x03")
        until(streams, b"^C")
        streams.send(b"exit 7\n")
        everything(streams)
    assert made.wait(PATIENCE) == 7
    with pytest.raises(Conflict, match="is not running"):
        made.resize(rows=1, columns=1)


def test_a_size_that_comes_before_the_start_waits_for_it(web: Container) -> None:
    made = web.exec_create(["sh", "-c", "until stty size | grep '^11 22$'; do sleep 0.1; done"], tty=True)
    early = threading.Thread(target=made.resize, kwargs={"rows": 11, "columns": 22, "timeout": PATIENCE})
    early.start()
    with made.start() as streams:
        early.join()
        until(streams, b"11 22\r\n")
    assert made.wait(PATIENCE) == 0


def test_end_of_file_at_a_terminal_ends_its_reader(web: Container) -> None:
    made = web.exec_create(["cat"], tty=True, stdin=True)
    with made.start() as streams:
        streams.send(b"x\n\x04")
        assert everything(streams)["stdout"] == b"x\r\nx\r\n"
    assert made.wait(PATIENCE) == 0


def test_resize_needs_a_process_and_ignores_a_missing_terminal(web: Container) -> None:
    made = web.exec_create(["sleep", "1000"])
    with pytest.raises(Conflict, match="is not running"):
        made.resize(rows=1, columns=1)
    made.start_detached()
    made.resize(rows=1, columns=1)
    made.kill()
    made.wait(PATIENCE)


def test_wait_has_a_timeout(web: Container) -> None:
    made = web.exec_create(["sleep", "1000"])
    made.start_detached()
    with pytest.raises(TimeoutError):
        made.wait(0.05)
    made.kill()
    assert made.wait(PATIENCE) == 137


# -- its container -----------------------------------------------------------------------------


def test_it_ends_with_its_container(web: Container, engine: Engine) -> None:
    running = [web.exec_create(["sleep", "1000"]) for _ in range(4)]
    idle = web.exec_create(["true"])
    before = threading.active_count()
    for made in running:
        made.start_detached()
    assert threading.active_count() == before + 1  # one thread waits for all of them
    web.kill()
    assert [made.wait(PATIENCE) for made in running] == [137] * 4
    assert engine.executions.get(running[0].id).attrs["ExitCode"] == 137
    with pytest.raises(NotFound):
        engine.executions.get(idle.id)
    with pytest.raises(Conflict, match="is not running"):
        idle.start()
    web.start()
    assert web.attrs["ExecIDs"] is None


def test_an_exec_is_removed_with_its_container_and_its_object_still_has_the_status(
    web: Container, engine: Engine
) -> None:
    made = web.exec_create(["sleep", "1000"])
    made.start_detached()
    web.remove(force=True)
    assert made.wait(PATIENCE) == 137
    assert made.attrs["ContainerID"] == web.id
    with pytest.raises(NotFound, match=f"No such exec instance: {made.id}"):
        engine.executions.get(made.id)
    assert actions(engine)[-1] == "exec_die"


def test_a_killed_monitor_is_noticed(web: Container) -> None:
    made = web.exec_create(["sleep", "1000"])
    made.start_detached()
    os.kill(made.session().conmon_pid, signal.SIGKILL)
    assert made.wait(PATIENCE) == 255
    os.kill(made.pid, signal.SIGKILL)


def test_ended_execs_are_forgotten(web: Container, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> Exec:
        made = web.exec_create(["true"])
        made.start_detached()
        made.wait(PATIENCE)
        return made

    first = run()
    monkeypatch.setattr(execution, "KEPT_AFTER_EXIT", 0.0)
    second = run()
    with pytest.raises(NotFound):
        engine.executions.get(first.id)
    monkeypatch.setattr(execution, "KEPT_AFTER_EXIT", 300.0)
    monkeypatch.setattr(execution, "MOST_KEPT", 2)
    running = web.exec_create(["sleep", "1000"])
    running.start_detached()
    made = [web.exec_create(["true"]) for _ in range(5)]
    with pytest.raises(NotFound):
        engine.executions.get(second.id)
    with pytest.raises(NotFound):
        engine.executions.get(made[0].id)
    assert engine.executions.get(made[-1].id) is made[-1]
    assert engine.executions.get(running.id) is running
    running.kill()
    running.wait(PATIENCE)


def test_its_life_is_logged(web: Container, engine: Engine) -> None:
    web.exec_run(["sh", "-c", "exit 3"])
    events = list(engine.event_log.read(since=0, until=time.time(), filters={"event": "exec_die"}))
    assert [one["Actor"]["Attributes"]["exitCode"] for one in events] == ["3"]
    assert len(events[0]["Actor"]["Attributes"]["execID"]) == 64
    assert actions(engine) == ["exec_create: sh -c exit 3", "exec_start: sh -c exit 3", "exec_die"]


# -- the command -------------------------------------------------------------------------------


def test_the_command_passes_input_and_status_on(labctr: Labctr, cli: Labctr, web: Container) -> None:
    assert labctr("exec", "-i", web.id, "cat", input="hello").stdout == "hello"
    assert cli("exec", web.id, "cat", input="hello").stdout == ""
    assert labctr("exec", "-t", web.id, "tty").stdout == "/dev/pts/0\n"
    assert cli("exec", "-it", web.id, "sh", check=False).stderr.startswith("Error: the input device is not a TTY")
    assert cli("exec", "--detach-keys", "ctrl-pp", web.id, "true", check=False).returncode == 1


def test_detach_keys_leave_a_command_running(terminal: Callable[..., Terminal], web: Container, engine: Engine) -> None:
    screen = terminal("exec", "-it", "--detach-keys", "ctrl-x,q", web.id, "sh", rows=31, columns=91)
    screen.expect("# ")
    screen.type(b"stty size\r")
    screen.expect("31 91")
    screen.type(b"\x18q")
    screen.expect("read escape sequence")
    assert screen.wait() == 0
    assert web.attrs["ExecIDs"] is not None
    assert actions(engine)[-1] == "exec_detach"
