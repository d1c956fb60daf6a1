"""Creating a container: its name, its layer, its volumes, its record."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from pylab_container.containers import rootfs
from pylab_container.containers.change_events import emit_change
from pylab_container.containers.deletion import delete
from pylab_container.containers.lookup import choose_name
from pylab_container.containers.removal import remove
from pylab_container.errors import ImageNotFound, InvalidInput
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.store.init_layer import fill_init_layer
from pylab_container.store.transactions import changing
from pylab_container.store.volume_store import ANONYMOUS_LABEL
from pylab_container.volumes import creation as volume_creation


def create(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> ContainerRecord:
    """Create a container.

    name → writable layer → volumes → record → working directory

    record.name is the requested name, or "" to generate one. The returned record has the final name. After a failure
    only named volumes and host directories are left. Raises InvalidInput, Conflict for a name in use, ImageNotFound.
    """
    needs_setup = False

    def fill(root: Path) -> None:
        nonlocal needs_setup
        fill_init_layer(root)
        needs_setup = rootfs.needs_setup(record, root)

    # Check and use of the name are one step: otherwise two processes could both find it free (TOCTOU).
    with data.records.lock_names():
        record = replace(record, name=choose_name(record.name, data.records.all()))
        # The lease of changing() claims the layer and the anonymous volumes. If this process is killed in the block,
        # also while it rolls back, the next engine that opens the data root removes what the lease claims.
        with changing(data, record.id, record.mounts):
            try:
                # Serializes this with the removal of the image, which would delete the layers.
                with data.images_lock():
                    data.layers.create_writable(record.id, _chain_id(data, record.image), fill)
                    # Until the record is saved, the removal of unused volumes would take a new volume for unused.
                    with data.volumes.lock():
                        create_sources(data, record)
                        data.records.save(record)
            except BaseException:
                delete(data, record, volumes=True)
                raise
    # Outside of the lock of names: a volume that is filled with many files must not delay other creations.
    if needs_setup:
        try:
            rootfs.prepare(data, record)
        except BaseException:
            # Other processes see the saved record, and one may have started the container: delete() would not stop it.
            remove(data, runtime, record.id, force=True, volumes=True)
            raise
    emit_change(data.emit, "created", record)
    return record


def _chain_id(data: DataRoot, image_id: str) -> str:
    """The chain id of an image's layers; "" for the empty image.

    Raises ImageNotFound, CorruptStore.
    """
    try:
        return data.images.get(image_id).chain_id if image_id else ""
    except KeyError:
        data.images.refuse_dangling(image_id)
        raise ImageNotFound(f"No such image: {image_id}", hint="labctr images lists the images") from None


def create_sources(data: DataRoot, record: ContainerRecord) -> None:
    """Create the volumes and the host directories that a container mounts. Idempotent.

    The caller holds the lock of all volumes. Raises InvalidInput for a missing bind source of --mount, which Docker
    does not create.
    """
    for mount in record.mounts:
        source = Path(mount.source)
        if mount.type == "volume":
            labels = {**mount.labels, ANONYMOUS_LABEL: ""} if mount.anonymous else mount.labels
            volume_creation.ensure(data, mount.name, labels, mount.driver_opts)
        elif mount.must_exist and not source.exists():
            raise InvalidInput(
                f'invalid mount config for type "bind": bind source path does not exist: {source}',
                hint="create it first; -v creates a missing directory",
            )
        elif mount.type == "bind" and not source.exists():
            source.mkdir(parents=True)  # as Docker does for a source of -v
