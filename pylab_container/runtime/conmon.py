"""The monitor: conmon, one small process per container that outlives whoever started it.

It is the parent of the container's first process, so it alone learns the exit status. It
also holds the other ends of the container's streams: it writes the log and serves whoever
attaches. Sources: conmon(8), and conmon's src/conn_sock.c, ctrl.c and ctr_logging.c for
the socket, the control pipe and the log format, which have no other description.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from pylab_container.errors import Conflict, RuntimeFailed
from pylab_container.events import Emit, ProgramRan, ignore
from pylab_container.host import programs
from pylab_container.host.removal import discard_below
from pylab_container.oci.bundle import Process, process_config
from pylab_container.oci.ids import EntryName
from pylab_container.runtime.runc import Runc, runtime_error

UNKNOWN_STATUS = 255
"""The exit status when nobody saw the end: the machine went down, or the monitor was killed. Docker's number."""

Stream = Literal["stdout", "stderr"]

# What one packet on the attach socket starts with (conmon: STDIN_PIPE 1, STDOUT_PIPE 2, STDERR_PIPE 3).
_STREAMS: dict[int, Stream] = {2: "stdout", 3: "stderr"}
_PACKET_SIZE = 1 << 15
_EXIT_ARGUMENT = "--exit-command-arg="
_SILENCE = 0.5  # seconds without a report after which the runtime is looked for

# What conmon and the runtime leave in a bundle.
_BUNDLE_FILES = ("attach", "ctl", "winsz", "oom", "oom-reported", "conmon.pid", "container.pid")


