"""The vfs driver: every layer is a copy of the layer below with its change applied.

    vfs/
    └── dir/<cache id>/     the whole tree

It needs no kernel feature and works on every file system, at a price: an image of ten layers is on disk ten times, and
each container adds two more copies (its own and its init layer's). Format: moby daemon/graphdriver/vfs (20.10).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pylab_container.errors import InvalidInput
from pylab_container.events import Emit, ignore
from pylab_container.host.descent import opened
from pylab_container.host.files import make_directory
from pylab_container.host.idmap import IdMap
from pylab_container.host.removal import remove_below
from pylab_container.oci.ids import CacheId
from pylab_container.store.naivediff import ChangeReader, copy_tree
from pylab_container.store.reading import corrupt, unlinked
from pylab_container.store.treetar import TreeReader


class Vfs:
    """The driver for one vfs/ directory, which it creates.

    It mounts nothing. The contract is store/driver.py.
    """

    name = "vfs"
    keeps_trees = True

    def __init__(self, root: Path, *, emit: Emit = ignore) -> None:
        """emit is unused: this driver has no mounts to report."""
        self.root = root
        (root / "dir").mkdir(parents=True, exist_ok=True, mode=0o710)

    def create(self, cache_id: CacheId, parent: CacheId | None) -> Path:
        if parent is not None and not self.diff_path(parent).is_dir():
            raise corrupt(self.diff_path(parent), "the directory of the layer is missing")
        directory = make_directory(self.diff_path(cache_id), 0o755)
        if parent is not None:
            copy_tree(self.diff_path(parent), directory)
        return directory

    @contextlib.contextmanager
    def filling(self, cache_id: CacheId) -> Iterator[Path]:
        yield self.diff_path(cache_id)

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
        raise InvalidInput("a layer of the vfs driver is a whole tree, of which no change can be moved")

    def graph_data(self, cache_id: CacheId) -> None:
        return None
