"""Volumes, as a caller sees them: names and meanings are docker-py's.

The work is done in volumes/.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.oci.ids import VolumeName
from pylab_container.oci.image import Json
from pylab_container.store.data_root import DataRoot
from pylab_container.store.volume_store import StoredVolume

if TYPE_CHECKING:
    from pylab_container.docker.filters import Filters
    from pylab_container.maintenance.pruning import Pruned


class Volume:
    """One volume of a data root. Its description is read from disk on each access."""

    def __init__(self, data: DataRoot, stored: StoredVolume) -> None:
        self._data = data
        self.stored = stored

    @property
    def name(self) -> VolumeName:
        """Its name."""
        return self.stored.name

    @property
    def id(self) -> str:
        """Its name."""
        return self.stored.name

    @property
    def path(self) -> Path:
        """The directory of its files."""
        return self.stored.path

    @property
    def anonymous(self) -> bool:
        """Whether its name was generated."""
        return self.stored.anonymous

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return self.stored.labels

    @property
    def options(self) -> dict[str, str]:
        """The options of the file system that is mounted while a container uses it. Empty for a directory."""
        return self.stored.options

    @property
    def attrs(self) -> Json:
        """Docker's Volume object, as `docker volume inspect` shows it."""
        return self.stored.document()

    def remove(self, *, force: bool = False) -> None:
        """Delete it with its files.

        Raises InUse while a container mounts it; NotFound unless force is set.
        """
        from pylab_container.volumes import removal

        removal.remove(self._data, self.name, force=force)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Volume) and other.stored == self.stored

    def __hash__(self) -> int:
        return hash(self.stored)

    def __repr__(self) -> str:
        return f"<Volume: {self.name}>"


class VolumeCollection:
    """All volumes of one engine."""

    def __init__(self, data: DataRoot) -> None:
        self._data = data

    def create(
        self,
        name: str | None = None,
        *,
        driver: str = "local",
        driver_opts: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Create a volume, or return the existing volume of this name.

        name         default: generated, 64 hexadecimal digits
        driver_opts  a file system to mount while a container uses the volume (volumes/driver_options.py)

        Raises InvalidInput; NotFound for an unknown driver.
        """
        from pylab_container.volumes import creation

        stored = creation.create(self._data, name, driver=driver, options=driver_opts, labels=labels)
        return Volume(self._data, stored)

    def get(self, name: str) -> Volume:
        """Return the volume with this name. Raises NotFound; CorruptStore if its description is damaged."""
        return Volume(self._data, self._data.volumes.get(name))

    def list(self, filters: Filters | None = None) -> builtins.list[Volume]:
        """Return all volumes, by name. A damaged one is left out and reported (StoreDamaged).

        filters  name (part of it), label, label!, dangling (mounted by no container), driver

        Raises InvalidInput for an unknown filter.
        """
        from pylab_container.docker.volume_filters import filtered_volumes

        return [Volume(self._data, stored) for stored in filtered_volumes(self._data, filters or {})]

    def users(self, volume: Volume) -> builtins.list[str]:
        """Return the ids of the containers that mount a volume, running or not."""
        from pylab_container.volumes import removal

        return removal.users(self._data, volume.stored)

    def remove(self, name: str, *, force: bool = False) -> None:
        """Delete a volume with its files.

        Raises InUse while a container mounts it; NotFound unless force is set.
        """
        from pylab_container.volumes import removal

        removal.remove(self._data, name, force=force)

    def prune(self, filters: Filters | None = None) -> Pruned:
        """Remove the anonymous volumes that no container mounts.

        filters  all=true: also those with a name; label, label!

        Raises InvalidInput for an unknown filter. While a container's record is damaged, no volume is removed.
        """
        from pylab_container.maintenance import pruning

        return pruning.prune_volumes(self._data, filters or {})
