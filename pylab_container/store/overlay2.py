"""The overlay2 driver: each layer is a directory, and one overlay mount joins them.

    overlay2/
    ├── <cache id>/            one layer; the id is random and independent of the content
    │   ├── diff/              what this layer adds, changes and hides
    │   ├── link               the layer's short name, 26 letters and digits
    │   ├── lower              "l/<link of parent>:l/<link of its parent>:…"; the lowest layer has none
    │   ├── work/              overlayfs's own scratch space; the lowest layer has none
    │   ├── merged/            the mount point of the joined view; exists only while it is in use
    │   └── committed          empty; created once a layer has a child and must not change again
    ├── <cache id>-init/       per container: files that are mounted over, such as etc/hosts
    └── l/<link> -> ../<cache id>/diff

A directory <cache id> may be written to by the process that created it, until the layer has a child.
Format: moby daemon/graphdriver/overlay2 (20.10). Kernel side: Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pylab_container.errors import CorruptStore, InvalidInput
from pylab_container.events import Emit, OverlayMounted, OverlayUnmounted, ignore
from pylab_container.host.descent import opened
from pylab_container.host.files import make_directory
from pylab_container.host.idmap import IdMap
from pylab_container.host.removal import remove_below
from pylab_container.oci.ids import CacheId, ShortName
from pylab_container.store import overlayfs
from pylab_container.store.changes import overlay_changes
from pylab_container.store.reading import corrupt, read_id, read_text, unlinked
from pylab_container.store.treetar import TreeReader

MOST_LAYERS = 128
"""Layers of one mount. (26 + len("l/") + len(":")) · 128 + 512 bytes for labels are the 4096 that mount(2) takes
(moby overlay2.go, idLength)."""

_LOWER = re.compile(f"l/{ShortName.form.pattern}(?::l/{ShortName.form.pattern})*")


def new_link() -> ShortName:
    """Return a random short name for a layer: 130 bits, so that no two are equal."""
    return ShortName(base64.b32encode(os.urandom(17)).decode()[:26])


def link_target(cache_id: str) -> str:
    """Return the target of the symbolic link l/<short name> of a layer."""
    return f"../{cache_id}/diff"


class Overlay2:
    """The driver for one overlay2/ directory, which it creates.

    The contract is store/driver.py.

    Several processes may use one directory at once: each layer is created under a new random name.
    """

    name = "overlay2"
    keeps_trees = False

    def __init__(self, root: Path, *, emit: Emit = ignore) -> None:
        self.root = root
        self._emit = emit
        root.mkdir(parents=True, exist_ok=True, mode=0o710)
        (root / "l").mkdir(exist_ok=True, mode=0o700)

    # ---- creating and removing layers ----

    def create(self, cache_id: CacheId, parent: CacheId | None) -> Path:
        """Create an empty layer on top of parent (None: the lowest layer) and return its diff/."""
        lowers = []
        if parent is not None:
            self._lower_paths(parent)  # a child copies its parent's lower file, with any damage in it: check that first
            lowers = [f"l/{self._link(parent)}", *self.lowers(parent)]
        if len(lowers) >= MOST_LAYERS:
            raise InvalidInput(
                f"the image would have more than {MOST_LAYERS} layers", hint="join some RUN instructions with &&"
            )
        directory = self.root / cache_id
        directory.mkdir(mode=0o710)
        # The mode of a container's /: the upper directory's attributes are those of the merged root.
        diff = make_directory(directory / "diff", 0o755)
        link = new_link()
        # The file before the symbolic link: after a crash in between, remove() finds the link by this name.
        (directory / "link").write_text(link)
        (self.root / "l" / link).symlink_to(link_target(cache_id))
        if parent is not None:
            (directory / "work").mkdir(mode=0o700)
            # For dockerd, which mounts a layer with this file read-only (overlay2.go, get).
            (self.root / parent / "committed").touch(mode=0o600)
            (directory / "lower").write_text(":".join(lowers))
        return diff

    @contextlib.contextmanager
    def filling(self, cache_id: CacheId) -> Iterator[Path]:
        """Yield diff/; whiteouts are files in it, so extracting needs no layers below."""
        yield self.diff_path(cache_id)

    def adopt(self, cache_id: CacheId, source: CacheId) -> None:
        """Rename diff/ of the layer source to that of the new layer cache_id."""
        target, origin = self.diff_path(cache_id), self.diff_path(source)
        target.rmdir()  # it is empty; a crash before the rename leaves a write-set, which is deleted as a whole
        origin.rename(target)
        origin.mkdir(mode=0o755)

    def remove(self, cache_id: CacheId) -> None:
        """Unmount and delete a layer without children. Idempotent."""
        # The link first: it can only be found through the directory, so a crash must not leave it alone.
        with contextlib.suppress(FileNotFoundError, CorruptStore):
            (self.root / "l" / self._link(cache_id)).unlink()
        self.unmount(cache_id)
        with contextlib.suppress(FileNotFoundError):
            remove_below(self.root, cache_id)

    # ---- reading layers ----

    @contextlib.contextmanager
    def members(self, cache_id: CacheId, parent: CacheId) -> Iterator[TreeReader]:
        """Read the change of a layer as the members of a tar."""
        yield TreeReader(self.diff_path(cache_id))  # diff/ with its whiteouts is the change: nothing to compare

    def changes(self, cache_id: CacheId, parent: CacheId) -> dict[str, int]:
        """Return the change of a layer as {absolute path: kind}."""
        return overlay_changes(self.diff_path(cache_id), self._lower_paths(cache_id))

    def diff_path(self, cache_id: CacheId) -> Path:
        """Return diff/ of a layer. Raises CorruptStore if it is a symbolic link."""
        directory = self.root / cache_id
        return unlinked(directory, directory / "diff")

    def cache_ids(self) -> list[CacheId]:
        """Return the layers that have a directory, incomplete ones included, unordered."""
        return list(filter(None, map(CacheId.match, os.listdir(self.root))))

    def graph_data(self, cache_id: CacheId) -> dict[str, str]:
        """Return GraphDriver.Data of `docker inspect`."""
        own, lowers = self.root / cache_id, self._lower_paths(cache_id)
        data = {"LowerDir": ":".join(map(str, lowers))} if lowers else {}
        return data | {
            "MergedDir": str(own / "merged"),
            "UpperDir": str(own / "diff"),
            "WorkDir": str(own / "work"),
        }

    # ---- mounting ----

    def mount(self, cache_id: CacheId, ids: IdMap | None = None) -> Path:
        """Mount the layer joined with all layers below it, and return the mount point. Idempotent.

        ids  how the owners of files are mapped

        Raises NotRoot, RuntimeFailed, CorruptStore.
        """
        directory = self.root / cache_id
        lowers = self.lowers(cache_id)
        diff = self.diff_path(cache_id)
        if not lowers:
            return diff  # overlayfs refuses a mount without a lower directory; a lowest layer needs none
        merged = self.merged_path(cache_id)
        unlinked(directory / "work", merged)
        # The kernel resolves each l/<link>, and reports a missing one as ENOENT without its name. A damaged link could
        # lead anywhere on the machine.
        self._lower_paths(cache_id)
        merged.mkdir(exist_ok=True, mode=0o700)
        if os.path.ismount(merged):
            return merged
        own = cache_id
        options = overlayfs.mount(
            self.root, f"{own}/merged", lowers=lowers, upper=f"{own}/diff", work=f"{own}/work", ids=ids
        )
        self._emit(OverlayMounted(cache_id, str(merged), options))
        return merged

    def open_view(self, cache_id: CacheId) -> int:
        """Return a descriptor for reading the joined layers; see store/driver.py."""
        if self.is_mounted(cache_id):
            return opened(self.merged_path(cache_id))
        own = self.diff_path(cache_id)
        if not (lowers := self.lowers(cache_id)):
            return opened(own)
        self._lower_paths(cache_id)  # as in mount()
        return overlayfs.open_view(self.root, [f"{cache_id}/diff", *lowers])

    def unmount(self, cache_id: CacheId) -> None:
        """Unmount the joined view. Idempotent."""
        merged = self.merged_path(cache_id)
        if overlayfs.unmount(merged):
            self._emit(OverlayUnmounted(cache_id, str(merged)))
        # Since Linux 3.18 this also ends copies of the mount in other mount namespaces, which would make the next
        # mount fail with EBUSY (moby overlay2.go, Put; kernel commit 8ed936b5671b).
        with contextlib.suppress(FileNotFoundError):
            merged.rmdir()

    def is_mounted(self, cache_id: CacheId) -> bool:
        """Report whether the joined view is mounted."""
        return os.path.ismount(self.merged_path(cache_id))

    def merged_path(self, cache_id: CacheId) -> Path:
        """Return the mount point of a layer that has a parent."""
        return self.root / cache_id / "merged"

    # ---- lower layers ----

    def lowers(self, cache_id: CacheId) -> list[str]:
        """Return the layers below as "l/<link>", uppermost first. Raises CorruptStore."""
        path = self.root / cache_id / "lower"
        try:
            text = read_text(path)
        except FileNotFoundError:
            return []
        if not _LOWER.fullmatch(text):  # it becomes mount options: a comma would add one
            raise corrupt(path, "it does not list short names of layers")
        return text.split(":")

    def _lower_paths(self, cache_id: CacheId) -> list[Path]:
        """Return the diff directories below, uppermost first. Raises CorruptStore."""
        paths = []
        for link in self.lowers(cache_id):
            if not os.path.lexists(self.root / link):
                lower = self.root / cache_id / "lower"
                raise corrupt(lower, f"it names {self.root / link}, which does not exist")
            paths.append(self.diff_path(self._layer_of_link(link)))
        return paths

    def _layer_of_link(self, link: str) -> CacheId:
        """Return the layer that a short name, "l/…", leads to. Raises CorruptStore."""
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
        """Return a layer's short name, verified to lead back to it. Raises CorruptStore."""
        path = self.root / cache_id / "link"
        link = read_id(path, ShortName)  # a crash in create() may leave an empty file
        if self._layer_of_link(f"l/{link}") != cache_id:
            raise corrupt(path, f"l/{link} leads to another layer")
        return link
