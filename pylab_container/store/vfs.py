"""The vfs driver: every layer is a copy of the one below with its change applied.

    vfs/
    └── dir/<cache id>/     the whole tree

It needs nothing of the kernel and works on every file system, at a price: an image of ten
layers is on the disk ten times, and each container once more (and once for its init layer).
Format: moby daemon/graphdriver/vfs (20.10).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pylab_container.errors import InvalidInput
from pylab_container.events import Emit, ignore
from pylab_container.host.descent import opened
from pylab_container.host.idmap import IdMap
from pylab_container.host.removal import remove_below
from pylab_container.oci.ids import CacheId
from pylab_container.store.naivediff import ChangeReader, TreeExtractor, copy_tree
from pylab_container.store.reading import corrupt, unlinked
from pylab_container.store.treetar import TreeReader


class Vfs:
    """The driver for one vfs/ directory, which it creates. It has no mounts to tell about."""

    name = "vfs"
    keeps_trees = True

    def __init__(self, root: Path, *, emit: Emit = ignore) -> None:
        self.root = root
        (root / "dir").mkdir(parents=True, exist_ok=True, mode=0o710)

    def create(self, cache_id: CacheId, parent: CacheId | None) -> Path:
        if parent is not None and not self.diff_path(parent).is_dir():
            raise corrupt(self.diff_path(parent), "the directory of the layer is missing")
        directory = self.diff_path(cache_id)
        directory.mkdir()
        directory.chmod(0o755)
        if parent is not None:
            copy_tree(self.diff_path(parent), directory)
        return directory

    def extractor(self, cache_id: CacheId) -> TreeExtractor:
        return TreeExtractor(self.diff_path(cache_id))

    @contextlib.contextmanager
    def members(self, cache_id: CacheId, parent: CacheId) -> Iterator[TreeReader]:
        yield ChangeReader(self.diff_path(cache_id), self.diff_path(parent))

    def changes(self, cache_id: CacheId, parent: CacheId) -> dict[str, int]:
        return ChangeReader(self.diff_path(cache_id), self.diff_path(parent)).changes()

    def diff_path(self, cache_id: CacheId) -> Path:
        return unlinked(self.root / "dir" / cache_id)

    def merged_path(self, cache_id: CacheId) -> Path:
        return self.diff_path(cache_id)

    def mount(self, cache_id: CacheId, ids: IdMap | None = None) -> Path:
        if ids:
            raise InvalidInput(f"the storage driver {self.name} cannot map owners", hint="use overlay2")
        return self.diff_path(cache_id)

    def open_view(self, cache_id: CacheId) -> int:
        return opened(self.diff_path(cache_id))

    def unmount(self, cache_id: CacheId) -> None:
        pass

    def is_mounted(self, cache_id: CacheId) -> bool:
        return False

    def cache_ids(self) -> list[CacheId]:
        return list(filter(None, map(CacheId.match, os.listdir(self.root / "dir"))))

    def remove(self, cache_id: CacheId) -> None:
        with contextlib.suppress(FileNotFoundError):
            remove_below(self.root / "dir", cache_id)

    def adopt(self, cache_id: CacheId, source: CacheId) -> None:
        raise InvalidInput("vfs cannot tell a change from the tree that it was made to")

    def graph_data(self, cache_id: CacheId) -> None:
        return None
