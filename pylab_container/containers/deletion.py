"""Deleting a container that does not run: its record, its volumes, its layer, its files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pylab_container.containers.change_events import emit_change
from pylab_container.errors import CorruptStore
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.store.transactions import changing, making
from pylab_container.volumes import removal as volume_removal


def delete(data: DataRoot, record: ContainerRecord, *, volumes: bool, force: bool = False) -> None:
    """Delete a container that does not run. The caller holds its lock.

    volumes  also its anonymous volumes
    force    also if the record of its layer is damaged: the layer's directories are left for `fsck`

    Raises CorruptStore without force; the container is then left as it was.
    """
    if not force:
        data.layers.check_removable(record.id)
    with _unnamed_layers(data, record), changing(data, record.id, record.mounts if volumes else ()):
        # The record first: from then on the container does not exist, and a crash leaves only what the lease claims.
        data.records.forget(record.id)
        if volumes and record.mounts:
            volume_removal.remove_anonymous(data, record.mounts)
        data.layers.remove_writable(record.id, force=force)
        data.records.remove(record.id)
    emit_change(data.emit, "removed", record)


@contextlib.contextmanager
def _unnamed_layers(data: DataRoot, record: ContainerRecord) -> Iterator[None]:
    """Delete the layers of an image that was removed by force, with its last container."""
    if not record.image or data.images.exists(record.image):
        yield
        return
    with making(data) as lease:
        with contextlib.suppress(CorruptStore):
            lease.claim("layer", data.layers.writable(record.id).parent)
        yield
