"""What the engine remembers of each container.

    containers/<container id>/
    ├── config.v2.json      what it is and how it was last seen
    ├── hostconfig.json     what of the host it may use
    ├── hostname, hosts, resolv.conf      mounted into it
    ├── <container id>-json.log           what it printed in its earlier runs, as dockerd writes it
    └── container.log       what it prints in this run, as its monitor writes it (runtime/log_files.py)

A container exists once config.v2.json does. Whoever changes a container holds its lock,
locks/<container id>; a new name is chosen under the lock of all names, locks/names.
Both documents are Docker's (moby container/container.go, 20.10): dockerd reads ours, and we read dockerd's. A field
that only dockerd uses stays as it was. dockerd ignores the one that only we use, RestartDelay.
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
from msgspec.structs import force_setattr, replace

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
    """One container as it was last written down.

    id          64 hexadecimal digits
    name        without Docker's leading slash
    image       the image's id
    path, args  the program and its arguments
    network     filled while it runs
    mounts      binds, volumes and tmpfs (on disk MountPoints, store/mountpoints.py)
    pid         of its first process in the host's numbering, 0 when it does not run
    health      Docker's Health, None where nothing is checked
    restart_…   how often its policy has started it, and how many seconds it waits or waited before that
    manually_stopped  whether somebody wanted its end, which ends the policy, too
    foreign     the fields of config.v2.json that only dockerd uses
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

    def __post_init__(self) -> None:
        """Temporary, for callers that still pass JSON objects."""
        for name, kind in (("config", ContainerConfig), ("host_config", HostConfig), ("network", NetworkSettings)):
            value = getattr(self, name)
            if isinstance(value, dict):
                force_setattr(self, name, kind.parse(value))

    @property
    def short_id(self) -> str:
        """The twelve digits that listings show."""
        return self.id[:12]

    def state_document(self) -> Json:
        """Docker's State object."""
        return {
            "Status": str(self.state),
            # As in moby, one that is about to be started again counts as running.
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
        """config.v2.json. directory: where the container's files are."""
        state = self.state_document()
        del state["Status"]  # it follows from the others, and dockerd does not keep it
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
            # dockerd reads the rights from here, not from HostConfig: without these a start by dockerd would lift them.
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
"""What dockerd keeps in config.v2.json for itself."""


def json_log_name(container_id: str) -> str:
    """The file in a container's directory with its log in Docker's format (json-file)."""
    return f"{container_id}-json.log"


def _state(state: Mapping[str, Any]) -> State:
    """The state that Docker's State object describes (moby container/state.go, StateString).

    moby's removing and dead are what a removal left that failed: here such a container has exited, and rm removes it.
    """
    if state["Running"]:
        restarting = State.RESTARTING if state["Restarting"] else State.RUNNING
        return State.PAUSED if state["Paused"] else restarting
    dead = state.get("Dead") or state.get("RemovalInProgress")
    return State.CREATED if state["StartedAt"] == NEVER and not dead else State.EXITED


_TICK = 50_000_000
"""Nanoseconds; the times of files are exact to a tick of the kernel's clock, ten milliseconds at most (CONFIG_HZ)."""


class _Files(NamedTuple):
    """Which files a record was read from: each write makes new ones. Inodes and times as stat(2) has them."""

    inodes: tuple[int, int]
    written: tuple[int, int]

    @classmethod
    def of(cls, directory: str) -> _Files:
        config, host_config = os.stat(f"{directory}/config.v2.json"), os.stat(f"{directory}/hostconfig.json")
        return cls((config.st_ino, host_config.st_ino), (config.st_mtime_ns, host_config.st_mtime_ns))

    @property
    def settled(self) -> bool:
        """Whether a later write has another time for certain: the kernel's clock ticks in milliseconds."""
        return max(self.written) < time.time_ns() - _TICK


class ContainerStore:
    """Owns containers/ and locks/.

    driver  the storage driver: containers on another one's layers lie in the same directory and are left alone

    What was read is kept as long as its files are the same: listing containers must not read them all again.
    """

    def __init__(self, root: Path, locks: Path, *, driver: str = "overlay2", emit: Emit = ignore) -> None:
        self.root = root
        self._driver = driver
        self._emit = emit
        self._locks = locks
        self._known: dict[str, tuple[_Files, ContainerRecord]] = {}
        root.mkdir(parents=True, exist_ok=True, mode=0o710)

    def directory(self, container_id: str) -> Path:
        """Where the container's own files lie."""
        return self.root / container_id

    def log(self, container_id: str) -> Path:
        """The log of the container's earlier runs."""
        return self.directory(container_id) / json_log_name(container_id)

    def run_log(self, container_id: str) -> Path:
        """The log of its present run, in its monitor's format."""
        return self.directory(container_id) / "container.log"

    def save(self, record: ContainerRecord) -> ContainerRecord:
        """Write a record down; a container whose record is new exists from now on."""
        directory = self.directory(record.id)
        directory.mkdir(mode=0o710, exist_ok=True)
        os.close(open_lock(self._locks / record.id))  # made now: to remove the container must need no room
        self._write_host_config(directory / "hostconfig.json", json.dumps(record.host_config.document()).encode())
        write_atomic(directory / "config.v2.json", json.dumps(record.document(directory)).encode(), mode=0o600)
        return record

    @staticmethod
    def _write_host_config(path: Path, data: bytes) -> None:
        """Most changes leave it as it is; then neither an fsync nor a free block is needed."""
        try:
            if path.read_bytes() == data:
                return
        except OSError:
            pass
        write_atomic(path, data)

    def update(self, record: ContainerRecord, **changes: Any) -> ContainerRecord:
        """Write a record down with some fields changed, and return it."""
        return self.save(replace(record, **changes))

    def load(self, container_id: str) -> ContainerRecord | None:
        """The record, None where there is no such container. Raises CorruptStore for an unreadable one."""
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
            files = _Files.of(directory)
            known = self._known.get(container_id)
            if known is not None and known[0] == files:
                return known[1]
            record = self._read(Path(directory))
        except (FileNotFoundError, NotADirectoryError):
            self._known.pop(container_id, None)
            raise
        if files.settled:
            self._known[container_id] = (files, record)
        return record

    def _read(self, directory: Path) -> ContainerRecord:
        """Raises FileNotFoundError; CorruptStore with the file that cannot be used."""
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
        """A record from its two documents. Raises what ContainerRecord.from_documents() raises."""
        return self._placed(ContainerRecord.from_documents(document, host_config))

    def _placed(self, record: ContainerRecord) -> ContainerRecord:
        """The record with the places of its volumes: they follow from their names, wherever the data root is now."""
        volumes = self.root.parent / "volumes"
        mounts = tuple(
            replace(mount, source=f"{volumes}/{VolumeName(mount.name)}/_data") if mount.type == "volume" else mount
            for mount in record.mounts
        )
        return replace(record, mounts=mounts) if mounts != record.mounts else record

    def all(self) -> Iterator[ContainerRecord]:
        """Every container on this driver, in no order. A damaged one is left out and reported (StoreDamaged)."""
        for container_id in self.ids():
            try:
                record = self.load(container_id)
            except CorruptStore as error:
                self._emit(StoreDamaged.of(error))
                continue
            if record and record.driver == self._driver:
                yield record

    def whole(self) -> list[ContainerRecord]:
        """Every container on this driver. Raises CorruptStore if one is damaged: what that one needs is unknown."""
        records = filter(None, map(self.load, self.ids()))
        return [record for record in records if record.driver == self._driver]

    def damaged(self) -> dict[ContainerId, CorruptStore]:
        """The containers whose records cannot be read, with the reason."""
        found = {}
        for container_id in self.ids():
            try:
                self.load(container_id)
            except CorruptStore as error:
                found[container_id] = error
        return found

    def mentions(self, container_id: ContainerId, name: str) -> bool:
        """Whether a record that cannot be read as a whole seems to be that of the container called name."""
        text = peek(self._document(container_id))
        return bool(name) and re.search(rf'"Name":\s*"/{re.escape(name)}"', text) is not None

    @property
    def writable(self) -> bool:
        """Whether the file system can be written to at all."""
        return os.access(self.root, os.W_OK)

    def ids(self) -> list[ContainerId]:
        """The ids that have a directory, whole or not, in no order."""
        return list(filter(None, map(ContainerId.match, os.listdir(self.root))))

    def exists(self, container_id: str) -> bool:
        """Whether there is a container with this id."""
        return self._document(container_id).exists()

    def forget(self, container_id: ContainerId) -> None:
        """The container does not exist any more; its files are still there."""
        self._document(container_id).unlink(missing_ok=True)

    def remove(self, container_id: ContainerId) -> None:
        """Forget a container and delete its files."""
        self.forget(container_id)  # first: half a directory must not look like a container
        discard_below(self.root, container_id)
        # Whoever waits for the old lock file finds no record afterwards, so it may go.
        (self._locks / container_id).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, container_id: ContainerId) -> Iterator[None]:
        """Held by the process that changes this container. Raises OSError at once on a read-only file system."""
        if not self.writable:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self.root.parent))
        with locked(self._locks / container_id):
            try:
                yield
            finally:
                if not self.exists(container_id):
                    self.remove(container_id)  # it went while we waited: the lock file is nobody's

    @contextlib.contextmanager
    def try_lock(self, container_id: ContainerId) -> Iterator[bool]:
        """The same without waiting: yields whether nobody changes this container; then nobody can meanwhile."""
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
        """Held while a name is chosen and written down."""
        return locked(self._locks / "names")
