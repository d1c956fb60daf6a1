"""The overlay driver: read-only layers are whole trees that share files; a container is mounted on one of them.

    overlay/<cache id>/
    ├── root/        a read-only layer: the whole tree, its unchanged files hard links into the layer below
    │                                   or, for a container's layers:
    ├── upper/       what the container changed
    ├── lower-id     the cache id of the layer whose root/ lies below
    ├── work/        overlayfs's own scratch space
    └── merged/      where the joined view is mounted

Made for kernels whose overlayfs knew one lower directory only (before 4.0). File contents are
shared, but every layer costs an inode for each of its directories, and a container's layer starts as
a copy of its init layer's. Format: moby daemon/graphdriver/overlay (20.10), removed in 24.0.
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
from pylab_container.host.idmap import IdMap
from pylab_container.host.removal import remove_below
from pylab_container.oci.ids import CacheId, EntryName
from pylab_container.store import overlayfs
from pylab_container.store.layertar import Extractor
from pylab_container.store.naivediff import ChangeReader, TreeExtractor, copy_tree
from pylab_container.store.reading import read_id, unlinked
from pylab_container.store.treetar import TreeReader

_FOR_CONTAINERS = ("upper", "work", "merged")


class Overlay:
    """The driver for one overlay/ directory, which it creates."""

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
            return _make_directory(directory / "root", 0o755)
        for name in _FOR_CONTAINERS:
            (directory / name).mkdir(mode=0o700)
        below = self.diff_path(parent or lower)
        (directory / "upper").chmod(stat.S_IMODE(below.stat().st_mode))
        (directory / "lower-id").write_text(lower)
        if lower != parent:
            copy_tree(below, directory / "upper")
        return directory / "upper"

    @contextlib.contextmanager
    def extractor(self, cache_id: CacheId) -> Iterator[Extractor]:
        directory = self.root / cache_id
        if self._is_tree(cache_id):
            with TreeExtractor(directory / "root") as extractor:
                yield extractor
            return
        # A layer that others will lie on: no mount, but a tree that shares the files of the one below.
        staging = _make_directory(directory / "tmproot", 0o755)
        copy_tree(self.root / self._lower(cache_id) / "root", staging, share_files=True)
        with TreeExtractor(staging) as extractor:
            yield extractor
        staging.rename(directory / "root")
        for name in _FOR_CONTAINERS:
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
        self.diff_path(lower)
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
        """The layer whose tree lies below a child of this one: itself, if it is a tree."""
        if self._is_tree(cache_id):
            return cache_id
        return read_id(self.root / cache_id / "lower-id", CacheId)

    def _view(self, cache_id: CacheId) -> contextlib.AbstractContextManager[Path]:
        """The layer joined with what is below, to read from, whether a container has it mounted or not."""
        if self._is_tree(cache_id):
            return contextlib.nullcontext(self.diff_path(cache_id))
        return overlayfs.view(self.root, self._joined(cache_id))

    def _joined(self, cache_id: CacheId) -> list[str]:
        own, lower = self.diff_path(cache_id), self.diff_path(self._lower(cache_id))
        return [str(path.relative_to(self.root)) for path in (own, lower)]


def _make_directory(path: Path, mode: int) -> Path:
    path.mkdir()
    path.chmod(mode)  # what a container sees as / must not depend on the umask
    return path
