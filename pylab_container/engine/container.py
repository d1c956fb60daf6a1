"""One container: what it is, and what can be done with it.

A container is an image plus one writable layer plus, while it runs, a process that sees
both as its root. Its states are in oci/lifecycle.py; how a process comes about, and how
its end is noticed, is in lifetime.py. Names and meanings are docker-py's.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Unpack

from msgspec.structs import replace

from pylab_container.containers import lifetime, waiting
from pylab_container.containers.lifetime import no_such_container as no_such_container
from pylab_container.containers.logfiles import log_files, log_path
from pylab_container.docker.options import UpdateOptions, arguments, environment_list
from pylab_container.errors import Conflict, ContainerNotFound, InvalidInput, LabError
from pylab_container.images.image import Image
from pylab_container.networks import dns_records, endpoints, links
from pylab_container.oci import reference as references
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import ALIVE, State, Transition, after
from pylab_container.oci.signals import signal_number
from pylab_container.runtime.logs import LogLine as LogLine
from pylab_container.runtime.logs import LogReader as LogReader
from pylab_container.runtime.logs import read_log
from pylab_container.runtime.monitor import UNKNOWN_STATUS, Monitor
from pylab_container.runtime.monitor import Attachment as Attachment
from pylab_container.store.container_store import ContainerRecord as ContainerRecord
from pylab_container.store.transactions import freezing

if TYPE_CHECKING:
    from pylab_container.containers import root_filesystem
    from pylab_container.containers.execution import Exec
    from pylab_container.engine import Engine


class ExecResult(NamedTuple):
    """How a command in a container ended: its exit status, and what it printed on both streams."""

    exit_code: int
    output: bytes


class Container:
    """One container of one engine. Cheap: everything is read when asked for."""

    def __init__(self, engine: Engine, container_id: ContainerId) -> None:
        self._engine = engine
        self.id = container_id
        self.warnings: list[str] = []
        """What was said of its options when it was made: what is done, but may not be what was meant."""

    # ---- what it is ----

    @property
    def record(self) -> ContainerRecord:
        """The record as it is true now. Raises ContainerNotFound once the container is gone."""
        return lifetime.settled(self._engine, self._read())

    @property
    def short_id(self) -> str:
        """The twelve digits that listings show."""
        return self.id[:12]

    @property
    def name(self) -> str:
        """The container's name."""
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
        """starting, healthy or unhealthy; "unknown" where nothing is checked."""
        return str((self.record.health or {}).get("Status") or "unknown")

    @property
    def image(self) -> Image:
        """The image that it was made from."""
        return Image(self._engine.data, self._read().image)

    @property
    def address(self) -> str:
        """Its IPv4 address on its first network, "" while it has none."""
        networks = self.record.network.networks
        return next((endpoint.ip_address for endpoint in networks.values() if endpoint and endpoint.ip_address), "")

    @property
    def ports(self) -> Json:
        """Its exposed ports and where the host has them: {"80/tcp": [{"HostIp": …, "HostPort": …}] or None}."""
        return dict(self.record.network.ports)

    @property
    def pid(self) -> int:
        """Its first process in the host's numbering, 0 while it does not run."""
        return self.record.pid

    @property
    def mounts(self) -> list[Json]:
        """Docker's Mounts: the binds and volumes that inspect shows, and a tmpfs that --mount asked for."""
        return [mount.shown() for mount in self._read().mounts if not mount.hidden]

    @property
    def attrs(self) -> Json:
        """What `docker inspect` shows."""
        return _inspect(self._engine, self.record)

    @property
    def upper(self) -> Path:
        """The directory of its writable layer: what it has changed so far; with vfs all that it has."""
        return self._engine.data.driver.diff_path(self._engine.data.layers.writable(self.id).mount_id)

    @property
    def merged(self) -> Path:
        """Where its whole file system is mounted while it runs."""
        return self._engine.data.driver.merged_path(self._engine.data.layers.writable(self.id).mount_id)

    # ---- what can be done with it ----

    def start(self) -> None:
        """Start its process and return at once.

        Raises Conflict while it runs, CommandNotFound or CommandNotExecutable where the
        image has no such program; the container is then as it was before.
        """
        lifetime.start(self._engine, self.id, exit_hook=True)

    def start_attached(self) -> Attachment:
        """Start its process with its streams connected, so that no output is missed.

        Whoever attaches also calls wait() in the end, which is when it is noted down; only if he was killed by
        then, or a restart policy needs it, the monitor sees to that.
        """
        attachment = lifetime.start(self._engine, self.id, exit_hook=False, clients=1)
        assert attachment is not None
        return attachment

    def start_connected(self, clients: int) -> Attachment | None:
        """Start its process as start() does; where there are clients, with its streams connected for them before."""
        return lifetime.start(self._engine, self.id, exit_hook=True, clients=clients)

    def attach(self) -> Attachment:
        """Connect to the streams of the running container."""
        attachment = self.connect()
        self.attached()
        return attachment

    def connect(self) -> Attachment:
        """attach(), of which nobody is told: for who serves others, and says attached() of each."""
        return self._monitor().attach()

    def attached(self) -> None:
        """Say that somebody is connected."""
        lifetime.tell(self._engine, "attached", self._read())

    def detached(self) -> None:
        """Say that whoever was connected has left with the detach keys; it runs on."""
        lifetime.tell(self._engine, "detached", self._read())

    def resize(self, *, rows: int, columns: int) -> None:
        """Tell its terminal how large it is now."""
        self._monitor().resize(rows=rows, columns=columns)
        size = {"height": str(rows), "width": str(columns)}
        lifetime.tell(self._engine, "resized", self._read(), attributes=size)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit status, 128 + n after signal n, also where it was removed since.

        Raises TimeoutError (seconds), ContainerNotFound where it never ran.

        The end is the last one where a restart policy starts it again. A container that asked
        for it (auto_remove) is removed then.
        """
        started = self._engine.data.records.load(self.id)
        if started is None:
            return waiting.status_of_removed(self._engine, self.id)
        record = started
        if record.state in ALIVE:
            status = self._monitor().wait(timeout)
            with contextlib.suppress(ContainerNotFound):
                record = self.record
            if status == UNKNOWN_STATUS:
                status = waiting.status_of_run(self._engine, started)
        else:
            status = record.exit_code
        if record.state is State.RESTARTING or _was_restarted(started, record):
            return self._wait_for_policy(timeout)
        return status

    def _wait_for_policy(self, timeout: float | None) -> int:
        """Wait while its policy goes on starting it. The status is the last one."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (record := self.record).state in (State.RESTARTING, *ALIVE):
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"container {self.short_id} still runs after {timeout} seconds")
            time.sleep(0.05)
        return record.exit_code

    def pause(self) -> None:
        """Freeze all its processes. Raises Conflict while it does not run."""
        with self._engine.data.records.lock(self.id):
            record = lifetime.settle(self._engine, self._read())
            state = self._after(record, Transition.PAUSE)
            self._engine.runtime.runc.pause(self.id)
            self._engine.data.records.update(record, state=state)
        lifetime.tell(self._engine, "paused", record)

    def unpause(self) -> None:
        """Let its frozen processes go on. Raises Conflict where they are not frozen."""
        with self._engine.data.records.lock(self.id):
            record = lifetime.settle(self._engine, self._read())
            state = self._after(record, Transition.UNPAUSE)
            self._engine.runtime.runc.resume(self.id)
            self._engine.data.records.update(record, state=state)
        lifetime.tell(self._engine, "unpaused", record)

    def stop(self, timeout: float | None = None, *, signal: str | int | None = None) -> None:
        """Ask its first process to end (STOPSIGNAL, else SIGTERM), and kill it after timeout seconds.

        timeout  default: the container's own stop_timeout, else 10; negative waits for ever
        signal   asks instead of its STOPSIGNAL

        It ends the restart policy. No error where it does not run.
        """
        number = signal_number(signal or str(self._read().config.stop_signal or "SIGTERM"))
        record = self._ask(Transition.STOP, manually=True)
        if record.state not in ALIVE:
            return
        chosen = timeout if timeout is not None else record.config.stop_timeout
        seconds = float(10 if chosen is None else chosen)
        lifetime.send_signal(self._engine, record, number)
        try:
            self._monitor().wait(None if seconds < 0 else seconds)
        except TimeoutError:
            lifetime.end_by_force(self._engine, record)
        self.wait()
        with self._engine.data.records.lock(self.id):  # who noted the end has told of it by then
            lifetime.tell(self._engine, "stopped", record)

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send a signal to its first process. Raises Conflict while it does not run.

        SIGKILL and the container's own stop signal also end the restart policy. A frozen one goes on, unless it has
        a stop signal and this is another: then it gets it later (moby, daemon/kill.go).
        """
        number = signal_number(signal)
        own = self._read().config.stop_signal
        deadly = number in (9, signal_number(str(own or "SIGTERM")))
        thaws = deadly or not own
        record = self._ask(Transition.KILL, manually=deadly, thaws=thaws)
        if record.state in ALIVE:
            lifetime.send_signal(self._engine, record, number, thaws=thaws)
        if number == 9:
            self.wait()

    def restart(self, timeout: float | None = None, *, signal: str | int | None = None) -> None:
        """Stop it, if it runs, and start it again; timeout and signal as in stop()."""
        self.restart_connected(0, timeout, signal=signal)

    def restart_connected(
        self, clients: int, timeout: float | None = None, *, signal: str | int | None = None
    ) -> Attachment | None:
        """Restart it as restart() does, with its streams connected for clients as in start_connected()."""
        with self._kept():
            self.stop(timeout, signal=signal)
        attachment = self.start_connected(clients)
        lifetime.tell(self._engine, "restarted", self._read())
        return attachment

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """An end in this block is not the last one: it does not go with it (auto_remove)."""
        removes = self.record.host_config.auto_remove
        if removes:
            self._set_auto_remove(removes=False)
        try:
            yield
        finally:
            if removes:
                self._set_auto_remove(removes=True)

    def _set_auto_remove(self, *, removes: bool) -> None:
        with self._engine.data.records.lock(self.id):
            record = self._read()
            host_config = replace(record.host_config, auto_remove=removes)
            self._engine.data.records.update(record, host_config=host_config)

    def _ask(self, transition: Transition, *, manually: bool, thaws: bool = True) -> ContainerRecord:
        """Under the lock: whether the event can happen, and with manually that somebody wanted the end.

        A process that only waits to be started again does so no more; with thaws, one that is frozen neither.
        """
        with self._engine.data.records.lock(self.id):
            record = lifetime.settle(self._engine, self._read())
            state = self._after(record, transition)
            if record.state is State.PAUSED and thaws:
                state = State.RUNNING
            if manually and record.state in (*ALIVE, State.RESTARTING):
                self._engine.data.records.update(record, state=state, manually_stopped=True)
            elif record.state is State.PAUSED:
                self._engine.data.records.update(record, state=state)
            return record if record.state is not State.RESTARTING else replace(record, state=state)

    def _after(self, record: ContainerRecord, transition: Transition) -> State:
        return after(record.state, transition, container=record.name, container_id=record.id)

    def rename(self, name: str) -> None:
        """Give it another name. Raises Conflict where another container has it, InvalidInput."""
        if not name.removeprefix("/"):
            raise InvalidInput("Neither old nor new names may be empty", hint="labctr rename OLD NEW")
        records = self._engine.data.records
        with records.lock_names(), records.lock(self.id):
            record = self._read()
            if record.name == name.removeprefix("/"):
                raise InvalidInput("Renaming a container with the same name as its current name", hint="choose another")
            taken = {known.name: known for known in records.all()}
            self._after(record, Transition.RENAME)
            try:
                chosen = self._engine.containers.choose_name(name.removeprefix("/"), taken)
            except (InvalidInput, Conflict) as error:
                raise type(error)(f"Error when allocating new name: {error.message}", hint=error.hint) from None
            renamed = records.update(record, name=chosen)
            dns_records.tell(self._engine, renamed)
        lifetime.tell(self._engine, "renamed", renamed, attributes={"oldName": f"/{record.name}"})

    def update(self, **options: Unpack[UpdateOptions]) -> list[str]:
        """Change its limits or its restart policy, also while it runs; the warnings. Raises InvalidInput, Conflict."""
        from pylab_container.containers import update

        return update.apply(self._engine, self, options)

    def remove(self, *, force: bool = False, v: bool = False) -> None:
        """Remove it with its writable layer. force kills it first; v also removes its unnamed volumes."""
        while not self._try_to_remove(force=force, volumes=v):
            pass  # somebody has started it in between

    def _try_to_remove(self, *, force: bool, volumes: bool) -> bool:
        """Whether it is gone now."""
        try:
            record = self.record
            if force and record.state in (*ALIVE, State.RESTARTING):
                lifetime.end_by_force(self._engine, record)
        except ContainerNotFound:
            if self._engine.data.records.load(self.id) is None and not force:
                raise
        with self._engine.data.records.lock(self.id):
            try:
                record = lifetime.settle(self._engine, self._read())
            except ContainerNotFound:
                return True  # it went by itself (auto_remove)
            if force and record.state in (*ALIVE, State.RESTARTING):
                return False
            self._after(record, Transition.REMOVE)
            lifetime.remove(self._engine, record, volumes=volumes, force=force)
        return True

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
        """One more command for it, to be started with start() or start_detached().

        stdin           its standard input is what the caller sends, else /dev/null
        stdout, stderr  which streams the caller wants; both come, apart, unless it has a terminal (tty)
        privileged      with all capabilities that there are
        detach_keys     those that leave it, "" for ctrl-p,ctrl-q
        console_size    (rows, columns) of its terminal, where start() gives no other

        Raises Conflict while the container does not run, InvalidInput.
        """
        from pylab_container.containers.execution import ExecOptions

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
        return self._engine.executions.create(self, options)

    def exec_run(
        self,
        cmd: str | Sequence[str],
        *,
        user: str = "",
        environment: Mapping[str, str] | Sequence[str] | None = None,
        workdir: str = "",
        privileged: bool = False,
    ) -> ExecResult:
        """Run one more command in it and wait: exit status and everything it printed.

        Raises Conflict while the container does not run, CommandNotFound, CommandNotExecutable.
        """
        made = self.exec_create(cmd, user=user, environment=environment, workdir=workdir, privileged=privileged)
        with made.start() as streams:
            output = b"".join(data for _, data in iter(streams.receive, None))
        return ExecResult(made.wait(), output)

    def top(self, ps_args: str = "") -> Json:
        """Its processes as ps(1) on the host shows them, by default `ps -ef`: {"Titles": […], "Processes": [[…]]}.

        Raises Conflict while it does not run, InvalidInput for options that ps refuses.
        """
        from pylab_container.containers import processes

        titles, rows = processes.top(self._engine, self, ps_args.split())
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
        """What it has printed so far; tail: only the last so many lines."""
        lines = self.log_lines(tail=tail)
        wanted = [line for line in lines if (stdout if line.stream == "stdout" else stderr)]
        stamp = "{0.time} ".format if timestamps else "".format
        return b"".join((b"" if line.continued else stamp(line).encode()) + line.data for line in wanted)

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
        """What it prints, line by line with time and stream; follow goes on until its end, or another thread sets stop.

        A line of more than a megabyte comes in pieces.

        tail          only the last so many of what is there
        since, until  seconds since 1970; with until nothing is waited for that comes later
        damaged       called at the end with the number of entries that could not be read, if any
        """
        record, follower = self.record, None
        log, earlier = log_files(self._engine.data.records, record)
        if follow and record.state in ALIVE:
            monitor = self._monitor()

            def follower() -> bool:
                stopped = stop is not None and stop.is_set()
                return not stopped and (until is None or time.time() < until) and monitor.runs_after(0.05)

        return read_log(log, earlier=earlier, follow=follower, tail=tail, since=since, until=until, damaged=damaged)

    def log_reader(
        self, *, tail: int | None = None, since: float | None = None, until: float | None = None
    ) -> LogReader:
        """The same for a caller that waits in its own way for what comes."""
        log, earlier = log_files(self._engine.data.records, self.record)
        return LogReader(log, earlier=earlier, tail=tail, since=since, until=until)

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
        """Make an image out of its image and what it has changed since.

        repository, tag  the new image's name; a tag may also stand in repository
        changes          Dockerfile instructions for the image's config: 'CMD ["httpd"]', "EXPOSE 80"
        conf             fields of the image's config to replace: {"Cmd": ["httpd"]}
        pause            freeze a running container while its layer is read
        """
        name = references.parse_tag(f"{repository}:{tag}" if tag else repository) if repository else None
        record = self.record
        own = self._reproducible(record.config.document())
        from pylab_container.images import configuration
        from pylab_container.images.commit import commit

        config = configuration.apply({**own, **(conf or {})}, changes)
        with self._still(pause=pause):
            made = commit(
                self._engine.data,
                record,
                name,
                config=config,
                container_config=own,
                message=message,
                author=author,
            )
            more = {"comment": message, "imageID": made.id, "imageRef": name.familiar if name else ""}
            lifetime.tell(self._engine, "committed", record, attributes=more)
        return made

    @contextlib.contextmanager
    def _still(self, *, pause: bool) -> Iterator[None]:
        """Nobody changes it while the block runs; with pause its own processes do not, either."""
        with self._engine.data.records.lock(self.id):
            lifetime.settle(self._engine, self._read())
            with self.frozen() if pause else contextlib.nullcontext():
                yield

    def _reproducible(self, config: Json) -> Json:
        """Its configuration as an image may have it: with SOURCE_DATE_EPOCH set, nothing in it is this container's."""
        if self._engine.data.source_date_epoch is None or config.get("Hostname") != self.short_id:
            return config
        return {**config, "Hostname": ""}

    # ---- its files ----

    def diff(self) -> list[root_filesystem.Change]:
        """What it has changed, sorted by path."""
        from pylab_container.containers import root_filesystem

        return root_filesystem.changes(self._engine, self)

    def export(self) -> Iterator[bytes]:
        """Its whole file system as a tar, in pieces."""
        lifetime.tell(self._engine, "exported", self._read())
        from pylab_container.containers import root_filesystem

        return root_filesystem.export(self._engine, self)

    def get_archive(self, path: str) -> tuple[Iterator[bytes], root_filesystem.PathStatus]:
        """A file or directory of it as a tar, in pieces, and what is there. Raises NotFound."""
        self._read()
        from pylab_container.containers import root_filesystem

        return root_filesystem.get_archive(self._engine, self, path)

    def path_status(self, path: str) -> root_filesystem.PathStatus:
        """What is at a path of it. Raises NotFound."""
        self._read()
        from pylab_container.containers import root_filesystem

        return root_filesystem.path_status(self._engine, self, path)

    def put_archive(
        self, path: str, data: bytes | BinaryIO, *, keep_directories: bool = False, as_user: bool = False
    ) -> None:
        """Extract a tar into a directory of it. Raises NotFound, InvalidInput, InvalidArchive.

        keep_directories, as_user  as in containers/root_filesystem.py
        """
        self._read()
        from pylab_container.containers import root_filesystem

        archive = io.BytesIO(data) if isinstance(data, bytes) else data
        root_filesystem.put_archive(
            self._engine, self, path, archive, keep_directories=keep_directories, as_user=as_user
        )

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Its processes stand still while the block runs, if they run; events say so."""
        if self._read().state is not State.RUNNING:
            yield
            return
        with freezing(self._engine.data, self.id):
            try:
                self._engine.runtime.runc.pause(self.id)
            except LabError:
                if self._monitor().exit_status() is None:
                    raise
                yield  # it has just ended
                return
            try:
                lifetime.tell(self._engine, "paused", self._read())
                yield
            finally:
                with contextlib.suppress(Conflict):  # two may hold it at once, and the first to end has let it go on
                    self._engine.runtime.runc.resume(self.id)
                lifetime.tell(self._engine, "unpaused", self._read())

    # ---- how ----

    def _read(self) -> ContainerRecord:
        return lifetime.read(self._engine, self.id)

    def _monitor(self) -> Monitor:
        return lifetime.monitor(self._engine, self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Container) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Container: {self.short_id}>"


def _was_restarted(before: ContainerRecord, now: ContainerRecord) -> bool:
    """Whether its policy has started it again since; somebody who does so makes the count 0."""
    return now.started_at != before.started_at and now.restart_count > 0


def _inspect(engine: Engine, record: ContainerRecord) -> Json:
    directory = engine.data.records.directory(record.id)
    driver, writable = engine.data.driver, engine.data.layers.writable(record.id)
    return {
        "Id": record.id,
        "Created": record.created,
        "Path": record.path,
        "Args": list(record.args),
        "State": record.state_document(),
        "Image": record.image,
        "ResolvConfPath": str(directory / "resolv.conf"),
        "HostnamePath": str(directory / "hostname"),
        "HostsPath": str(directory / "hosts"),
        "LogPath": log_path(engine.data.records, record),
        "Name": f"/{record.name}",
        "ExecIDs": engine.executions.ids(record.id) or None,
        "RestartCount": record.restart_count,
        "Driver": record.driver,
        "Platform": "linux",
        "HostConfig": {**record.host_config.document(), "Links": links.shown(engine, record)},
        "GraphDriver": {"Data": driver.graph_data(writable.mount_id), "Name": driver.name},
        "Mounts": [mount.shown() for mount in record.mounts if not mount.hidden],
        "Config": record.config.document(),
        "NetworkSettings": endpoints.shown(record.network.document()),
    }
