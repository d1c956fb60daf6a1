"""The layer database: which layers there are, on what they lie, and what they are made of.

    image/<driver>/layerdb/
    ├── sha256/<chain id>/         one read-only layer
    │   ├── diff                   its diff id, "sha256:…": the digest of its tar
    │   ├── parent                 the chain id below; the lowest layer has none
    │   ├── cache-id               its directory with the driver
    │   ├── size                   bytes of file content
    │   └── tar-split.json.gz      how to rebuild the tar
    ├── mounts/<container id>/     one writable layer
    │   ├── mount-id, init-id      its directories with the driver
    │   └── parent                 the chain id below
    └── tmp/
        ├── write-set-…/           a layer in the making, or one that is being deleted; locked by who does it
        ├── mount-…/               the record of a writable layer in the making
        └── lease-…                who makes an image out of which layers (leases.py)

A layer appears by the rename of a complete write-set, so a crash leaves either a whole
layer or a write-set without a lock, which says in `cache-id` what else it left. Nobody
keeps reference counts on disk: a layer is needed while an image, a child, a container or
a lease names it. Format: moby layer/ (20.10).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from pylab_container.errors import Conflict, CorruptStore, InvalidInput
from pylab_container.events import Emit, LayerRegistered, LayerRemoved, Progress, StoreDamaged, ignore
from pylab_container.host.files import locked, try_locked
from pylab_container.host.removal import discard_below
from pylab_container.oci.ids import CacheId, ContainerId, Digest, EntryName, MountId
from pylab_container.oci.image import chain_id
from pylab_container.store.changes import overlay_changes
from pylab_container.store.driver import Driver
from pylab_container.store.leases import Lease, Leases
from pylab_container.store.reading import REMEDY, corrupt, find_id, peek, read_id, read_text

if TYPE_CHECKING:  # what reads and writes tars is imported where a layer is made: a container needs none of it to run
    from pylab_container.store import layertar, tarsplit, treetar

MOST_LAYERS = 125
"""As in moby (layer/layer_store.go): with a container's two layers on top, the 128 of overlay2 are enough."""


class Layer(Struct, frozen=True):
    """A read-only layer. `parent` is the chain id below, "" for the lowest."""

    chain_id: Digest
    diff_id: Digest
    parent: Digest | Literal[""]
    cache_id: CacheId
    size: int


class WritableLayer(Struct, frozen=True):
    """A container's own layer, and the init layer between it and the image."""

    container_id: ContainerId
    mount_id: MountId
    init_id: CacheId
    parent: Digest | Literal[""]