class Conmon:
    """Starts monitors. One monitor's files are all in its container's bundle directory:

    <bundle>/config.json      written by the caller (oci/bundle.py)
             conmon.pid       the monitor's pid
             container.pid    the pid of the container's first process
             attach           socket: who connects sees and feeds the container's streams
             ctl, winsz       named pipes: the terminal's size
             oom              the container has reached its memory limit; oom-reported once an event has said so
    <exit_directory>/<id>     the exit status in decimal, written when the container has ended
    """

    def __init__(self, runc: Runc, *, emit: Emit = ignore) -> None:
        self._runc = runc
        self._emit = emit

    def create(
        self,
        container_id: str,
        *,
        bundle: Path,
        log: Path | None,
        log_size: int | None = None,
        terminal: bool = False,
        stdin_open: bool = False,
        stdin_once: bool = False,
        exit_directory: Path,
        exit_command: Sequence[str] | None = None,
    ) -> Monitor:
        """Start a monitor and let it create the container, whose own process waits for Runc.start().

        log           None: its output goes to whoever is attached, and nowhere else
        log_size      bytes after which the log is begun anew; what was in it is gone then
        terminal      as in config.json, where it must say the same
        stdin_open    the container's stdin is a pipe to whoever attaches, else /dev/null
        stdin_once    the first one who attaches and leaves closes the stdin for good
        exit_command  run by the monitor after the container's end; its first word is an absolute path

        Raises Conflict when the runtime knows this id already (Runc.delete() first, to run it
        again); CommandNotFound, CommandNotExecutable or RuntimeFailed when the container
        cannot be created; then no process, cgroup or file of the attempt is left.
        """
        monitor = Monitor(container_id, bundle=bundle, exit_directory=exit_directory)
        if monitor.alive() or self._runc.state(container_id) is not None:
            raise Conflict(
                f"container {container_id[:12]} has been created already", hint="stop it and delete it first"
            )
        monitor.remove_files()  # of an earlier run: its exit status would be taken for this one's
        exit_directory.mkdir(parents=True, exist_ok=True)
        options = [
            *("--log-path", f"k8s-file:{log.absolute()}" if log else "none"),
            *(["--log-size-max", str(log_size)] if log_size else []),
            *(["--terminal"] if terminal else []),
            *(["--stdin"] if stdin_open else []),
            *([] if stdin_once else ["--leave-stdin-open"]),
            *_exit_options(exit_command),
        ]
        try:
            command = self._command(container_id, bundle.absolute(), exit_directory.absolute(), options)
            report, its_report = _pipe()
            with report:
                complaints = self._launch(command, bundle, {"_OCI_SYNCPIPE": its_report})
                monitor.await_report(report)
                _read_report(report, complaints)
        except BaseException:
            self._clear(monitor)
            raise
        return monitor

    def execute(self, container_id: str, process: Process, *, directory: Path, stdin_open: bool) -> ExecSession:
        """Run one more process in a running container, under a monitor of its own, its streams connected.

        directory   what a bundle is for a container; it is empty, and the monitor removes it after the end
        stdin_open  the process's stdin is a pipe to whoever attaches, else /dev/null

        Raises CommandNotFound, CommandNotExecutable, Conflict or RuntimeFailed when it cannot be started.
        """
        directory = directory.absolute()
        options = [
            *("--exec", "--exec-attach", "--exec-process-spec", str(directory / "process.json")),
            *("--log-path", "none"),
            # Closing a terminal's input would close its output too.
            *(["--terminal", "--leave-stdin-open"] if process.terminal else []),
            *(["--stdin"] if stdin_open else []),
            *_exit_options([programs.find("rm"), "-rf", str(directory)]),
        ]
        command = self._command(container_id, directory, directory, options)
        try:
            (directory / "process.json").write_text(json.dumps(process_config(process)))
            report, its_report = _pipe()
            try:
                return self._execute(ExecSession(container_id, directory, report), command, its_report)
            except BaseException:
                report.close()
                raise
        except BaseException:
            discard_below(directory.parent, EntryName(directory.name))
            raise

    def _execute(self, session: ExecSession, command: Sequence[str], its_report: int) -> ExecSession:
        """Start conmon and connect, and only then let it start the process: so that no output is missed.

        Two more pipes are there for that: conmon says on _OCI_ATTACHPIPE that its socket is ready, and reads
        _OCI_STARTPIPE twice, before it goes to the background and before it calls the runtime.
        """
        attached, its_attached = _pipe()
        its_start, start = os.pipe()
        with attached:
            try:
                os.write(start, b"1")
                pipes = {"_OCI_SYNCPIPE": its_report, "_OCI_ATTACHPIPE": its_attached, "_OCI_STARTPIPE": its_start}
                complaints = self._launch(command, session.bundle, pipes)
                _read_report(attached, complaints)
                streams = session.attach()
                os.write(start, b"2")
            finally:
                os.close(start)
        try:
            session.started(streams)
        except BaseException:
            streams.close()
            raise
        return session

    def abandon(self, monitor: Monitor, timeout: float = 20) -> None:
        """End a container whose starter was killed before it could be used; how far it had come is not known.

        A monitor that is creating it comes to an end first: stopped in the middle, runc would
        leave processes and cgroups that no record names. timeout in seconds.
        """
        deadline = time.monotonic() + timeout
        while not monitor.container_pid and _works(monitor.container_id) and time.monotonic() < deadline:
            time.sleep(0.01)
        self._runc.delete(monitor.container_id, force=True)
        # With the status written it does no more harm.
        while _works(monitor.container_id) and not monitor.exit_file.exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _command(self, container_id: str, bundle: Path, exit_directory: Path, options: Sequence[str]) -> list[str]:
        runtime, *runtime_options = self._runc.command()
        return [
            "conmon",
            *("--api-version", "1", "--cid", container_id, "--cuuid", container_id, "--name", container_id),
            *("--runtime", programs.find(runtime), "--bundle", str(bundle)),
            *(f"--runtime-arg={option}" for option in runtime_options),
            *("--log-level", "error"),
            *("--conmon-pidfile", str(bundle / "conmon.pid"), "--container-pidfile", str(bundle / "container.pid")),
            # The attach socket is bound in the bundle through /proc/self/fd, so that its path may
            # be longer than the 107 bytes of a sockaddr_un.
            *("--exit-dir", str(exit_directory), "--full-attach"),
            # An fsync of the log at the end of every container would cost more than the rest of it.
            "--no-sync-log",
            *options,
        ]

    def _launch(self, command: Sequence[str], directory: Path, pipes: Mapping[str, int]) -> str:
        """Run conmon, which forks and goes on in the background; what it complained about before.

        pipes  which variables tell it which ends of pipes; they are closed here
        """
        started = time.monotonic()
        try:
            # The monitor may live for months. Of our environment it gets next to nothing, and it stands
            # in the bundle, where it may put a file "oom". UTC lets log stamps sort as text.
            environment = {"PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC"}
            process = programs.spawn(
                command,
                stderr=programs.PIPE,
                environment=environment | {name: str(fd) for name, fd in pipes.items()},
                directory=str(directory),
                pass_fds=tuple(pipes.values()),
                new_session=True,
            )
        finally:
            for fd in pipes.values():
                os.close(fd)
        with process:
            complaints = process.stderr.read().decode(errors="replace") if process.stderr else ""
        self._emit(ProgramRan(shlex.join(command), time.monotonic() - started, process.returncode))
        return complaints.strip() or str(process.returncode)

    def _clear(self, monitor: Monitor) -> None:
        """Undo a create that failed half-way."""
        with contextlib.suppress(ProcessLookupError):
            if monitor.alive():
                os.kill(monitor.conmon_pid, signal.SIGTERM)
        self._runc.delete(monitor.container_id, force=True)
        monitor.remove_files()


