"""`docker commit` of a container: keep it from changing, commit it, and emit the event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pylab_container.containers import freezing
from pylab_container.containers.change_events import emit_change
from pylab_container.images import configuration
from pylab_container.images.commit import commit
from pylab_container.images.image import Image
from pylab_container.oci.image import Json
from pylab_container.oci.reference import Reference
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot


def commit_container(
    data: DataRoot,
    runtime: Runtime,
    record: ContainerRecord,
    name: Reference | None,
    *,
    message: str,
    author: str,
    changes: str | Sequence[str],
    conf: Mapping[str, Any] | None,
    pause: bool,
) -> Image:
    """Create an image from a container's image and its changes; Container.commit() describes the options.

    record  settled
    """
    own = _container_config(data, record)
    config = configuration.apply({**own, **(conf or {})}, changes)
    with freezing.unchanging(data, runtime, record.id, pause=pause):
        image = commit(data, record, name, config=config, container_config=own, message=message, author=author)
        attributes = {"comment": message, "imageID": image.id, "imageRef": name.familiar if name else ""}
        emit_change(data.emit, "committed", record, attributes=attributes)
    return image


def _container_config(data: DataRoot, record: ContainerRecord) -> Json:
    """Return the container's configuration for an image.

    With SOURCE_DATE_EPOCH set, a generated host name is left out: it is random, so it would change the image's id.
    """
    config = record.config.document()
    if data.source_date_epoch is None or config.get("Hostname") != record.short_id:
        return config
    return {**config, "Hostname": ""}