class LayerStore:
    """Owns layerdb/ and, through the driver, the layers' directories."""

    def __init__(self, root: Path, locks: Path, driver: Driver, *, emit: Emit = ignore) -> None:
        self.root = root
        self.driver = driver
        self._locks = locks
        self._emit = emit
        self.leases = Leases(root / "tmp")
        for name in ("sha256", "mounts", "tmp"):
            (root / name).mkdir(parents=True, exist_ok=True)

    # ---- read-only layers ----

    def register(
        self,
        members: layertar.MemberSource,
        parent: str,
        lease: Lease | None = None,
        *,
        check: Callable[[str], None] = lambda diff_id: None,
    ) -> Layer:
        """Store a layer on top of the chain parent ("": at the bottom) in one pass over its members.

        lease  claims the layer from the moment it is there; without one it may vanish at once
        check  is called with the diff id before anything is registered, and may raise

        A layer that is there already is found, not stored twice. Raises InvalidArchive;
        then nothing is left of the attempt.
        """
        from pylab_container.store import layertar

        def fill(cache_id: CacheId, record: tarsplit.TarSplitWriter) -> layertar.StoredLayer:
            self.driver.create(cache_id, self._cache_id(parent))
            with self.driver.extractor(cache_id) as extractor:
                stored = layertar.store(members, extractor, record, self._progress)
            check(stored.diff_id)
            return stored

        return self._register(parent, lease, fill)

    def adopt(self, writable: WritableLayer, lease: Lease, *, newest: int | None = None) -> Layer | None:
        """Turn a writable layer's files into a read-only layer by renaming their directory.

        For containers that nobody needs afterwards: the files are read once, to know
        their digest, and never copied. Where the driver cannot do that, they are. None
        where the layer holds no change.

        newest  nanoseconds since the epoch; files with later times get this one
        """
        if self.driver.keeps_trees:
            return self.copy(writable, lease, newest=newest)
        from pylab_container.store import layertar, treetar

        def fill(cache_id: CacheId, record: tarsplit.TarSplitWriter) -> layertar.StoredLayer:
            self.driver.create(cache_id, self._cache_id(writable.parent))
            self.driver.unmount(writable.mount_id)
            if newest is not None:
                treetar.limit_times(self.driver.diff_path(writable.mount_id), newest)
            with self._members(writable) as members:
                stored = layertar.store(members, None, record, self._progress)
            self.driver.adopt(cache_id, writable.mount_id)
            return stored

        return None if self._unchanged(writable) else self._register(writable.parent, lease, fill)

    def copy(self, writable: WritableLayer, lease: Lease, *, newest: int | None = None) -> Layer | None:
        """Store what a writable layer holds now as a read-only layer; the container keeps its own.

        None where it holds no change. newest as for adopt().
        """
        if self._unchanged(writable):
            return None
        with self._members(writable) as members:
            members.newest = newest
            return self.register(members, writable.parent, lease)

    def get(self, chain: str) -> Layer:
        """The layer with this chain id. Raises CorruptStore if its record is missing or damaged."""
        directory = self._directory(chain)
        if not directory.is_dir():
            raise CorruptStore(
                f"the layer {chain} is not in the store",
                hint="remove the image that names it, and import or build it again; labctr system fsck names it",
                path=directory,
            )
        diff_id, parent = self._content(chain)
        return Layer(
            Digest(chain), diff_id, parent, read_id(directory / "cache-id", CacheId), _size(directory / "size")
        )

    def _content(self, chain: str) -> tuple[Digest, Digest | Literal[""]]:
        """The diff id of a layer and the chain id below: the layer's own chain id proves them. Raises CorruptStore."""
        directory = self._directory(chain)
        diff_id, parent = read_id(directory / "diff", Digest), find_id(directory / "parent", Digest)
        if (chain_id([parent, diff_id]) if parent else diff_id) != chain:
            raise corrupt(directory / "diff", "the layer's chain id does not follow from it and from parent")
        return diff_id, parent or ""

    def find(self, parent: str, diff_id: str, lease: Lease) -> Layer | None:
        """The layer with this content on top of the chain parent, claimed by lease; None if it is not here."""
        chain = chain_id([parent, diff_id]) if parent else diff_id
        with self.lock():
            if not self.exists(chain):
                return None
            lease.claim("layer", chain)
            return self.get(chain)

    def exists(self, chain: str) -> bool:
        """Whether a layer with this chain id is complete."""
        return Digest.match(chain) is not None and (self._directory(chain) / "cache-id").exists()

    def chain(self, top: str) -> list[Layer]:
        """The layers from top down to the lowest."""
        layers = []
        while top:
            layers.append(self.get(top))
            top = layers[-1].parent
        return layers

    def all(self) -> list[Layer]:
        """Every read-only layer, in no order. A damaged one is left out and reported (StoreDamaged)."""
        found = []
        for chain in self.chains():
            try:
                found.append(self.get(chain))
            except CorruptStore as error:
                if self._directory(chain).exists():  # else it was deleted since the listing
                    self._emit(StoreDamaged.of(error))
        return found

    def chains(self) -> list[Digest]:
        """The chain ids of all layers that have a record, whole or not."""
        names = (f"sha256:{name}" for name in os.listdir(self.root / "sha256"))
        return list(filter(None, map(Digest.match, names)))

    def changes(self, layer: Layer) -> dict[str, int]:
        """What a layer does to the files below it: absolute paths and kinds (store/changes.py)."""
        below = self._cache_id(layer.parent)
        if below is None:
            return overlay_changes(self.driver.diff_path(layer.cache_id), ())
        return self.driver.changes(layer.cache_id, below)

    def tar_stream(self, chain: str) -> Iterator[bytes]:
        """The layer's own tar, byte for byte as it came."""
        from pylab_container.store import tarsplit

        layer = self.get(chain)
        return tarsplit.assemble(self._directory(chain) / "tar-split.json.gz", self.driver.diff_path(layer.cache_id))

    def tar_size(self, chain: str) -> int:
        """How many bytes the layer's own tar has."""
        from pylab_container.store import tarsplit

        return tarsplit.size(self._directory(chain) / "tar-split.json.gz")

    def release(self, tops: Iterable[str], needed: Collection[str], lease: Lease | None = None) -> list[Digest]:
        """Delete each of tops and the layers below it, down to the first that somebody still needs.

        needed holds the chain ids of all layers of images. Children, containers and leases are
        looked up here; those of lease do not count. Returns the chain ids of what was deleted: nothing
        while a damaged record hides the layer below a container or another layer.
        """
        with contextlib.ExitStack() as hidden:
            with self.lock():
                removed = list(self._hide_unneeded(tops, needed, lease, hidden))
            for chain, cache_id in removed:
                self._remove_directory(cache_id)
                self._emit(LayerRemoved(chain, cache_id or "", self.driver.name))
        return [chain for chain, _ in removed]

    def _hide_unneeded(
        self, tops: Iterable[str], needed: Collection[str], lease: Lease | None, hidden: contextlib.ExitStack
    ) -> Iterator[tuple[Digest, CacheId | None]]:
        """Rename layers to write-sets, which are deleted when hidden is closed: after their directories."""
        try:
            kept = {*needed, *self._writable_parents(), *self.leases.claimed("layer", without=lease)}
            unneeded = [top for top in map(Digest.match, tops) if top and top not in kept]
            parents = self._parents(known={*unneeded, *needed}) if unneeded else []
        except CorruptStore as error:
            self._emit(StoreDamaged.of(error))
            return
        for top in unneeded:
            chain: str = top
            while chain and chain not in kept and chain not in parents and self._directory(chain).exists():
                cache_id, below = self._remains(chain)
                if lease and below:  # killed after this one, the lease must still name the next
                    lease.claim("layer", below)
                hidden.enter_context(self._hidden(Digest(chain)))
                parents.remove(below)
                yield Digest(chain), cache_id
                chain = below

    def _parents(self, *, known: Collection[str]) -> list[str]:
        """The chain id below each layer, "" below the lowest ones.

        known  layers whose damaged records hide nothing: the caller knows the layers below them

        Raises CorruptStore for any other layer whose record is damaged: any layer may be below it.
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

    # ---- writable layers ----

    def create_writable(
        self, container_id: ContainerId, parent: str, fill_init: Callable[[Path], None] | None = None
    ) -> WritableLayer:
        """Make a container's init layer and its own layer on top of the chain parent.

        fill_init gets the init layer mounted and puts its files there.
        """
        mount_id = MountId(secrets.token_hex(32))
        writable = WritableLayer(container_id, mount_id, mount_id.init, Digest(parent) if parent else "")
        directory = self.root / "mounts" / container_id
        try:
            # The record first: after a crash it tells what else there is.
            self._record(writable, directory)
            self.driver.create(writable.init_id, self._cache_id(parent))
            if fill_init:
                fill_init(self.driver.mount(writable.init_id))
                self.driver.unmount(writable.init_id)
            self.driver.create(mount_id, writable.init_id)
        except BaseException:
            self._discard(writable)
            self._forget_writable(container_id)
            raise
        return writable

    def writable(self, container_id: ContainerId) -> WritableLayer:
        """A container's layer. Raises CorruptStore if it is missing or its record is damaged."""
        directory = self.root / "mounts" / container_id
        if not directory.exists():
            raise CorruptStore(
                f"the container {container_id[:12]} has lost its layer: {directory} is missing",
                hint="labctr rm -f removes it; labctr system fsck --repair gives it a new, empty one",
                path=directory,
            )
        mount_id, init_id = read_id(directory / "mount-id", MountId), read_id(directory / "init-id", CacheId)
        if init_id != mount_id.init:  # one of them is another container's
            raise corrupt(directory / "init-id", "it and mount-id do not name one container's directories")
        return WritableLayer(container_id, mount_id, init_id, find_id(directory / "parent", Digest) or "")

    def writable_layers(self) -> list[WritableLayer]:
        """Every container's layer, in no order."""
        found = []
        for container_id in self.mounts():
            with contextlib.suppress(CorruptStore):  # it is being removed, or `fsck` says what is wrong with it
                found.append(self.writable(container_id))
        return found

    def mounts(self) -> list[ContainerId]:
        """The containers that have a record of their layer, whole or not."""
        return list(filter(None, map(ContainerId.match, os.listdir(self.root / "mounts"))))

    def remove_writable(self, container_id: ContainerId, *, force: bool = False) -> None:
        """Delete a container's layer with all that it wrote. Unmounts it first.

        A record that lacks a file is what a killed creation or removal leaves: what it named does not exist.
        force  also remove a damaged record; its directories, which it does not name, are left for `fsck`

        Raises CorruptStore for a damaged record; then nothing is removed.
        """
        if not force:
            self.check_removable(container_id)
        with contextlib.suppress(CorruptStore):
            self._discard(self.writable(container_id))
        self._forget_writable(container_id)

    def check_removable(self, container_id: ContainerId) -> None:
        """Raise CorruptStore if the record of a container's layer is whole, but damaged."""
        directory = self.root / "mounts" / container_id
        if all((directory / name).exists() for name in ("mount-id", "init-id")):
            self.own(container_id)

    def own(self, container_id: ContainerId) -> WritableLayer:
        """writable(), for what writes to the layer. Raises CorruptStore also if the directories are another one's."""
        writable = self.writable(container_id)
        if writable.mount_id in self._named_directories(without=container_id):
            path = self.root / "mounts" / container_id / "mount-id"
            raise corrupt(path, "it names the directory of another container or layer")
        return writable

    # ---- how ----

    def _register(
        self, parent: str, lease: Lease | None, fill: Callable[[CacheId, tarsplit.TarSplitWriter], layertar.StoredLayer]
    ) -> Layer:
        """One transaction: a write-set is filled, then renamed into place under the lock."""
        from pylab_container.store import tarsplit

        if parent and len(self.chain(parent)) >= MOST_LAYERS:
            raise InvalidInput("max depth exceeded", hint=f"an image has {MOST_LAYERS} layers at most: join some")
        cache_id = CacheId(secrets.token_hex(32))
        with self._write_set(cache_id) as staging:
            with open(staging / "tar-split.json.gz", "wb") as sink:
                with contextlib.closing(tarsplit.TarSplitWriter(sink)) as record:
                    stored = fill(cache_id, record)
                sink.flush()
                os.fsync(sink.fileno())
            diff_id = Digest(stored.diff_id)
            chain = Digest(chain_id([parent, diff_id]) if parent else diff_id)
            _write_synced(staging / "size", str(stored.size))
            _write_synced(staging / "diff", stored.diff_id)
            if parent:
                _write_synced(staging / "parent", parent)
            with self.lock():
                if parent and not self.exists(parent):
                    raise Conflict(
                        "the image below was removed while this layer was made", hint="import or build it again"
                    )
                if lease:
                    lease.claim("layer", chain)
                if not self.exists(chain):
                    staging.rename(self._directory(chain))
                    layer = Layer(chain, diff_id, Digest(parent) if parent else "", cache_id, stored.size)
                    self._emit(LayerRegistered(chain, layer.diff_id, cache_id, layer.size, self.driver.name))
                    return layer
            self.driver.remove(cache_id)
            return self.get(chain)

    @contextlib.contextmanager
    def _write_set(self, cache_id: CacheId) -> Iterator[Path]:
        """A locked directory in tmp/ that names its layer directory; both are gone after a failure."""
        with self.lock():  # whoever looks for write-sets without a lock must not find this one
            staging = self._write_set_path()
            staging.mkdir()
            lock = os.open(staging, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _write_synced(staging / "cache-id", cache_id)
            yield staging
        except BaseException:
            self.driver.remove(cache_id)
            raise
        finally:
            self._discard_staging(staging.name)
            os.close(lock)

    @contextlib.contextmanager
    def _hidden(self, chain: Digest) -> Iterator[None]:
        """Out of sight first: a crash in the block leaves a write-set, as one in the making does."""
        lock = os.open(self._directory(chain), os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        hidden = self._write_set_path()
        self._directory(chain).rename(hidden)
        try:
            yield
        finally:
            self._discard_staging(hidden.name)
            os.close(lock)

    def abandoned_write_sets(self) -> Iterator[tuple[Path, CacheId | None]]:
        """The write-sets of makers that are dead, and the cache id of each (None: nothing else is left of it)."""
        with self.lock():
            for path in sorted((self.root / "tmp").glob("write-set-*")):
                with contextlib.suppress(FileNotFoundError), try_locked(path) as free:
                    if free:
                        yield path, _cache_id_in(path)

    def clear_write_set(self, path: Path, cache_id: CacheId | None) -> None:
        """Delete a write-set of a dead maker with its layer directory, unless a layer has that."""
        self._remove_directory(cache_id)
        self._discard_staging(path.name)

    def _discard_staging(self, name: str) -> None:
        """Delete an entry of tmp/ that its maker does not need any more."""
        discard_below(self.root / "tmp", EntryName(name))

    def _remains(self, chain: str) -> tuple[CacheId | None, str]:
        """The directory of a layer that is to go, and the chain id below: as far as its record is whole."""
        try:
            below: str = self._content(chain)[1]
        except CorruptStore:
            below = ""
        return _cache_id_in(self._directory(chain)), below

    def _remove_directory(self, cache_id: CacheId | None) -> None:
        """Delete a directory with the driver that no record names: a damaged record may name another one's."""
        if cache_id is not None and cache_id not in self._named_directories():
            self.driver.remove(cache_id)

    def _named_directories(self, *, without: ContainerId | None = None) -> set[str]:
        """What the records of layers and containers name, but for one container's."""
        records = [self.root / "sha256" / chain.hex / "cache-id" for chain in self.chains()]
        own = [self.root / "mounts" / container_id for container_id in self.mounts() if container_id != without]
        records += [directory / name for directory in own for name in ("mount-id", "init-id")]
        return {peek(path).strip() for path in records}

    def _write_set_path(self) -> Path:
        return self.root / "tmp" / f"write-set-{secrets.randbelow(10**9)}"

    def _writable_parents(self) -> set[str]:
        """The chain ids below containers. Raises CorruptStore for one that its record does not say."""
        return {find_id(self.root / "mounts" / container_id / "parent", Digest) or "" for container_id in self.mounts()}

    def _record(self, writable: WritableLayer, directory: Path) -> None:
        staging = self.root / "tmp" / f"mount-{writable.container_id}"
        staging.mkdir()
        _write_synced(staging / "mount-id", writable.mount_id)
        _write_synced(staging / "init-id", writable.init_id)
        if writable.parent:
            _write_synced(staging / "parent", writable.parent)
        staging.rename(directory)

    def _discard(self, writable: WritableLayer) -> None:
        """Delete the directories of a container's layer, unless another record names them, too."""
        named = self._named_directories(without=writable.container_id)
        for cache_id in (writable.mount_id, writable.init_id):
            if cache_id not in named:
                self.driver.remove(cache_id)

    def _forget_writable(self, container_id: ContainerId) -> None:
        self._discard_staging(f"mount-{container_id}")
        discard_below(self.root / "mounts", container_id)

    def _unchanged(self, writable: WritableLayer) -> bool:
        with self._members(writable) as members:
            return next(iter(members), None) is None

    def _members(self, writable: WritableLayer) -> contextlib.AbstractContextManager[treetar.TreeReader]:
        return self.driver.members(writable.mount_id, writable.init_id)

    def _cache_id(self, chain: str) -> CacheId | None:
        return self.get(chain).cache_id if chain else None

    def _directory(self, chain: str) -> Path:
        digest = Digest.match(chain)
        if digest is None:
            raise CorruptStore(f"{chain!r} is not the chain id of a layer", hint=REMEDY)
        return self.root / "sha256" / digest.hex

    def _progress(self, done: int) -> None:
        self._emit(Progress("layer", done))

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Held while layers appear or vanish; never while content is written."""
        return locked(self._locks / "layers")


def _cache_id_in(directory: Path) -> CacheId | None:
    """The directory that a layer's record or a write-set names, None if it names none."""
    return CacheId.match(peek(directory / "cache-id").strip())


def _size(path: Path) -> int:
    try:
        text = read_text(path).strip()
    except FileNotFoundError as error:
        raise corrupt(path, "it is missing") from error
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise corrupt(path, "it is not a number of bytes")
    return int(text)


def _write_synced(path: Path, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
