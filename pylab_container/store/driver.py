"""What every storage driver can do: keep layers as directories, and join them to one file system.

    driver     a layer's directory holds        how a container sees its layers        what layers share
    overlay2   its change, whiteouts as 0:0      one mount of all of them               everything
    overlay    the whole tree                    a mount of one tree and one change     files, as hard links
    vfs        the whole tree                    the directory itself                   nothing

A driver knows no images, no containers and no tar: it is told which layer lies on which,
and speaks of layers by their cache ids. All of them pass tests/root/test_drivers.py.
The names of directories and files are Docker's (moby daemon/graphdriver, 20.10).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pylab_container.host.idmap import IdMap
    from pylab_container.oci.ids import CacheId
    from pylab_container.store.layertar import Extractor
    from pylab_container.store.treetar import TreeReader


class Driver(Protocol):
    """The contract. Whoever created a layer may write to it until another one lies on it.

    name         as `--storage-driver` and Docker call it
    root         the directory that it owns
    keeps_trees  whether a layer's directory holds the whole tree and not only the change
    """

    name: str
    root: Path
    keeps_trees: bool

    def create(self, cache_id: CacheId, parent: CacheId | None) -> Path:
        """Make a layer without changes on top of parent (None: at the bottom); returns its diff_path.

        Raises CorruptStore where the parent is missing.
        """

    def extractor(self, cache_id: CacheId) -> AbstractContextManager[Extractor]:
        """Writes a layer's members into a layer that was just created.

        When the block ends without an error the layer is complete and others may lie on
        it. A whiteout hides what lies below and never what the same layer brought.
        """

    def members(self, cache_id: CacheId, parent: CacheId) -> AbstractContextManager[TreeReader]:
        """What a layer changes compared with parent, as a tar's members, sorted by name.

        parent must be the one that it was created on. For a container's layer that is the init layer.
        """

    def changes(self, cache_id: CacheId, parent: CacheId) -> dict[str, int]:
        """The same as absolute paths and kinds: MODIFIED, ADDED or DELETED (store/changes.py).

        Directories that only contain changes may be missing.
        """

    def diff_path(self, cache_id: CacheId) -> Path:
        """The directory with the layer's own files: its change, or the whole tree that results from it.

        The content of every member of a read-only layer lies there under the member's name.
        """

    def merged_path(self, cache_id: CacheId) -> Path:
        """Where mount() shows a layer that lies on another one."""

    def mount(self, cache_id: CacheId, ids: IdMap | None = None) -> Path:
        """Make the layer with all below it visible as one directory, and return that.

        ids  whose files are whose, seen through it; only overlay2 can map them

        Mounting what is mounted changes nothing. Raises NotRoot, RuntimeFailed.
        """

    def open_view(self, cache_id: CacheId) -> int:
        """A descriptor of the layer with all below it, to read from; the caller closes it.

        It is a reference to the file system: later calls of unmount() and mount() change nothing for it. Where the
        layer is mounted it leads into that mount, else nothing can be written through it.
        """

    def unmount(self, cache_id: CacheId) -> None:
        """Take that view away. Unmounting what is not mounted changes nothing."""

    def is_mounted(self, cache_id: CacheId) -> bool:
        """Whether the view is a mount that exists now; never where views need none."""

    def cache_ids(self) -> list[CacheId]:
        """The layers that have a directory, whole or not, in no order; other entries of the root are not listed."""

    def remove(self, cache_id: CacheId) -> None:
        """Delete a layer that nothing lies on, unmounting it first. Deleting what is not there changes nothing."""

    def adopt(self, cache_id: CacheId, source: CacheId) -> None:
        """Take the files of the layer source as those of the new layer cache_id: a rename, whatever their size.

        source keeps existing, empty; it must not be mounted. The parents must have the same content.
        Raises InvalidInput from a driver that keeps trees.
        """

    def graph_data(self, cache_id: CacheId) -> dict[str, str] | None:
        """What `docker inspect` shows as GraphDriver.Data."""
