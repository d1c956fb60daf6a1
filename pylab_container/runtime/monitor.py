"""A running monitor (conmon), as every process on the host can use it: exit status, streams, terminal size.

conmon.py starts monitors. This module talks to one that runs, through the files of its bundle:

    <bundle>/conmon.pid       the monitor's pid
             container.pid    the pid of the container's first process
             attach           socket (SOCK_SEQPACKET): carries the container's streams to and from each client
             ctl, winsz       FIFOs: the terminal's size
             oom              exists once the container has reached its memory limit;
                              renamed to oom-reported when the event has been emitted
    <exit_directory>/<id>     the exit status in decimal, written after the container has ended

Sources: conmon(8). The socket, the FIFO and the reports are described only by conmon's source: src/conn_sock.c,
src/ctrl.c and src/parent_pipe_fd.c.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pylab_container.errors import Conflict, RuntimeFailed
from pylab_container.runtime import procfs
from pylab_container.runtime.runc import runtime_error

UNKNOWN_STATUS = 255
"""The exit status of a container whose end was not observed: the host crashed or the monitor was killed (as Docker)."""

Stream = Literal["stdout", "stderr"]

# The first byte of each packet on the attach socket: STDOUT_PIPE and STDERR_PIPE in conmon's src/utils.h.
_STREAM_NUMBERS: dict[int, Stream] = {2: "stdout", 3: "stderr"}

_LARGEST_PACKET = 1 << 15  # bytes; conmon sends at most STDIO_BUF_SIZE + 1, which is 8193
# conmon receives into CONN_SOCK_BUF_SIZE bytes, 32 KiB (src/config.h), and a SOCK_SEQPACKET socket discards the rest
# of a longer packet (unix(7)).
_LARGEST_INPUT = 1 << 13  # bytes in one packet to the container's stdin

_REPORT_POLL_INTERVAL = 0.5  # seconds without a report, after which the runtime's process is looked for
_SILENT_POLLS = 4  # consecutive polls without a runtime process, after which it counts as killed
_EXIT_STATUS_POLL_INTERVAL = 0.001  # seconds
_EXIT_STATUS_TIMEOUT = 1.0  # seconds that a monitor gets to write the status after its container has ended

# Files of conmon and of the runtime in a bundle.
_BUNDLE_FILES = ("attach", "ctl", "winsz", "oom", "oom-reported", "conmon.pid", "container.pid")


class Monitor:
    """One container's monitor. It holds no open files: any process may create an instance for any container."""

    def __init__(self, container_id: str, *, bundle: Path, exit_directory: Path) -> None:
        self.container_id = container_id
        self.bundle = bundle
        self.exit_file = exit_directory / container_id

    @property
    def conmon_pid(self) -> int:
        """The monitor's pid, 0 before it was started. The pid may be stale: see alive()."""
        return _read_number(self.bundle / "conmon.pid") or 0

    @property
    def container_pid(self) -> int:
        """The pid of the container's first process, 0 before it was created. Valid only while alive()."""
        return _read_number(self.bundle / "container.pid") or 0

    def alive(self) -> bool:
        """Whether the monitor runs. It exits right after its container."""
        # A pid proves nothing by itself. It may have been reused, or name a zombie that pid 1 has not reaped yet.
        # The command line of a monitor names its container; the command line of a zombie is empty (proc(5)).
        command = procfs.command_line(self.conmon_pid)
        return b"--cid" in command and self.container_id.encode() in command

    def children(self) -> list[int]:
        """The pids of the monitor's children: the runtime while it works, then the process that it has started."""
        return procfs.children(self.conmon_pid)

    def await_report(self, report: BinaryIO) -> None:
        """Wait until conmon's report can be read. Raises RuntimeFailed when the runtime was killed."""
        # A runtime that is killed leaves a deadlock. conmon waits for end of file on the runtime's stderr before it
        # reports the failure (main() in src/conmon.c). `runc init` has inherited that pipe, and itself waits for the
        # runtime. Nothing but the absence of the runtime's process reveals this state.
        silent_polls = 0
        while not procfs.any_readable((report.fileno(),), _REPORT_POLL_INTERVAL):
            is_stuck = self._sleeps() and not self._runtime_works()
            silent_polls = silent_polls + 1 if is_stuck else 0
            # One such poll may fall between the runtime's regular exit and the report.
            if silent_polls == _SILENT_POLLS:
                raise RuntimeFailed("the runtime was killed", hint="try it again")

    def _sleeps(self) -> bool:
        # On a busy machine a monitor with work to do may wait long for a processor; its state is then R, not S.
        return self.alive() and procfs.state(self.conmon_pid) == "S"

    def _runtime_works(self) -> bool:
        # The runtime is the only child whose command line has the option --root (Runc.command()). `runc init` and the
        # container's own process have other arguments.
        return any(b"--root" in procfs.command_line(child) for child in self.children())

    def exit_status(self) -> int | None:
        """The container's exit status, 128 + n after signal n; None while it runs.

        UNKNOWN_STATUS when the monitor has exited without writing a status.
        """
        # In this order, because the monitor writes the status before it exits. If the file were read first, a monitor
        # that writes and exits between the two reads would seem to have left no status.
        alive = self.alive()
        status = _read_number(self.exit_file)
        if status is None and not alive:
            return UNKNOWN_STATUS
        return status

    def out_of_memory(self) -> bool:
        """Whether the container has reached its memory limit in this run."""
        return (self.bundle / "oom").exists() or (self.bundle / "oom-reported").exists()

    def ran_out_of_memory(self) -> bool:
        """Whether the container has reached its memory limit since mark_out_of_memory()."""
        return (self.bundle / "oom").exists()

    def mark_out_of_memory(self) -> bool:
        """Record that the event was emitted; False if another process has done so. conmon then reports the next one."""
        # rename(2) is atomic: of several processes that observe the file, exactly one succeeds and emits the event.
        try:
            os.rename(self.bundle / "oom", self.bundle / "oom-reported")
        except FileNotFoundError:
            return False
        return True

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the container's end and return exit_status().

        The log is complete by then; the exit command may still run. Raises TimeoutError after timeout seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        still_runs = TimeoutError(f"container {self.container_id[:12]} still runs after {timeout} seconds")
        with (
            contextlib.suppress(ProcessLookupError),
            procfs.pidfd(self.conmon_pid) as monitor,
            procfs.pidfd(self.container_pid) as container,
        ):
            # Checked after opening the pidfds. A pid that was reused before that fails the check. One that is reused
            # later does no harm, because a pidfd refers to the process itself (pidfd_open(2)).
            runs = self.alive() and procfs.parent(self.container_pid) == self.conmon_pid
            if runs and not procfs.any_readable((monitor, container), timeout):
                raise still_runs
        # The monitor reads the last output and then writes the status, which takes milliseconds. A monitor that was
        # stopped (SIGSTOP) never does.
        while (status := self.exit_status()) is None:
            if deadline is not None and time.monotonic() > deadline + _EXIT_STATUS_TIMEOUT:
                raise still_runs
            time.sleep(_EXIT_STATUS_POLL_INTERVAL)
        return status

    def runs_after(self, seconds: float) -> bool:
        """Whether the container still runs after this number of seconds; returns early when it ends."""
        try:
            self.wait(seconds)
        except TimeoutError:
            return True
        return False

    def attach(self) -> Attachment:
        """Connect to the container's streams. The first client that connects before Runc.start() misses no output.

        Raises Conflict when the container has ended.
        """
        # connect(2) returns before conmon has accepted the connection. conmon's event loop handles its listening socket
        # before the container's output, but accepts one connection at a time (attach_cb() in src/conn_sock.c). So on a
        # busy machine only a second client that connects at the same moment may miss the first output.
        return Attachment(self)

    def resize(self, *, rows: int, columns: int) -> None:
        """Set the size of the container's terminal, if it has one. Raises Conflict when the container has ended."""
        self.refuse_ended()
        try:
            # Opening a FIFO without a reader blocks. With O_NONBLOCK the open fails with ENXIO instead (fifo(7)).
            fd = os.open(self.bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self.not_running() from error
        try:
            # WIN_RESIZE_EVENT, height and width (process_terminal_ctrl_line() in src/ctrl.c).
            os.write(fd, b"1 %d %d\n" % (rows, columns))
        finally:
            os.close(fd)

    def remove_files(self) -> None:
        """Remove the exit file and the monitor's files in the bundle. config.json stays."""
        for path in (*(self.bundle / name for name in _BUNDLE_FILES), self.exit_file):
            path.unlink(missing_ok=True)

    def refuse_ended(self) -> None:
        """Raise Conflict if the container has ended."""
        # The monitor's socket and FIFO exist a moment longer than the container, so connecting proves nothing.
        if self.exit_status() is not None:
            raise self.not_running()

    def not_running(self) -> Conflict:
        """Build the Conflict error for an operation that needs a running container."""
        return Conflict(f"Container {self.container_id} is not running", hint="start it first")


class ExecSession(Monitor):
    """One more process in a container, as the process that started it sees it.

    streams  the connection to its streams; closing it does not end the process
    pid      the process, as the host numbers it
    """

    streams: Attachment
    pid = 0

    def __init__(self, container_id: str, directory: Path, report: BinaryIO) -> None:
        super().__init__(container_id, bundle=directory, exit_directory=directory)
        self._report = report

    def await_start(self, streams: Attachment) -> None:
        """Wait until the process runs, and take over its streams. Raises the runtime's error when it does not."""
        try:
            self.await_report(self._report)
        except BaseException:
            # `runc init` would wait without a limit for the runtime that was killed, inside the container.
            for child in self.children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            raise
        self.pid = read_report(self._report, "the runtime was killed")
        self.streams = streams

    def fileno(self) -> int:
        """The descriptor for poll(2): it becomes readable when the process has ended."""
        return self._report.fileno()

    def take_status(self) -> int:
        """Wait for the end and return the exit status, 128 + n after signal n. Call it once.

        UNKNOWN_STATUS when the monitor was killed. All output has been sent to the streams by then.
        """
        with self._report as report:
            line = report.readline()
        return int(json.loads(line)["data"]) if line else UNKNOWN_STATUS

    def kill(self) -> None:
        """Kill the process with SIGKILL. No error if it has ended."""
        with contextlib.suppress(ProcessLookupError), procfs.pidfd(self.pid) as process:
            # The pid may have been reused before the pidfd was opened. Only our process is the monitor's child.
            if procfs.parent(self.pid) == self.conmon_pid:
                signal.pidfd_send_signal(process, signal.SIGKILL)


class Attachment:
    """A connection to the streams of a running container. Close it, or use it in a with statement."""

    def __init__(self, monitor: Monitor) -> None:
        monitor.refuse_ended()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # sun_path holds 107 bytes (unix(7)), and a bundle's path may be longer. conmon binds the socket through
            # /proc/self/fd for the same reason (bind_unix_socket() in src/conn_sock.c).
            directory = os.open(monitor.bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._socket.connect(f"/proc/self/fd/{directory}/attach")
            finally:
                os.close(directory)
        except OSError as error:
            self._socket.close()
            raise monitor.not_running() from error

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor for select(2) and poll(2)."""
        return self._socket.fileno()

    def receive(self) -> tuple[Stream, bytes] | None:
        """Wait for the next chunk of output; None at the end. With a terminal, everything is stdout."""
        return self._receive(0)

    def receive_now(self) -> tuple[Stream, bytes] | None:
        """Return the next chunk without waiting, as receive(). Raises BlockingIOError when no output is available."""
        return self._receive(socket.MSG_DONTWAIT)

    def _receive(self, flags: int) -> tuple[Stream, bytes] | None:
        try:
            packet = self._socket.recv(_LARGEST_PACKET, flags)
        except ConnectionResetError:
            # The monitor exited without reading all of our input. The kernel reports that once, ahead of output that is
            # still queued (unix_release_sock() in net/unix/af_unix.c).
            packet = self._socket.recv(_LARGEST_PACKET, flags)
        return (_STREAM_NUMBERS[packet[0]], packet[1:]) if packet else None

    def send_now(self, data: bytes) -> int:
        """Send the beginning of data to the container's stdin without waiting; return the number of bytes sent.

        Raises BlockingIOError when the buffer is full, BrokenPipeError or ConnectionResetError after the end.
        """
        return self._socket.send(data[:_LARGEST_INPUT], socket.MSG_DONTWAIT)

    def send(self, data: bytes) -> None:
        """Send data to the container's stdin."""
        for start in range(0, len(data), _LARGEST_INPUT):
            self._socket.send(data[start : start + _LARGEST_INPUT])

    def close_stdin(self) -> None:
        """Close the container's stdin, if it was created with stdin_once; output continues (half-closed)."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Disconnect. The container keeps running."""
        self._socket.close()


def read_report(pipe: BinaryIO, complaints: str) -> int:
    """Read one report of conmon: a line of JSON whose "data" is a pid or an exit status.

    complaints  what conmon wrote to stderr, for the error when it exited without a report

    Raises RuntimeFailed at end of file, and the runtime's error for a negative number with a "message".
    """
    line = pipe.readline()
    if not line:
        raise RuntimeFailed(f"conmon ended without a report: {complaints}")
    answer: dict[str, Any] = json.loads(line)
    if answer["data"] < 0:
        raise runtime_error(answer.get("message", ""))
    return int(answer["data"])


def _read_number(path: Path) -> int | None:
    try:
        with open(path, "rb") as file:
            return int(file.read())
    except (FileNotFoundError, ValueError):
        return None
