"""Removing volumes, and the containers that keep one from being removed."""

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
    """users() before a deletion.

    That is a record that cannot be read, or that names a lost volume: it may mean the volume in question.

    Raises CorruptStore while the record of any container cannot be trusted.
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

    Such a volume is created and removed with its container, so the name in the record is damage.
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

    A volume stays for a later prune while its use is unknown: its own description or a container's record is damaged.
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
    mounting.detach(volume)  # the deletion would otherwise enter the mounted file system
    data.volumes.remove(volume.name)
