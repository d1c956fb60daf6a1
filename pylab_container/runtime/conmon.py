"""Start monitors: conmon, one small process per container that outlives the process that started it.

The monitor is the parent of the container's first process, so it alone learns the exit status. It also holds the other
ends of the container's streams: it writes the log and serves the clients that attach (monitor.py). Sources: conmon(8),
and conmon's src/conmon.c for the pipes on which it reports.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from pylab_container.errors import Conflict
from pylab_container.events import Emit, ProgramRan, ignore
from pylab_container.host import programs
from pylab_container.host.removal import discard_below
from pylab_container.oci.bundle import Process, process_config
from pylab_container.oci.ids import EntryName
from pylab_container.runtime import procfs
from pylab_container.runtime.monitor import ExecSession, Monitor, read_report
from pylab_container.runtime.runc import Runc

_EXIT_ARGUMENT = "--exit-command-arg="
_ABANDON_POLL_INTERVAL = 0.01  # seconds between checks whether a monitor has exited


class Conmon:
    """Starts monitors. A monitor's files are in its container's bundle directory; monitor.py lists them."""

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

        bundle        a directory with the container's config.json (oci/bundle.py)
        log           the log file; None keeps no log
        log_size      size in bytes at which conmon discards the log and begins a new one
        terminal      must have the same value as in config.json
        stdin_open    connect stdin to the clients that attach; otherwise it is /dev/null
        stdin_once    close stdin when the first client disconnects
        exit_command  run by the monitor after the container's end; its first word is an absolute path

        Raises Conflict when the runtime already has this id (call Runc.delete() first to run it again), and
        CommandNotFound, CommandNotExecutable or RuntimeFailed when the container cannot be created. A failed attempt
        leaves no process, cgroup or file.
        """
        monitor = Monitor(container_id, bundle=bundle, exit_directory=exit_directory)
        self._refuse_existing(monitor)
        # The exit status of an earlier run would be taken for the status of this one.
        monitor.remove_files()
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
            self._create(monitor, self._command(container_id, bundle, exit_directory, options))
        except BaseException:
            self._clear(monitor)
            raise
        return monitor

    def _refuse_existing(self, monitor: Monitor) -> None:
        if monitor.alive() or self._runc.state(monitor.container_id) is not None:
            raise Conflict(
                f"container {monitor.container_id[:12]} has been created already", hint="stop it and delete it first"
            )

    def _create(self, monitor: Monitor, command: Sequence[str]) -> None:
        report, conmon_report = _pipe()
        with report:
            complaints = self._launch(command, monitor.bundle, {"_OCI_SYNCPIPE": conmon_report})
            monitor.await_report(report)
            read_report(report, complaints)

    def execute(self, container_id: str, process: Process, *, directory: Path, stdin_open: bool) -> ExecSession:
        """Run one more process in a running container, under a monitor of its own, with its streams connected.

        directory   an empty directory that serves as the bundle; the monitor removes it after the process's end
        stdin_open  connect stdin to the session's streams; otherwise it is /dev/null

        Raises CommandNotFound, CommandNotExecutable, Conflict or RuntimeFailed when the process cannot be started.
        """
        directory = directory.absolute()
        options = [
            *("--exec", "--exec-attach", "--exec-process-spec", str(directory / "process.json")),
            *("--log-path", "none"),
            # A terminal is one file for input and output: closing the input would close the output, too.
            *(["--terminal", "--leave-stdin-open"] if process.terminal else []),
            *(["--stdin"] if stdin_open else []),
            *_exit_options([programs.find("rm"), "-rf", str(directory)]),
        ]
        command = self._command(container_id, directory, directory, options)
        try:
            (directory / "process.json").write_text(json.dumps(process_config(process)))
            report, conmon_report = _pipe()
            try:
                return self._execute(ExecSession(container_id, directory, report), command, conmon_report)
            except BaseException:
                report.close()
                raise
        except BaseException:
            discard_below(directory.parent, EntryName(directory.name))
            raise

    def _execute(self, session: ExecSession, command: Sequence[str], conmon_report: int) -> ExecSession:
        """Start conmon, connect to its socket, and only then let it start the process: no output is missed."""
        # conmon reports on _OCI_ATTACHPIPE that its socket is listening. It reads _OCI_STARTPIPE twice: before it forks
        # into the background, and before it calls the runtime (main() in src/conmon.c).
        attached, conmon_ready = _pipe()
        conmon_start, start = os.pipe()
        with attached:
            try:
                os.write(start, b"1")
                ends = {"_OCI_SYNCPIPE": conmon_report, "_OCI_ATTACHPIPE": conmon_ready, "_OCI_STARTPIPE": conmon_start}
                complaints = self._launch(command, session.bundle, ends)
                read_report(attached, complaints)
                streams = session.attach()
                os.write(start, b"2")
            finally:
                os.close(start)
        try:
            session.await_start(streams)
        except BaseException:
            streams.close()
            raise
        return session

    def abandon(self, monitor: Monitor, timeout: float = 20) -> None:
        """Delete a container if the process that called create() was killed, at any step. timeout in seconds."""
        deadline = time.monotonic() + timeout
        # Let a monitor that is creating the container finish first: runc, killed half-way, would leave processes and
        # cgroups that appear in no record.
        while not monitor.container_pid and _monitor_works(monitor.container_id) and time.monotonic() < deadline:
            time.sleep(_ABANDON_POLL_INTERVAL)
        self._runc.delete(monitor.container_id, force=True)
        # Once the status is written, the monitor only runs the exit command.
        while _monitor_works(monitor.container_id) and not monitor.exit_file.exists() and time.monotonic() < deadline:
            time.sleep(_ABANDON_POLL_INTERVAL)

    def _command(self, container_id: str, bundle: Path, exit_directory: Path, options: Sequence[str]) -> list[str]:
        runtime, *runtime_options = self._runc.command()
        bundle, exit_directory = bundle.absolute(), exit_directory.absolute()
        return [
            "conmon",
            *("--api-version", "1", "--cid", container_id, "--cuuid", container_id, "--name", container_id),
            *("--runtime", programs.find(runtime), "--bundle", str(bundle)),
            *(f"--runtime-arg={option}" for option in runtime_options),
            *("--log-level", "error"),
            *("--conmon-pidfile", str(bundle / "conmon.pid"), "--container-pidfile", str(bundle / "container.pid")),
            # --full-attach binds the attach socket in the bundle through /proc/self/fd, so the path may exceed the 107
            # bytes of sun_path (unix(7)). Without it conmon makes a symlink in a directory that all containers share.
            *("--exit-dir", str(exit_directory), "--full-attach"),
            # An fsync of the log at each container's end costs more than the rest of the end.
            "--no-sync-log",
            *options,
        ]

    def _launch(self, command: Sequence[str], directory: Path, pipes: Mapping[str, int]) -> str:
        """Run conmon until it has forked into the background; return what it wrote to stderr, or its exit status.

        pipes  {environment variable: the pipe end that conmon inherits}. The ends are closed in this process.
        """
        started = time.monotonic()
        try:
            # A monitor may live for months, so it does not inherit an environment that may hold secrets. Its working
            # directory is the bundle, because it creates the file "oom" there (src/oom.c). It stamps log lines in local
            # time, and only stamps in UTC sort as text (src/ctr_logging.c).
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
            # While this process holds conmon's ends open, its own ends would not report end of file when conmon exits.
            for fd in pipes.values():
                os.close(fd)
        with process:
            complaints = process.stderr.read().decode(errors="replace") if process.stderr else ""
        self._emit(ProgramRan(shlex.join(command), time.monotonic() - started, process.returncode))
        return complaints.strip() or str(process.returncode)

    def _clear(self, monitor: Monitor) -> None:
        """Roll back a create that failed half-way."""
        # conmon passes SIGTERM on to the runtime or to the container (on_sig_exit() in src/ctr_exit.c), and exits as it
        # does after every end.
        with contextlib.suppress(ProcessLookupError):
            if monitor.alive():
                os.kill(monitor.conmon_pid, signal.SIGTERM)
        self._runc.delete(monitor.container_id, force=True)
        monitor.remove_files()


