"""One more process in a running container: `docker exec`.

    container.exec_create(cmd)  ──▶  Exec  ──start()──▶  its streams, as of container.attach()
                                      │ ──start_detached()
                                      └ resize(), wait(), attrs (Docker's ExecInspect)

As with a container, the process has a monitor of its own (conmon, runtime/conmon.py): it reads the output
also when nobody listens, so the process outlives whoever was connected, and it knows the exit status.
What belongs to a running one lies in /run/pylab-container/…/<container id>/exec/<exec id>/; the monitor
removes it in the end, and the end of the container does.

An Exec itself lives in the memory of the process that made it, as Docker keeps it in that of its daemon.
One thread waits for the ends of all of them: an idle one costs two descriptors here, and a monitor.
When the command has ended its streams end too, whatever it left in the background with them open.
(Docker's daemon waits two seconds longer for such output.)
"""

from __future__ import annotations

import secrets
import select
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.containers import launch, lifetime
from pylab_container.docker.options import merge_environment
from pylab_container.errors import Conflict, ContainerNotFound, InvalidInput, NotFound
from pylab_container.networks import links
from pylab_container.oci import bundle
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import ALIVE, Transition, after
from pylab_container.runtime.monitor import Attachment, ExecSession
from pylab_container.text.keys import parse_keys

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container

NOT_STARTED = 126
"""The exit code of one that could not be started, whatever the reason: as Docker's daemon 20.10 has it."""

_KEPT_SECONDS = 300.0  # for which one that has ended can be asked; moby: daemon/exec.go
_MOST_KEPT = 1000


