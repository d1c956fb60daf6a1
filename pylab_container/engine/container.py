"""One container: what it is, and what can be done with it.

A container is an image plus one writable layer plus, while it runs, a process that sees
both as its root. Its states are in formats/lifecycle.py; how a process comes about, and how
its end is noticed, is in lifetime.py. Names and meanings are docker-py's.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Unpack

from pylab_container.engine import launch, lifetime, recovery
from pylab_container.engine.image import DOCKER_VERSION, Image, machine_architecture
from pylab_container.engine.lifetime import no_such_container as no_such_container
from pylab_container.engine.options import UpdateOptions, arguments, environment_list, merge_environment
from pylab_container.errors import Conflict, ContainerNotFound, InvalidInput, LabError
from pylab_container.formats import bundle
from pylab_container.formats import reference as references
from pylab_container.formats.image import Json, child_config
from pylab_container.formats.lifecycle import ALIVE, Event, State, after
from pylab_container.formats.signals import signal_number
from pylab_container.host import programs
from pylab_container.runtime.conmon import Attachment, Monitor
from pylab_container.runtime.logs import LogLine, read_log
from pylab_container.store.layers import Layer
from pylab_container.store.leases import Lease
from pylab_container.store.records import ContainerRecord

if TYPE_CHECKING:
    from pylab_container.engine import Engine, filesystem


class ExecResult(NamedTuple):
    """How a command in a container ended: its exit status, and what it printed on both streams."""

    exit_code: int
    output: bytes


class Container:
    """One container of one engine. Cheap: everything is read when asked for."""

    def __init__(self, engine: Engine, container_id: str) -> None:
        self._engine = engine
        self.id = container_id

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
        return dict(self._read().config.get("Labels") or {})

    @property
    def health(self) -> str:
        """starting, healthy or unhealthy; "unknown" where nothing is checked."""
        return str((self.record.health or {}).get("Status") or "unknown")

    @property
    def image(self) -> Image:
        """The image that it was made from."""
        return Image(self._engine, self._read().image)

    @property
    def address(self) -> str:
        """Its IPv4 address on its first network, "" while it has none."""
        networks = self.record.network.get("Networks") or {}
        return next((str(one["IPAddress"]) for one in networks.values() if (one or {}).get("IPAddress")), "")

    @property
    def ports(self) -> Json:
        """Its exposed ports and where the host has them: {"80/tcp": [{"HostIp": …, "HostPort": …}] or None}."""
        return dict(self.record.network.get("Ports") or {})

    @property
    def pid(self) -> int:
        """Its first process in the host's numbering, 0 while it does not run."""
        return self.record.pid

    @property
    def attrs(self) -> Json:
        """What `docker inspect` shows."""
        return _inspect(self._engine, self.record)

    @property
    def upper(self) -> Path:
        """The directory of its writable layer: what it has changed so far; with vfs all that it has."""
        return self._engine.driver.diff_path(self._engine.layers.writable(self.id).mount_id)

    @property
    def merged(self) -> Path:
        """Where its whole file system is mounted while it runs."""
        return self._engine.driver.merged_path(self._engine.layers.writable(self.id).mount_id)

    # ---- what can be done with it ----

    def start(self) -> None:
        """Start its process and return at once.

        Raises Conflict while it runs, CommandNotFound or CommandNotExecutable where the
        image has no such program; the container is then as it was before.
        """
        lifetime.start(self._engine, self.id, exit_hook=True)

    def start_attached(self) -> Attachment:
        """Start its process with its streams connected, so that no output is missed.

        Whoever attaches also calls wait() in the end; no exit hook is left behind, unless a restart policy needs it.
        """
        attachment = lifetime.start(self._engine, self.id, exit_hook=False)
        assert attachment is not None
        return attachment

    def attach(self) -> Attachment:
        """Connect to the streams of the running container."""
        return self._monitor().attach()

    def resize(self, *, rows: int, columns: int) -> None:
        """Tell its terminal how large it is now."""
        self._monitor().resize(rows=rows, columns=columns)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit status, 128 + n after signal n. Raises TimeoutError (seconds).

        The end is the last one where a restart policy starts it again. A container that asked
        for it (auto_remove) is removed then.
        """
        record = self._read()
        if record.state in ALIVE:
            status = self._monitor().wait(timeout)
            with contextlib.suppress(ContainerNotFound):
                record = self.record
        else:
            status = record.exit_code
        if record.state is State.RESTARTING:
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
        with self._engine.records.lock(self.id):
            record = lifetime.settle(self._engine, self._read())
            state = self._after(record, Event.PAUSE)
            self._engine.runc.pause(self.id)
            self._engine.records.update(record, state=state)
        lifetime.tell(self._engine, "paused", record)

    def unpause(self) -> None:
        """Let its frozen processes go on. Raises Conflict where they are not frozen."""
        with self._engine.records.lock(self.id):
            record = lifetime.settle(self._engine, self._read())
            state = self._after(record, Event.UNPAUSE)
            self._engine.runc.resume(self.id)
            self._engine.records.update(record, state=state)
        lifetime.tell(self._engine, "unpaused", record)

    def stop(self, timeout: float | None = None, *, signal: str | int | None = None) -> None:
        """Ask its first process to end (STOPSIGNAL, else SIGTERM), and kill it after timeout seconds.

        timeout  default: the container's own stop_timeout, else 10; negative waits for ever
        signal   asks instead of its STOPSIGNAL

        It ends the restart policy. No error where it does not run.
        """
        number = signal_number(signal or str(self._read().config.get("StopSignal") or "SIGTERM"))
        record = self._ask(Event.STOP, manually=True)
        if record.state not in ALIVE:
            return
        chosen = timeout if timeout is not None else record.config.get("StopTimeout")
        seconds = float(10 if chosen is None else chosen)
        lifetime.send_signal(self._engine, record, number)
        try:
            self._monitor().wait(None if seconds < 0 else seconds)
        except TimeoutError:
            lifetime.end_by_force(self._engine, record)
        self.wait()
        lifetime.tell(self._engine, "stopped", record)

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send a signal to its first process. Raises Conflict while it does not run.

        SIGKILL and the container's own stop signal also end the restart policy.
        """
        number = signal_number(signal)
        config = self._read().config
        deadly = number in (9, signal_number(str(config.get("StopSignal") or "SIGTERM")))
        record = self._ask(Event.KILL, manually=deadly)
        if record.state in ALIVE:
            lifetime.send_signal(self._engine, record, number)
        if number == 9:
            self.wait()
        lifetime.tell(self._engine, "killed", record, f"signal {number}")

    def restart(self, timeout: float | None = None, *, signal: str | int | None = None) -> None:
        """Stop it, if it runs, and start it again; timeout and signal as in stop()."""
        self.stop(timeout, signal=signal)
        self.start()
        lifetime.tell(self._engine, "restarted", self._read())

    def _ask(self, event: Event, *, manually: bool) -> ContainerRecord:
        """Under the lock: whether the event can happen, and with manually that somebody wanted the end.

        A process that is frozen, or only waits to be started again, is so no more.
        """
        with self._engine.records.lock(self.id):
            record = lifetime.settle(self._engine, self._read())
            state = self._after(record, event)
            thawed = State.RUNNING if record.state is State.PAUSED and manually else state
            if manually and record.state in (*ALIVE, State.RESTARTING):
                self._engine.records.update(record, state=thawed, manually_stopped=True)
            return record if record.state is not State.RESTARTING else replace(record, state=state)

    def _after(self, record: ContainerRecord, event: Event) -> State:
        return after(record.state, event, container=record.name, container_id=record.id)

    def rename(self, name: str) -> None:
        """Give it another name. Raises Conflict where another container has it, InvalidInput."""
        if not name.removeprefix("/"):
            raise InvalidInput("Neither old nor new names may be empty", hint="labctr rename OLD NEW")
        records = self._engine.records
        with records.lock_names(), records.lock(self.id):
            record = self._read()
            if record.name == name.removeprefix("/"):
                raise InvalidInput("Renaming a container with the same name as its current name", hint="choose another")
            taken = {known.name: known for known in records.all()}
            self._after(record, Event.RENAME)
            renamed = records.update(record, name=self._engine.containers.choose_name(name.removeprefix("/"), taken))
        lifetime.tell(self._engine, "renamed", renamed, f"was {record.name}")

    def update(self, **options: Unpack[UpdateOptions]) -> None:
        """Change its limits or its restart policy, also while it runs. Raises InvalidInput, Conflict."""
        from pylab_container.engine import update

        update.apply(self._engine, self, options)

    def remove(self, *, force: bool = False, v: bool = False) -> None:
        """Remove it with its writable layer. force kills it first; v also removes its unnamed volumes."""
        try:
            record = self.record
            if force and record.state in (*ALIVE, State.RESTARTING):
                lifetime.end_by_force(self._engine, record)
        except ContainerNotFound:
            if self._engine.records.load(self.id) is None and not force:
                raise
        with self._engine.records.lock(self.id):
            try:
                record = lifetime.settle(self._engine, self._read())
            except ContainerNotFound:
                return  # it went by itself (auto_remove)
            self._after(record, Event.REMOVE)
            lifetime.remove(self._engine, record, volumes=v)

    def remove_at_end(self) -> None:
        """Let it be removed as soon as its end is noticed: nobody waits for it any more."""
        with self._engine.records.lock(self.id):
            record = self._read()
            self._engine.records.update(record, host_config={**record.host_config, "AutoRemove": True})

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
        process = self.exec_process(cmd, user=user, environment=environment, workdir=workdir, privileged=privileged)
        reading, writing = os.pipe()
        with open(reading, "rb") as output:
            try:
                execution = self._engine.runc.exec(self.id, process, stdout=writing, stderr=writing)
            finally:
                os.close(writing)
            text = output.read()
        return ExecResult(execution.wait(), text)

    def exec_interactive(
        self,
        cmd: str | Sequence[str],
        *,
        tty: bool = False,
        stdin: bool = False,
        user: str = "",
        environment: Mapping[str, str] | Sequence[str] | None = None,
        workdir: str = "",
        privileged: bool = False,
    ) -> int:
        """Run one more command in it on this process's own streams; returns its exit status."""
        process = self.exec_process(
            cmd, user=user, environment=environment, workdir=workdir, tty=tty, privileged=privileged
        )
        source = None if stdin or tty else programs.DEVNULL
        if tty:
            return self._engine.runc.exec(self.id, process, stdin=source, stdout=None, stderr=None).wait()
        reading, writing = os.pipe()
        try:
            try:
                execution = self._engine.runc.exec(self.id, process, stdin=source, stdout=None, stderr=writing)
            finally:
                os.close(writing)
            return execution.wait_copying_errors(reading, 2)
        finally:
            os.close(reading)

    def exec_detached(
        self,
        cmd: str | Sequence[str],
        *,
        user: str = "",
        environment: Mapping[str, str] | Sequence[str] | None = None,
        workdir: str = "",
        privileged: bool = False,
    ) -> None:
        """Run one more command in it and do not wait."""
        process = self.exec_process(cmd, user=user, environment=environment, workdir=workdir, privileged=privileged)
        self._engine.runc.exec_detached(self.id, process)

    def top(self, ps_args: str = "") -> Json:
        """Its processes as ps(1) on the host shows them, by default `ps -ef`: {"Titles": […], "Processes": [[…]]}.

        Raises Conflict while it does not run, InvalidInput for options that ps refuses.
        """
        from pylab_container.engine import processes

        titles, rows = processes.top(self._engine, self, ps_args.split())
        return {"Titles": titles, "Processes": rows}

    def stats(self, *, stream: bool = True) -> Any:
        """What it uses, as Docker's document (engine/stats.py): one a second for ever, or with stream=False one."""
        from pylab_container.engine import stats

        return stats.stream(self._engine, self.id) if stream else stats.snapshot(self._engine, self.id)

    def logs(
        self, *, stdout: bool = True, stderr: bool = True, timestamps: bool = False, tail: int | None = None
    ) -> bytes:
        """What it has printed so far; tail: only the last so many lines."""
        lines = self.log_lines(tail=tail)
        wanted = [line for line in lines if (stdout if line.stream == "stdout" else stderr)]
        return b"".join((line.time.encode() + b" " if timestamps else b"") + line.data for line in wanted)

    def log_lines(
        self, *, follow: bool = False, tail: int | None = None, since: float | None = None, until: float | None = None
    ) -> Iterator[LogLine]:
        """What it prints, line by line with time and stream; follow goes on until its end."""
        record = self.record
        if (record.host_config.get("LogConfig") or {}).get("Type") == "none":
            raise Conflict(
                "configured logging driver does not support reading", hint="it was made with --log-driver none"
            )
        follower = None
        if follow and record.state in (State.RUNNING, State.PAUSED):
            monitor = self._monitor()

            def follower() -> bool:
                return monitor.runs_after(0.05)

        log = self._engine.records.directory(self.id) / "container.log"
        return read_log(log, follow=follower, tail=tail, since=since, until=until)

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
        own = self._reproducible(record.config)
        from pylab_container.engine import configuration

        config = configuration.apply({**own, **(conf or {})}, changes)
        with recovery.making(self._engine) as lease:
            layer = self._copy_layer(lease, pause=pause)
            image = child_config(
                self._engine.images.config(record.image),
                config=config,
                container_config=own,
                container=self.id if self._engine.source_date_epoch is None else "",
                created=self._engine.now(),
                created_by=" ".join([record.path, *record.args]),
                diff_id=layer.diff_id if layer else None,
                author=author,
                comment=message,
                architecture=machine_architecture(),
                version=DOCKER_VERSION,
            )
            return self._engine.images.add(image, name, parent=record.image, action="committed")

    def _copy_layer(self, lease: Lease, *, pause: bool) -> Layer | None:
        engine = self._engine
        with engine.records.lock(self.id):
            lifetime.settle(self._engine, self._read())
            with self.frozen() if pause else contextlib.nullcontext():
                return engine.layers.copy(engine.layers.writable(self.id), lease, newest=engine.source_date_epoch)

    def _reproducible(self, config: Json) -> Json:
        """Its configuration as an image may have it: with SOURCE_DATE_EPOCH set, nothing in it is this container's."""
        if self._engine.source_date_epoch is None or config.get("Hostname") != self.short_id:
            return config
        return {**config, "Hostname": ""}

    # ---- its files ----

    def diff(self) -> list[filesystem.Change]:
        """What it has changed, sorted by path."""
        from pylab_container.engine import filesystem

        return filesystem.changes(self._engine, self)

    def export(self) -> Iterator[bytes]:
        """Its whole file system as a tar, in pieces."""
        self._read()
        from pylab_container.engine import filesystem

        return filesystem.export(self._engine, self)

    def get_archive(self, path: str) -> tuple[Iterator[bytes], filesystem.PathStatus]:
        """A file or directory of it as a tar, in pieces, and what is there. Raises NotFound."""
        self._read()
        from pylab_container.engine import filesystem

        return filesystem.get_archive(self._engine, self, path)

    def put_archive(self, path: str, data: bytes | BinaryIO) -> None:
        """Extract a tar into a directory of it. Raises NotFound, InvalidInput, InvalidArchive."""
        self._read()
        from pylab_container.engine import filesystem

        filesystem.put_archive(self._engine, self, path, io.BytesIO(data) if isinstance(data, bytes) else data)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Its processes stand still while the block runs, if they run."""
        if self._read().state is not State.RUNNING:
            yield
            return
        try:
            self._engine.runc.pause(self.id)
        except LabError:
            if self._monitor().exit_status() is None:
                raise
            yield  # it has just ended
            return
        try:
            yield
        finally:
            self._engine.runc.resume(self.id)

    # ---- how ----

    def _read(self) -> ContainerRecord:
        return lifetime.read(self._engine, self.id)

    def _monitor(self) -> Monitor:
        return lifetime.monitor(self._engine, self.id)

    def exec_process(
        self,
        cmd: str | Sequence[str],
        *,
        user: str = "",
        environment: Mapping[str, str] | Sequence[str] | None = None,
        workdir: str = "",
        tty: bool = False,
        privileged: bool = False,
    ) -> bundle.Process:
        """One more process as the container would have it: its environment, its user, its rights. Raises Conflict.

        privileged  with all capabilities that there are
        """
        record = self.record
        self._after(record, Event.EXEC)
        words = arguments(cmd)
        if not words:
            raise InvalidInput("No exec command specified", hint="labctr exec CONTAINER COMMAND")
        config = {
            **record.config,
            "User": user or record.config.get("User"),
            "Env": merge_environment(record.config.get("Env") or (), environment_list(environment)),
            "WorkingDir": workdir or record.config.get("WorkingDir"),
            "Tty": tty,
        }
        rights = {**record.host_config, **({"Privileged": True, "CapDrop": None} if privileged else {})}
        return launch.process(
            replace(record, path=words[0], args=tuple(words[1:]), config=config, host_config=rights), self.merged
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Container) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Container: {self.short_id}>"


def _inspect(engine: Engine, record: ContainerRecord) -> Json:
    directory = engine.records.directory(record.id)
    driver, writable = engine.driver, engine.layers.writable(record.id)
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
        "LogPath": str(directory / "container.log"),
        "Name": f"/{record.name}",
        "RestartCount": record.restart_count,
        "Driver": record.driver,
        "Platform": "linux",
        "HostConfig": record.host_config,
        "GraphDriver": {"Data": driver.graph_data(writable.mount_id), "Name": driver.name},
        "Mounts": [_mount_point(mount) for mount in record.mounts if not mount.get("Hidden")],
        "Config": record.config,
        "NetworkSettings": {"Bridge": "", "IPAddress": "", "Gateway": "", "Networks": {}, **record.network},
    }


def _mount_point(mount: Mapping[str, Any]) -> Json:
    """One of Docker's Mounts; only a volume has a name and a driver."""
    fields = ("Type", "Name", "Source", "Destination", "Driver", "Mode", "RW", "Propagation")
    named = mount["Type"] == "volume"
    return {name: mount.get(name, "") for name in fields if named or name not in ("Name", "Driver")}
