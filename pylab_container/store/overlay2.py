"""The overlay2 graph driver: one directory a layer, joined by overlay mounts.

    overlay2/
    ├── <cache id>/            one layer; the id is random and says nothing about content
    │   ├── diff/              what this layer adds, changes and hides
    │   ├── link               the layer's short name, 26 letters and digits
    │   ├── lower              "l/<link of parent>:l/<link of its parent>:…"; the lowest layer has none
    │   ├── work/              overlayfs's own scratch space; the lowest layer has none
    │   ├── merged/            where the joined view is mounted, only while somebody uses it
    │   └── committed          empty; written once a layer has a child and must not change again
    ├── <cache id>-init/       per container: files that are mounted over, such as etc/hosts
    └── l/<link> -> ../<cache id>/diff

The driver knows no images and no containers, only directories that lie on each other.
Who may write: everything below one <cache id> belongs to whoever created it until it has
a child. Format: moby daemon/graphdriver/overlay2 (20.10). Kernel side:
Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.errors import CorruptStore, InvalidInput
from pylab_container.events import Emit, OverlayMounted, OverlayUnmounted, ignore
from pylab_container.host.descent import opened
from pylab_container.host.idmap import IdMap
from pylab_container.host.removal import remove_below
from pylab_container.oci.ids import CacheId, ShortName
from pylab_container.store import overlayfs
from pylab_container.store.changes import overlay_changes
from pylab_container.store.reading import corrupt, read_id, read_text, unlinked

if TYPE_CHECKING:
    from pylab_container.store.layertar import Extractor
    from pylab_container.store.treetar import TreeReader

MOST_LAYERS = 128
"""As in moby: lower links of this many layers still fit in one page of mount options."""

_LOWER = re.compile(f"l/{ShortName.form.pattern}(?::l/{ShortName.form.pattern})*")


def new_link() -> ShortName:
    """A short name that nothing has."""
    return ShortName(base64.b32encode(secrets.token_bytes(17)).decode()[:26])


def link_target(cache_id: str) -> str:
    """What the link l/<short name> of a layer says."""
    return f"../{cache_id}/diff"


class Overlay2:
    """The driver for one overlay2/ directory, which it creates.

    Two processes may use one directory at once: every layer is created under a new name.
    """

    name = "overlay2"
    keeps_trees = False

    def __init__(self, root: Path, *, emit: Emit = ignore) -> None:
        self.root = root
        self._emit = emit
        self._make_directory(root, 0o710)
        self._make_directory(root / "l", 0o700)

    @staticmethod
    def _make_directory(path: Path, mode: int) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=mode)

    def create(self, cache_id: CacheId, parent: CacheId | None) -> Path:
        """Make an empty layer on top of parent (None: at the bottom) and return its diff directory."""
        lowers = []
        if parent is not None:
            self._lower_paths(parent)  # what is damaged there must not be copied into a new layer
            lowers = [f"l/{self._link(parent)}", *self.lowers(parent)]
        if len(lowers) >= MOST_LAYERS:
            raise InvalidInput(
                f"the image would have more than {MOST_LAYERS} layers", hint="join some RUN instructions with &&"
            )
        directory = self.root / cache_id
        directory.mkdir(mode=0o710)
        (directory / "diff").mkdir(mode=0o755)
        (directory / "diff").chmod(0o755)
        link = new_link()
        (directory / "link").write_text(link)  # before the link itself: remove() finds that by this name
        (self.root / "l" / link).symlink_to(link_target(cache_id))
        if parent is not None:
            (directory / "work").mkdir(mode=0o700)
            (self.root / parent / "committed").touch(mode=0o600)
            (directory / "lower").write_text(":".join(lowers))
        return directory / "diff"

    def extractor(self, cache_id: CacheId) -> Extractor:
        """Writes a tar's members into a layer that was just created, whiteouts in overlayfs's spelling."""
        from pylab_container.store.layertar import Extractor

        return Extractor(self.diff_path(cache_id))

    @contextlib.contextmanager
    def members(self, cache_id: CacheId, parent: CacheId) -> Iterator[TreeReader]:
        """The layer as a tar's members; its directory says all, so that nothing is compared with parent."""
        from pylab_container.store.treetar import TreeReader

        yield TreeReader(self.diff_path(cache_id))

    def changes(self, cache_id: CacheId, parent: CacheId) -> dict[str, int]:
        """What differs from the layers below, by path (store/changes.py)."""
        return overlay_changes(self.diff_path(cache_id), self._lower_paths(cache_id))

    def diff_path(self, cache_id: CacheId) -> Path:
        """The directory with what the layer itself adds, changes and hides."""
        directory = self.root / cache_id
        return unlinked(directory, directory / "diff")

    def merged_path(self, cache_id: CacheId) -> Path:
        """Where mount() shows a layer that lies on another one."""
        return self.root / cache_id / "merged"

    def lowers(self, cache_id: CacheId) -> list[str]:
        """The layers below as "l/<link>", the uppermost first."""
        path = self.root / cache_id / "lower"
        try:
            text = read_text(path)
        except FileNotFoundError:
            return []
        if not _LOWER.fullmatch(text):  # the kernel would mount what the text says
            raise corrupt(path, "it does not list short names of layers")
        return text.split(":")

    def mount(self, cache_id: CacheId, ids: IdMap | None = None) -> Path:
        """Join the layer with all below it and return the merged directory, its owners mapped as ids say.

        Mounting what is mounted changes nothing. Raises NotRoot, RuntimeFailed.
        """
        directory = self.root / cache_id
        lowers = self.lowers(cache_id)
        diff = self.diff_path(cache_id)
        if not lowers:
            return diff  # nothing below: the layer is its own view
        merged = self.merged_path(cache_id)
        unlinked(directory / "work", merged)
        self._lower_paths(cache_id)  # the kernel follows the short names, and would follow a link behind them
        merged.mkdir(exist_ok=True, mode=0o700)
        if os.path.ismount(merged):
            return merged
        self._lower_paths(cache_id)  # the kernel would say that something is missing, and not what
        own = cache_id
        options = overlayfs.mount(
            self.root, f"{own}/merged", lowers=lowers, upper=f"{own}/diff", work=f"{own}/work", ids=ids
        )
        self._emit(OverlayMounted(cache_id, str(merged), options))
        return merged

    def open_view(self, cache_id: CacheId) -> int:
        """A descriptor of the layer joined with all below it; see store/driver.py."""
        if self.is_mounted(cache_id):
            return opened(self.merged_path(cache_id))
        own = self.diff_path(cache_id)
        if not (lowers := self.lowers(cache_id)):
            return opened(own)
        self._lower_paths(cache_id)  # as in mount()
        return overlayfs.open_view(self.root, [f"{cache_id}/diff", *lowers])

    def unmount(self, cache_id: CacheId) -> None:
        """Take the merged view away. Unmounting what is not mounted changes nothing."""
        merged = self.merged_path(cache_id)
        if overlayfs.unmount(merged):
            self._emit(OverlayUnmounted(cache_id, str(merged)))
        with contextlib.suppress(FileNotFoundError):
            merged.rmdir()

    def is_mounted(self, cache_id: CacheId) -> bool:
        """Whether somebody looks at the merged view now."""
        return os.path.ismount(self.merged_path(cache_id))

    def cache_ids(self) -> list[CacheId]:
        """The layers that have a directory, whole or not, in no order."""
        return list(filter(None, map(CacheId.match, os.listdir(self.root))))

    def remove(self, cache_id: CacheId) -> None:
        """Delete a layer that nothing lies on. Deleting what is not there changes nothing."""
        with contextlib.suppress(FileNotFoundError, CorruptStore):
            (self.root / "l" / self._link(cache_id)).unlink()
        self.unmount(cache_id)
        with contextlib.suppress(FileNotFoundError):
            remove_below(self.root, cache_id)

    def adopt(self, cache_id: CacheId, source: CacheId) -> None:
        """Take the files of the layer source as those of cache_id: a rename, whatever their size.

        source keeps existing, empty; it must not be mounted. The parents must be the same.
        """
        target, origin = self.diff_path(cache_id), self.diff_path(source)
        target.rmdir()
        origin.rename(target)
        origin.mkdir(mode=0o755)

    def graph_data(self, cache_id: CacheId) -> dict[str, str]:
        """What `docker inspect` shows as GraphDriver.Data."""
        own, lowers = self.root / cache_id, self._lower_paths(cache_id)
        data = {"LowerDir": ":".join(map(str, lowers))} if lowers else {}
        return data | {
            "MergedDir": str(own / "merged"),
            "UpperDir": str(own / "diff"),
            "WorkDir": str(own / "work"),
        }

    def _lower_paths(self, cache_id: CacheId) -> list[Path]:
        """The diff directories below, the uppermost first."""
        paths = []
        for link in self.lowers(cache_id):
            if not os.path.lexists(self.root / link):
                lower = self.root / cache_id / "lower"
                raise corrupt(lower, f"it names {self.root / link}, which does not exist")
            paths.append(self.diff_path(self._behind(link)))
        return paths

    def _behind(self, link: str) -> CacheId:
        """The layer that a short name, "l/…", leads to."""
        path = self.root / link
        try:
            target = os.readlink(path)
            cache_id = CacheId(target.removeprefix("../").removesuffix("/diff"))
        except OSError as error:
            raise corrupt(path, "it is not a link to a layer") from error
        except ValueError as error:
            raise corrupt(path, str(error)) from error
        if target != link_target(cache_id):
            raise corrupt(path, f"it leads to {target!r}")
        return cache_id

    def _link(self, cache_id: CacheId) -> ShortName:
        """The short name of a layer, which leads to it. Raises CorruptStore."""
        path = self.root / cache_id / "link"
        link = read_id(path, ShortName)  # a killed create() may leave an empty file
        if self._behind(f"l/{link}") != cache_id:
            raise corrupt(path, f"l/{link} leads to another layer")
        return link
