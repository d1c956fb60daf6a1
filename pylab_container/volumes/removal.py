"""Remove volumes, and find the containers that use a volume."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from pylab_container.errors import CorruptStore, InUse, NotFound
from pylab_container.events import StoreDamaged, VolumeAction
from pylab_container.oci.mounts import MountPoint
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.store.reading import corrupt
from pylab_container.store.volume_store import StoredVolume
from pylab_container.volumes import mounting


def users(data: DataRoot, volume: StoredVolume) -> list[str]:
    """Return the ids of the containers that mount a volume, running or not."""
    return _users(volume, data.records.all())


def reliable_users(data: DataRoot, volume: StoredVolume) -> list[str]:
    """Return users(volume) for a decision to delete the volume; raise an error if the list may be incomplete.

    Raises CorruptStore while the record of any container is damaged: it cannot be read, or it names an anonymous volume
    that does not exist. Such a container may in fact use this volume.
    """
    records = list(data.records.whole())
    for error in lost_volume_errors(data, records):
        raise error
    return _users(volume, records)


def _users(volume: StoredVolume, records: Iterable[ContainerRecord]) -> list[str]:
    return [
        record.id
        for record in records
        if any(mount.type == "volume" and mount.name == volume.name for mount in record.mounts)
    ]


def lost_volume_errors(data: DataRoot, records: Iterable[ContainerRecord]) -> Iterator[CorruptStore]:
    """Yield an error for each anonymous volume that a record names and that does not exist.

    An anonymous volume is created and removed with its container, so the name in the record must be damaged.
    """
    for record in records:
        for mount in record.mounts:
            if mount.type == "volume" and mount.anonymous:
                name = mount.name
                if not (data.volumes.root / name).exists():
                    path = data.records.directory(record.id) / "config.v2.json"
                    yield corrupt(path, f"it names the volume {name[:12]}, which does not exist")


def remove(data: DataRoot, name: str, *, force: bool = False) -> None:
    """Delete a volume with its files.

    Raises InUse while a container mounts it, NotFound unless force is set, CorruptStore.
    """
    with data.volumes.lock():
        try:
            volume = data.volumes.get(name)
        except NotFound:
            if force:
                return
            raise
        if containers := reliable_users(data, volume):
            raise InUse(
                f"remove {name}: volume is in use - [{', '.join(containers)}]",
                hint="remove the containers first: labctr rm",
            )
        delete(data, volume)
        data.emit(VolumeAction("destroy", volume.name))


def remove_anonymous(data: DataRoot, mounts: Iterable[MountPoint]) -> None:
    """Delete a removed container's anonymous volumes that no other container mounts.

    If a volume's description or a container's record is damaged, the volume's users are not known for certain. The
    volume is then kept for a later prune.
    """
    with data.volumes.lock():
        for mount in mounts:
            if mount.type == "volume" and mount.anonymous:
                try:
                    _remove_unused(data, mount.name)
                except CorruptStore as error:
                    data.emit(StoreDamaged.of(error))


def _remove_unused(data: DataRoot, name: str) -> None:
    with contextlib.suppress(NotFound):
        volume = data.volumes.get(name)
        if not reliable_users(data, volume):
            delete(data, volume)
            data.emit(VolumeAction("destroy", volume.name))


def delete(data: DataRoot, volume: StoredVolume) -> None:
    """Delete an unused volume; the caller holds the lock of all volumes. No event is emitted."""
    mounting.detach(volume)  # otherwise the deletion would delete the files of the mounted file system
    data.volumes.remove(volume.name)
