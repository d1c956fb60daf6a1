"""One more process in a running container: `docker exec`.

    container.exec_create(cmd)  ──▶  Exec  ──start()──▶  its streams, as of container.attach()
                                      │ ──start_detached()
                                      └ resize(), wait(), attrs (Docker's ExecInspect)

As with a container, the process has a monitor of its own (conmon, runtime/monitor.py). The monitor reads the output
whether or not a client is connected, so the process outlives its clients. The monitor also records the exit status. The
files of a running command are stored in <bundle>/exec/<exec id>/. They are removed by the monitor at the command's
exit, or by the exit of the container.

An Exec exists only in the memory of the process that created it, as in dockerd. One thread waits for the exits of all
Execs. A running Exec costs two file descriptors of this process, and its monitor. When the command has exited, its
streams end as well, even if a background process has them open. (dockerd waits two more seconds for such output.)
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.containers.change_events import emit_change
from pylab_container.containers.process import first_process
from pylab_container.containers.settle import read_settled, settled
from pylab_container.errors import Conflict, ContainerNotFound, InvalidInput, NotFound
from pylab_container.host.random_ids import random_hex
from pylab_container.networks import links
from pylab_container.oci import bundle
from pylab_container.oci.environment import merge_environment
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import ALIVE, Transition, next_state
from pylab_container.runtime import Runtime
from pylab_container.runtime.monitor import Attachment, ExecSession
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.text.keys import parse_keys

NOT_STARTED = 126
"""The exit code of a command that could not be started, for any reason, as with dockerd 20.10."""

KEPT_AFTER_EXIT = 300.0  # seconds during which the exit status can be read (moby, daemon/exec.go)
MOST_KEPT = 1000  # Execs that do not run; the oldest are dropped first


class ExecOptions(Struct, frozen=True):
    """A command and its options.

    environment  NAME=VALUE, in addition to the container's environment
    user         "" for the container's user; workdir "" for its working directory
    privileged   whether it has all capabilities of the machine
    """

    command: tuple[str, ...]
    tty: bool = False
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    user: str = ""
    environment: tuple[str, ...] = ()
    workdir: str = ""
    privileged: bool = False
    detach_keys: str = ""
    console_size: tuple[int, int] | None = None


class Exec:
    """One command for one container. It can be started only once; after the exit it holds the exit status."""

    def __init__(
        self,
        data: DataRoot,
        runtime: Runtime,
        record: ContainerRecord,
        options: ExecOptions,
        watch: Callable[[Exec], None],
    ) -> None:
        """Prepare a command without starting it.

        record  the container's settled record
        watch   called at the start; it waits for the exit and then calls finish()
        """
        self._data, self._runtime, self._watch = data, runtime, watch
        self.id = random_hex(32)
        self.container_id = record.id
        self.options = options
        self.exit_code: int | None = None
        self.ended_at: float | None = None  # by the monotonic clock
        self._record = record  # for events after the container is removed
        self.run = record.started_at
        self._session: ExecSession | None = None
        self._claimed = threading.Lock()  # acquired by the first start() and never released
        self._began = threading.Event()  # set when its process exists, or could not be started
        self._ended = threading.Event()

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._session is not None and self.exit_code is None

    @property
    def started(self) -> bool:
        """Whether a client has called start(), successful or not."""
        return self._claimed.locked()

    @property
    def pid(self) -> int:
        """Its pid on the host, also after the exit; 0 before the start."""
        return self._session.pid if self._session else 0

    @property
    def attrs(self) -> Json:
        """Docker's ExecInspect (Engine API 1.41)."""
        entrypoint, *arguments = self.options.command
        user = {"user": self.options.user} if self.options.user else {}
        return {
            "ID": self.id,
            "Running": self.running,
            "ExitCode": self.exit_code,
            "ProcessConfig": {
                "tty": self.options.tty,
                "entrypoint": entrypoint,
                "arguments": arguments,
                "privileged": self.options.privileged,
                **user,
            },
            "OpenStdin": self.options.stdin,
            "OpenStderr": self.options.stderr,
            "OpenStdout": self.options.stdout,
            "CanRemove": self.exit_code is not None,
            "ContainerID": self.container_id,
            "DetachKeys": self.options.detach_keys,
            "Pid": self.pid,
        }

    def start(self, *, console_size: tuple[int, int] | None = None) -> Attachment:
        """Start it with its streams connected, so that no output is missed. It outlives the streams.

        console_size  (rows, columns) of its terminal, which resize() changes later

        Raises Conflict if it was started before or the container does not run; CommandNotFound,
        CommandNotExecutable, InvalidInput or RuntimeFailed if the program, user or directory does not exist.
        """
        return self._start(stdin=self.options.stdin, console_size=console_size).streams

    def start_detached(self) -> None:
        """Start it without streams. Raises what start() raises."""
        self._start(stdin=False, console_size=None).streams.close()

    def resize(self, *, rows: int, columns: int, timeout: float = 0.0) -> None:
        """Set the size of its terminal, if it has one. Raises Conflict if it does not run.

        timeout  seconds to wait for its process
        """
        self._began.wait(timeout)
        if self._session is None or not self.running:
            raise Conflict(f"Exec command {self.id} is not running", hint="start it first")
        if self.options.tty:
            self._session.resize(rows=rows, columns=columns)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its exit; return the exit status, 128 + n after signal n.

        Raises TimeoutError (seconds).
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"exec {self.id[:12]} still runs after {timeout} seconds")
        assert self.exit_code is not None
        return self.exit_code

    def run_to_end(self) -> tuple[int, bytes]:
        """Start it and wait for its exit; return the exit status and all output. Raises what start() raises."""
        with self.start() as streams:
            output = b"".join(data for _, data in iter(streams.receive, None))
        return self.wait(), output

    def kill(self) -> None:
        """Kill its process, if it runs."""
        if self._session is not None and self.running:
            self._session.kill()

    def detached(self) -> None:
        """Emit the event of a client that has left with the detach keys; the command keeps running."""
        self._emit("exec_detach")

    def finish(self) -> None:
        """Record its exit. The caller calls this when session() has become readable."""
        assert self._session is not None
        self.exit_code = self._session.take_status()
        # Before wait() returns: the caller's process may exit then, and the event would be lost.
        self._emit("exec_die", f"status {self.exit_code}")
        self._end(self.exit_code)

    def session(self) -> ExecSession:
        """Return its session with the monitor. Raises Conflict before the start."""
        if self._session is None:
            raise Conflict(f"Exec command {self.id} is not running", hint="start it first")
        return self._session

    def emit_created(self) -> None:
        """Emit the event of its creation."""
        self._emit("exec_create", self._command_line())

    def _start(self, *, stdin: bool, console_size: tuple[int, int] | None) -> ExecSession:
        record = _runnable_record(self._data, self._runtime, self.container_id)
        if not self._claimed.acquire(blocking=False):
            state = "is already running" if self.exit_code is None else "has already run"
            raise Conflict(f"Error: Exec command {self.id} {state}", hint="create another one")
        self._emit("exec_start", self._command_line())
        try:
            size = console_size or self.options.console_size
            command = replace(exec_process(self._data, self._runtime, record, self.options), console_size=size)
            self._session = self._runtime.conmon.execute(
                self.container_id, command, directory=self._directory(), stdin_open=stdin
            )
        except BaseException:
            self._end(NOT_STARTED)
            raise
        self._watch(self)
        self._began.set()
        return self._session

    def _directory(self) -> Path:
        directory = executions_directory(self._runtime, self.container_id) / self.id
        try:
            directory.parent.mkdir(exist_ok=True, mode=0o700)
            directory.mkdir(mode=0o700)
        except FileNotFoundError as error:  # race: the container has exited, and its bundle was removed
            raise Conflict(f"Container {self.container_id} is not running", hint="start it first") from error
        return directory

    def _end(self, status: int) -> None:
        self.exit_code = status
        self.ended_at = time.monotonic()
        self._began.set()
        self._ended.set()

    def _command_line(self) -> str:
        entrypoint, *arguments = self.options.command
        return f"{entrypoint} {' '.join(arguments)}"

    def _emit(self, action: str, detail: str = "") -> None:
        record = self._data.records.load(self.container_id) or self._record
        emit_change(self._data.emit, action, record, detail, attributes={"execID": self.id})

    def __repr__(self) -> str:
        return f"<Exec: {self.id[:12]}>"


