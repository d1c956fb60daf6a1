"""Store of the containers' records.

    containers/<container id>/
    ├── config.v2.json      the container and its last known state
    ├── hostconfig.json     what of the host it may use
    ├── hostname, hosts, resolv.conf      mounted into it
    ├── <container id>-json.log           output of its earlier runs, in dockerd's format
    └── container.log       output of this run, in its monitor's format (runtime/logs.py)

A container exists if its config.v2.json exists. A process that changes a container holds its lock, locks/<id>; a new
name is chosen under the lock of all names, locks/names.
Both documents are Docker's (moby container/container.go, 20.10), so dockerd and this engine can use each other's
containers. Fields that only dockerd uses are kept. dockerd ignores RestartDelay, which only this engine uses.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from pylab_container.errors import CorruptStore, InvalidInput
from pylab_container.events import Emit, StoreDamaged, ignore
from pylab_container.host.files import locked, open_lock, try_locked, write_atomic
from pylab_container.host.removal import discard_below
from pylab_container.oci import security
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.document import below
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.ids import ContainerId, VolumeName
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import ALIVE, State
from pylab_container.oci.mounts import MountPoint
from pylab_container.oci.network_settings import NetworkSettings
from pylab_container.store.mountpoints import mount_points, parse_mount_points
from pylab_container.store.reading import corrupt, peek, read_document
from pylab_container.store.record_shape import HostShape, RecordShape
from pylab_container.text.timestamps import NEVER


class ContainerRecord(Struct, frozen=True):
    """The record of one container.

    id          64 hexadecimal digits
    name        without Docker's leading slash
    image       the image's id
    path, args  the program and its arguments
    network     its networks; addresses and ports while it runs
    mounts      binds, volumes and tmpfs (on disk MountPoints, store/mountpoints.py)
    pid         of its first process in the host's PID namespace, 0 if it does not run
    health      Docker's Health, None without a health check
    restart_…   number of starts by the restart policy, and seconds before the last or next one
    manually_stopped  a user stopped it, which suspends the restart policy
    foreign     fields of config.v2.json that only dockerd uses
    """

    id: ContainerId
    name: str
    created: str
    image: str
    path: str
    args: tuple[str, ...]
    config: ContainerConfig
    host_config: HostConfig
    network: NetworkSettings = field(default_factory=NetworkSettings)
    mounts: tuple[MountPoint, ...] = ()
    driver: str = "overlay2"
    state: State = State.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: str = NEVER
    finished_at: str = NEVER
    health: Json | None = None
    restart_count: int = 0
    restart_delay: float = 0
    manually_stopped: bool = False
    foreign: Json = field(default_factory=dict)

    @property
    def short_id(self) -> str:
        """The first twelve digits of the id, which listings show."""
        return self.id[:12]

    def state_document(self) -> Json:
        """Docker's State object."""
        return {
            "Status": str(self.state),
            # As in moby, a container that waits for its restart counts as running.
            "Running": self.state in (*ALIVE, State.RESTARTING),
            "Paused": self.state is State.PAUSED,
            "Restarting": self.state is State.RESTARTING,
            "OOMKilled": self.oom_killed,
            "Dead": False,
            "Pid": self.pid,
            "ExitCode": self.exit_code,
            "Error": self.error,
            "StartedAt": self.started_at,
            "FinishedAt": self.finished_at,
            **({"Health": self.health} if self.health is not None else {}),
        }

    def document(self, directory: Path) -> Json:
        """Return config.v2.json. directory: that of the container's files."""
        state = self.state_document()
        del state["Status"]  # dockerd derives it from the other fields
        started = self.started_at != NEVER
        return {
            **self.foreign,
            "State": state,
            "ID": self.id,
            "Created": self.created,
            "Path": self.path,
            "Args": list(self.args),
            "Config": self.config.document(),
            "Image": self.image,
            "NetworkSettings": self.network.document(),
            "LogPath": str(directory / json_log_name(self.id)) if started else "",
            "Name": f"/{self.name}",
            "Driver": self.driver,
            "OS": "linux",
            "MountPoints": mount_points(self.mounts),
            "RestartCount": self.restart_count,
            "RestartDelay": self.restart_delay,
            "HasBeenStartedBefore": started,
            "HasBeenManuallyStopped": self.manually_stopped,
            # dockerd reads the rights from here, not from HostConfig. Without them its start would lift restrictions.
            **security.recorded(self.host_config.security_opt),
            "HostnamePath": str(directory / "hostname") if started else "",
            "HostsPath": str(directory / "hosts") if started else "",
            "ResolvConfPath": str(directory / "resolv.conf") if started else "",
        }

    @classmethod
    def from_documents(cls, document: Json, host_config: HostConfig) -> ContainerRecord:
        """Parse config.v2.json, also one that dockerd wrote.

        Raises KeyError, TypeError, AttributeError, ValueError or InvalidInput for a document of another shape.
        """
        state: dict[str, Any] = document["State"]
        points = document.get("MountPoints")
        return cls(
            id=ContainerId(document["ID"]),
            name=document["Name"].removeprefix("/"),
            created=document["Created"],
            image=document["Image"],
            path=document["Path"],
            args=tuple(document["Args"] or ()),
            config=below(".Config", ContainerConfig.parse, document["Config"]),
            host_config=host_config,
            network=below(".NetworkSettings", NetworkSettings.parse, document.get("NetworkSettings") or {}),
            mounts=tuple(
                map(MountPoint.parse, document.get("Mounts") or ())  # records of this engine from before MountPoints
                if points is None
                else parse_mount_points(points, host_config.tmpfs)
            ),
            driver=document.get("Driver", "overlay2"),
            state=_state(state),
            pid=state["Pid"],
            exit_code=state["ExitCode"],
            error=state["Error"],
            oom_killed=state["OOMKilled"],
            started_at=state["StartedAt"],
            finished_at=state["FinishedAt"],
            health=state.get("Health"),
            restart_count=document.get("RestartCount", 0),
            restart_delay=document.get("RestartDelay", 0),
            manually_stopped=document.get("HasBeenManuallyStopped", False),
            foreign={name: value for name, value in document.items() if name in _FOREIGN},
        )


