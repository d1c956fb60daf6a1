"""import: a base image from a tar of a root file system."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from pylab_container.images import configuration, creation
from pylab_container.images.image import DOCKER_VERSION, Image, machine_architecture
from pylab_container.images.source import opened
from pylab_container.oci import reference as references
from pylab_container.oci.image import first_config
from pylab_container.store import compression, layer_content
from pylab_container.store.data_root import DataRoot
from pylab_container.store.layertar import TarReader
from pylab_container.store.transactions import making


def import_(
    data: DataRoot,
    source: str | Path | BinaryIO,
    name: str | None = None,
    *,
    message: str = "",
    changes: str | Sequence[str] = (),
    max_size: int | None = None,
) -> Image:
    """Make a base image; ImageCollection.import_() describes the arguments and the errors.

    tar stream → layer → config → image → name
    """
    # Arguments are checked first: a malformed name must not be reported after gigabytes have been unpacked.
    target = references.parse_tag(name) if name else None
    config = configuration.apply({}, changes)
    limit = compression.Limit(max_size, data.path)
    # The lease keeps the layer until the image names it; no other process deletes it in between.
    with making(data) as lease:
        with opened(source) as (stream, origin), limit.stream(compression.decompressed(stream)) as plain:
            layer = layer_content.register(data.layers, TarReader(plain), "", lease)
        # Only now: the config lists the diff id, which is known when the last byte of the tar has been hashed.
        imported = first_config(
            diff_id=layer.diff_id,
            created=data.now(),
            comment=message or f"Imported from {origin}",
            architecture=machine_architecture(),
            version=DOCKER_VERSION,
            config=config,
        )
        return Image(data, creation.add(data, imported, target, action="imported"))
