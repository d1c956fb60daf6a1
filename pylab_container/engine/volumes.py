"""Volumes: directories that outlive the containers that mount them.

    volumes/<name>/
    ├── _data/          the volume's files, or where its file system is mounted while it is used
    ├── volume.json     its labels and options, and when it was made
    └── opts.json       its options as dockerd records them, if it has some

The name is 64 hexadecimal digits where nobody gave one. Docker keeps what volume.json says in a
database of its own (bbolt). Names and meanings are docker-py's.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from pylab_container.errors import CorruptStore, InUse, InvalidInput, NotFound
from pylab_container.events import PruneDone, VolumeAction
from pylab_container.host.files import locked, write_atomic
from pylab_container.host.removal import remove_below
from pylab_container.oci.ids import VolumeName
from pylab_container.oci.image import Json
from pylab_container.oci.mounts import MountPoint, invalid_name
from pylab_container.store.damage import ReportingDamage
from pylab_container.store.reading import corrupt, read_document
from pylab_container.store.record_shape import VolumeOptionsShape, VolumeShape
from pylab_container.text.timestamps import rfc3339
from pylab_container.volumes.driver_options import check_options

if TYPE_CHECKING:
    from pylab_container.docker.filters import Filters
    from pylab_container.engine import Engine
    from pylab_container.maintenance.pruning import Pruned
    from pylab_container.store.container_store import ContainerRecord

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
"""The label of a volume that has a generated name, without a value (moby 23.0, volume/service)."""


class Volume(Struct, frozen=True):
    """One volume. path: where its files are."""

    name: VolumeName
    path: Path
    engine: Engine | None = None

    @property
    def id(self) -> str:
        """Its name."""
        return self.name

    @property
    def anonymous(self) -> bool:
        """Whether its name was generated: the label says so, because any name may look like one."""
        return ANONYMOUS_LABEL in self.labels

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self._description().get("Labels") or {})

    @property
    def options(self) -> dict[str, str]:
        """What is mounted in its place while it is used, as --opt has it; nothing for a directory."""
        return dict(self._description().get("Options") or {})

    @property
    def attrs(self) -> Json:
        """What `docker volume inspect` shows."""
        description = self._description()
        return {
            "CreatedAt": description.get("CreatedAt") or rfc3339(os.stat(self.path).st_mtime_ns),
            "Driver": "local",
            "Labels": description.get("Labels"),
            "Mountpoint": str(self.path),
            "Name": self.name,
            "Options": self.options or None,
            "Scope": "local",
        }

    def _description(self) -> Json:
        """What volume.json says; of a volume of dockerd's, its options. Raises CorruptStore."""
        try:
            return read_document(self.path.parent / "volume.json", VolumeShape)[0]
        except FileNotFoundError:
            pass
        try:
            _, theirs = read_document(self.path.parent / "opts.json", VolumeOptionsShape)
        except FileNotFoundError:
            return {}
        options = {"type": theirs.MountType, "o": theirs.MountOpts, "device": theirs.MountDevice}
        return {"Options": {name: value for name, value in options.items() if value}}

    def check(self) -> None:
        """Raise CorruptStore if its description is damaged."""
        self._description()

    def remove(self, *, force: bool = False) -> None:
        """Delete it with its files. Raises InUse while a container mounts it; NotFound, but with force."""
        assert self.engine is not None
        self.engine.volumes.remove(self.name, force=force)


