"""The contract of a storage driver, which keeps layers as directories and joins them.

    driver     a layer's directory holds        how a container sees its layers        what layers share
    overlay2   its change, whiteouts as 0:0      one mount of all of them               everything
    overlay    the whole tree                    a mount of one tree and one change     files, as hard links
    vfs        the whole tree                    the directory itself                   nothing

A driver knows neither images nor containers. Layers are named by their cache ids, and create() gets the parent of each.
Every driver passes tests/root/test_drivers.py. The names of directories and files are Docker's (moby
daemon/graphdriver, 20.10).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pylab_container.host.idmap import IdMap
    from pylab_container.oci.ids import CacheId
    from pylab_container.store.treetar import TreeReader


class Driver(Protocol):
    """Directories of layers.

    The process that created a layer may write to it until the layer has a child.

    name         as in `--storage-driver` and `docker info`
    root         the directory that the driver owns
    keeps_trees  whether a layer's directory holds the whole tree instead of the change alone
    """

    # The contract has no reference to tars: extracting and hashing need libraries that a command which only mounts
    # layers must not load (store/layer_content.py).

    name: str
    root: Path
    keeps_trees: bool

    def create(self, cache_id: CacheId, parent: CacheId | None) -> Path:
        """Create an empty layer on top of parent (None: the lowest layer); return its diff_path.

        Raises CorruptStore if the parent is missing.
        """

    def filling(self, cache_id: CacheId) -> AbstractContextManager[Path]:
        """Yield the directory into which the members of a new layer are extracted.

        With keeps_trees it holds the parent's files, to which the change is applied. When the block ends without an
        error the layer is complete and may have children.
        """
        # overlay publishes its tree by a rename then: after a crash before that the layer looks like a new one, not
        # like a complete one.

    def members(self, cache_id: CacheId, parent: CacheId) -> AbstractContextManager[TreeReader]:
        """Read the change of a layer as the members of a tar, sorted by name.

        parent  the layer that it was created on; for a container's layer the init layer
        """

    def changes(self, cache_id: CacheId, parent: CacheId) -> dict[str, int]:
        """Return the change as {absolute path: MODIFIED, ADDED or DELETED} (store/changes.py).

        Directories that only contain changes may be missing.
        """

    def diff_path(self, cache_id: CacheId) -> Path:
        """Return the directory with the layer's own files: its change, or the resulting tree.

        It holds the content of every member of a read-only layer's tar under the member's name.
        """

    def merged_path(self, cache_id: CacheId) -> Path:
        """Return the directory on which mount() mounts a layer that has a parent."""

    def mount(self, cache_id: CacheId, ids: IdMap | None = None) -> Path:
        """Make the layer and all layers below it visible as one directory, and return that.

        Idempotent.

        ids  how the owners of files are mapped; only overlay2 supports it

        Raises NotRoot, RuntimeFailed, InvalidInput.
        """

    def open_view(self, cache_id: CacheId) -> int:
        """Return a descriptor for reading the layer joined with all below it; the caller closes it.

        The descriptor keeps its file system: a later mount() or unmount() does not change what it shows. If the layer
        is mounted, the descriptor refers to that mount; otherwise nothing can be written through it.
        """
        # A descriptor and not a path: if the container stops in between, merged/ becomes an empty directory, and a
        # reader by path would take the container for empty.

    def unmount(self, cache_id: CacheId) -> None:
        """Undo mount(). Idempotent."""
        # moby counts the users of a mount in memory (graphdriver.RefCounter). Here several processes share a data root,
        # so a container's lock decides who unmounts (store/container_store.py).

    def is_mounted(self, cache_id: CacheId) -> bool:
        """Report whether the layer is mounted; False in a driver that needs no mounts."""

    def cache_ids(self) -> list[CacheId]:
        """Return the layers that have a directory, incomplete ones included, unordered."""

    def remove(self, cache_id: CacheId) -> None:
        """Unmount and delete a layer without children. Idempotent."""
        # The driver does not know whether a layer has children; LayerStore.release() does.

    def adopt(self, cache_id: CacheId, source: CacheId) -> None:
        """Move the files of the layer source to the new layer cache_id by a rename.

        source stays, empty. It must not be mounted, because the result of changing a mounted upper directory is
        undefined (overlayfs.rst). The parents may differ only by an init layer, whose files no image contains.
        Raises InvalidInput from a driver that keeps trees.
        """

    def graph_data(self, cache_id: CacheId) -> dict[str, str] | None:
        """Return GraphDriver.Data of `docker inspect`."""
