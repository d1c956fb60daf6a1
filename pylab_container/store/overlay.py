"""The overlay driver: whole trees that share files, and containers mounted on them.

    overlay/<cache id>/
    ├── root/        a read-only layer: the whole tree, its unchanged files hard links into the layer below
    │                                   or, for a container's layers:
    ├── upper/       what the container changed
    ├── lower-id     the cache id of the layer whose root/ is the lower directory
    ├── work/        overlayfs's own scratch space
    └── merged/      the mount point of the joined view

Made for kernels whose overlayfs supported a single lower directory (before 4.0). File contents are shared, but every
layer costs an inode for each of its directories, and a container's layer starts as a copy of its init layer's upper
directory. Format: moby daemon/graphdriver/overlay (20.10), removed in 24.0.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pylab_container.errors import InvalidInput
from pylab_container.events import Emit, OverlayMounted, OverlayUnmounted, ignore
from pylab_container.host.descent import opened
from pylab_container.host.files import make_directory
from pylab_container.host.idmap import IdMap
from pylab_container.host.removal import remove_below
from pylab_container.oci.ids import CacheId, EntryName
from pylab_container.store import overlayfs
from pylab_container.store.naivediff import ChangeReader, copy_tree
from pylab_container.store.reading import read_id, unlinked
from pylab_container.store.treetar import TreeReader

_CONTAINER_DIRECTORIES = ("upper", "work", "merged")


class Overlay:
    """The driver for one overlay/ directory, which it creates. The contract is store/driver.py."""

    name = "overlay"
    keeps_trees = True

    def __init__(self, root: Path, *, emit: Emit = ignore) -> None:
        self.root = root
        self._emit = emit
        root.mkdir(parents=True, exist_ok=True, mode=0o710)

    def create(self, cache_id: CacheId, parent: CacheId | None) -> Path:
        lower = self._lower(parent) if parent is not None else None
        directory = self.root / cache_id
        directory.mkdir(mode=0o700)
        if lower is None:
            return make_directory(directory / "root", 0o755)
        for name in _CONTAINER_DIRECTORIES:
            (directory / name).mkdir(mode=0o700)
        below = self.diff_path(parent or lower)
        (directory / "upper").chmod(stat.S_IMODE(below.stat().st_mode))
        (directory / "lower-id").write_text(lower)
        if lower != parent:  # the parent is an init layer: with one lower directory its files must be copied
            copy_tree(below, directory / "upper")
        return directory / "upper"

    @contextlib.contextmanager
    def filling(self, cache_id: CacheId) -> Iterator[Path]:
        directory = self.root / cache_id
        if self._is_tree(cache_id):
            yield directory / "root"
            return
        # A read-only layer gets a tree that shares its files with the tree below, instead of a mount. The rename comes
        # last: until then the layer still looks like one that was just created.
        staging = make_directory(directory / "tmproot", 0o755)
        copy_tree(self.root / self._lower(cache_id) / "root", staging, share_files=True)
        yield staging
        staging.rename(directory / "root")
        for name in _CONTAINER_DIRECTORIES:
            remove_below(directory, EntryName(name))
        (directory / "lower-id").unlink()

    @contextlib.contextmanager
    def members(self, cache_id: CacheId, parent: CacheId) -> Iterator[TreeReader]:
        with self._view(cache_id) as new, self._view(parent) as old:
            yield ChangeReader(new, old)

    def changes(self, cache_id: CacheId, parent: CacheId) -> dict[str, int]:
        with self._view(cache_id) as new, self._view(parent) as old:
            return ChangeReader(new, old).changes()

    def diff_path(self, cache_id: CacheId) -> Path:
        directory = self.root / cache_id
        return unlinked(directory, directory / ("root" if self._is_tree(cache_id) else "upper"))

    def merged_path(self, cache_id: CacheId) -> Path:
        return self.root / cache_id / "merged"

    def mount(self, cache_id: CacheId, ids: IdMap | None = None) -> Path:
        if ids:
            raise InvalidInput(f"the storage driver {self.name} cannot map owners", hint="use overlay2")
        own_files = self.diff_path(cache_id)
        if self._is_tree(cache_id):
            return own_files
        merged = unlinked(own_files.parent / "work", self.merged_path(cache_id))
        if os.path.ismount(merged):
            return merged
        own, lower = cache_id, self._lower(cache_id)
        self.diff_path(lower)  # refuses a symbolic link, which the kernel would follow
        options = overlayfs.mount(
            self.root, f"{own}/merged", lowers=[f"{lower}/root"], upper=f"{own}/upper", work=f"{own}/work"
        )
        self._emit(OverlayMounted(cache_id, str(merged), options))
        return merged

    def open_view(self, cache_id: CacheId) -> int:
        if self._is_tree(cache_id):
            return opened(self.diff_path(cache_id))
        if self.is_mounted(cache_id):
            return opened(self.merged_path(cache_id))
        return overlayfs.open_view(self.root, self._joined(cache_id))

    def unmount(self, cache_id: CacheId) -> None:
        merged = self.merged_path(cache_id)
        if overlayfs.unmount(merged):
            self._emit(OverlayUnmounted(cache_id, str(merged)))

    def is_mounted(self, cache_id: CacheId) -> bool:
        return os.path.ismount(self.merged_path(cache_id))

    def cache_ids(self) -> list[CacheId]:
        return list(filter(None, map(CacheId.match, os.listdir(self.root))))

    def remove(self, cache_id: CacheId) -> None:
        self.unmount(cache_id)
        with contextlib.suppress(FileNotFoundError):
            remove_below(self.root, cache_id)

    def adopt(self, cache_id: CacheId, source: CacheId) -> None:
        raise InvalidInput("a read-only layer of the overlay driver is a whole tree, and a container's is not")

    def graph_data(self, cache_id: CacheId) -> dict[str, str]:
        own = self.root / cache_id
        if self._is_tree(cache_id):
            return {"RootDir": str(own / "root")}
        return {
            "LowerDir": str(self.root / self._lower(cache_id) / "root"),
            "MergedDir": str(own / "merged"),
            "UpperDir": str(own / "upper"),
            "WorkDir": str(own / "work"),
        }

    def _is_tree(self, cache_id: CacheId) -> bool:
        return (self.root / cache_id / "root").is_dir()

    def _lower(self, cache_id: CacheId) -> CacheId:
        """Return the layer whose tree is the lower directory of this layer's children."""
        if self._is_tree(cache_id):
            return cache_id
        return read_id(self.root / cache_id / "lower-id", CacheId)

    def _view(self, cache_id: CacheId) -> contextlib.AbstractContextManager[Path]:
        """Join the layer with the tree below for reading, mounted or not."""
        if self._is_tree(cache_id):
            return contextlib.nullcontext(self.diff_path(cache_id))
        return overlayfs.view(self.root, self._joined(cache_id))

    def _joined(self, cache_id: CacheId) -> list[str]:
        """Return the layer's upper directory and its lower one, relative to the root."""
        own, lower = self.diff_path(cache_id), self.diff_path(self._lower(cache_id))
        return [str(path.relative_to(self.root)) for path in (own, lower)]