def _pipe() -> tuple[BinaryIO, int]:
    """A pipe on which conmon reports: the end of this process, and conmon's."""
    reading, writing = os.pipe()
    # Unbuffered: a buffered reader could take two reports at once, and poll(2) would never announce the second one.
    return cast(BinaryIO, open(reading, "rb", buffering=0)), writing


def _exit_options(command: Sequence[str] | None) -> list[str]:
    if not command:
        return []
    return ["--exit-command", command[0], *(f"{_EXIT_ARGUMENT}{argument}" for argument in command[1:])]


def _monitor_works(container_id: str) -> bool:
    """Whether a conmon process of this container exists that has not reached its exit command."""
    # The exit command is the monitor's last action, also after a runtime that failed and left no status. The monitor
    # waits for the command (do_exit_command() in src/ctr_exit.c). The command may wait for a lock that the caller
    # holds, or be the caller itself: waiting for the monitor's exit could be a deadlock.
    commands = list(procfs.command_lines())
    monitors = [command for command in commands if b"--cid" in command and container_id.encode() in command]
    return bool(monitors) and not any(_is_exit_command(command, of) for of in monitors for command in commands)


def _is_exit_command(command: Sequence[bytes], monitor: Sequence[bytes]) -> bool:
    """Whether a command line is that of a monitor's exit command."""
    # Compared from the end: the exit command may be a shell that has replaced itself by its last arguments (exec "$@").
    mark = _EXIT_ARGUMENT.encode()
    arguments = [word.removeprefix(mark) for word in monitor if word.startswith(mark)]
    return bool(arguments) and command[1:] == arguments[1 - len(command) :]
