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
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from pylab_container.errors import Conflict, CorruptStore
from pylab_container.formats.events import Emit, LayerRegistered, LayerRemoved, Progress, ignore
from pylab_container.formats.image import chain_id
from pylab_container.host.files import locked, try_locked
from pylab_container.store.changes import overlay_changes
from pylab_container.store.driver import Driver
from pylab_container.store.leases import Lease, Leases

if TYPE_CHECKING:  # what reads and writes tars is imported where a layer is made: a container needs none of it to run
    from pylab_container.store import layertar, tarsplit, treetar

CACHE_ID = re.compile(r"[0-9a-f]{64}(?:-init)?")
"""What the directories of layers are called in overlay2/."""


class Layer(Struct, frozen=True):
    """A read-only layer. `parent` is the chain id below, "" for the lowest."""

    chain_id: str
    diff_id: str
    parent: str
    cache_id: str
    size: int


class WritableLayer(Struct, frozen=True):
    """A container's own layer, and the init layer between it and the image."""

    container_id: str
    mount_id: str
    init_id: str
    parent: str


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

        def fill(cache_id: str, record: tarsplit.TarSplitWriter) -> layertar.StoredLayer:
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

        def fill(cache_id: str, record: tarsplit.TarSplitWriter) -> layertar.StoredLayer:
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
        """The layer with this chain id. Raises CorruptStore where the files are missing."""
        directory = self._directory(chain)
        try:
            parent = directory / "parent"
            return Layer(
                chain_id=chain,
                diff_id=(directory / "diff").read_text(),
                parent=parent.read_text() if parent.exists() else "",
                cache_id=(directory / "cache-id").read_text().strip(),
                size=int((directory / "size").read_text()),
            )
        except (FileNotFoundError, ValueError) as error:
            raise CorruptStore(
                f"the layer {chain} is not in the store",
                hint="remove the image that names it, and import or build it again",
            ) from error

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
        return (self._directory(chain) / "cache-id").exists()

    def chain(self, top: str) -> list[Layer]:
        """The layers from top down to the lowest."""
        layers = []
        while top:
            layers.append(self.get(top))
            top = layers[-1].parent
        return layers

    def all(self) -> list[Layer]:
        """Every read-only layer, in no order."""
        found = []
        for entry in (self.root / "sha256").iterdir():
            try:
                found.append(self.get(f"sha256:{entry.name}"))
            except CorruptStore:
                if entry.exists():  # else it was deleted meanwhile
                    raise
        return found

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

    def release(self, tops: Iterable[str], needed: Collection[str], lease: Lease | None = None) -> list[Layer]:
        """Delete each of tops and the layers below it, down to the first that somebody still needs.

        needed holds the chain ids that images name. Children, containers and leases are
        looked up here; those of lease do not count. Returns what was deleted.
        """
        with contextlib.ExitStack() as hidden:
            with self.lock():
                removed = list(self._hide_unneeded(tops, needed, lease, hidden))
            for layer in removed:
                self._remove_directory(layer.cache_id)
                self._emit(LayerRemoved(layer.chain_id, layer.cache_id, self.driver.name))
        return removed

    def _hide_unneeded(
        self, tops: Iterable[str], needed: Collection[str], lease: Lease | None, hidden: contextlib.ExitStack
    ) -> Iterator[Layer]:
        """Rename layers to write-sets, which are deleted when hidden is closed: after their directories."""
        kept = {*needed, *self._writable_parents(), *self.leases.claimed("layer", without=lease)}
        unneeded = [top for top in tops if top not in kept]
        parents = [_text(entry / "parent") for entry in (self.root / "sha256").iterdir()] if unneeded else []
        for top in unneeded:
            while top and top not in kept and top not in parents and self._directory(top).exists():
                layer = self._remains(top)
                if lease and layer.parent:  # killed after this one, somebody must still know of the next
                    lease.claim("layer", layer.parent)
                hidden.enter_context(self._hidden(layer))
                parents.remove(layer.parent)
                yield layer
                top = layer.parent

    # ---- writable layers ----

    def create_writable(
        self, container_id: str, parent: str, fill_init: Callable[[Path], None] | None = None
    ) -> WritableLayer:
        """Make a container's init layer and its own layer on top of the chain parent.

        fill_init gets the init layer mounted and puts its files there.
        """
        mount_id = secrets.token_hex(32)
        writable = WritableLayer(container_id, mount_id, f"{mount_id}-init", parent)
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
            self._discard(writable, directory)
            raise
        return writable

    def writable(self, container_id: str) -> WritableLayer:
        """A container's layer. Raises CorruptStore where it is missing."""
        directory = self.root / "mounts" / container_id
        try:
            parent = directory / "parent"
            return WritableLayer(
                container_id,
                (directory / "mount-id").read_text(),
                (directory / "init-id").read_text(),
                parent.read_text() if parent.exists() else "",
            )
        except FileNotFoundError as error:
            raise CorruptStore(
                f"the container {container_id[:12]} has lost its layer", hint="labctr rm -f removes it"
            ) from error

    def writable_layers(self) -> list[WritableLayer]:
        """Every container's layer, in no order."""
        found = []
        for entry in (self.root / "mounts").iterdir():
            with contextlib.suppress(CorruptStore):  # it is being removed, or `fsck` says what is wrong with it
                found.append(self.writable(entry.name))
        return found

    def remove_writable(self, container_id: str) -> None:
        """Delete a container's layer with all that it wrote. Unmounts it first."""
        directory = self.root / "mounts" / container_id
        try:
            writable = self.writable(container_id)
        except CorruptStore:  # a removal or a creation that was killed: what the record named is gone or never was
            shutil.rmtree(directory, ignore_errors=True)
            shutil.rmtree(self.root / "tmp" / f"mount-{container_id}", ignore_errors=True)
        else:
            self._discard(writable, directory)

    # ---- how ----

    def _register(
        self, parent: str, lease: Lease | None, fill: Callable[[str, tarsplit.TarSplitWriter], layertar.StoredLayer]
    ) -> Layer:
        """One transaction: a write-set is filled, then renamed into place under the lock."""
        from pylab_container.store import tarsplit

        cache_id = secrets.token_hex(32)
        with self._write_set(cache_id) as staging:
            with open(staging / "tar-split.json.gz", "wb") as sink:
                with contextlib.closing(tarsplit.TarSplitWriter(sink)) as record:
                    stored = fill(cache_id, record)
                sink.flush()
                os.fsync(sink.fileno())
            chain = chain_id([parent, stored.diff_id]) if parent else stored.diff_id
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
                    layer = Layer(chain, stored.diff_id, parent, cache_id, stored.size)
                    self._emit(LayerRegistered(chain, layer.diff_id, cache_id, layer.size, self.driver.name))
                    return layer
            self.driver.remove(cache_id)
            return self.get(chain)

    @contextlib.contextmanager
    def _write_set(self, cache_id: str) -> Iterator[Path]:
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
            shutil.rmtree(staging, ignore_errors=True)
            os.close(lock)

    @contextlib.contextmanager
    def _hidden(self, layer: Layer) -> Iterator[None]:
        """Out of sight first: a crash in the block leaves a write-set, as one in the making does."""
        lock = os.open(self._directory(layer.chain_id), os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        hidden = self._write_set_path()
        self._directory(layer.chain_id).rename(hidden)
        try:
            yield
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
            os.close(lock)

    def abandoned_write_sets(self) -> Iterator[tuple[Path, str]]:
        """The write-sets of makers that are dead, and the cache id of each ("": nothing else is left of it)."""
        with self.lock():
            for path in sorted((self.root / "tmp").glob("write-set-*")):
                with contextlib.suppress(FileNotFoundError), try_locked(path) as free:
                    if free:
                        yield path, _text(path / "cache-id").strip()

    def clear_write_set(self, path: Path, cache_id: str) -> None:
        """Delete a write-set of a dead maker with its layer directory, unless a layer has that."""
        if cache_id not in {_text(entry / "cache-id").strip() for entry in (self.root / "sha256").iterdir()}:
            self._remove_directory(cache_id)
        shutil.rmtree(path, ignore_errors=True)

    def _remains(self, chain: str) -> Layer:
        """A layer that is to go; its record may be damaged."""
        try:
            return self.get(chain)
        except CorruptStore:
            directory = self._directory(chain)
            return Layer(chain, "", _text(directory / "parent"), _text(directory / "cache-id").strip(), 0)

    def _remove_directory(self, cache_id: str) -> None:
        if CACHE_ID.fullmatch(cache_id):  # a damaged record names nothing, or anything
            self.driver.remove(cache_id)

    def _write_set_path(self) -> Path:
        return self.root / "tmp" / f"write-set-{secrets.randbelow(10**9)}"

    def _writable_parents(self) -> set[str]:
        return {_text(entry / "parent") for entry in (self.root / "mounts").iterdir()}

    def _record(self, writable: WritableLayer, directory: Path) -> None:
        staging = self.root / "tmp" / f"mount-{writable.container_id}"
        staging.mkdir()
        _write_synced(staging / "mount-id", writable.mount_id)
        _write_synced(staging / "init-id", writable.init_id)
        if writable.parent:
            _write_synced(staging / "parent", writable.parent)
        staging.rename(directory)

    def _discard(self, writable: WritableLayer, directory: Path) -> None:
        self.driver.remove(writable.mount_id)
        self.driver.remove(writable.init_id)
        shutil.rmtree(self.root / "tmp" / f"mount-{writable.container_id}", ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)

    def _unchanged(self, writable: WritableLayer) -> bool:
        with self._members(writable) as members:
            return next(iter(members), None) is None

    def _members(self, writable: WritableLayer) -> contextlib.AbstractContextManager[treetar.TreeReader]:
        return self.driver.members(writable.mount_id, writable.init_id)

    def _cache_id(self, chain: str) -> str | None:
        return self.get(chain).cache_id if chain else None

    def _directory(self, chain: str) -> Path:
        return self.root / "sha256" / chain.removeprefix("sha256:")

    def _progress(self, done: int) -> None:
        self._emit(Progress("layer", done))

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Held while layers appear or vanish; never while content is written."""
        return locked(self._locks / "layers")


def _text(path: Path) -> str:
    """A small file's content, "" where there is none."""
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _write_synced(path: Path, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