class VolumeCollection:
    """All volumes of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._root = engine.data.path / "volumes"

    def create(
        self,
        name: str | None = None,
        *,
        driver: str = "local",
        driver_opts: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume; one that is there already is given as it is.

        driver_opts  a file system to mount there while a container uses it (volumes/driver_options.py)

        Raises InvalidInput; NotFound for a driver.
        """
        if driver != "local":
            raise NotFound(
                f'create {name or ""}: error looking up volume plugin {driver}: plugin "{driver}" not found',
                hint="use local",
            )
        with self.lock():
            marked = labels if name else {**(labels or {}), ANONYMOUS_LABEL: ""}
            return self.ensure(name or secrets.token_hex(32), marked, driver_opts)

    def ensure(
        self, name: str, labels: Mapping[str, str] | None = None, driver_opts: Mapping[str, str] | None = None
    ) -> Volume:
        """The volume with this name, made where there is none; the caller holds lock(). Raises InvalidInput."""
        try:
            check_options(driver_opts or {})
        except InvalidInput as error:
            raise InvalidInput(f"create {name}: {error.message}", hint=error.hint) from None
        short = "volume name is too short, names should be at least two alphanumeric characters"
        valid = VolumeName.match(name)
        if valid is None or len(name) < 2:
            reason = short if len(name) == 1 else invalid_name(name)
            raise InvalidInput(f"create {name}: {reason}", hint="choose two or more letters, digits, _ . and -")
        volume = self._volume(valid)
        if not volume.path.is_dir():
            self._root.mkdir(mode=0o711, exist_ok=True)
            volume.path.mkdir(parents=True)
            description = {
                "CreatedAt": rfc3339(time.time_ns()),
                "Labels": dict(labels) if labels else None,
                "Options": dict(driver_opts) if driver_opts else None,
            }
            self.describe(valid, description)
        self._engine.events.emit(VolumeAction("create", name))  # of one that is there, too, as dockerd 20.10 does
        return volume

    def describe(self, name: VolumeName, description: Mapping[str, Any]) -> None:
        """Write down what a volume's volume.json says."""
        if options := description.get("Options"):
            names = {"MountType": "type", "MountOpts": "o", "MountDevice": "device"}
            theirs = {field: options.get(option, "") for field, option in names.items()} | {"Quota": {"Size": 0}}
            write_atomic(self._root / name / "opts.json", json.dumps(theirs).encode(), mode=0o600)
        write_atomic(self._root / name / "volume.json", json.dumps(description).encode())

    def get(self, name: str) -> Volume:
        """The volume with this name. Raises NotFound; CorruptStore if its description is damaged."""
        valid = VolumeName.match(name)
        if valid is None or not (volume := self._volume(valid)).path.is_dir():
            raise NotFound(f"get {name}: no such volume", hint="labctr volume ls lists what there is")
        volume.check()
        return volume

    def _volume(self, name: VolumeName) -> Volume:
        return Volume(name, self._root / name / "_data", self._engine)

    def names(self) -> builtins.list[str]:
        """The names of all volumes, also of those whose description is damaged, sorted."""
        if not self._root.is_dir():
            return []
        names = filter(None, map(VolumeName.match, os.listdir(self._root)))
        return sorted(str(name) for name in names if self._volume(name).path.is_dir())

    def list(self, filters: Filters | None = None) -> builtins.list[Volume]:
        """All volumes, by name. A damaged one is left out and reported (StoreDamaged).

        filters  name (part of it), label, label!, dangling (mounted by no container), driver

        Raises InvalidInput for an unknown filter.
        """
        from pylab_container.docker import filters as listing

        listing.refuse_unknown(filters or {}, ("name", "label", "label!", "dangling", "driver"))
        for text in listing.values(filters or {}, "dangling"):
            listing.truth("dangling", text)  # also where there is nothing to list
        volumes = []
        for volume in map(self._volume, map(VolumeName, self.names())):
            with ReportingDamage(self._engine.events.emit):
                volume.check()
                volumes.append(volume)
        return [volume for volume in volumes if self._matches(volume, filters or {})]

    def _matches(self, volume: Volume, filters: Filters) -> bool:
        from pylab_container.docker import filters as listing

        tests = {
            "name": lambda wanted: any(part in volume.name for part in wanted),
            "label": lambda wanted: listing.has_labels(volume.labels, wanted),
            "label!": lambda wanted: not listing.has_labels(volume.labels, wanted),
            "dangling": lambda wanted: (
                bool(self.users(volume)) is not any(listing.truth("dangling", text) for text in wanted)
            ),
            "driver": lambda wanted: "local" in wanted,
        }
        return all(tests[name](listing.values(filters, name)) for name in filters)

    def users(self, volume: Volume) -> builtins.list[str]:
        """The ids of the containers that mount a volume, running or not."""
        return _users(volume, self._engine.data.records.all())

    def _certain_users(self, volume: Volume) -> builtins.list[str]:
        """The same before a volume is deleted. Raises CorruptStore while a container's record cannot be read.

        Nor can one be believed that names a lost volume: it is damaged, and any volume may be the one that was meant.
        """
        records = list(self._engine.data.records.whole())
        for error in self.lost(records):
            raise error
        return _users(volume, records)

    def lost(self, records: Iterable[ContainerRecord]) -> Iterator[CorruptStore]:
        """What is wrong with records that name an unnamed volume which does not exist.

        Such a volume comes and goes with its container, so that another name in the record is damage.
        """
        for record in records:
            for mount in record.mounts:
                if mount.type == "volume" and mount.anonymous and not (self._root / mount.name).exists():
                    path = self._engine.data.records.directory(record.id) / "config.v2.json"
                    yield corrupt(path, f"it names the volume {mount.name[:12]}, which does not exist")

    def remove(self, name: str, *, force: bool = False) -> None:
        """Delete a volume with its files. Raises InUse while a container mounts it; NotFound, but with force."""
        with self.lock():
            try:
                volume = self.get(name)
            except NotFound:
                if force:
                    return
                raise
            if users := self._certain_users(volume):
                raise InUse(
                    f"remove {name}: volume is in use - [{', '.join(users)}]",
                    hint="remove the containers first: labctr rm",
                )
            self._delete(volume)
            self._engine.events.emit(VolumeAction("destroy", volume.name))

    def remove_anonymous(self, mounts: Iterable[MountPoint]) -> None:
        """Delete the volumes that a removed container had of its own and that no other one mounts.

        One stays for a later prune if it is unknown whether another container mounts it, because its own description
        or another container's record is damaged.
        """
        with self.lock():
            for mount in mounts:
                if mount.type == "volume" and mount.anonymous:
                    with contextlib.suppress(NotFound), ReportingDamage(self._engine.events.emit):
                        volume = self.get(mount.name)
                        if not self._certain_users(volume):
                            self._delete(volume)
                            self._engine.events.emit(VolumeAction("destroy", volume.name))

    def prune(self, filters: Filters | None = None) -> Pruned:
        """Remove the volumes without a name of their own that no container mounts.

        filters  all=true: those with a name too; label, label!

        Raises InvalidInput for an unknown filter. While a container's record is damaged, no volume is removed.
        """
        from pylab_container.docker.filters import refuse_unknown, values
        from pylab_container.images.removal import Removal
        from pylab_container.maintenance.pruning import Pruned
        from pylab_container.maintenance.usage import directory_size

        wanted = dict(filters or {})
        refuse_unknown(wanted, ("all", "label", "label!"))
        everything = _truth(values(wanted, "all")) if "all" in wanted else False
        wanted.pop("all", None)
        deleted, freed = [], 0
        with self.lock(), ReportingDamage(self._engine.events.emit):
            for volume in self.list(wanted):
                if (everything or volume.anonymous) and not self._certain_users(volume):
                    freed += directory_size(str(volume.path))
                    self._delete(volume)  # told by "prune" alone, as in Docker
                    deleted.append(Removal("Deleted", volume.name))
        self._engine.events.emit(PruneDone("volume", freed))
        return Pruned(tuple(deleted), freed)

    def _delete(self, volume: Volume) -> None:
        from pylab_container.volumes import mounting as volume_mounts

        volume_mounts.detach(volume)  # or what is mounted would be deleted
        remove_below(self._root, volume.name)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Held while volumes come and go, so that none goes that a new container is about to mount."""
        return locked(self._engine.data.locks / "volumes")


def _users(volume: Volume, records: Iterable[ContainerRecord]) -> list[str]:
    return [
        record.id
        for record in records
        if any(mount.type == "volume" and mount.name == volume.name for mount in record.mounts)
    ]


def _truth(values: tuple[str, ...]) -> bool:
    text = "".join(values).lower()
    if text not in ("true", "1", "false", "0"):
        raise InvalidInput(f"invalid value of a filter: {text}", hint="write true or false")
    return text in ("true", "1")
