"""commit: an image from a container's image and the container's changes."""

from __future__ import annotations

from pylab_container.images import creation, lookup
from pylab_container.images.image import DOCKER_VERSION, Image, machine_architecture
from pylab_container.oci.image import Json, child_config
from pylab_container.oci.reference import Reference
from pylab_container.store import layer_content
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.store.transactions import making


def commit(
    data: DataRoot,
    record: ContainerRecord,
    name: Reference | None = None,
    *,
    config: Json,
    container_config: Json,
    message: str = "",
    author: str = "",
) -> Image:
    """Make an image of a container; the caller keeps the container from changing.

    container's layer → layer → config → image → name

    config            the new image's configuration
    container_config  the container's own, which the image's config document records beside it
    """
    # The lease claims the new layer only: the layers below are needed by the container's own record.
    with making(data) as lease:
        layer = layer_content.copy(data.layers, data.layers.writable(record.id), lease, newest=data.source_date_epoch)
        image = child_config(
            lookup.config(data, record.image),
            config=config,
            container_config=container_config,
            # With SOURCE_DATE_EPOCH equal containers give equal images, and a random id would change the digest.
            container=record.id if data.source_date_epoch is None else "",
            created=data.now(),
            created_by=" ".join([record.path, *record.args]),
            diff_id=layer.diff_id if layer else None,  # a container without a change adds only a history entry
            author=author,
            comment=message,
            architecture=machine_architecture(),
            version=DOCKER_VERSION,
        )
        return Image(data, creation.add(data, image, name, parent=record.image, action="committed"))
