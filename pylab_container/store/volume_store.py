"""Volumes: directories that outlive the containers that mount them.

    volumes/<name>/
    ├── _data/          the volume's files, or the mount point of its file system while a container runs
    ├── volume.json     its labels, its options and the time of its creation
    └── opts.json       its options as dockerd records them; only if it has some

The name of an anonymous volume is 64 random hexadecimal digits. Docker stores the contents of volume.json in a bbolt
database. The containers that mount a volume are not stored here but in the containers' records.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from pylab_container.errors import CorruptStore, NotFound
from pylab_container.events import Emit, StoreDamaged, ignore
from pylab_container.host.files import locked, write_atomic
from pylab_container.host.removal import remove_below
from pylab_container.oci.ids import VolumeName
from pylab_container.oci.image import Json
from pylab_container.store.reading import read_document
from pylab_container.store.record_shape import VolumeOptionsShape, VolumeShape
from pylab_container.text.timestamps import rfc3339

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
"""The label of a volume with a generated name; its value is empty (moby 23.0, volume/service)."""


class StoredVolume(Struct, frozen=True):
    """One volume on disk. path: the directory of its files.

    The properties read the volume's description on each access, and raise CorruptStore if it is damaged.
    """

    name: VolumeName
    path: Path

    @property
    def anonymous(self) -> bool:
        """Whether its name was generated, by its label: a user may also choose a name of 64 digits."""
        return ANONYMOUS_LABEL in self.labels

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self.description().get("Labels") or {})

    @property
    def options(self) -> dict[str, str]:
        """The options of the file system to mount at path (volumes/driver_options.py). Empty for a directory."""
        return dict(self.description().get("Options") or {})

    def description(self) -> Json:
        """Return the contents of volume.json; for a volume of dockerd's, its options. Raises CorruptStore."""
        try:
            return read_document(self.path.parent / "volume.json", VolumeShape)[0]
        except FileNotFoundError:
            pass
        try:
            _, recorded = read_document(self.path.parent / "opts.json", VolumeOptionsShape)
        except FileNotFoundError:
            return {}
        options = {"type": recorded.MountType, "o": recorded.MountOpts, "device": recorded.MountDevice}
        return {"Options": {name: value for name, value in options.items() if value}}

    def document(self) -> Json:
        """Return Docker's Volume object, as `docker volume inspect` shows it. Raises CorruptStore."""
        description = self.description()
        return {
            "CreatedAt": description.get("CreatedAt") or rfc3339(os.stat(self.path).st_mtime_ns),
            "Driver": "local",
            "Labels": description.get("Labels"),
            "Mountpoint": str(self.path),
            "Name": self.name,
            "Options": self.options or None,
            "Scope": "local",
        }


class VolumeStore:
    """Owns volumes/."""

    def __init__(self, root: Path, locks: Path, *, emit: Emit = ignore) -> None:
        self.root = root
        self._locks = locks
        self._emit = emit

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Serialize the creation and removal of volumes with the creation of containers.

        Without it, a volume could be removed that a new container is about to mount.
        """
        return locked(self._locks / "volumes")

    def get(self, name: str) -> StoredVolume:
        """Return the volume with this name. Raises NotFound; CorruptStore if its description is damaged."""
        valid = VolumeName.match(name)
        if valid is None or not (volume := self._volume(valid)).path.is_dir():
            raise NotFound(f"get {name}: no such volume", hint="labctr volume ls lists the volumes")
        volume.description()
        return volume

    def ensure(
        self, name: VolumeName, labels: Mapping[str, str] | None, options: Mapping[str, str] | None
    ) -> StoredVolume:
        """Return the volume with this name, created if it does not exist. The caller holds lock()."""
        volume = self._volume(name)
        if not volume.path.is_dir():
            self.root.mkdir(mode=0o711, exist_ok=True)
            volume.path.mkdir(parents=True)
            description = {
                "CreatedAt": rfc3339(time.time_ns()),
                "Labels": dict(labels) if labels else None,
                "Options": dict(options) if options else None,
            }
            self.describe(name, description)
        return volume

    def describe(self, name: VolumeName, description: Mapping[str, object]) -> None:
        """Write a volume's volume.json, and its options for dockerd."""
        options = description.get("Options")
        if isinstance(options, Mapping) and options:
            names = {"MountType": "type", "MountOpts": "o", "MountDevice": "device"}
            recorded = {field: options.get(option, "") for field, option in names.items()} | {"Quota": {"Size": 0}}
            write_atomic(self.root / name / "opts.json", json.dumps(recorded).encode(), mode=0o600)
        write_atomic(self.root / name / "volume.json", json.dumps(description).encode())

    def remove(self, name: VolumeName) -> None:
        """Delete a volume with its files. Its file system is not mounted; the caller holds lock()."""
        remove_below(self.root, name)

    def names(self) -> list[VolumeName]:
        """Return the names of all volumes, sorted, including those with a damaged description."""
        if not self.root.is_dir():
            return []
        names = filter(None, map(VolumeName.match, os.listdir(self.root)))
        return sorted(name for name in names if self._volume(name).path.is_dir())

    def all(self) -> Iterator[StoredVolume]:
        """Yield every volume, by name. A damaged one is left out and reported (StoreDamaged)."""
        for volume in map(self._volume, self.names()):
            try:
                volume.description()
            except CorruptStore as error:
                self._emit(StoreDamaged.of(error))
                continue
            yield volume

    def _volume(self, name: VolumeName) -> StoredVolume:
        return StoredVolume(name, self.root / name / "_data")