class ExecutionCollection:
    """The Execs of this process: all running ones, and up to MOST_KEPT others of the last five minutes."""

    def __init__(self, data: DataRoot, runtime: Runtime) -> None:
        self._data, self._runtime = data, runtime
        self._lock = threading.Lock()
        self._known: dict[str, Exec] = {}
        self._watched: dict[int, Exec] = {}
        self._poll: select.epoll | None = None

    def create(self, container_id: ContainerId, options: ExecOptions) -> Exec:
        """Create a command for a container. Raises InvalidInput, Conflict if the container does not run."""
        if not options.command:
            raise InvalidInput("No exec command specified", hint="labctr exec CONTAINER COMMAND")
        if options.detach_keys:
            parse_keys(options.detach_keys)
        record = _runnable_record(self._data, self._runtime, container_id)
        created = Exec(self._data, self._runtime, record, options, self._watch)
        with self._lock:
            self._forget_old()
            self._known[created.id] = created
        created.emit_created()
        return created

    def get(self, exec_id: str) -> Exec:
        """Return an Exec by its id or a unique prefix of it. Raises NotFound."""
        with self._lock:
            matches = [each for known_id, each in self._known.items() if exec_id and known_id.startswith(exec_id)]
        if len(matches) != 1 or not self._data.records.load(matches[0].container_id) or self._is_expired(matches[0]):
            hint = "it has ended long ago, its container was removed, or another process made it"
            raise NotFound(f"No such exec instance: {exec_id}", hint=hint)
        return matches[0]

    def ids(self, container_id: str) -> list[str]:
        """Return the ids of a container's running commands, including those of other processes."""
        with self._lock:
            known = [each for each in self._known.values() if each.container_id == container_id]
        own = [each.id for each in known if each.exit_code is None and not self._is_expired(each)]
        directory = executions_directory(self._runtime, container_id)
        running = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
        exited = {each.id for each in known if each.exit_code is not None}
        return list(dict.fromkeys([*own, *(name for name in running if name not in exited)]))

    def _is_expired(self, execution: Exec) -> bool:
        """Whether it can no longer be started, because the container's run for which it was created is over."""
        if execution.started:
            return False
        try:
            record = read_settled(self._data, self._runtime, execution.container_id)
        except ContainerNotFound:
            return True
        return record.state not in ALIVE or record.started_at != execution.run

    def _watch(self, execution: Exec) -> None:
        """Add a started Exec to those whose exits the thread awaits; start the thread if it does not run."""
        fd = execution.session().fileno()
        with self._lock:
            self._watched[fd] = execution
            if self._poll is None:
                self._poll = select.epoll()
                threading.Thread(target=self._wait, args=(self._poll,), daemon=True, name="exec ends").start()
            self._poll.register(fd, select.EPOLLIN)

    def _wait(self, poll: select.epoll) -> None:
        """Handle exits until no Exec runs; the next Exec starts another thread."""
        while True:
            for fd, _ in poll.poll():
                with self._lock:
                    execution = self._watched.pop(fd)
                    poll.unregister(fd)
                execution.finish()
            # Under the lock, so that _watch() either adds its Exec before this check or starts another thread.
            with self._lock:
                if not self._watched:
                    self._poll = None
                    poll.close()
                    return

    def _forget_old(self) -> None:
        """Drop the Execs that exited long ago, and the oldest if there are too many. The caller holds the lock."""
        before = time.monotonic() - KEPT_AFTER_EXIT
        idle = [each for each in self._known.values() if not each.running]
        excess = len(idle) - MOST_KEPT
        for number, each in enumerate(idle):
            if number < excess or (each.ended_at is not None and each.ended_at < before):
                del self._known[each.id]


