"""runtime/: runc and conmon with a root file system of one static program."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pylab_container.errors import CommandNotExecutable, CommandNotFound, Conflict, ContainerNotFound, RuntimeFailed
from pylab_container.host import programs
from pylab_container.oci import seccomp
from pylab_container.oci.bundle import Limits, Process, runtime_config
from pylab_container.oci.capabilities import DEFAULT_CAPABILITIES
from pylab_container.oci.users import User
from pylab_container.runtime.conmon import Conmon
from pylab_container.runtime.logs import read_log
from pylab_container.runtime.monitor import UNKNOWN_STATUS, ExecSession, Monitor
from pylab_container.runtime.runc import Runc
from tests.support.processes import command_lines
from tests.support.waiting import PATIENCE, eventually

# One parent for all cgroups of this process: two runs of these tests do not disturb each other.
CGROUP = f"labctr-test-{os.getpid()}"
# Ids that no other run has, either: a forced delete ends what is in any cgroup of that name.
C1, C2 = f"c1-{os.getpid()}", f"c2-{os.getpid()}"
APPLETS = ("sh", "true", "sleep", "cat", "echo", "stty", "id", "ls", "grep", "mount", "wc")


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with busybox and some files that cannot be executed."""
    top = tmp_path_factory.mktemp("rootfs")
    top.chmod(0o755)  # others than root look for programs here too
    binaries = top / "bin"
    binaries.mkdir()
    (binaries / "busybox").write_bytes(Path(programs.find("busybox")).read_bytes())
    (binaries / "busybox").chmod(0o755)
    for applet in APPLETS:
        (binaries / applet).symlink_to("busybox")
    (binaries / "plain").write_text("no x bit")
    (top / "bin" / "directory").mkdir()
    return top


class Machine:
    """Makes containers in one scratch directory, and removes them all."""

    def __init__(self, scratch: Path, rootfs: Path) -> None:
        self.scratch = scratch
        self.rootfs = rootfs
        self.runc = Runc(scratch / "runc")
        self.conmon = Conmon(self.runc)
        self.made: list[Monitor] = []

    def bundle(self, container_id: str) -> Path:
        return self.scratch / "run" / container_id

    def log(self, container_id: str) -> Path:
        return self.bundle(container_id) / "container.log"

    def create(
        self,
        container_id: str,
        *argv: str,
        terminal: bool = False,
        config: dict[str, Any] | None = None,
        process: dict[str, Any] | None = None,
        **options: Any,
    ) -> Monitor:
        bundle = self.bundle(container_id)
        bundle.mkdir(parents=True)
        made = runtime_config(
            Process(argv=argv, environment=("PATH=/bin", "MARK=x"), terminal=terminal, **(process or {})),
            root=str(self.rootfs),
            hostname="lab",
            cgroups_path=f"/{CGROUP}/{container_id}",
            **{"seccomp": default_seccomp(), **(config or {})},
        )
        (bundle / "config.json").write_text(json.dumps(made))
        monitor = self.conmon.create(
            container_id,
            bundle=bundle,
            log=self.log(container_id),
            terminal=terminal,
            exit_directory=self.scratch / "exits",
            **options,
        )
        self.made.append(monitor)
        return monitor

    def run(self, container_id: str, *argv: str, **options: Any) -> tuple[int, str]:
        """Create, start and wait; the exit status and what was printed."""
        monitor = self.create(container_id, *argv, **options)
        self.runc.start(container_id)
        status = monitor.wait(PATIENCE)
        return status, "".join(line.data.decode() for line in read_log(self.log(container_id)))

    def remove_all(self) -> None:
        for monitor in self.made:
            self.runc.delete(monitor.container_id, force=True)
            monitor.wait(PATIENCE)


def default_seccomp() -> dict[str, Any]:
    return seccomp.resolve(
        seccomp.default_profile(),
        capabilities=DEFAULT_CAPABILITIES,
        architecture=platform.machine(),
        kernel=platform.release(),
    )


def inside(*argv: str, **options: Any) -> Process:
    return Process(argv=argv, environment=("PATH=/bin",), **options)


def execute(machine: Machine, *argv: str, stdin_open: bool = False, terminal: bool = False) -> ExecSession:
    directory = Path(tempfile.mkdtemp(dir=machine.scratch))
    return machine.conmon.execute(C1, inside(*argv, terminal=terminal), directory=directory, stdin_open=stdin_open)