_FOREIGN = frozenset(
    "StreamConfig Managed MountLabel ProcessLabel SecretReferences ConfigReferences AppArmorProfile ShmPath "
    "LocalLogCacheMeta".split()
)
"""Fields of config.v2.json that only dockerd uses."""


def json_log_name(container_id: str) -> str:
    """Return the name of a container's log in Docker's format (json-file)."""
    return f"{container_id}-json.log"


def _state(state: Mapping[str, Any]) -> State:
    """Return the state that Docker's State object describes.

    Source: moby container/state.go, StateString. moby's removing and dead are states after a removal that failed. Here
    such a container is exited, and rm removes it.
    """
    if state["Running"]:
        restarting = State.RESTARTING if state["Restarting"] else State.RUNNING
        return State.PAUSED if state["Paused"] else restarting
    dead = state.get("Dead") or state.get("RemovalInProgress")
    return State.CREATED if state["StartedAt"] == NEVER and not dead else State.EXITED


MTIME_RESOLUTION = (
    50_000_000  # nanoseconds; a file's time is that of the last clock tick, at most 10 ms ago (CONFIG_HZ)
)


class _Version(NamedTuple):
    """Inode numbers and times of modification of a record's two files.

    Each write replaces the file.
    """

    inodes: tuple[int, int]
    modified: tuple[int, int]

    @classmethod
    def of(cls, directory: str) -> _Version:
        config, host_config = os.stat(f"{directory}/config.v2.json"), os.stat(f"{directory}/hostconfig.json")
        return cls((config.st_ino, host_config.st_ino), (config.st_mtime_ns, host_config.st_mtime_ns))

    @property
    def is_settled(self) -> bool:
        """Whether a later write is certain to have another time, although inode numbers are reused."""
        return max(self.modified) < time.time_ns() - MTIME_RESOLUTION


