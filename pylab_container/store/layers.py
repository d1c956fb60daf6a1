"""The layer database: which layers there are, on what they lie, and what they are made of.

    image/overlay2/layerdb/
    ├── sha256/<chain id>/         one read-only layer
    │   ├── diff                   its diff id, "sha256:…": the digest of its tar
    │   ├── parent                 the chain id below; the lowest layer has none
    │   ├── cache-id               its directory in overlay2/
    │   ├── size                   bytes of file content
    │   └── tar-split.json.gz      how to rebuild the tar
    ├── mounts/<container id>/     one writable layer
    │   ├── mount-id, init-id      its directories in overlay2/
    │   └── parent                 the chain id below
    └── tmp/write-set-…/           a layer in the making; locked by its maker

A layer appears by the rename of a complete write-set, so a crash leaves either a whole
layer or a write-set without a lock, which says in `cache-id` what else it left. Nobody
keeps reference counts on disk: a layer is needed while an image, a child or a container
names it. Format: moby layer/ (20.10).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pylab_container.errors import Conflict, CorruptStore
from pylab_container.formats.events import Emit, LayerRegistered, LayerRemoved, Progress, ignore
from pylab_container.formats.image import chain_id
from pylab_container.host.files import locked
from pylab_container.store import layertar, tarsplit
from pylab_container.store.overlay2 import Overlay2


@dataclass(frozen=True)
class Layer:
    """A read-only layer. `parent` is the chain id below, "" for the lowest."""

    chain_id: str
    diff_id: str
    parent: str
    cache_id: str
    size: int


@dataclass(frozen=True)
class WritableLayer:
    """A container's own layer, and the init layer between it and the image."""

    container_id: str
    mount_id: str
    init_id: str
    parent: str


