"""The docker command in a terminal, against dockerd and our daemon: output and exit status are equal."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.commands import Terminal
from tests.support.dockerd import environment
from tests.support.sides import IMAGE, docker

Start = Callable[..., Terminal]


@pytest.fixture(params=["theirs", "ours"])
def socket(request: pytest.FixtureRequest, sockets: tuple[Path, Path]) -> Path:
    """Each of the two daemons, with the image."""
    return sockets[request.param == "ours"]


@pytest.fixture
def start(socket: Path, tmp_path: Path) -> Iterator[Start]:
    """Start the docker command in a terminal of its own."""
    opened: list[Terminal] = []

    def run(*arguments: str, rows: int = 24, columns: int = 80) -> Terminal:
        words = [f"{name}={value}" for name, value in environment(socket).items() if name.startswith("DOCKER_")]
        opened.append(Terminal(["env", *words, "docker", *arguments], rows=rows, columns=columns, cwd=tmp_path))
        return opened[-1]

    yield run
    for one in opened:
        one.close()


@pytest.fixture
def shell(start: Start, socket: Path) -> Iterator[Terminal]:
    """Start a shell in the container "shell", and remove the container after the test."""
    terminal = start("run", "-it", "--name", "shell", IMAGE, "sh")
    terminal.expect("# ")
    yield terminal
    assert docker(socket, "rm", "-f", "shell").returncode == 0


def expect_size(terminal: Terminal, rows: int, columns: int) -> None:
    """The size comes some time after the start or a change. What is typed does not look like what is expected."""
    # docker reads the first size before it catches SIGWINCH: a change in between is lost until the next signal.
    terminal.type(f"until stty size | grep '^{rows}  *{columns}$'; do sleep 0.1; done\n".encode())
    terminal.expect(f"{rows} {columns}", when_idle=lambda: os.kill(terminal.process.pid, signal.SIGWINCH))
    terminal.expect("# ")


def test_a_shell_has_a_terminal_of_the_right_size_that_follows_and_its_status_is_dockers(start: Start) -> None:
    terminal = start("run", "-it", "--rm", IMAGE, "sh", rows=33, columns=101)
    terminal.expect("# ")
    expect_size(terminal, 33, 101)
    terminal.resize(20, 60)
    expect_size(terminal, 20, 60)
    terminal.type(b"exit 7\n")
    assert terminal.wait() == 7


def test_ctrl_c_ends_what_runs_in_the_shell_and_not_the_shell(shell: Terminal) -> None:
    shell.type(b"echo $((40+1)); cat\n")
    shell.expect("41")  # the shell edits lines no more: from now on the terminal itself shows what is typed
    shell.type(b"abc\n")
    shell.expect("abc\r\nabc")
    shell.type(b"\x03")
    shell.expect("# ")  # a terminal throws away what was typed before
    shell.type(b"echo $((40+2))\n")
    shell.expect("42")
    shell.type(b"exit 5\n")
    assert shell.wait() == 5


def test_the_detach_keys_leave_a_container_that_runs_on_and_can_be_attached_to(shell: Terminal, start: Start) -> None:
    shell.type(b"\x10\x11")
    assert shell.wait() == 0
    again = start("attach", "shell")
    again.type(b"echo $((40+3))\n")
    again.expect("43")
    again.type(b"exit 6\n")
    assert again.wait() == 6


def test_other_detach_keys_leave_as_well(shell: Terminal, start: Start, socket: Path) -> None:
    again = start("attach", "--detach-keys", "ctrl-x,x", "shell")
    again.type(b"echo $((40+4))\n")
    again.expect("44")
    shell.expect("44")  # both see it
    again.type(b"\x18x")
    assert again.wait() == 1
    assert docker(socket, "inspect", "-f", "{{.State.Running}}", "shell").stdout == b"true\n"


def test_exec_has_a_terminal_of_its_own(shell: Terminal, start: Start) -> None:
    inner = start("exec", "-it", "shell", "sh", rows=31, columns=91)
    inner.expect("# ")
    expect_size(inner, 31, 91)
    inner.type(b"exit 3\n")
    assert inner.wait() == 3
    inner = start("exec", "-it", "shell", "sh")
    inner.expect("# ")
    inner.type(b"\x10\x11")
    assert inner.wait() == 1


def test_a_container_that_has_ended_is_started_and_attached_to(shell: Terminal, start: Start) -> None:
    shell.type(b"exit\n")
    assert shell.wait() == 0
    again = start("start", "-ai", "shell")
    again.expect("# ")
    again.type(b"echo $((40+5)); exit 4\n")
    again.expect("45")
    assert again.wait() == 4


def test_a_signal_to_the_client_is_the_containers(start: Start) -> None:
    script = "trap 'echo got; exit 9' INT; echo ready; while :; do sleep 0.1; done"
    terminal = start("run", "--rm", IMAGE, "sh", "-c", script)
    terminal.expect("ready")
    terminal.type(b"\x03")
    terminal.expect("got")
    assert terminal.wait() == 9


def test_logs_follow_until_the_end_of_the_container(start: Start, socket: Path) -> None:
    script = "for i in 1 2 3; do echo no$i; sleep 0.3; done"
    assert docker(socket, "run", "-d", "--name", "told", IMAGE, "sh", "-c", script).returncode == 0
    terminal = start("logs", "-f", "told")
    terminal.expect("no3")
    assert terminal.wait() == 0
    assert docker(socket, "rm", "told").returncode == 0