def _pipe() -> tuple[BinaryIO, int]:
    """A pipe on which conmon reports: our end and its own. Unbuffered, so that poll(2) tells of every report."""
    reading, writing = os.pipe()
    return cast(BinaryIO, open(reading, "rb", buffering=0)), writing


def _read_report(pipe: BinaryIO, complaints: str) -> int:
    """One report, a line of JSON: `data` is a pid or a status, or negative with a `message`, which is raised.

    End of file instead: conmon is gone.
    """
    line = pipe.readline()
    if not line:
        raise RuntimeFailed(f"conmon ended without a report: {complaints}")
    answer: dict[str, Any] = json.loads(line)
    if answer["data"] < 0:
        raise runtime_error(answer.get("message", ""))
    return int(answer["data"])


def _exit_options(command: Sequence[str] | None) -> list[str]:
    if not command:
        return []
    return ["--exit-command", command[0], *(f"{_EXIT_ARGUMENT}{argument}" for argument in command[1:])]


class Monitor:
    """One container's monitor, as any process can see it; a value that holds no resources."""

    def __init__(self, container_id: str, *, bundle: Path, exit_directory: Path) -> None:
        self.container_id = container_id
        self.bundle = bundle
        self.exit_file = exit_directory / container_id

    @property
    def conmon_pid(self) -> int:
        """The monitor's pid, 0 if there never was one. It may be gone: see alive()."""
        return _read_number(self.bundle / "conmon.pid") or 0

    @property
    def container_pid(self) -> int:
        """The pid of the container's first process, 0 if there never was one; true only while alive()."""
        return _read_number(self.bundle / "container.pid") or 0

    def alive(self) -> bool:
        """Whether the monitor still runs. It ends right after its container does.

        A pid alone proves nothing: it may be somebody else's by now, or a zombie that pid 1
        has not reaped yet. The command line tells: a monitor's names its container, a
        zombie's is empty.
        """
        try:
            with open(f"/proc/{self.conmon_pid}/cmdline", "rb") as file:
                command = file.read().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return False
        return b"--cid" in command and self.container_id.encode() in command

    def children(self) -> list[int]:
        """The pids of its child processes: the runtime while that works, then what it has started (proc(5))."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            listed = Path(f"/proc/{self.conmon_pid}/task/{self.conmon_pid}/children").read_text()
            return [int(pid) for pid in listed.split()]
        return []

    def await_report(self, report: BinaryIO) -> None:
        """Return once there is a report to read. Raises RuntimeFailed where there never will be one.

        When somebody kills the runtime, the monitor wants to read its last words before it reports. What the runtime
        has started holds that pipe open, and waits itself: all three would wait for ever.
        """
        silent = 0
        while not _any_readable((report.fileno(),), _SILENCE):
            silent = silent + 1 if self._sleeps() and not self._runtime_works() else 0
            if silent == 4:  # once may be the moment between the runtime's end and the report
                raise RuntimeFailed("the runtime was killed", hint="try it again")

    def _sleeps(self) -> bool:
        """Whether it lives and waits for something: on a busy machine it may long have work to do, and no turn."""
        return self.alive() and _fields(self.conmon_pid)[:1] == ["S"]

    def _runtime_works(self) -> bool:
        """Whether a child is the runtime itself: of what it starts, none has the options that we give it."""
        for child in self.children():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if b"--root" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                    return True
        return False

    def exit_status(self) -> int | None:
        """The container's exit status, 128 + n after signal n; None while it runs.

        UNKNOWN_STATUS when the monitor is gone and has left none.
        """
        # The order matters: the status is written before the monitor ends.
        alive = self.alive()
        status = _read_number(self.exit_file)
        if status is None and not alive:
            return UNKNOWN_STATUS
        return status

    def out_of_memory(self) -> bool:
        """Whether the container has reached its memory limit in this run (conmon then leaves a file)."""
        return (self.bundle / "oom").exists() or (self.bundle / "oom-reported").exists()

    def ran_out_of_memory(self) -> bool:
        """Whether it has reached its memory limit since mark_out_of_memory()."""
        return (self.bundle / "oom").exists()

    def mark_out_of_memory(self) -> bool:
        """Mark that as reported; False if another process did. conmon then leaves a file for the next time."""
        try:
            os.rename(self.bundle / "oom", self.bundle / "oom-reported")
        except FileNotFoundError:
            return False
        return True

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the container's end, and return exit_status().

        By then the log is complete; the exit command may still run. Raises TimeoutError
        after timeout seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        still_runs = TimeoutError(f"container {self.container_id[:12]} still runs after {timeout} seconds")
        with (
            contextlib.suppress(ProcessLookupError),
            _pidfd(self.conmon_pid) as monitor,
            _pidfd(self.container_pid) as container,
        ):
            # These are asked with the pidfds open: from here on the pids cannot change hands.
            runs = self.alive() and _parent(self.container_pid) == self.conmon_pid
            if runs and not _any_readable((monitor, container), timeout):
                raise still_runs
        # The monitor reads the last output, then writes the status: a matter of milliseconds.
        while (status := self.exit_status()) is None:
            if deadline is not None and time.monotonic() > deadline + 1:
                raise still_runs  # the monitor does not answer: somebody has stopped it
            time.sleep(0.001)
        return status

    def runs_after(self, seconds: float) -> bool:
        """Whether the container still runs after so long; returns early when it ends."""
        try:
            self.wait(seconds)
        except TimeoutError:
            return True
        return False

    def attach(self) -> Attachment:
        """Connect to the container's streams. Before Runc.start() nothing of the output is missed.

        Raises Conflict when the container has ended.
        """
        return Attachment(self)

    def resize(self, *, rows: int, columns: int) -> None:
        """Tell a container with a terminal how large the terminal is now. Raises Conflict when it has ended."""
        self.refuse_ended()
        try:
            # O_NONBLOCK: without a reader the open fails with ENXIO, where it would wait for ever.
            fd = os.open(self.bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self.gone() from error
        try:
            os.write(fd, b"1 %d %d\n" % (rows, columns))
        finally:
            os.close(fd)

    def remove_files(self) -> None:
        """Remove what the monitor left in the bundle, and the exit file. config.json stays."""
        for path in (*(self.bundle / name for name in _BUNDLE_FILES), self.exit_file):
            path.unlink(missing_ok=True)

    def refuse_ended(self) -> None:
        """Raises Conflict once the exit status is written; the monitor's socket and pipe live a moment longer."""
        if self.exit_status() is not None:
            raise self.gone()

    def gone(self) -> Conflict:
        """The error of who wants something from a container that does not run."""
        return Conflict(f"Container {self.container_id} is not running", hint="start it first")