def monitors(scratch: Path) -> list[str]:
    """The command lines of all processes that have to do with a scratch directory."""
    return [command for command in command_lines() if str(scratch) in command]


@pytest.fixture
def machine(tmp_path: Path, rootfs: Path) -> Iterator[Machine]:
    made = Machine(tmp_path, rootfs)
    yield made
    made.remove_all()
    assert not list((tmp_path / "runc").glob("*"))
    eventually(lambda: not monitors(tmp_path))
    assert not [path for parent in cgroup_parents() for path in parent.glob("*/cgroup.procs")]
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture(scope="module", autouse=True)
def cgroup_parent() -> Iterator[None]:
    """runc makes the parent cgroup and leaves it: remove it when the module's tests are done."""
    yield
    for directory in cgroup_parents():
        directory.rmdir()


def cgroup_parents() -> list[Path]:
    """Return the paths of CGROUP: one in each hierarchy of cgroup v1, or one in v2. Not with `**`, because of races."""
    top = Path("/sys/fs/cgroup")
    return [*top.glob(CGROUP), *top.glob(f"*/{CGROUP}")]


# -- life ---------------------------------------------------------------------------------------


def test_a_container_runs_to_its_end_and_its_output_is_in_the_log(machine: Machine) -> None:
    monitor = machine.create(C1, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert monitor.alive()
    assert monitor.exit_status() is None
    machine.runc.start(C1)
    assert monitor.wait(PATIENCE) == 3
    eventually(lambda: not monitor.alive())  # a moment longer than its container
    assert monitor.exit_status() == 3
    lines = {line.stream: line for line in read_log(machine.log(C1))}
    assert lines["stdout"].data == b"out\n"
    assert lines["stderr"].data == b"err\n"
    assert lines["stdout"].time.endswith("Z")


def test_created_means_nothing_of_the_command_has_run(machine: Machine) -> None:
    monitor = machine.create(C1, "sleep", "600")
    state = machine.runc.state(C1)
    assert state is not None
    assert state["status"] == "created"
    assert state["pid"] == monitor.container_pid
    assert not machine.log(C1).read_bytes()


def test_another_process_finds_the_monitor_by_its_directory(machine: Machine) -> None:
    first = machine.create(C1, "sleep", "600")
    machine.runc.start(C1)
    found = Monitor(C1, bundle=first.bundle, exit_directory=first.exit_file.parent)
    assert found.alive()
    machine.runc.kill(C1, signal.SIGKILL)
    assert found.wait(PATIENCE) == 128 + signal.SIGKILL


def test_a_container_can_be_run_again(machine: Machine) -> None:
    machine.run(C1, "sh", "-c", "exit 3")
    first = machine.made[0]
    options: dict[str, Any] = {
        "bundle": first.bundle,
        "log": machine.log(C1),
        "exit_directory": first.exit_file.parent,
    }
    with pytest.raises(Conflict):
        machine.conmon.create(C1, **options)
    machine.runc.delete(C1)
    again = machine.conmon.create(C1, **options)
    assert again.exit_status() is None
    machine.runc.start(C1)
    assert again.wait(PATIENCE) == 3


def test_a_second_create_does_not_harm_the_running_container(machine: Machine) -> None:
    monitor = machine.create(C1, "sleep", "600")
    machine.runc.start(C1)
    with pytest.raises(Conflict):
        machine.conmon.create(C1, bundle=monitor.bundle, log=machine.log(C1), exit_directory=monitor.exit_file.parent)
    assert monitor.alive()
    assert monitor.exit_status() is None


def test_waiting_has_an_end(machine: Machine) -> None:
    monitor = machine.create(C1, "sleep", "600")
    machine.runc.start(C1)
    with pytest.raises(TimeoutError):
        monitor.wait(0.01)
    assert monitor.runs_after(0.01)


def test_the_exit_command_runs_after_the_end_and_nobody_waits_for_it(machine: Machine) -> None:
    told, asked = machine.scratch / "told", machine.scratch / "asked"
    script = 'until [ -e "$2" ]; do sleep 0.05; done; echo "$0" >"$1"'
    monitor = machine.create(C1, "true", exit_command=["/bin/sh", "-c", script, "gone", str(told), str(asked)])
    machine.runc.start(C1)
    assert monitor.wait(PATIENCE) == 0
    assert not told.exists()
    asked.touch()
    eventually(lambda: not monitor.alive())
    assert told.read_text() == "gone\n"


def test_a_monitor_that_was_killed_leaves_an_unknown_status(machine: Machine) -> None:
    monitor = machine.create(C1, "sleep", "600")
    machine.runc.start(C1)
    os.kill(monitor.conmon_pid, signal.SIGKILL)
    assert monitor.wait(PATIENCE) == UNKNOWN_STATUS
    assert not monitor.alive()


def test_a_recycled_pid_is_not_taken_for_the_monitor(machine: Machine) -> None:
    monitor = machine.create(C1, "sleep", "600")
    conmon_pid = monitor.conmon_pid
    (monitor.bundle / "conmon.pid").write_text(str(os.getpid()))
    assert not monitor.alive()
    assert monitor.wait(PATIENCE) == UNKNOWN_STATUS
    (monitor.bundle / "conmon.pid").write_text(str(conmon_pid))
    assert monitor.alive()


def test_a_data_root_may_have_a_path_longer_than_a_socket_address(tmp_path: Path, rootfs: Path) -> None:
    deep = Machine(tmp_path / ("d" * 120), rootfs)
    try:
        monitor = deep.create(C1, "cat", stdin_open=True, stdin_once=True)
        with monitor.attach() as attachment:
            deep.runc.start(C1)
            attachment.send(b"through a long path\n")
            attachment.close_stdin()
            assert attachment.receive() == ("stdout", b"through a long path\n")
    finally:
        deep.remove_all()


def test_the_container_has_the_limits_the_namespaces_and_the_user_asked_for(machine: Machine) -> None:
    script = "id -u; id -G; grep -c . /proc/net/dev; cat /proc/sys/kernel/hostname; echo $MARK"
    status, output = machine.run(
        C1,
        "sh",
        "-c",
        script,
        process={"user": User(uid=1000, gid=100, additional_gids=(100, 7))},
        config={"limits": Limits(memory=64 << 20, cpus=0.5, pids=20), "readonly_root": True},
    )
    # Three lines of /proc/net/dev: two of headings, and lo.
    assert (status, output.split("\n")[:5]) == (0, ["1000", "100 7", "3", "lab", "x"])


def test_a_pids_limit_stops_a_fork_bomb(machine: Machine) -> None:
    # The runtime itself has several threads before it becomes the command, and ends where it may not have one more.
    status, output = machine.run(C1, "sh", "-c", "while :; do sleep 9 & done", config={"limits": Limits(pids=50)})
    assert status != 0
    assert "can't fork" in output


def test_a_privileged_container_sees_all_of_proc(machine: Machine) -> None:
    script = "wc -c </proc/timer_list; mount -t tmpfs none /sys/firmware && echo mounted"
    _, hidden = machine.run(C1, "sh", "-c", script)
    available = (*DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN", "CAP_SYSLOG")
    _, seen = machine.run(
        C2, "sh", "-c", script, process={"capabilities": available}, config={"privileged": True, "seccomp": None}
    )
    assert hidden.splitlines()[0] == "0"
    assert int(seen.splitlines()[0]) > 0
    assert ("mounted" in hidden, "mounted" in seen) == (False, True)


# -- what cannot be started ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "error", "status"),
    [
        (("nonsense",), CommandNotFound, 127),
        (("/no/such/file",), CommandNotFound, 127),
        (("/bin/plain",), CommandNotExecutable, 126),
        (("/bin/directory",), CommandNotExecutable, 126),
    ],
)
def test_a_command_that_cannot_run_is_told_and_leaves_nothing(
    machine: Machine, argv: tuple[str, ...], error: type[RuntimeFailed], status: int
) -> None:
    with pytest.raises(error) as caught:
        machine.create(C1, *argv)
    assert caught.value.message.startswith(f'exec: "{argv[0]}": ')
    assert caught.value.hint
    assert caught.value.exit_code == status
    assert machine.runc.state(C1) is None
    assert {path.name for path in machine.bundle(C1).iterdir()} <= {"config.json", "container.log"}


def test_a_bundle_that_the_runtime_refuses_is_told(machine: Machine) -> None:
    with pytest.raises(RuntimeFailed, match="memory"):
        machine.create(C1, "true", config={"limits": Limits(memory=1000)})


def test_a_monitor_that_cannot_start_is_told(machine: Machine) -> None:
    bundle = machine.scratch / "bundle"
    bundle.mkdir()
    with pytest.raises(RuntimeFailed):
        machine.conmon.create(
            C1, bundle=bundle, log=machine.scratch / "missing" / "log", exit_directory=machine.scratch / "exits"
        )


# -- operations ---------------------------------------------------------------------------------


def test_an_unknown_container_is_not_found(machine: Machine) -> None:
    assert machine.runc.state("nobody") is None
    with pytest.raises(ContainerNotFound):
        machine.runc.start("nobody")
    machine.runc.delete("nobody", force=True)


def test_what_the_state_forbids_is_a_conflict(machine: Machine) -> None:
    runc = machine.runc
    monitor = machine.create(C1, "sleep", "600")
    with pytest.raises(Conflict):
        runc.resume(C1)
    runc.start(C1)
    with pytest.raises(Conflict):
        runc.start(C1)
    with pytest.raises(Conflict):
        runc.delete(C1)
    runc.kill(C1, signal.SIGKILL)
    monitor.wait(PATIENCE)
    with pytest.raises(Conflict):
        runc.kill(C1, signal.SIGTERM)
    with pytest.raises(Conflict):
        execute(machine, "true")


def hierarchy() -> Path:
    """Return the path of the pids hierarchy of cgroup v1, or of the hierarchy of v2."""
    return next(path for path in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if path.is_dir())


def test_other_cgroups_may_go_while_one_is_looked_for(machine: Machine, *, stress: bool) -> None:
    script = (
        "import os, sys; names = [sys.argv[1] + name for name in ('/a', '/a/b', '/a/b/c')]\n"
        "while True: [*map(os.mkdir, names), *map(os.rmdir, reversed(names))]"
    )
    top = hierarchy() / f"labctr-busy-{os.getpid()}"
    top.mkdir()
    busy = programs.spawn([sys.executable, "-c", script, str(top)])  # one process: killed, it does nothing more
    try:
        for _ in range(40 if stress else 8):
            machine.runc.delete("nobody", force=True)
    finally:
        busy.kill()
        busy.wait()
        programs.run(["find", str(top), "-depth", "-type", "d", "-delete"])


def test_a_cgroup_that_the_runtime_does_not_know_goes_with_what_runs_in_it(machine: Machine) -> None:
    """A killed `runc create` leaves such a cgroup. The process has much memory, so that its exit takes a while."""
    cgroup = hierarchy() / f"labctr-orphan-{os.getpid()}"
    cgroup.mkdir()
    with programs.spawn([sys.executable, "-c", "held = bytearray(300 << 20); input()"], stdin=programs.PIPE) as orphan:
        status = Path(f"/proc/{orphan.pid}/status")
        eventually(lambda: re.search(r"VmRSS:\s+3\d{5} kB", status.read_text()) is not None)
        (cgroup / "cgroup.procs").write_text(str(orphan.pid))
        machine.runc.delete(cgroup.name, force=True)
        assert not cgroup.exists()
        assert orphan.wait() == -signal.SIGKILL


def test_a_paused_container_does_nothing_until_it_is_resumed(machine: Machine) -> None:
    runc = machine.runc
    machine.create(C1, "sleep", "600")
    runc.start(C1)
    runc.pause(C1)
    with pytest.raises(Conflict, match="paused"):
        execute(machine, "/bin/true")
    runc.resume(C1)
    session = execute(machine, "/bin/true")
    session.streams.close()
    assert session.take_status() == 0


def test_processes_and_statistics_come_from_the_cgroup(machine: Machine) -> None:
    monitor = machine.create(C1, "sleep", "600")
    machine.runc.start(C1)
    assert machine.runc.processes(C1) == [monitor.container_pid]
    eventually(lambda: machine.runc.statistics(C1)["pids"]["current"] == 1)  # of the runtime's own, several


# -- exec ---------------------------------------------------------------------------------------


@pytest.fixture
def running(machine: Machine) -> Machine:
    machine.create(C1, "sleep", "600")
    machine.runc.start(C1)
    return machine


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137)])
def test_exec_returns_the_commands_own_status(running: Machine, script: str, status: int) -> None:
    session = execute(running, "sh", "-c", script)
    session.streams.close()
    assert session.take_status() == status
    eventually(lambda: not session.bundle.exists())


