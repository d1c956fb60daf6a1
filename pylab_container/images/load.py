"""load: store the images of an archive that `save`, docker, podman or skopeo wrote.

archive → for each image: config → layers → image → names
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

from msgspec import Struct

from pylab_container.errors import InvalidArchive
from pylab_container.images import creation, lookup, naming
from pylab_container.images.archive_files import ArchiveFiles, open_archive
from pylab_container.images.archive_images import ImageEntry, list_images
from pylab_container.images.image import Image
from pylab_container.images.reporting import report
from pylab_container.oci.image import ImageConfig
from pylab_container.oci.reference import Reference
from pylab_container.store import compression, layer_content
from pylab_container.store.data_root import DataRoot
from pylab_container.store.layer_store import Layer
from pylab_container.store.layertar import TarReader
from pylab_container.store.leases import Lease
from pylab_container.store.streams import HashedStream
from pylab_container.store.transactions import making


def load(data: DataRoot, source: str | Path | BinaryIO, *, max_size: int | None = None) -> list[Image]:
    """Store every image of an archive; ImageCollection.load() has the arguments and errors."""
    limit = compression.Limit(max_size, data.path)
    with open_archive(data, source, max_size) as files:
        images, parents = [], {}
        for entry in list_images(files):  # one at a time: many entries may name the same large config
            image_id = _Loader(data, files, entry, limit).load()
            images.append(Image(data, image_id))
            parents[image_id] = entry.parent
    if not images:
        raise InvalidArchive("the archive holds no image", hint="name the images when saving")
    _record_parents(data, parents)
    return images


def _record_parents(data: DataRoot, parents: Mapping[str, str]) -> None:
    """Record which images of the archive were made from which. Raises InvalidArchive if their histories differ."""
    for image_id, parent in parents.items():
        if parent not in parents or parent == image_id:
            continue
        history, parent_history = (lookup.config(data, each).history for each in (image_id, parent))
        if not history:
            continue  # without a history neither the parent nor the absence of a cycle can be checked
        if history[:-1] != parent_history:
            raise InvalidArchive(
                f"image {parent} is not a valid parent for {image_id}", hint="do not trust this archive"
            )
        data.images.set_parent(image_id, parent)


class _Loader(Struct):
    """Stores one image of an archive."""

    data: DataRoot
    files: ArchiveFiles
    entry: ImageEntry
    limit: compression.Limit

    def load(self) -> str:
        """Register the layers, add the image and name it; returns its id. Raises InvalidArchive."""
        config = ImageConfig.parse(self.entry.config)
        expected, actual = len(self.entry.layers), len(config.diff_ids)
        if expected != actual:
            raise InvalidArchive(
                f"invalid manifest, layers length mismatch: expected {expected}, got {actual}",
                hint="the archive is damaged",
            )
        with making(self.data) as lease:
            chain_id = ""
            for position, diff_id in enumerate(config.diff_ids):
                layer = self.data.layers.find(chain_id, diff_id, lease)
                chain_id = (layer or self._load_layer(position, diff_id, chain_id, lease)).chain_id
            image_id = creation.add(self.data, config, action="loaded")
        for tag in self.entry.tags:
            self._name(image_id, tag)
        return image_id

    def _name(self, image_id: str, tag: Reference) -> None:
        if previous := naming.point(self.data, tag, image_id):
            report(self.data, "unnamed", previous, tag.familiar)
        report(self.data, "named", image_id, tag.familiar)

    def _load_layer(self, position: int, diff_id: str, parent: str, lease: Lease) -> Layer:
        """Register a layer after both its digests were verified."""
        name, blob = self.entry.layers[position], self.entry.blobs[position]
        with self.files.open(name) as file:
            hashing = HashedStream(file) if blob else None

            def check(actual: str) -> None:
                if actual != diff_id:
                    raise InvalidArchive(
                        f"the layer {name} has the diff id {actual}, but the config wants {diff_id}",
                        hint="the archive is damaged",
                    )
                if hashing and hashing.digest() != blob:
                    raise InvalidArchive(f"the blob {name} does not have its own digest", hint="the archive is damaged")

            with self.limit.stream(compression.decompressed(cast(BinaryIO, hashing or file))) as plain:
                return layer_content.register(self.data.layers, TarReader(plain), parent, lease, check=check)