class ExecSession(Monitor):
    """One more process in a container, seen by whoever started it.

    streams  the connection to its streams; close it, and the process goes on
    pid      the process, as the host numbers it
    """

    streams: Attachment
    pid = 0

    def __init__(self, container_id: str, directory: Path, report: BinaryIO) -> None:
        super().__init__(container_id, bundle=directory, exit_directory=directory)
        self._report = report

    def started(self, streams: Attachment) -> None:
        """Learn from the monitor that the process runs, or raise why it does not."""
        try:
            self.await_report(self._report)
        except BaseException:
            for child in self.children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            raise
        self.pid = _read_report(self._report, "the runtime was killed")
        self.streams = streams

    def fileno(self) -> int:
        """For poll(2): readable once the process has ended."""
        return self._report.fileno()

    def take_status(self) -> int:
        """Wait for the end; the exit status, 128 + n after signal n, UNKNOWN_STATUS when the monitor was killed.

        To be called once; by then all output is in the streams.
        """
        with self._report as report:
            line = report.readline()
        return int(json.loads(line)["data"]) if line else UNKNOWN_STATUS

    def kill(self) -> None:
        """End the process by force; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError), _pidfd(self.pid) as process:
            if _parent(self.pid) == self.conmon_pid:
                signal.pidfd_send_signal(process, signal.SIGKILL)


class Attachment:
    """A connection to the streams of a running container. Close it, or use it in a with statement."""

    def __init__(self, monitor: Monitor) -> None:
        monitor.refuse_ended()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # The way around the length limit of socket paths, as conmon itself goes.
            directory = os.open(monitor.bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._socket.connect(f"/proc/self/fd/{directory}/attach")
            finally:
                os.close(directory)
        except OSError as error:
            self._socket.close()
            raise monitor.gone() from error

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """For select(2) and poll(2)."""
        return self._socket.fileno()

    def receive(self) -> tuple[Stream, bytes] | None:
        """The next piece of output; None at the end. With a terminal, everything is stdout."""
        return self._receive(0)

    def receive_now(self) -> tuple[Stream, bytes] | None:
        """receive() without waiting. Raises BlockingIOError where there is no output at the moment."""
        return self._receive(socket.MSG_DONTWAIT)

    def _receive(self, flags: int) -> tuple[Stream, bytes] | None:
        try:
            packet = self._socket.recv(_PACKET_SIZE, flags)
        except ConnectionResetError:
            # The monitor ended with input unread. The kernel tells that once, ahead of the output that still waits.
            packet = self._socket.recv(_PACKET_SIZE, flags)
        return (_STREAMS[packet[0]], packet[1:]) if packet else None

    def send_now(self, data: bytes) -> int:
        """How many bytes of data the container's stdin took without waiting.

        Raises BlockingIOError where it takes none at the moment, BrokenPipeError or ConnectionResetError after its end.
        """
        return self._socket.send(data[: _PACKET_SIZE // 4], socket.MSG_DONTWAIT)

    def send(self, data: bytes) -> None:
        """Feed the container's stdin."""
        for start in range(0, len(data), _PACKET_SIZE // 4):
            self._socket.send(data[start : start + _PACKET_SIZE // 4])

    def close_stdin(self) -> None:
        """End of input for the container, if it was created with stdin_once; output goes on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Leave. The container goes on."""
        self._socket.close()


def _works(container_id: str) -> bool:
    """Whether any process is this container's monitor, or is about to become it, and has not come to its exit command.

    That is the last thing that it does, also where the runtime has failed and there is no status to write. It waits for
    the command, which may wait for a lock that the caller holds, or be the caller.
    """
    commands = list(_commands())
    monitors = [each for each in commands if b"--cid" in each and container_id.encode() in each]
    return bool(monitors) and not any(_is_exit_command(each, of) for of in monitors for each in commands)


def _is_exit_command(command: Sequence[bytes], monitor: Sequence[bytes]) -> bool:
    """Whether a command line is that of a monitor's exit command, or of the program that a shell has become for it."""
    mark = _EXIT_ARGUMENT.encode()
    arguments = [word.removeprefix(mark) for word in monitor if word.startswith(mark)]
    return bool(arguments) and command[1:] == arguments[1 - len(command) :]


def _commands() -> Iterator[list[bytes]]:
    """The command lines of all processes, kernel threads but for theirs."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if command := (process / "cmdline").read_bytes():
                yield command.split(b"\0")[:-1]


def _read_number(path: Path) -> int | None:
    try:
        with open(path, "rb") as file:
            return int(file.read())
    except (FileNotFoundError, ValueError):
        return None


def _parent(pid: int) -> int:
    """The parent of a process, 0 if there is no such process (proc(5), /proc/pid/stat)."""
    fields = _fields(pid)
    return int(fields[1]) if fields else 0


def _fields(pid: int) -> list[str]:
    """What /proc/pid/stat tells from the third field on: state, parent, … (proc(5)); nothing without a process."""
    try:
        # The second field is the program's name in parentheses, which may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    """pidfd_open(2). Raises ProcessLookupError when there is no such process."""
    if pid <= 0:
        raise ProcessLookupError
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def _any_readable(fds: Sequence[int], timeout: float | None) -> bool:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(0, timeout) * 1000))
