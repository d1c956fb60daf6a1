"""One container: what it is, and what can be done with it.

A container is an image plus one writable layer plus, while it runs, a process that sees
both as its root. Its states are in formats/lifecycle.py; how a process comes about is in
launch.py. Names and meanings are docker-py's.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from pylab_container.engine import launch, recovery
from pylab_container.engine.image import DOCKER_VERSION, Image, machine_architecture
from pylab_container.errors import (
    Conflict,
    ContainerNotFound,
    InvalidInput,
    LabError,
)
from pylab_container.formats import bundle
from pylab_container.formats import reference as references
from pylab_container.formats.events import ContainerChanged
from pylab_container.formats.image import Json, child_config
from pylab_container.formats.lifecycle import Event, State, after
from pylab_container.formats.signals import signal_number
from pylab_container.formats.timestamps import rfc3339
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
        return self._settled(self._read())

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
        """created, running, paused or exited."""
        return str(self.record.state)

    @property
    def image(self) -> Image:
        """The image that it was made from."""
        return Image(self._engine, self._read().image)

    @property
    def address(self) -> str:
        """Its IPv4 address on the bridge, "" while it has none."""
        return str(self.record.network.get("IPAddress") or "")

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
        self._start(exit_hook=True)

    def start_attached(self) -> Attachment:
        """Start its process with its streams connected, so that no output is missed.

        Whoever attaches also calls wait() in the end; no exit hook is left behind.
        """
        attachment = self._start(exit_hook=False)
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

        A container that asked for it (auto_remove) is removed then.
        """
        record = self._read()
        if record.state in (State.RUNNING, State.PAUSED):
            status = self._monitor().wait(timeout)
            with contextlib.suppress(ContainerNotFound):
                self._settled(self._read())
            return status
        return record.exit_code

    def stop(self, timeout: float = 10) -> None:
        """Ask its first process to end (STOPSIGNAL, else SIGTERM), and kill it after timeout seconds."""
        record = self.record
        if record.state is not State.RUNNING:
            return
        self._signal(signal_number(str(record.config.get("StopSignal") or "SIGTERM")))
        try:
            self.wait(timeout)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            self.wait()
        self._tell("stopped", record)

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send a signal to its first process. Raises Conflict while it does not run."""
        record = self.record
        if record.state is not State.RUNNING:
            raise Conflict(
                f"Cannot kill container: {record.name}: Container {self.short_id} is not running", hint="labctr ps"
            )
        number = signal_number(signal)
        self._signal(number)
        if number == 9:
            self.wait()
        self._tell("killed", record, f"signal {number}")

    def remove(self, *, force: bool = False, v: bool = False) -> None:
        """Remove it with its writable layer. force kills it first; v also removes its unnamed volumes."""
        record = self.record
        if force and record.state in (State.RUNNING, State.PAUSED):
            self._signal(signal.SIGKILL)
            self.wait()
        with self._engine.records.lock(self.id):
            try:
                record = self._settle(self._read())
            except ContainerNotFound:
                return  # it went by itself (auto_remove)
            after(record.state, Event.REMOVE, container=record.name)
            self._remove(record, volumes=v)

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
    ) -> ExecResult:
        """Run one more command in it and wait: exit status and everything it printed.

        Raises Conflict while the container does not run, CommandNotFound, CommandNotExecutable.
        """
        process = self._exec_process(cmd, user=user, environment=environment, workdir=workdir, tty=False)
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
    ) -> int:
        """Run one more command in it on this process's own streams; returns its exit status."""
        process = self._exec_process(cmd, user=user, environment=environment, workdir=workdir, tty=tty)
        return self._engine.runc.exec(
            self.id, process, stdin=None if stdin or tty else programs.DEVNULL, stdout=None, stderr=None
        ).wait()

    def exec_detached(
        self,
        cmd: str | Sequence[str],
        *,
        user: str = "",
        environment: Mapping[str, str] | Sequence[str] | None = None,
        workdir: str = "",
    ) -> None:
        """Run one more command in it and do not wait."""
        process = self._exec_process(cmd, user=user, environment=environment, workdir=workdir, tty=False)
        self._engine.runc.exec_detached(self.id, process)

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
        follower = None
        if follow and self.record.state in (State.RUNNING, State.PAUSED):
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
            self._settle(self._read())
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
        record = self._engine.records.load(self.id)
        if record is None:
            raise no_such_container(self.short_id)
        return record

    @property
    def _bundle(self) -> Path:
        return self._engine.run_root / self.id

    def _monitor(self) -> Monitor:
        return Monitor(self.id, bundle=self._bundle, exit_directory=self._engine.run_root / "exits")

    def _start(self, *, exit_hook: bool) -> Attachment | None:
        """mount the layers → write the bundle → create → connect → start, or all of it undone."""
        engine = self._engine
        with engine.records.lock(self.id):
            record = self._settle(self._read())
            after(record.state, Event.START, container=record.name)
            attachment = None
            if _network_mode(record) == "bridge":
                engine.prepare_network()
            try:
                root = engine.driver.mount(engine.layers.writable(self.id).mount_id)
                launch.write_network_files(engine, record, None)
                launch.fill_volumes(record, root)
                monitor = self._create_process(record, root, exit_hook=exit_hook)
                network = self._connect(record, monitor.container_pid)
                attachment = None if exit_hook else monitor.attach()
                engine.runc.start(self.id)
            except BaseException as error:
                if attachment:
                    attachment.close()
                self._release()
                if isinstance(error, LabError):
                    engine.records.update(record, error=error.message, exit_code=error.exit_code)
                raise
            engine.records.update(
                record,
                state=State.RUNNING,
                pid=monitor.container_pid,
                network=network,
                error="",
                exit_code=0,
                oom_killed=False,
                started_at=rfc3339(time.time_ns()),
            )
        self._tell("started", record)
        return attachment

    def _create_process(self, record: ContainerRecord, root: Path, *, exit_hook: bool) -> Monitor:
        engine = self._engine
        log = engine.records.directory(self.id) / "container.log"
        log.unlink(missing_ok=True)
        return engine.conmon.create(
            self.id,
            bundle=launch.write_bundle(engine, record, root),
            log=log,
            terminal=bool(record.config.get("Tty")),
            stdin_open=bool(record.config.get("OpenStdin")),
            # Closing a terminal's input would close its output too, so that one stays open.
            stdin_once=bool(record.config.get("StdinOnce")) and not record.config.get("Tty"),
            exit_directory=engine.run_root / "exits",
            exit_command=engine.containers.exit_command(self.id) if exit_hook else None,
        )

    def _connect(self, record: ContainerRecord, pid: int) -> Json:
        """Give the container its network; returns Docker's NetworkSettings."""
        mode = _network_mode(record)
        if mode == "host":
            return {"Networks": {"host": {}}, "IPAddress": ""}
        if mode == "none":  # runc itself brings a new namespace's loopback up
            return {"Networks": {"none": {}}, "IPAddress": ""}
        endpoint = self._engine.bridge.connect(self.id, pid)
        launch.write_network_files(self._engine, record, endpoint.address)
        settings = {
            "Gateway": endpoint.gateway,
            "IPAddress": endpoint.address,
            "IPPrefixLen": endpoint.prefix_length,
            "MacAddress": endpoint.mac,
        }
        return {
            "Bridge": endpoint.bridge,
            "SandboxKey": f"/proc/{pid}/ns/net",
            **settings,
            "Networks": {"bridge": settings},
        }

    def _settled(self, record: ContainerRecord) -> ContainerRecord:
        """The record, corrected if its process has ended since it was written."""
        runs = record.state in (State.RUNNING, State.PAUSED)
        if self._monitor().exit_status() is None if runs else not self._bundle.exists():
            return record
        with self._engine.records.lock(self.id):
            return self._settle(self._read())

    def _settle(self, record: ContainerRecord) -> ContainerRecord:
        """Under the lock: note the end of a process, and give back what it used.

        Raises ContainerNotFound where the container wanted to be removed then.
        """
        if record.state not in (State.RUNNING, State.PAUSED):
            if self._bundle.exists():  # whoever started it was killed half-way
                self._engine.conmon.abandon(self._monitor())
                self._release()
            return record
        status = self._monitor().exit_status()
        if status is None:
            return record
        out_of_memory = self._monitor().out_of_memory()
        self._release()
        ended = self._engine.records.update(
            record,
            state=after(record.state, Event.EXIT, container=record.name),
            pid=0,
            network={},
            exit_code=status,
            oom_killed=out_of_memory,
            finished_at=rfc3339(time.time_ns()),
        )
        self._tell("exited", record, f"status {status}")
        if record.host_config.get("AutoRemove"):
            self._remove(ended, volumes=True)
            raise no_such_container(self.short_id)
        return ended

    def _release(self) -> None:
        """Give back cgroup, address, mount and bundle of a container that does not run."""
        engine = self._engine
        engine.runc.delete(self.id, force=True)
        record = engine.records.load(self.id)
        if record is not None and _network_mode(record) == "bridge":
            engine.bridge.disconnect(self.id)
        engine.driver.unmount(engine.layers.writable(self.id).mount_id)
        self._monitor().remove_files()
        shutil.rmtree(self._bundle, ignore_errors=True)

    def _remove(self, record: ContainerRecord, *, volumes: bool) -> None:
        if volumes:
            for mount in record.mounts:
                if mount["Type"] == "volume" and mount.get("Anonymous"):
                    shutil.rmtree(Path(mount["Source"]).parent, ignore_errors=True)
        # First of all it is no container any more: half of one must not look like a whole one.
        self._engine.records.forget(self.id)
        self._engine.layers.remove_writable(self.id)
        self._engine.records.remove(self.id)
        self._tell("removed", record)

    def _signal(self, number: int) -> None:
        # It may end by itself at any moment; then there is nobody to signal.
        with contextlib.suppress(Conflict, ContainerNotFound):
            self._engine.runc.kill(self.id, number)

    def _exec_process(
        self,
        cmd: str | Sequence[str],
        *,
        user: str,
        environment: Mapping[str, str] | Sequence[str] | None,
        workdir: str,
        tty: bool,
    ) -> bundle.Process:
        record = self.record
        if record.state is not State.RUNNING:
            raise Conflict(
                f"Container {self.short_id} is {record.state}, not running", hint=f"labctr start {record.name}"
            )
        words = launch.arguments(cmd)
        if not words:
            raise InvalidInput("No exec command specified", hint="labctr exec CONTAINER COMMAND")
        config = {
            **record.config,
            "User": user or record.config.get("User"),
            "Env": launch.merge_environment(record.config.get("Env") or (), launch.environment_list(environment)),
            "WorkingDir": workdir or record.config.get("WorkingDir"),
            "Tty": tty,
        }
        return launch.process(replace(record, path=words[0], args=tuple(words[1:]), config=config), self.merged)

    def _tell(self, action: str, record: ContainerRecord, detail: str = "") -> None:
        self._engine.events.emit(ContainerChanged(action, self.id, record.name, detail))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Container) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Container: {self.short_id}>"


def _network_mode(record: ContainerRecord) -> str:
    return record.host_config.get("NetworkMode") or "bridge"


def no_such_container(name: str) -> ContainerNotFound:
    return ContainerNotFound(f"No such container: {name}", hint="labctr ps -a lists what there is")


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
        "RestartCount": 0,
        "Driver": record.driver,
        "Platform": "linux",
        "HostConfig": record.host_config,
        "GraphDriver": {"Data": driver.graph_data(writable.mount_id), "Name": driver.name},
        "Mounts": [{k: v for k, v in mount.items() if k != "Anonymous"} for mount in record.mounts],
        "Config": record.config,
        "NetworkSettings": {"Bridge": "", "IPAddress": "", "Gateway": "", "Networks": {}, **record.network},
    }