def executions_directory(runtime: Runtime, container_id: str) -> Path:
    """Return the directory of a container's running commands; it has one subdirectory per command."""
    return runtime.bundle(container_id) / "exec"


def _runnable_record(data: DataRoot, runtime: Runtime, container_id: ContainerId) -> ContainerRecord:
    """Return a container's settled record. Raises Conflict in Docker's words unless it runs and is not paused."""
    record = read_settled(data, runtime, container_id)
    next_state(record.state, Transition.EXEC, container=record.name, container_id=record.id)
    return record


def exec_process(data: DataRoot, runtime: Runtime, record: ContainerRecord, options: ExecOptions) -> bundle.Process:
    """Build the OCI process of a command, with the container's environment, user and rights as defaults.

    Raises InvalidInput.
    """
    config = replace(
        record.config,
        user=options.user or record.config.user,
        env=tuple(merge_environment(record.config.env, options.environment)),
        working_dir=options.workdir or record.config.working_dir,
        tty=options.tty,
    )
    host_config = record.host_config
    if options.privileged:
        host_config = replace(host_config, privileged=True, cap_drop=())
    path, *words = options.command
    linked = links.running_linked(data.records, record, partial(settled, data, runtime))
    return first_process(
        replace(record, path=path, args=tuple(words), config=config, host_config=host_config),
        data.driver.merged_path(data.layers.writable(record.id).mount_id),
        linked=links.environment(linked),
    )
