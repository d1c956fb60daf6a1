"""The layer database: the records of read-only layers and of containers' layers.

    image/<driver>/layerdb/
    ├── sha256/<chain id>/         one read-only layer
    │   ├── diff                   its diff id, "sha256:…": the digest of its tar
    │   ├── parent                 the chain id below; the lowest layer has none
    │   ├── cache-id               the name of its directory in the driver's root
    │   ├── size                   bytes of file content
    │   └── tar-split.json.gz      everything needed to rebuild the tar (tarsplit.py)
    ├── mounts/<container id>/     one writable layer
    │   ├── mount-id, init-id      the names of its two directories in the driver's root
    │   └── parent                 the chain id below
    └── tmp/
        ├── write-set-…/           a layer that is being registered or deleted; locked by the process that does it
        ├── mount-…/               the record of a writable layer that is being created
        └── lease-…                what a running operation needs (leases.py)

The transaction: a layer is published by renaming a complete write-set to sha256/<chain id>. A crash therefore leaves
either a whole layer or an unlocked write-set, and the write-set's `cache-id` names the driver's directory that must be
deleted with it. Deletion is the same transaction backwards.

No reference counts are stored on disk, because a crash could leave them wrong. A layer is needed as long as an image,
a child layer, a container or a lease names it, and release() looks all of them up.

Format: moby layer/filestore.go and pkg/ioutils/fswriters.go, AtomicWriteSet (20.10).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Literal

from msgspec import Struct

from pylab_container.errors import Conflict, CorruptStore, InvalidInput
from pylab_container.events import Emit, LayerRegistered, LayerRemoved, Progress, StoreDamaged, ignore
from pylab_container.host.files import locked, try_locked
from pylab_container.host.random_ids import random_hex
from pylab_container.host.removal import discard_below
from pylab_container.oci.ids import CacheId, ContainerId, Digest, EntryName, MountId
from pylab_container.oci.image import chain_id
from pylab_container.store.changes import overlay_changes
from pylab_container.store.driver import Driver
from pylab_container.store.leases import Lease, Leases
from pylab_container.store.reading import REMEDY, corrupt, find_id, peek, read_id, read_text
from pylab_container.store.treetar import TreeReader

MOST_LAYERS = 125
"""Of an image. Some drivers of moby allow 127, and a container adds two (moby layer/layer_store.go, maxLayerDepth)."""


class Layer(Struct, frozen=True):
    """A read-only layer.

    parent  the chain id below, "" for the lowest layer
    size    bytes of file content
    """

    chain_id: Digest
    diff_id: Digest
    parent: Digest | Literal[""]
    cache_id: CacheId
    size: int


class WritableLayer(Struct, frozen=True):
    """The two layers of a container: its own (mount_id), and the init layer below it (init_id)."""

    container_id: ContainerId
    mount_id: MountId
    init_id: CacheId
    parent: Digest | Literal[""]


class LayerStore:
    """Owner of layerdb/ and, through the driver, of the layers' directories.

    Several processes may use one store at once. Layers with content are made by store/layer_content.py.
    """

    def __init__(self, root: Path, locks: Path, driver: Driver, *, emit: Emit = ignore) -> None:
        self.root = root
        self.driver = driver
        self._locks = locks
        self._emit = emit
        self.leases = Leases(root / "tmp")
        for name in ("sha256", "mounts", "tmp"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Serialize adding and removing layers; never held while files are written."""
        return locked(self._locks / "layers")

    # ---- read-only layers ----

    def get(self, chain: str) -> Layer:
        """Return a layer. Raises CorruptStore if its record is missing or damaged."""
        directory = self._directory(chain)
        if not directory.is_dir():
            raise CorruptStore(
                f"the layer {chain} is not in the store",
                hint="remove the image that names it, and import or build it again; labctr system fsck names it",
                path=directory,
            )
        diff_id, parent = self._content(chain)
        cache_id, size = read_id(directory / "cache-id", CacheId), _read_size(directory / "size")
        return Layer(Digest(chain), diff_id, parent, cache_id, size)

    def _content(self, chain: str) -> tuple[Digest, Digest | Literal[""]]:
        """Return a layer's diff id and the chain id below. Raises CorruptStore."""
        # A chain id is the digest of the chain id below and the diff id (image-spec config.md, "Layer ChainID"). So the
        # record can be verified, and a damaged file cannot put the layer on top of another one.
        directory = self._directory(chain)
        diff_id, parent = read_id(directory / "diff", Digest), find_id(directory / "parent", Digest)
        if (chain_id([parent, diff_id]) if parent else diff_id) != chain:
            raise corrupt(directory / "diff", "the layer's chain id does not follow from it and from parent")
        return diff_id, parent or ""

    def find(self, parent: str, diff_id: str, lease: Lease) -> Layer | None:
        """Return the layer with this diff id on top of parent, claimed by lease; None if unknown."""
        chain = chain_id([parent, diff_id]) if parent else diff_id
        with self.lock():  # else another process may release the layer between the check and the claim
            if not self.exists(chain):
                return None
            lease.claim("layer", chain)
            return self.get(chain)

    def exists(self, chain: str) -> bool:
        """Report whether a layer with this chain id is registered."""
        return Digest.match(chain) is not None and (self._directory(chain) / "cache-id").exists()

    def chain(self, top: str) -> list[Layer]:
        """Return the layers from top down to the lowest. Raises CorruptStore."""
        layers = []
        while top:
            layers.append(self.get(top))
            top = layers[-1].parent
        return layers

    def all(self) -> list[Layer]:
        """Return every layer, unordered. A damaged one is left out and reported."""
        layers = []
        for chain in self.chains():
            try:
                layers.append(self.get(chain))
            except CorruptStore as error:
                if self._directory(chain).exists():  # else it was deleted after the listing
                    self._emit(StoreDamaged.of(error))
        return layers

    def chains(self) -> list[Digest]:
        """Return the chain ids of all records, damaged ones included."""
        # Without the lock: a listing must not wait for a pull. A layer may be removed before the caller reads it.
        names = (f"sha256:{name}" for name in os.listdir(self.root / "sha256"))
        return list(filter(None, map(Digest.match, names)))

    def cache_id(self, chain: str) -> CacheId | None:
        """Return the driver's name of a layer, None for the empty chain "". Raises CorruptStore."""
        return self.get(chain).cache_id if chain else None

    def changes(self, layer: Layer) -> dict[str, int]:
        """Return {absolute path: kind} of a layer's changes (store/changes.py)."""
        below = self.cache_id(layer.parent)
        if below is None:
            return overlay_changes(self.driver.diff_path(layer.cache_id), ())
        return self.driver.changes(layer.cache_id, below)

    def tar_split_path(self, chain: str) -> Path:
        """Return the path of the record from which a layer's tar is rebuilt (store/tarsplit.py)."""
        return self._directory(chain) / "tar-split.json.gz"

    def report_progress(self, done: int) -> None:
        """Report how many bytes of a layer's tar have been read."""
        self._emit(Progress("layer", done))

    # ---- registering ----

    def check_depth(self, parent: str) -> None:
        """Raise InvalidInput if no further layer may be put on top of the chain parent."""
        if parent and len(self.chain(parent)) >= MOST_LAYERS:
            raise InvalidInput("max depth exceeded", hint=f"an image has {MOST_LAYERS} layers at most: join some")

    @contextlib.contextmanager
    def write_set(self, cache_id: CacheId) -> Iterator[Path]:
        """Create a write-set for a driver's directory; both are deleted after a failure.

        A write-set is a locked directory in tmp/ with the name of the driver's directory in cache-id.
        The caller fills the driver's directory and passes the write-set to publish() in the block.
        """
        with self.lock():  # abandoned_write_sets() deletes a write-set without a flock, so it must not see this one yet
            staging = self._write_set_path()
            staging.mkdir()
            lock = os.open(staging, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            # Before the driver creates the directory: after a crash this name is the only reference to it.
            _write_synced(staging / "cache-id", cache_id)
            yield staging
        except BaseException:  # also KeyboardInterrupt: a cell that is interrupted must not leave an extracted image
            self.driver.remove(cache_id)
            raise
        finally:
            # The lock is released last, so that no cleanup deletes the same files concurrently.
            self._discard_staging(staging.name)
            os.close(lock)

    def publish(
        self, staging: Path, cache_id: CacheId, parent: str, diff_id: Digest, size: int, lease: Lease | None
    ) -> Layer:
        """Rename a filled write-set to its chain id, which makes it a layer, and return that.

        If the layer exists already, the driver's directory is deleted and the existing layer is returned.
        Raises Conflict if the parent was removed concurrently.
        """
        chain = Digest(chain_id([parent, diff_id]) if parent else diff_id)
        _write_synced(staging / "size", str(size))
        _write_synced(staging / "diff", diff_id)
        if parent:
            _write_synced(staging / "parent", parent)
        with self.lock():
            if parent and not self.exists(parent):
                raise Conflict("the image below was removed while this layer was made", hint="import or build it again")
            # The claim before the rename: a layer without an image, child or lease may be collected by any process. A
            # crash in between leaves a claim of a layer that does not exist, which does no harm.
            if lease:
                lease.claim("layer", chain)
            if not self.exists(chain):
                staging.rename(self._directory(chain))
                layer = Layer(chain, diff_id, Digest(parent) if parent else "", cache_id, size)
                self._emit(LayerRegistered(chain, diff_id, cache_id, size, self.driver.name))
                return layer
        # Another process has registered the same layer, and containers may use its files, so this copy is deleted.
        self.driver.remove(cache_id)
        return self.get(chain)

    def abandoned_write_sets(self) -> Iterator[tuple[Path, CacheId | None]]:
        """Yield the write-sets of crashed processes, each with its cache id (None: unreadable).

        The store is locked until the generator ends.
        """
        with self.lock():
            # A process that holds no flock(2) on its write-set is dead: the kernel releases locks at exit, so that pids
            # need not be compared, which are reused.
            for path in sorted((self.root / "tmp").glob("write-set-*")):
                with contextlib.suppress(FileNotFoundError), try_locked(path) as free:
                    if free:
                        yield path, _cache_id_in(path)

    def clear_write_set(self, path: Path, cache_id: CacheId | None) -> None:
        """Delete an abandoned write-set, and its driver's directory unless a record names that."""
        self._remove_directory(cache_id)
        self._discard_staging(path.name)

    # ---- releasing ----

    def release(self, tops: Iterable[str], needed: Collection[str], lease: Lease | None = None) -> list[Digest]:
        """Delete each of tops and the layers below it, down to the first that is still needed.

        needed  the chain ids of all layers of images; children, containers and leases are looked up here
        lease   does not count as a need: the caller's own

        Returns the chain ids of the deleted layers. While a damaged record hides which layer is below a container or
        another layer, nothing is deleted and StoreDamaged is reported.
        """
        with contextlib.ExitStack() as hidden:
            with self.lock():
                removed = list(self._hide_unneeded(tops, needed, lease, hidden))
            # Without the lock: deleting an image of some gigabytes takes seconds, and `docker run` must not wait.
            for chain, cache_id in removed:
                self._remove_directory(cache_id)
                self._emit(LayerRemoved(chain, cache_id or "", self.driver.name))
        return [chain for chain, _ in removed]

    def _hide_unneeded(
        self, tops: Iterable[str], needed: Collection[str], lease: Lease | None, hidden: contextlib.ExitStack
    ) -> Iterator[tuple[Digest, CacheId | None]]:
        """Rename unneeded layers to write-sets, which are deleted when hidden is closed."""
        try:
            required = {*needed, *self._writable_parents(), *self.leases.claimed("layer", without=lease)}
            unneeded = [top for top in map(Digest.match, tops) if top and top not in required]
            # A list, not a set: several layers may have one parent, and it is needed until the last of them is removed.
            parents = self._parents(known={*unneeded, *needed}) if unneeded else []
        except CorruptStore as error:
            self._emit(StoreDamaged.of(error))
            return
        for top in unneeded:
            chain: str = top
            while chain and chain not in required and chain not in parents and self._directory(chain).exists():
                cache_id, below = self._readable_ids(chain)
                # A crash after this layer leaves the next one without a child; only the lease then names it.
                if lease and below:
                    lease.claim("layer", below)
                hidden.enter_context(self._hidden(Digest(chain)))
                parents.remove(below)
                yield Digest(chain), cache_id
                chain = below

    @contextlib.contextmanager
    def _hidden(self, chain: Digest) -> Iterator[None]:
        """Rename a layer to a locked write-set, which is deleted when the block ends.

        No other process can use the layer from the rename on.
        """
        # flock(2) is bound to the inode, so the lock moves with the directory. A crash in the block releases it, and
        # leaves what a crash in write_set() leaves: one cleanup serves both.
        lock = os.open(self._directory(chain), os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        hidden = self._write_set_path()
        self._directory(chain).rename(hidden)
        try:
            yield
        finally:
            self._discard_staging(hidden.name)
            os.close(lock)

    def _readable_ids(self, chain: str) -> tuple[CacheId | None, str]:
        """Return the cache id of a layer and the chain id below, as far as they are readable."""
        try:
            below: str = self._content(chain)[1]
        except CorruptStore:
            below = ""
        return _cache_id_in(self._directory(chain)), below

    def _parents(self, *, known: Collection[str]) -> list[str]:
        """Return the chain id below each layer, "" below the lowest ones.

        known  layers whose damaged records do not matter: the caller knows the layers below them

        Raises CorruptStore if any other record is damaged, because any layer may be its parent.
        """
        parents = []
        for chain in self.chains():
            try:
                parents.append(str(self._content(chain)[1]))
            except CorruptStore:
                if chain not in known:
                    raise
                parents.append("")
        return parents

    def _writable_parents(self) -> set[str]:
        """Return the chain ids below containers. Raises CorruptStore for a damaged record."""
        return {find_id(self.root / "mounts" / container_id / "parent", Digest) or "" for container_id in self.mounts()}

    def _remove_directory(self, cache_id: CacheId | None) -> None:
        """Delete a driver's directory, unless a record names it."""
        # The cache id was read from a record that may be damaged, and then may name the directory of another layer.
        if cache_id is not None and cache_id not in self._named_directories():
            self.driver.remove(cache_id)

    def _named_directories(self, *, without: ContainerId | None = None) -> set[str]:
        """Return the cache ids in all records of layers and containers, one container excepted."""
        records = [self.root / "sha256" / chain.hex / "cache-id" for chain in self.chains()]
        own = [self.root / "mounts" / container_id for container_id in self.mounts() if container_id != without]
        records += [directory / name for directory in own for name in ("mount-id", "init-id")]
        return {peek(path).strip() for path in records}

    # ---- writable layers ----

    def create_writable(
        self, container_id: ContainerId, parent: str, fill_init: Callable[[Path], None] | None = None
    ) -> WritableLayer:
        """Create a container's init layer and its own layer on top of the chain parent.

        fill_init  gets the path of the mounted init layer and creates the container's files there
        """
        mount_id = MountId(random_hex(32))
        writable = WritableLayer(container_id, mount_id, mount_id.init, Digest(parent) if parent else "")
        directory = self.root / "mounts" / container_id
        try:
            # The record first: after a crash it is the only reference to the directories that must be deleted.
            self._record(writable, directory)
            self.driver.create(writable.init_id, self.cache_id(parent))
            if fill_init:
                # Through a mount: the image may have a symbolic link or a directory in the place of etc/hosts.
                fill_init(self.driver.mount(writable.init_id))
                self.driver.unmount(writable.init_id)
            self.driver.create(mount_id, writable.init_id)
        except BaseException:
            self._discard(writable)
            self._forget_writable(container_id)
            raise
        return writable

    def _record(self, writable: WritableLayer, directory: Path) -> None:
        """Write the record of a writable layer."""
        # Aside, then renamed: a container whose record has no parent yet would not keep release() from deleting it.
        staging = self.root / "tmp" / f"mount-{writable.container_id}"
        staging.mkdir()
        _write_synced(staging / "mount-id", writable.mount_id)
        _write_synced(staging / "init-id", writable.init_id)
        if writable.parent:
            _write_synced(staging / "parent", writable.parent)
        staging.rename(directory)

    def writable(self, container_id: ContainerId) -> WritableLayer:
        """Return a container's layer. Raises CorruptStore if its record is missing or damaged."""
        directory = self.root / "mounts" / container_id
        if not directory.exists():
            raise CorruptStore(
                f"the container {container_id[:12]} has lost its layer: {directory} is missing",
                hint="labctr rm -f removes it; labctr system fsck --repair gives it a new, empty one",
                path=directory,
            )
        mount_id, init_id = read_id(directory / "mount-id", MountId), read_id(directory / "init-id", CacheId)
        if init_id != mount_id.init:  # one of the two was copied from another container's record
            raise corrupt(directory / "init-id", "it and mount-id do not name one container's directories")
        return WritableLayer(container_id, mount_id, init_id, find_id(directory / "parent", Digest) or "")

    def writable_layers(self) -> list[WritableLayer]:
        """Return the readable layers of all containers, unordered."""
        layers = []
        for container_id in self.mounts():
            with contextlib.suppress(CorruptStore):  # it is being removed, or `labctr system fsck` reports it
                layers.append(self.writable(container_id))
        return layers

    def members(self, writable: WritableLayer) -> contextlib.AbstractContextManager[TreeReader]:
        """Read the change of a container as the members of a tar, sorted by name."""
        return self.driver.members(writable.mount_id, writable.init_id)

    def mounts(self) -> list[ContainerId]:
        """Return the ids of all containers with a record of their layer, damaged ones included."""
        return list(filter(None, map(ContainerId.match, os.listdir(self.root / "mounts"))))

    def remove_writable(self, container_id: ContainerId, *, force: bool = False) -> None:
        """Unmount and delete a container's layer. Idempotent.

        force  also remove a damaged record; its directories are left for `labctr system fsck`

        Raises CorruptStore for a record that is complete but damaged; nothing is removed then.
        """
        if not force:
            self.check_removable(container_id)
        with contextlib.suppress(CorruptStore):
            self._discard(self.writable(container_id))
        self._forget_writable(container_id)

    def check_removable(self, container_id: ContainerId) -> None:
        """Raise CorruptStore if the record of a container's layer is complete, but damaged."""
        # An incomplete record does not count as damage: a crash in its removal leaves one, after its directories were
        # deleted.
        directory = self.root / "mounts" / container_id
        if all((directory / name).exists() for name in ("mount-id", "init-id")):
            self.writable_to_change(container_id)

    def writable_to_change(self, container_id: ContainerId) -> WritableLayer:
        """Return a container's layer for mounting it or writing to it.

        Raises CorruptStore as writable() does, and if another record names the same directory.
        """
        writable = self.writable(container_id)
        # overlayfs may accept two mounts with one upper directory, and what they show is undefined then (overlayfs.rst,
        # "Sharing and copying layers").
        if writable.mount_id in self._named_directories(without=container_id):
            path = self.root / "mounts" / container_id / "mount-id"
            raise corrupt(path, "it names the directory of another container or layer")
        return writable

    def _discard(self, writable: WritableLayer) -> None:
        """Delete the directories of a container's layer, except those that another record names."""
        named = self._named_directories(without=writable.container_id)
        for cache_id in (writable.mount_id, writable.init_id):
            if cache_id not in named:
                self.driver.remove(cache_id)

    def _forget_writable(self, container_id: ContainerId) -> None:
        # Last in every removal: as long as the record exists, a removal that crashed can be repeated.
        self._discard_staging(f"mount-{container_id}")
        discard_below(self.root / "mounts", container_id)

    # ---- paths ----

    def _discard_staging(self, name: str) -> None:
        """Delete an entry of tmp/ if it exists."""
        discard_below(self.root / "tmp", EntryName(name))

    def _write_set_path(self) -> Path:
        return self.root / "tmp" / f"write-set-{random_hex(4)}"

    def _directory(self, chain: str) -> Path:
        digest = Digest.match(chain)
        if digest is None:
            raise CorruptStore(f"{chain!r} is not the chain id of a layer", hint=REMEDY)
        return self.root / "sha256" / digest.hex


def _cache_id_in(directory: Path) -> CacheId | None:
    """Return the cache id in the record of a layer or in a write-set, None if unreadable."""
    return CacheId.match(peek(directory / "cache-id").strip())


def _read_size(path: Path) -> int:
    try:
        text = read_text(path).strip()
    except FileNotFoundError as error:
        raise corrupt(path, "it is missing") from error
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise corrupt(path, "it is not a number of bytes")
    return int(text)


def _write_synced(path: Path, text: str) -> None:
    """Write a file and flush it to disk, before the rename of its directory (fsync(2))."""
    with open(path, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
