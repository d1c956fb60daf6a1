"""One container, as a caller sees it: names and meanings are docker-py's.

The work is done in containers/.

A container is an image plus one writable layer plus, while it runs, a process that sees both as its root. Its states
are a table in oci/lifecycle.py.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Unpack

from pylab_container.containers import lookup
from pylab_container.containers.lookup import no_such_container as no_such_container
from pylab_container.containers.settle import read_settled
from pylab_container.engine.explaining import explaining
from pylab_container.engine.parts import Parts
from pylab_container.oci import reference as references
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.image import Json
from pylab_container.runtime.logs import LogLine as LogLine
from pylab_container.runtime.logs import LogReader as LogReader
from pylab_container.runtime.monitor import Attachment as Attachment
from pylab_container.store.container_store import ContainerRecord as ContainerRecord

if TYPE_CHECKING:
    from pylab_container.containers import root_filesystem
    from pylab_container.containers.execution import Exec
    from pylab_container.docker.options import UpdateOptions
    from pylab_container.images.image import Image


class ExecResult(NamedTuple):
    """The result of a command in a container: its exit status, and its output on both streams."""

    exit_code: int
    output: bytes


class Container:
    """One container of one engine. Its record is read from disk on each access."""

    def __init__(self, parts: Parts, container_id: ContainerId) -> None:
        self._parts, self._data, self._runtime = parts, parts.data, parts.runtime
        self.id = container_id
        self.warnings: list[str] = []
        """Warnings from its creation about options that were ignored or changed."""

    # -- its state -------------------------------------------------------------------------------

    @property
    def record(self) -> ContainerRecord:
        """Its settled record (containers/settle.py). Raises ContainerNotFound once it is removed."""
        return read_settled(self._data, self._runtime, self.id)

    @property
    def short_id(self) -> str:
        """The twelve digits that listings show."""
        return self.id[:12]

    @property
    def name(self) -> str:
        """Its name."""
        return self._read().name

    @property
    def status(self) -> str:
        """created, running, paused, restarting or exited."""
        return str(self.record.state)

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self._read().config.labels)

    @property
    def health(self) -> str:
        """starting, healthy or unhealthy; "unknown" without a health check."""
        return str((self.record.health or {}).get("Status") or "unknown")

    @property
    def image(self) -> Image:
        """The image that it was created from."""
        from pylab_container.images.image import Image

        return Image(self._data, self._read().image)

    @property
    def address(self) -> str:
        """Its IPv4 address on its first network, "" while it has none."""
        endpoints = self.record.network.endpoints.values()
        return next((endpoint.ip_address for endpoint in endpoints if endpoint.ip_address), "")

    @property
    def ports(self) -> Json:
        """Its exposed ports and where they are published.

        {"80/tcp": [{"HostIp": …, "HostPort": …}] or None}
        """
        return dict(self.record.network.ports)

    @property
    def pid(self) -> int:
        """The pid of its first process on the host, 0 while it does not run."""
        return self.record.pid

    @property
    def mounts(self) -> list[Json]:
        """Docker's Mounts: the binds and volumes that inspect shows, and a tmpfs of --mount."""
        from pylab_container.containers import inspection

        return inspection.mount_points(self._read())

    @property
    def attrs(self) -> Json:
        """Docker's document about it, as `docker inspect` shows it."""
        from pylab_container.containers import inspection

        return inspection.inspect(self._data, self.record, self._parts.executions.ids(self.id))

    @property
    def upper(self) -> Path:
        """The directory of its writable layer, which has its changes; with vfs all its files."""
        return self._data.driver.diff_path(self._data.layers.writable(self.id).mount_id)

    @property
    def merged(self) -> Path:
        """The mount point of its file system while it runs."""
        return self._data.driver.merged_path(self._data.layers.writable(self.id).mount_id)

    def _read(self) -> ContainerRecord:
        return lookup.read(self._data.records, self.id)

    # -- its life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start its process and return at once.

        Raises Conflict while it runs; CommandNotFound or CommandNotExecutable if the image has no such program. A start
        that fails is rolled back.
        """
        self._start(exit_hook=True)

    def start_attached(self) -> Attachment:
        """Start its process with its streams connected, so that no output is missed.

        The caller must also call wait(), which records the exit. The monitor records it only if the caller was killed
        before, or if the container has a restart policy.
        """
        attachment = self._start(exit_hook=False, clients=1)
        assert attachment is not None
        return attachment

    def start_connected(self, clients: int) -> Attachment | None:
        """start(), with the streams connected for this number of clients before the start; None for 0."""
        return self._start(exit_hook=True, clients=clients)

    def _start(self, *, exit_hook: bool, clients: int = 0) -> Attachment | None:
        from pylab_container.containers.start import start

        with explaining(self._data.path):
            return start(self._data, self._runtime, self.id, exit_hook=exit_hook, clients=clients)

    def attach(self) -> Attachment:
        """Connect to the streams of the running container."""
        attachment = self.connect()
        self.attached()
        return attachment

    def connect(self) -> Attachment:
        """Attach without emitting an event; the caller emits one per client with attached()."""
        return self._runtime.monitor(self.id).attach()

    def attached(self) -> None:
        """Emit the event of a connected client."""
        from pylab_container.containers import streams

        streams.emit_client(self._data, self.id, "attached")

    def detached(self) -> None:
        """Emit the event of a client that has left with the detach keys. The container keeps running."""
        from pylab_container.containers import streams

        streams.emit_client(self._data, self.id, "detached")

    def resize(self, *, rows: int, columns: int) -> None:
        """Set the size of its terminal."""
        from pylab_container.containers import streams

        streams.resize(self._data, self._runtime, self.id, rows=rows, columns=columns)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its exit; return the exit status, 128 + n after signal n.

        If a restart policy starts it again, this waits for the last exit. A container with auto_remove has been removed
        when this returns. If it was removed earlier, the status is that of its last run.

        Raises TimeoutError after timeout seconds, ContainerNotFound if it never ran.
        """
        from pylab_container.containers import waiting

        return waiting.wait(self._data, self._runtime, self._parts.event_log, self.id, timeout)

    def pause(self) -> None:
        """Freeze all its processes. Raises Conflict while it does not run."""
        from pylab_container.containers import stop

        stop.pause(self._data, self._runtime, self.id)

    def unpause(self) -> None:
        """Thaw its processes. Raises Conflict if it is not paused."""
        from pylab_container.containers import stop

        stop.unpause(self._data, self._runtime, self.id)

    def stop(self, timeout: float | None = None, *, signal: str | int | None = None) -> None:
        """Send its stop signal to its first process, and kill it after timeout seconds.

        timeout  default: its own stop_timeout, else 10; negative waits without a limit
        signal   default: its own STOPSIGNAL, else SIGTERM

        The restart policy does not start it again. No error if it does not run.
        """
        from pylab_container.containers import stop

        stop.stop(self._data, self._runtime, self._parts.event_log, self.id, timeout, signal=signal)

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send a signal to its first process. Raises Conflict while it does not run.

        After SIGKILL or its stop signal, the restart policy does not start it again. A paused container is thawed, with
        one exception: if it has a stop signal and this is another signal, it stays paused and receives the signal when
        it is unpaused (moby, daemon/kill.go).
        """
        from pylab_container.containers import stop

        stop.kill(self._data, self._runtime, self._parts.event_log, self.id, signal)

    def restart(self, timeout: float | None = None, *, signal: str | int | None = None) -> None:
        """Stop it if it runs, and start it again; timeout and signal as in stop()."""
        self.restart_connected(0, timeout, signal=signal)

    def restart_connected(
        self, clients: int, timeout: float | None = None, *, signal: str | int | None = None
    ) -> Attachment | None:
        """As restart(), with the streams connected for clients as in start_connected()."""
        from pylab_container.containers import stop

        parts = self._data, self._runtime, self._parts.event_log
        with explaining(self._data.path):
            return stop.restart(*parts, self.id, timeout, signal=signal, clients=clients)

    def rename(self, name: str) -> None:
        """Give it another name. Raises Conflict for the name of another container, InvalidInput."""
        from pylab_container.containers.rename import rename

        rename(self._data, self._runtime, self.id, name)

    def update(self, **options: Unpack[UpdateOptions]) -> list[str]:
        """Change its limits or its restart policy; return warnings. Raises InvalidInput, Conflict."""
        from pylab_container.docker.update import update

        return update(self._data, self._runtime, self.id, options)

    def remove(self, *, force: bool = False, v: bool = False) -> None:
        """Remove it with its writable layer.

        force  kill it first
        v      remove its anonymous volumes, too
        """
        from pylab_container.containers import removal

        removal.remove(self._data, self._runtime, self.id, force=force, volumes=v)

    # -- its processes and its output ------------------------------------------------------------

    def exec_create(
        self,
        cmd: str | Sequence[str],
        *,
        tty: bool = False,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        user: str = "",
        environment: Mapping[str, str] | Sequence[str] | None = None,
        workdir: str = "",
        privileged: bool = False,
        detach_keys: str = "",
        console_size: tuple[int, int] | None = None,
    ) -> Exec:
        """Create one more command in it, to be started with start() or start_detached().

        stdin           its standard input comes from the caller, else from /dev/null
        stdout, stderr  the streams to return; they are separate unless it has a terminal (tty)
        privileged      with all capabilities of the machine
        detach_keys     the keys to detach with, "" for ctrl-p,ctrl-q
        console_size    (rows, columns) of its terminal, if start() gives no other

        Raises Conflict while the container does not run, InvalidInput.
        """
        from pylab_container.containers.execution import ExecOptions
        from pylab_container.docker.options import arguments, environment_list

        options = ExecOptions(
            command=tuple(arguments(cmd) or ()),
            tty=tty,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            user=user,
            environment=tuple(environment_list(environment)),
            workdir=workdir,
            privileged=privileged,
            detach_keys=detach_keys,
            console_size=console_size,
        )
        return self._parts.executions.create(self.id, options)

    def exec_run(
        self,
        cmd: str | Sequence[str],
        *,
        user: str = "",
        environment: Mapping[str, str] | Sequence[str] | None = None,
        workdir: str = "",
        privileged: bool = False,
    ) -> ExecResult:
        """Run one more command in it and wait; return its exit status and all its output.

        Raises Conflict while the container does not run, CommandNotFound, CommandNotExecutable.
        """
        execution = self.exec_create(cmd, user=user, environment=environment, workdir=workdir, privileged=privileged)
        return ExecResult(*execution.run_to_end())

    def top(self, ps_args: str = "") -> Json:
        """Show its processes with ps(1) of the host, by default `ps -ef`.

        The result is {"Titles": […], "Processes": [[…]]}.

        Raises Conflict while it does not run, InvalidInput for options that ps rejects.
        """
        from pylab_container.containers import processes

        titles, rows = processes.top(self._data, self._runtime, self.record, ps_args.split())
        return {"Titles": titles, "Processes": rows}

    def stats(self, *, stop: threading.Event | None = None) -> Iterator[Json]:
        """Measure what it uses: one document per second (stats.py), until another thread sets stop.

        stats_snapshot() is docker-py's stats(stream=False). Raises ContainerNotFound once it is removed.
        """
        from pylab_container.docker import stats

        return stats.stream(lambda: self.record, stop=stop)

    def stats_snapshot(self) -> Json:
        """Measure what it uses once: docker-py's stats(stream=False). Raises ContainerNotFound."""
        from pylab_container.docker import stats

        return stats.snapshot(lambda: self.record)

    def logs(
        self, *, stdout: bool = True, stderr: bool = True, timestamps: bool = False, tail: int | None = None
    ) -> bytes:
        """Return its output so far; tail: the number of lines at the end."""
        from pylab_container.containers import logs

        parts = self._data, self._runtime, self.record
        return logs.log_text(*parts, stdout=stdout, stderr=stderr, timestamps=timestamps, tail=tail)

    def log_lines(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        stop: threading.Event | None = None,
        damaged: Callable[[int], object] = lambda count: None,
    ) -> Iterator[LogLine]:
        """Yield its output line by line, with time and stream.

        A line of more than a megabyte comes in pieces.

        follow        go on until its exit, or until another thread sets stop
        tail          start with this number of lines at the end of the log so far
        since, until  seconds since 1970; with follow, the iteration ends at until
        damaged       called at the end with the number of entries that could not be read, if any
        """
        from pylab_container.containers import logs

        parts = self._data, self._runtime, self.record
        return logs.log_lines(*parts, follow=follow, tail=tail, since=since, until=until, stop=stop, damaged=damaged)

    def log_reader(
        self, *, tail: int | None = None, since: float | None = None, until: float | None = None
    ) -> LogReader:
        """As log_lines(), for a caller that waits for new lines itself."""
        from pylab_container.containers import logs

        return logs.log_reader(self._data, self.record, tail=tail, since=since, until=until)

    # -- its files -------------------------------------------------------------------------------

    def commit(
        self,
        repository: str | None = None,
        tag: str | None = None,
        *,
        message: str = "",
        author: str = "",
        changes: str | Sequence[str] = (),
        conf: Mapping[str, Any] | None = None,
        pause: bool = True,
    ) -> Image:
        """Create an image from its image and its changes.

        repository, tag  the new image's name; a tag may also be part of repository
        changes          Dockerfile instructions for the image's config: 'CMD ["httpd"]', "EXPOSE 80"
        conf             fields of the image's config to replace: {"Cmd": ["httpd"]}
        pause            freeze a running container while its layer is read
        """
        from pylab_container.docker.commit import commit_container

        name = references.parse_tag(f"{repository}:{tag}" if tag else repository) if repository else None
        parts = self._data, self._runtime, self.record
        return commit_container(*parts, name, message=message, author=author, changes=changes, conf=conf, pause=pause)

    def _files(self) -> root_filesystem.ContainerFiles:
        """Return its files. Raises ContainerNotFound."""
        from pylab_container.containers.root_filesystem import ContainerFiles

        self._read()
        return ContainerFiles(self._data, self._runtime, self.id)

    def diff(self) -> list[root_filesystem.Change]:
        """Return its changes, sorted by path."""
        return self._files().changes()

    def export(self) -> Iterator[bytes]:
        """Yield its whole file system as a tar, in pieces."""
        return self._files().export()

    def get_archive(self, path: str) -> tuple[Iterator[bytes], root_filesystem.PathStatus]:
        """Return a file or directory of it as a tar, in pieces, and its status. Raises NotFound."""
        return self._files().get_archive(path)

    def path_status(self, path: str) -> root_filesystem.PathStatus:
        """Return the status of a path of it. Raises NotFound."""
        return self._files().path_status(path)

    def put_archive(
        self, path: str, data: bytes | BinaryIO, *, keep_directories: bool = False, as_user: bool = False
    ) -> None:
        """Extract a tar into a directory of it. Raises NotFound, InvalidInput, InvalidArchive.

        keep_directories, as_user  as in containers/root_filesystem.py
        """
        archive = io.BytesIO(data) if isinstance(data, bytes) else data
        self._files().put_archive(path, archive, keep_directories=keep_directories, as_user=as_user)

    def frozen(self) -> contextlib.AbstractContextManager[None]:
        """Freeze its processes while the block runs, if it runs, and emit the events."""
        from pylab_container.containers import freezing

        return freezing.frozen(self._data, self._runtime, self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Container) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Container: {self.short_id}>"
