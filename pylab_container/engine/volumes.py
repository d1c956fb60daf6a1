"""Volumes: directories that outlive the containers that mount them.

volumes/<name>/_data      a volume's files; the name is 64 hexadecimal digits where nobody gave one
"""

from __future__ import annotations

import builtins
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.pruning import Pruned

_GENERATED = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Volume:
    """One volume. path: where its files are."""

    name: str
    path: Path

    @property
    def anonymous(self) -> bool:
        """Whether a container's VOLUME made it, rather than somebody by name."""
        return bool(_GENERATED.match(self.name))


class VolumeCollection:
    """All volumes of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._root = engine.data_root / "volumes"

    def list(self) -> builtins.list[Volume]:
        """All volumes, by name."""
        if not self._root.is_dir():
            return []
        return [Volume(entry.name, entry / "_data") for entry in sorted(self._root.iterdir()) if entry.is_dir()]

    def users(self, volume: Volume) -> builtins.list[str]:
        """The ids of the containers that mount a volume, running or not."""
        return [
            record.id
            for record in self._engine.records.all()
            if any(mount["Type"] == "volume" and mount["Name"] == volume.name for mount in record.mounts)
        ]

    def prune(self) -> Pruned:
        """Remove the volumes without a name of their own that no container mounts."""
        from pylab_container.engine.images import Removal
        from pylab_container.engine.pruning import Pruned
        from pylab_container.engine.usage import directory_size

        deleted, freed = [], 0
        for volume in self.list():
            if volume.anonymous and not self.users(volume):
                freed += directory_size(str(volume.path))
                shutil.rmtree(volume.path.parent, ignore_errors=True)
                deleted.append(Removal("Deleted", volume.name))
        return Pruned(tuple(deleted), freed)