def test_exec_passes_streams_through(running: Machine) -> None:
    session = execute(running, "sh", "-c", "cat; echo err >&2", stdin_open=True)
    with session.streams as streams:
        streams.send(b"in")
        streams.close_stdin()
        assert everything(streams) == {"stdout": b"in", "stderr": b"err\n"}
    assert session.take_status() == 0


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("nope", CommandNotFound),
        ("/nope", CommandNotFound),
        ("plain", CommandNotFound),
        ("/bin/plain", CommandNotExecutable),
        ("/bin/directory", CommandNotExecutable),
    ],
)
def test_exec_of_what_cannot_be_run_is_told_and_leaves_nothing(
    running: Machine,
    command: str,
    error: type[Exception],
    terminal: bool,  # noqa: FBT001
) -> None:
    before, directories = set(os.listdir("/proc/self/fd")), set(os.listdir(running.scratch))
    with pytest.raises(error):
        execute(running, command, terminal=terminal)
    assert set(os.listdir("/proc/self/fd")) <= before  # what earlier tests had may be collected by now
    eventually(lambda: set(os.listdir(running.scratch)) == directories)


def test_a_program_that_talks_like_the_runtime_is_not_believed(running: Machine) -> None:
    session = execute(running, "sh", "-c", 'echo "level=error msg=\\"container does not exist\\"" >&2; exit 1')
    session.streams.close()
    assert session.take_status() == 1