class LayerStore:
    """Owns layerdb/ and, through the driver, overlay2/."""

    def __init__(self, root: Path, driver: Overlay2, *, emit: Emit = ignore) -> None:
        self.root = root
        self.driver = driver
        self._emit = emit
        for name in ("sha256", "mounts", "tmp"):
            (root / name).mkdir(parents=True, exist_ok=True)

    # ---- read-only layers ----

    def register(
        self, members: layertar.MemberSource, parent: str, *, check: Callable[[str], None] = lambda diff_id: None
    ) -> Layer:
        """Store a layer on top of the chain parent ("": at the bottom) in one pass over its members.

        check  is called with the diff id before anything is registered, and may raise

        A layer that is there already is found, not stored twice. Raises InvalidArchive;
        then nothing is left of the attempt.
        """

        def fill(cache_id: str, record: tarsplit.TarSplitWriter) -> layertar.StoredLayer:
            directory = self.driver.create(cache_id, self._cache_id(parent))
            with layertar.Extractor(directory) as extractor:
                stored = layertar.store(members, extractor, record, self._progress)
            check(stored.diff_id)
            return stored

        return self._register(parent, fill)

    def adopt(self, writable: WritableLayer) -> Layer | None:
        """Turn a writable layer's files into a read-only layer by renaming their directory.

        For containers that nobody needs afterwards: the files are read once, to know
        their digest, and never copied. The writable layer is empty afterwards. None where
        it holds no change.
        """

        def fill(cache_id: str, record: tarsplit.TarSplitWriter) -> layertar.StoredLayer:
            self.driver.create(cache_id, self._cache_id(writable.parent))
            self.driver.unmount(writable.mount_id)
            members = layertar.TreeReader(self.driver.diff_path(writable.mount_id))
            stored = layertar.store(members, None, record, self._progress)
            self.driver.adopt(cache_id, writable.mount_id)
            return stored

        return None if self._unchanged(writable) else self._register(writable.parent, fill)

    def copy(self, writable: WritableLayer) -> Layer | None:
        """Store what a writable layer holds now as a read-only layer; the container keeps its own.

        None where it holds no change.
        """
        members = layertar.TreeReader(self.driver.diff_path(writable.mount_id))
        return None if self._unchanged(writable) else self.register(members, writable.parent)

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

    def find(self, parent: str, diff_id: str) -> Layer | None:
        """The layer with this content on top of the chain parent, None if it is not here."""
        chain = chain_id([parent, diff_id]) if parent else diff_id
        return self.get(chain) if self.exists(chain) else None

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
        return [self.get(f"sha256:{entry.name}") for entry in (self.root / "sha256").iterdir()]

    def tar_stream(self, chain: str) -> Iterator[bytes]:
        """The layer's own tar, byte for byte as it came."""
        layer = self.get(chain)
        return tarsplit.assemble(self._directory(chain) / "tar-split.json.gz", self.driver.diff_path(layer.cache_id))

    def tar_size(self, chain: str) -> int:
        """How many bytes the layer's own tar has."""
        return tarsplit.size(self._directory(chain) / "tar-split.json.gz")

    def release(self, top: str, needed: Collection[str]) -> list[Layer]:
        """Delete top and the layers below it, down to the first that somebody still needs.

        needed holds the chain ids that images name. Children and containers are looked
        up here. Returns what was deleted.
        """
        removed = []
        with self._lock():
            kept = set(needed) | {writable.parent for writable in self.writable_layers()}
            parents = [layer.parent for layer in self.all()]
            while top and top not in kept and top not in parents and self.exists(top):
                layer = self.get(top)
                self._delete(layer)
                parents.remove(layer.parent)
                removed.append(layer)
                top = layer.parent
        for layer in removed:
            self.driver.remove(layer.cache_id)
            self._emit(LayerRemoved(layer.chain_id, layer.cache_id))
        return removed

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
            self.driver.create(writable.init_id, self._cache_id(parent))
            if fill_init:
                fill_init(self.driver.mount(writable.init_id))
                self.driver.unmount(writable.init_id)
            self.driver.create(mount_id, writable.init_id)
            self._record(writable, directory)
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
        """Every container's layer."""
        return [self.writable(entry.name) for entry in (self.root / "mounts").iterdir()]

    def remove_writable(self, container_id: str) -> None:
        """Delete a container's layer with all that it wrote. Unmounts it first."""
        with contextlib.suppress(CorruptStore):
            self._discard(self.writable(container_id), self.root / "mounts" / container_id)

    # ---- how ----

    def _register(self, parent: str, fill: Callable[[str, tarsplit.TarSplitWriter], layertar.StoredLayer]) -> Layer:
        """One transaction: a write-set is filled, then renamed into place under the lock."""
        cache_id = secrets.token_hex(32)
        with self._write_set(cache_id) as staging:
            with open(staging / "tar-split.json.gz", "wb") as sink:
                record = tarsplit.TarSplitWriter(sink)
                stored = fill(cache_id, record)
                record.close()
                sink.flush()
                os.fsync(sink.fileno())
            chain = chain_id([parent, stored.diff_id]) if parent else stored.diff_id
            _write_synced(staging / "size", str(stored.size))
            _write_synced(staging / "diff", stored.diff_id)
            if parent:
                _write_synced(staging / "parent", parent)
            with self._lock():
                if parent and not self.exists(parent):
                    raise Conflict(
                        "the image below was removed while this layer was made", hint="import or build it again"
                    )
                if not self.exists(chain):
                    staging.rename(self._directory(chain))
                    layer = Layer(chain, stored.diff_id, parent, cache_id, stored.size)
                    self._emit(LayerRegistered(chain, layer.diff_id, cache_id, layer.size))
                    return layer
            self.driver.remove(cache_id)
            return self.get(chain)

    @contextlib.contextmanager
    def _write_set(self, cache_id: str) -> Iterator[Path]:
        """A locked directory in tmp/ that names its layer directory; both are gone after a failure."""
        staging = self.root / "tmp" / f"write-set-{secrets.randbelow(10**9)}"
        staging.mkdir()
        lock = os.open(staging, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _write_synced(staging / "cache-id", cache_id)
            yield staging
        except BaseException:
            self.driver.remove(cache_id)
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            os.close(lock)

    def _delete(self, layer: Layer) -> None:
        # First out of sight, then gone: a crash between leaves a write-set that fsck knows.
        hidden = self.root / "tmp" / f"write-set-{secrets.randbelow(10**9)}"
        self._directory(layer.chain_id).rename(hidden)
        shutil.rmtree(hidden)

    def _record(self, writable: WritableLayer, directory: Path) -> None:
        staging = self.root / "tmp" / f"mount-{writable.container_id}"
        staging.mkdir()
        _write_synced(staging / "mount-id", writable.mount_id)
        _write_synced(staging / "init-id", writable.init_id)
        if writable.parent:
            _write_synced(staging / "parent", writable.parent)
        staging.rename(directory)

    def _discard(self, writable: WritableLayer, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(self.root / "tmp" / f"mount-{writable.container_id}", ignore_errors=True)
        self.driver.remove(writable.mount_id)
        self.driver.unmount(writable.init_id)
        self.driver.remove(writable.init_id)

    def _unchanged(self, writable: WritableLayer) -> bool:
        return not any(self.driver.diff_path(writable.mount_id).iterdir())

    def _cache_id(self, chain: str) -> str | None:
        return self.get(chain).cache_id if chain else None

    def _directory(self, chain: str) -> Path:
        return self.root / "sha256" / chain.removeprefix("sha256:")

    def _progress(self, done: int) -> None:
        self._emit(Progress("layer", done))

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        """Held while layers appear or vanish; never while content is written."""
        return locked(self.root.parent / "layerdb.lock")


def _write_synced(path: Path, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
