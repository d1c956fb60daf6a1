"""Store the content of a layer and rebuild its tar: the tars of the layer database.

    register   tar members              →  layer     `docker load`, `docker pull`, `docker import`
    copy       container's own files    →  layer     `docker commit`
    adopt      container's own files    →  layer     a build step: the files are moved, not copied
    tar_stream layer                    →  tar       `docker save`, `docker push`

store/layer_store.py owns the files that these functions fill and read. It is a module of its own because a command
that makes no layer, such as `labctr ps` or `labctr run`, must not wait for the import of the libraries for checksums
and compression.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from pylab_container.host.random_ids import random_hex
from pylab_container.oci.ids import CacheId, Digest
from pylab_container.store import tarsplit
from pylab_container.store.driver import Driver
from pylab_container.store.extractor import Extractor, TreeExtractor
from pylab_container.store.layer_store import Layer, LayerStore, WritableLayer
from pylab_container.store.layertar import MemberSource, StoredLayer, store
from pylab_container.store.leases import Lease
from pylab_container.store.tarsplit import TarSplitWriter
from pylab_container.store.treetar import limit_times

_Fill = Callable[[CacheId, TarSplitWriter], StoredLayer]
"""Puts the files of a layer into the driver's directory and records their tar."""


def register(
    layers: LayerStore,
    members: MemberSource,
    parent: str,
    lease: Lease | None = None,
    *,
    check: Callable[[str], None] = lambda diff_id: None,
) -> Layer:
    """Store a layer on top of the chain parent in one pass over its members. Idempotent.

    parent  a chain id; "" for the lowest layer
    lease   claims the layer before it is visible; without a lease another process may collect it at once
    check   called with the diff id before the layer is published; may raise to refuse it

    If the same layer is registered already, it is returned and the new copy is deleted.
    Raises InvalidArchive, Conflict, InvalidInput; the store is unchanged then.
    """

    def fill(cache_id: CacheId, record: TarSplitWriter) -> StoredLayer:
        # The diff id is known only at the end, and only then whether the layer exists already. Extracting while hashing
        # is still faster than reading the stream twice, and a stream from a registry cannot be read twice.
        layers.driver.create(cache_id, layers.cache_id(parent))
        with _extractor(layers.driver, cache_id) as extractor:
            stored = store(members, extractor, record, layers.report_progress)
        check(stored.diff_id)
        return stored

    return _register(layers, parent, lease, fill)


def copy(layers: LayerStore, writable: WritableLayer, lease: Lease, *, newest: int | None = None) -> Layer | None:
    """Store the content of a writable layer as a read-only layer; the container keeps its own.

    newest  nanoseconds since the epoch; later modification times are clamped to it

    Returns None if the writable layer has no change.
    """
    if _is_unchanged(layers, writable):  # a config-only step has no layer, as in Docker's builder
        return None
    with layers.members(writable) as members:
        members.newest = newest
        return register(layers, members, writable.parent, lease)


def adopt(layers: LayerStore, writable: WritableLayer, lease: Lease, *, newest: int | None = None) -> Layer | None:
    """Turn a writable layer into a read-only layer by renaming its directory.

    newest  as for copy()

    The container loses its files. For a container that is deleted afterwards: each file is read once, for the digest,
    and never written again. With a driver that keeps whole trees the files are copied. Returns None if the writable
    layer has no change.
    """
    if layers.driver.keeps_trees:
        return copy(layers, writable, lease, newest=newest)

    def fill(cache_id: CacheId, record: TarSplitWriter) -> StoredLayer:
        layers.driver.create(cache_id, layers.cache_id(writable.parent))
        # To change the upper directory of a mounted overlay has undefined results (overlayfs.rst, "Changes to
        # underlying filesystems"): unmount before times are set and the directory is moved.
        layers.driver.unmount(writable.mount_id)
        if newest is not None:
            limit_times(layers.driver.diff_path(writable.mount_id), newest)
        # Hashed before they are moved: if a file cannot be read, the container still has its files.
        with layers.members(writable) as members:
            stored = store(members, None, record, layers.report_progress)
        layers.driver.adopt(cache_id, writable.mount_id)
        return stored

    return None if _is_unchanged(layers, writable) else _register(layers, writable.parent, lease, fill)


def tar_stream(layers: LayerStore, chain: str) -> Iterator[bytes]:
    """Yield the layer's tar in pieces, byte for byte as it was registered. Raises CorruptStore."""
    layer = layers.get(chain)
    return tarsplit.assemble(layers.tar_split_path(chain), layers.driver.diff_path(layer.cache_id))


def tar_size(layers: LayerStore, chain: str) -> int:
    """Return the length of the layer's tar in bytes. Raises CorruptStore."""
    return tarsplit.size(layers.tar_split_path(chain))


def _register(layers: LayerStore, parent: str, lease: Lease | None, fill: _Fill) -> Layer:
    """Run the transaction of store/layer_store.py: fill a write-set, then publish it."""
    layers.check_depth(parent)
    cache_id = CacheId(random_hex(32))
    with layers.write_set(cache_id) as staging:
        with open(staging / "tar-split.json.gz", "wb") as sink:
            with contextlib.closing(TarSplitWriter(sink)) as record:
                stored = fill(cache_id, record)
            # Before the rename that publishes the write-set: after a power failure a renamed file that was never
            # written back may be empty (fsync(2)), and a layer without its tar-split cannot be pushed or saved. The
            # files of the layer are not flushed: tar_stream() finds damage in them by their checksums.
            sink.flush()
            os.fsync(sink.fileno())
        return layers.publish(staging, cache_id, parent, Digest(stored.diff_id), stored.size, lease)


@contextlib.contextmanager
def _extractor(driver: Driver, cache_id: CacheId) -> Iterator[Extractor]:
    """Open an extractor into a new layer, which is complete when the block ends."""
    # A whole tree has no lower layer that a whiteout could hide: TreeExtractor deletes the file itself.
    kind = TreeExtractor if driver.keeps_trees else Extractor
    with driver.filling(cache_id) as directory, kind(directory) as extractor:
        yield extractor


def _is_unchanged(layers: LayerStore, writable: WritableLayer) -> bool:
    with layers.members(writable) as members:
        return next(iter(members), None) is None