class ContainerStore:
    """The records in containers/, and the lock files in locks/.

    driver  the storage driver; containers of another driver are in the same directory and are ignored

    A record that was read is cached until its files change, so that listing containers does not read them all again.
    """

    def __init__(self, root: Path, locks: Path, *, driver: str = "overlay2", emit: Emit = ignore) -> None:
        self.root = root
        self._driver = driver
        self._emit = emit
        self._locks = locks
        self._known: dict[str, tuple[_Version, ContainerRecord]] = {}
        root.mkdir(parents=True, exist_ok=True, mode=0o710)

    def directory(self, container_id: str) -> Path:
        """Return the directory of the container's files."""
        return self.root / container_id

    def log(self, container_id: str) -> Path:
        """Return the path of the log of the container's earlier runs."""
        return self.directory(container_id) / json_log_name(container_id)

    def run_log(self, container_id: str) -> Path:
        """Return the path of the log of its present run, in its monitor's format."""
        return self.directory(container_id) / "container.log"

    def save(self, record: ContainerRecord) -> ContainerRecord:
        """Write a record. A new container exists from now on."""
        directory = self.directory(record.id)
        directory.mkdir(mode=0o710, exist_ok=True)
        os.close(open_lock(self._locks / record.id))  # created now, so that removal works on a full disk
        self._write_host_config(directory / "hostconfig.json", json.dumps(record.host_config.document()).encode())
        write_atomic(directory / "config.v2.json", json.dumps(record.document(directory)).encode(), mode=0o600)
        return record

    @staticmethod
    def _write_host_config(path: Path, data: bytes) -> None:
        """Write hostconfig.json unless it is unchanged."""
        # That saves an fsync(2), and a container can be stopped on a full disk: no block is needed.
        try:
            if path.read_bytes() == data:
                return
        except OSError:
            pass
        write_atomic(path, data)

    def update(self, record: ContainerRecord, **changes: Any) -> ContainerRecord:
        """Write a record with some fields changed, and return it."""
        return self.save(replace(record, **changes))

    def load(self, container_id: str) -> ContainerRecord | None:
        """Return a record, or None if the container does not exist.

        Raises CorruptStore for an unreadable record.
        """
        if ContainerId.match(container_id) is None:
            return None
        try:
            return self._load(container_id)
        except (FileNotFoundError, NotADirectoryError):
            if not self.exists(container_id):
                return None
        # Between the two looks above the container may have been created. From then on both files exist until the
        # removal, which unlinks config.v2.json first: a second look that fails is damage, not a race.
        try:
            return self._load(container_id)
        except (FileNotFoundError, NotADirectoryError) as error:
            if not self.exists(container_id):
                return None
            raise corrupt(self.directory(container_id) / "hostconfig.json", "it is missing") from error

    def _load(self, container_id: str) -> ContainerRecord:
        """Read the record, or return the one that was read before if its files are unchanged.

        Raises FileNotFoundError, and CorruptStore.
        """
        directory = f"{self.root}/{container_id}"
        try:
            version = _Version.of(directory)
            known = self._known.get(container_id)
            if known is not None and known[0] == version:
                return known[1]
            record = self._read(Path(directory))
        except (FileNotFoundError, NotADirectoryError):
            self._known.pop(container_id, None)
            raise
        if version.is_settled:
            self._known[container_id] = (version, record)
        return record

    def _read(self, directory: Path) -> ContainerRecord:
        """Read a record. Raises FileNotFoundError, and CorruptStore with the damaged file."""
        config, host_config = directory / "config.v2.json", directory / "hostconfig.json"
        host_document, _ = read_document(host_config, HostShape)
        document, _ = read_document(config, RecordShape)
        try:
            host = HostConfig.parse(host_document)
        except ValueError as error:
            raise corrupt(host_config, str(error)) from error
        try:
            record = self.parse(document, host)
        except ValueError as error:
            raise corrupt(config, str(error)) from error
        except (KeyError, TypeError, AttributeError, InvalidInput) as error:
            raise corrupt(config, f"{type(error).__name__}: {error}") from error
        if record.id != directory.name:
            raise corrupt(config, f"it describes the container {record.id[:12]}")
        return record

    def parse(self, document: Json, host_config: HostConfig) -> ContainerRecord:
        """Make a record from its two documents.

        Raises what ContainerRecord.from_documents() raises.
        """
        return self._placed(ContainerRecord.from_documents(document, host_config))

    def _placed(self, record: ContainerRecord) -> ContainerRecord:
        """Set the sources of volumes from their names: the data root may have been moved."""
        volumes = self.root.parent / "volumes"
        mounts = tuple(
            replace(mount, source=f"{volumes}/{VolumeName(mount.name)}/_data") if mount.type == "volume" else mount
            for mount in record.mounts
        )
        return replace(record, mounts=mounts) if mounts != record.mounts else record

    def all(self) -> Iterator[ContainerRecord]:
        """Yield the containers of this driver, in no order.

        A damaged one is skipped and reported (StoreDamaged).
        """
        for container_id in self.ids():
            try:
                record = self.load(container_id)
            except CorruptStore as error:
                self._emit(StoreDamaged.of(error))
                continue
            if record and record.driver == self._driver:
                yield record

    def whole(self) -> list[ContainerRecord]:
        """Return the containers of this driver.

        Raises CorruptStore if one is damaged: what it uses is unknown.
        """
        records = filter(None, map(self.load, self.ids()))
        return [record for record in records if record.driver == self._driver]

    def damaged(self) -> dict[ContainerId, CorruptStore]:
        """Return the containers whose records cannot be read, with the reason."""
        errors = {}
        for container_id in self.ids():
            try:
                self.load(container_id)
            except CorruptStore as error:
                errors[container_id] = error
        return errors

    def mentions(self, container_id: ContainerId, name: str) -> bool:
        """Return whether a damaged record seems to belong to the container with this name."""
        text = peek(self._document(container_id))
        return bool(name) and re.search(rf'"Name":\s*"/{re.escape(name)}"', text) is not None

    @property
    def writable(self) -> bool:
        """Whether the file system is writable."""
        return os.access(self.root, os.W_OK)

    def ids(self) -> list[ContainerId]:
        """Return the ids that have a directory, with or without a record, in no order."""
        return list(filter(None, map(ContainerId.match, os.listdir(self.root))))

    def exists(self, container_id: str) -> bool:
        """Return whether a container with this id exists."""
        return self._document(container_id).exists()

    def forget(self, container_id: ContainerId) -> None:
        """Remove a container's config.v2.json, so that it does not exist any more.

        Its other files stay.
        """
        self._document(container_id).unlink(missing_ok=True)

    def remove(self, container_id: ContainerId) -> None:
        """Forget a container and delete its files."""
        self.forget(container_id)  # first, so that an incomplete directory is not a container
        discard_below(self.root, container_id)
        # A process that waits for this lock file will find no record, so the file can be removed.
        (self._locks / container_id).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, container_id: ContainerId) -> Iterator[None]:
        """Lock a container for a change.

        Raises OSError on a read-only file system, without waiting.
        """
        if not self.writable:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self.root.parent))
        with locked(self._locks / container_id):
            try:
                yield
            finally:
                if not self.exists(container_id):
                    self.remove(container_id)  # removed while this process waited, which recreated the lock file

    @contextlib.contextmanager
    def try_lock(self, container_id: ContainerId) -> Iterator[bool]:
        """Lock a container without waiting; yields whether the lock was free."""
        path = self._locks / container_id
        try:
            os.close(open_lock(path))
        except FileNotFoundError:
            yield True  # on a read-only file system nothing changes
            return
        with try_locked(path) as free:
            try:
                yield free
            finally:
                if free and not self.exists(container_id):
                    path.unlink(missing_ok=True)

    def _document(self, container_id: str) -> Path:
        return self.directory(container_id) / "config.v2.json"

    def lock_names(self) -> contextlib.AbstractContextManager[None]:
        """Lock the choice of a name until its record is written."""
        return locked(self._locks / "names")