def test_exec_on_a_terminal_gives_the_command_a_terminal(running: Machine) -> None:
    session = execute(running, "sh", "-c", "stty -a >/dev/null && echo tty", terminal=True)
    with session.streams as streams:
        found = everything(streams)
        assert (found["stdout"].endswith(b"tty\r\n"), found["stderr"]) == (True, b"")
    assert session.take_status() == 0


def test_an_exec_s_monitor_that_was_killed_leaves_an_unknown_status(running: Machine) -> None:
    session = execute(running, "sleep", "600")
    session.streams.close()
    os.kill(session.conmon_pid, signal.SIGKILL)
    assert session.take_status() == UNKNOWN_STATUS
    with contextlib.suppress(ProcessLookupError):
        os.kill(session.pid, signal.SIGKILL)


# -- attach -------------------------------------------------------------------------------------


def everything(attachment: Any) -> dict[str, bytes]:
    found = {"stdout": b"", "stderr": b""}
    while piece := attachment.receive():
        found[piece[0]] += piece[1]
    return found


def sockets(pid: int) -> int:
    """The number of sockets that a process has open."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(descriptor).startswith("socket:")
    return count


def test_who_attaches_before_the_start_misses_nothing(machine: Machine) -> None:
    monitor = machine.create(C1, "sh", "-c", "echo out; echo err >&2")
    before = sockets(monitor.conmon_pid)
    with monitor.attach() as first, monitor.attach() as second:
        eventually(lambda: sockets(monitor.conmon_pid) == before + 2)  # conmon has accepted both
        machine.runc.start(C1)
        assert everything(first) == everything(second) == {"stdout": b"out\n", "stderr": b"err\n"}


def test_input_of_any_size_comes_back_whole(machine: Machine) -> None:
    monitor = machine.create(C1, "cat", stdin_open=True, stdin_once=True)
    sent = bytes(range(256)) * 200
    with monitor.attach() as attachment:
        machine.runc.start(C1)
        attachment.send(sent)
        attachment.close_stdin()
        assert everything(attachment)["stdout"] == sent
    assert monitor.wait(PATIENCE) == 0


@pytest.mark.parametrize("terminal", [False, True])
def test_stdin_survives_who_leaves_unless_it_is_for_once(machine: Machine, *, terminal: bool) -> None:
    monitor = machine.create(C1, "sh", stdin_open=True, terminal=terminal)
    machine.runc.start(C1)
    with monitor.attach() as attachment:
        attachment.send(b"first=1\n")
    with monitor.attach() as attachment:
        attachment.send(b"exit $((first + 4))\n")
        assert monitor.wait(PATIENCE) == 5


def test_a_terminal_has_the_size_that_it_was_given(machine: Machine) -> None:
    monitor = machine.create(C1, "sh", terminal=True, stdin_open=True)
    with monitor.attach() as attachment:
        machine.runc.start(C1)
        monitor.resize(rows=33, columns=77)
        attachment.send(b"stty size; exit\n")
        assert b"33 77\r\n" in everything(attachment)["stdout"]


def test_nobody_attaches_to_a_container_that_has_ended(machine: Machine) -> None:
    monitor = machine.create(C1, "true")
    machine.runc.start(C1)
    monitor.wait(PATIENCE)
    with pytest.raises(Conflict):
        monitor.attach()
    with pytest.raises(Conflict):
        monitor.resize(rows=1, columns=1)


# -- log ----------------------------------------------------------------------------------------


def test_a_log_is_followed_to_the_containers_end(machine: Machine) -> None:
    monitor = machine.create(C1, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done; echo -n end")
    machine.runc.start(C1)
    lines = list(read_log(machine.log(C1), follow=lambda: monitor.runs_after(0.05)))
    assert [line.data for line in lines] == [b"1\n", b"2\n", b"3\n", b"end"]


def test_a_long_line_is_one_line(machine: Machine) -> None:
    machine.run(C1, "sh", "-c", "x=0123456789; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do x=$x$x; done; echo $x; echo y")
    first, second = read_log(machine.log(C1))
    assert (len(first.data), second.data) == (10 * 2**12 + 1, b"y\n")


LOG = b"""2026-11-24T08:00:00.000000001+00:00 stdout F one
2026-11-24T08:00:01.000000001+00:00 stdout P tw
2026-11-24T08:00:01.500000001+00:00 stderr F error line
2026-11-24T08:00:02.000000001+00:00 stdout F o
2026-11-24T08:00:03.000000001+00:00 stdout F \n2026-11-24T08:00:04.000000001+00:00 stdout P cut"""


def test_parts_are_joined_stream_by_stream_and_half_an_entry_waits(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LOG)
    assert [line.data for line in read_log(path)] == [b"one\n", b"error line\n", b"two\n", b"\n"]
    path.write_bytes(LOG + b"\n")
    assert [line.data for line in read_log(path)][-1] == b"cut"


def test_tail_since_and_until_choose_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LOG)
    start = 1795507200  # 2026-11-24T08:00:00Z
    assert [line.data for line in read_log(path, tail=2)] == [b"two\n", b"\n"]
    assert [line.data for line in read_log(path, tail=0)] == []
    assert [line.data for line in read_log(path, since=start + 1.2)] == [b"error line\n", b"\n"]
    assert [line.data for line in read_log(path, until=start + 0.5)] == [b"one\n"]


def test_a_container_that_never_ran_has_an_empty_log(tmp_path: Path) -> None:
    assert list(read_log(tmp_path / "missing")) == []


def test_a_forced_delete_takes_a_cgroup_away_that_runc_does_not_know(machine: Machine) -> None:
    directories = [
        Path(f"{root}/labctr/left-{os.getpid()}")
        for root in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup")
        if Path(root, "cgroup.procs").exists()
    ]
    for directory in directories:
        directory.mkdir(parents=True)
    machine.runc.delete(f"left-{os.getpid()}", force=True)
    assert directories
    assert not any(directory.exists() for directory in directories)


def test_a_busy_machine_on_which_runc_gives_up_freezing_is_asked_again(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.create(C1, "sleep", "1000")
    machine.runc.start(C1)
    (tmp_path / "bin").mkdir()
    impatient = tmp_path / "bin/runc"  # gives up twice, in the words and with the status of the real one
    impatient.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *pause*) echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) -gt 2 ] ||\n'
        "    { echo unable to freeze >&2; exit 1; } ;; esac\n"
        f'exec {programs.find("runc")} "$@"\n'
    )
    impatient.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        machine.runc.pause(C1)
    assert (tmp_path / "tries").read_text() == "x\n" * 3
    assert (machine.runc.state(C1) or {})["status"] == "paused"
    machine.runc.resume(C1)
    with pytest.raises(Conflict):  # any other failure is reported at once
        machine.runc.resume(C1)