class ExecOptions(Struct, frozen=True):
    """What to run, and how.

    environment  NAME=VALUE, on top of the container's own
    user         "" for the container's own; so is workdir
    privileged   with all capabilities that there are
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
    """One command for one container. It is started once; afterwards it is a record of how it went."""

    def __init__(self, engine: Engine, container: Container, options: ExecOptions) -> None:
        self._engine = engine
        self.id = secrets.token_hex(32)
        self.container = container
        self.options = options
        self.exit_code: int | None = None
        self.ended_at: float | None = None  # by the monotonic clock
        self._record = container.record  # to tell of it also when the container is gone
        self.run = self._record.started_at
        self._session: ExecSession | None = None
        self._claimed = threading.Lock()
        self._began = threading.Event()  # its process is there, or has failed to start
        self._ended = threading.Event()

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._session is not None and self.exit_code is None

    @property
    def started(self) -> bool:
        """Whether somebody has started it, or tried to."""
        return self._claimed.locked()

    @property
    def pid(self) -> int:
        """The process as the host numbers it, also after its end; 0 before its start."""
        return self._session.pid if self._session else 0

    @property
    def attrs(self) -> Json:
        """What Docker's API tells of it ("ExecInspect", Engine API 1.41)."""
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
            "ContainerID": self.container.id,
            "DetachKeys": self.options.detach_keys,
            "Pid": self.pid,
        }

    def start(self, *, console_size: tuple[int, int] | None = None) -> Attachment:
        """Start it with its streams connected, so that no output is missed. Closing them lets it run on.

        console_size  (rows, columns) of its terminal, which resize() changes later

        Raises Conflict where it was started before or the container does not run, CommandNotFound,
        CommandNotExecutable, InvalidInput or RuntimeFailed where there is no such program, user or directory.
        """
        return self._start(stdin=self.options.stdin, console_size=console_size).streams

    def start_detached(self) -> None:
        """Start it and leave it; nothing can be read from it. Raises what start() raises."""
        self._start(stdin=False, console_size=None).streams.close()

    def resize(self, *, rows: int, columns: int, timeout: float = 0.0) -> None:
        """Tell its terminal how large it is now; without one nothing happens. Raises Conflict while it does not run.

        timeout  seconds to wait for its process
        """
        self._began.wait(timeout)
        if self._session is None or not self.running:
            raise Conflict(f"Exec command {self.id} is not running", hint="start it first")
        if self.options.tty:
            self._session.resize(rows=rows, columns=columns)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit status, 128 + n after signal n. Raises TimeoutError (seconds)."""
        if not self._ended.wait(timeout):
            raise TimeoutError(f"exec {self.id[:12]} still runs after {timeout} seconds")
        assert self.exit_code is not None
        return self.exit_code

    def kill(self) -> None:
        """End its process by force; nothing happens when it does not run."""
        if self._session is not None and self.running:
            self._session.kill()

    def detached(self) -> None:
        """Say that whoever was connected has left with the detach keys; it runs on."""
        self._tell("exec_detach")

    def finish(self) -> None:
        """Note its end, once session() has become readable."""
        assert self._session is not None
        self.exit_code = self._session.take_status()
        self._tell("exec_die", f"status {self.exit_code}")  # before wait() returns, and perhaps our process ends
        self._end(self.exit_code)

    def session(self) -> ExecSession:
        """What runs. Raises Conflict before the start."""
        if self._session is None:
            raise Conflict(f"Exec command {self.id} is not running", hint="start it first")
        return self._session

    def tell_created(self) -> None:
        """Say that it is there."""
        self._tell("exec_create", self._command_line())

    def _start(self, *, stdin: bool, console_size: tuple[int, int] | None) -> ExecSession:
        refuse(self.container)
        if not self._claimed.acquire(blocking=False):
            state = "is already running" if self.exit_code is None else "has already run"
            raise Conflict(f"Error: Exec command {self.id} {state}", hint="create another one")
        self._tell("exec_start", self._command_line())
        try:
            size = console_size or self.options.console_size
            wanted = replace(process(self._engine, self.container, self.options), console_size=size)
            self._session = self._engine.runtime.conmon.execute(
                self.container.id, wanted, directory=self._directory(), stdin_open=stdin
            )
        except BaseException:
            self._end(NOT_STARTED)
            raise
        self._engine.executions.watch(self)
        self._began.set()
        return self._session

    def _directory(self) -> Path:
        directory = executions_directory(self._engine, self.container.id) / self.id
        try:
            directory.parent.mkdir(exist_ok=True, mode=0o700)
            directory.mkdir(mode=0o700)
        except FileNotFoundError as error:  # with the container's end its bundle went
            raise Conflict(f"Container {self.container.id} is not running", hint="start it first") from error
        return directory

    def _end(self, status: int) -> None:
        self.exit_code = status
        self.ended_at = time.monotonic()
        self._began.set()
        self._ended.set()

    def _command_line(self) -> str:
        entrypoint, *arguments = self.options.command
        return f"{entrypoint} {' '.join(arguments)}"

    def _tell(self, action: str, detail: str = "") -> None:
        record = self._engine.data.records.load(self.container.id) or self._record
        lifetime.tell(self._engine, action, record, detail, attributes={"execID": self.id})

    def __repr__(self) -> str:
        return f"<Exec: {self.id[:12]}>"


class ExecutionCollection:
    """The Execs of this engine: those that run, and for five minutes those that have ended, a thousand at most."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._known: dict[str, Exec] = {}
        self._watched: dict[int, Exec] = {}
        self._poll: select.epoll | None = None

    def create(self, container: Container, options: ExecOptions) -> Exec:
        """A command for a container. Raises InvalidInput, and Conflict while the container does not run."""
        if not options.command:
            raise InvalidInput("No exec command specified", hint="labctr exec CONTAINER COMMAND")
        if options.detach_keys:
            parse_keys(options.detach_keys)
        refuse(container)
        made = Exec(self._engine, container, options)
        with self._lock:
            self._forget_old()
            self._known[made.id] = made
        made.tell_created()
        return made

    def get(self, exec_id: str) -> Exec:
        """One of them by its id, or by what it begins with. Raises NotFound."""
        with self._lock:
            found = [one for known, one in self._known.items() if exec_id and known.startswith(exec_id)]
        if len(found) != 1 or not self._engine.data.records.load(found[0].container.id) or _is_void(found[0]):
            hint = "it has ended long ago, its container was removed, or another process made it"
            raise NotFound(f"No such exec instance: {exec_id}", hint=hint)
        return found[0]

    def ids(self, container_id: str) -> list[str]:
        """Those of one container that have not ended, also those that other processes started."""
        with self._lock:
            known = [one for one in self._known.values() if one.container.id == container_id]
        own = [one.id for one in known if one.exit_code is None and not _is_void(one)]
        directory = executions_directory(self._engine, container_id)
        there = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
        ended = {one.id for one in known if one.exit_code is not None}
        return list(dict.fromkeys([*own, *(name for name in there if name not in ended)]))

    def watch(self, started: Exec) -> None:
        """Let the end of one be noted when it comes."""
        fd = started.session().fileno()
        with self._lock:
            self._watched[fd] = started
            if self._poll is None:
                self._poll = select.epoll()
                threading.Thread(target=self._wait, args=(self._poll,), daemon=True, name="exec ends").start()
            self._poll.register(fd, select.EPOLLIN)

    def _wait(self, poll: select.epoll) -> None:
        """The thread: it lives as long as there is something to wait for."""
        while True:
            for fd, _ in poll.poll():
                with self._lock:
                    ended = self._watched.pop(fd)
                    poll.unregister(fd)
                ended.finish()
            with self._lock:
                if not self._watched:
                    self._poll = None
                    poll.close()
                    return

    def _forget_old(self) -> None:
        """Under the lock: those that ended long ago go, and of many the first."""
        before = time.monotonic() - _KEPT_SECONDS
        idle = [one for one in self._known.values() if not one.running]
        too_many = len(idle) - _MOST_KEPT
        for number, one in enumerate(idle):
            if number < too_many or (one.ended_at is not None and one.ended_at < before):
                del self._known[one.id]


def executions_directory(engine: Engine, container_id: str) -> Path:
    """Where what belongs to a container's running commands lies, a directory each."""
    return lifetime.bundle_directory(engine, container_id) / "exec"


def refuse(container: Container) -> None:
    """Raises Conflict, in Docker's words, while the container does not run or is frozen."""
    record = container.record
    after(record.state, Transition.EXEC, container=record.name, container_id=record.id)


def process(engine: Engine, container: Container, options: ExecOptions) -> bundle.Process:
    """The process as the container would have it: its environment, its user, its rights. Raises InvalidInput."""
    record = container.record
    config = replace(
        record.config,
        user=options.user or record.config.user,
        env=tuple(merge_environment(record.config.env, options.environment)),
        working_dir=options.workdir or record.config.working_dir,
        tty=options.tty,
    )
    rights = record.host_config
    if options.privileged:
        rights = replace(rights, privileged=True, cap_drop=())
    path, *words = options.command
    return launch.process(
        replace(record, path=path, args=tuple(words), config=config, host_config=rights),
        container.merged,
        linked=links.environment(engine, record),
    )


def _is_void(one: Exec) -> bool:
    """Whether it can never be started: the run of its container that it was made for has ended."""
    if one.started:
        return False
    try:
        record = one.container.record
    except ContainerNotFound:
        return True
    return record.state not in ALIVE or record.started_at != one.run
