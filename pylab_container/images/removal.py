"""Remove images: first the names, then the image, then layers that nothing else needs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import CorruptStore, InUse, InvalidReference
from pylab_container.events import ImageChanged, StoreDamaged
from pylab_container.images import lookup
from pylab_container.images.reporting import report
from pylab_container.oci import reference as references
from pylab_container.oci.reference import Reference
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.store.leases import Lease
from pylab_container.store.transactions import making, release_layers


class Removal(Struct, frozen=True):
    """One thing that removing an image did: `action` is "Untagged" or "Deleted"."""

    action: str
    name: str


def remove(data: DataRoot, name: str, *, force: bool = False, noprune: bool = False) -> list[Removal]:
    """Remove a name, and with the last name the image and the layers that only it needs.

    name     a name, an id or the beginning of an id
    force    also remove an image with names in several repositories, or one that stopped containers use; and
             remove the last name of an image that any container uses
    noprune  keep untagged parents

    Raises ImageNotFound, and InUse with the reason if a container or another image needs the image.
    """
    with making(data) as lease, data.images_lock():
        image_id = lookup.find(data, name)
        names = [tag.reference for tag in data.images.names() if tag.image_id == image_id]
        chosen = [reference for reference in names if reference == _stored_reference(name)]
        is_by_id = not chosen
        chosen += _unneeded_digests(chosen, names)
        if chosen and len(chosen) < len(names):
            return [_untag(data, reference, image_id) for reference in chosen]
        if not force:
            _check_damaged_containers(data, image_id)
        if is_by_id:
            _check_removable(data, image_id, names, force=force)
        elif not force:
            _check_unused(data, image_id, chosen[0])
        untagged = [_untag(data, reference, image_id) for reference in names]
        return untagged + _delete(data, image_id, lease, prune=not noprune, force=force)


# -- names -----------------------------------------------------------------------------------------


def _stored_reference(name: str) -> Reference | None:
    """Return the reference under which a name is stored, None for an id.

    A stored name has a tag or a digest: with a digest, the tag is left out.
    """
    try:
        reference = references.parse(name)
    except InvalidReference:
        return None
    return replace(reference, tag=None) if reference.digest else reference


def _unneeded_digests(chosen: Sequence[Reference], names: Sequence[Reference]) -> list[Reference]:
    """Return the digests of a repository whose last tag is removed, as moby removes both."""
    repositories = {reference.repository for reference in chosen if not reference.digest}
    kept = {name.repository for name in names if not name.digest and name not in chosen}
    return [name for name in names if name.digest and name.repository in repositories - kept]


def _untag(data: DataRoot, reference: Reference, image_id: str) -> Removal:
    data.images.untag(reference)
    report(data, "untagged", image_id, reference.familiar)
    return Removal("Untagged", reference.familiar)


# -- checks ----------------------------------------------------------------------------------------


def _check_removable(data: DataRoot, image_id: str, names: Sequence[Reference], *, force: bool) -> None:
    """Check an image that is removed by its id. Raises InUse."""
    start = f"conflict: unable to delete {image_id[7:19]}"
    users = _users(data, image_id)
    for record in users:
        if record.pid:
            reason = f"image is being used by running container {record.short_id}"
            raise InUse(f"{start} (cannot be forced) - {reason}", hint=f"labctr rm -f {record.name}")
    if _children(data, image_id):
        raise InUse(
            f"{start} (cannot be forced) - image has dependent child images",
            hint="remove the images that were made from it first: labctr images -a",
        )
    if users and not force:
        reason = f"image is being used by stopped container {users[0].short_id}"
        raise InUse(
            f"{start} (must be forced) - {reason}", hint=f"labctr rm -f {users[0].name}, or remove the image with -f"
        )
    if len({reference.repository for reference in names}) > 1 and not force:
        reason = "image is referenced in multiple repositories"
        raise InUse(f"{start} (must be forced) - {reason}", hint="remove it by name, or with -f")


def _check_unused(data: DataRoot, image_id: str, name: Reference) -> None:
    """Check an image whose last name is removed. Raises InUse if a container uses it."""
    for record in _users(data, image_id):
        raise InUse(
            f'conflict: unable to remove repository reference "{name.familiar}" (must force) - '
            f"container {record.short_id} is using its referenced image {image_id[7:19]}",
            hint=f"labctr rm -f {record.name}, or remove the name with -f",
        )


def _check_damaged_containers(data: DataRoot, image_id: str) -> None:
    """Raise CorruptStore if a container whose record is damaged may use the image."""
    for container_id, error in data.records.damaged().items():
        try:
            parent = data.layers.writable(container_id).parent
        except CorruptStore:
            raise error from None
        with contextlib.suppress(CorruptStore):
            if parent == lookup.config(data, image_id).chain_id:
                raise error


def _users(data: DataRoot, image_id: str) -> list[ContainerRecord]:
    return [record for record in data.records.all() if record.image == image_id]


def _children(data: DataRoot, image_id: str) -> list[str]:
    return [child for child in data.images.all() if _is_child(data, child, image_id)]


def _is_child(data: DataRoot, child: str, image_id: str) -> bool:
    """Report whether an image was made from another one, or may have been.

    The second is the answer if the record of its parent is damaged.
    """
    try:
        return data.images.parent(child) == image_id
    except CorruptStore as error:
        data.emit(StoreDamaged.of(error))
    try:
        return child != image_id and data.images.get(image_id).chain_id in data.images.get(child).chain_ids
    except (CorruptStore, KeyError):
        return False


# -- deletion --------------------------------------------------------------------------------------


def _delete(data: DataRoot, image_id: str, lease: Lease, *, prune: bool, force: bool = False) -> list[Removal]:
    """Delete an image without names, the layers that only it needs, and with prune its untagged parents.

    force  also an image of stopped containers: they keep its layers, and their own copy of its configuration
    """
    if _children(data, image_id) or any(record.pid or not force for record in _users(data, image_id)):
        return []  # only its names are removed: a container or another image needs it
    if not data.images.exists(image_id):
        return []  # a damaged name pointed to it
    parent = data.images.shown_parent(image_id)
    chain_ids = _claim_layers(data, image_id, lease)
    data.images.remove(image_id)
    data.emit(ImageChanged("deleted", image_id))
    removals = [Removal("Deleted", image_id)]
    removals += [Removal("Deleted", chain_id) for chain_id in release_layers(data, chain_ids, lease)]
    tagged = {tag.image_id for tag in data.images.names() if not tag.reference.digest}
    if prune and parent and parent in set(data.images.all()) and parent not in tagged:
        removals += _delete(data, parent, lease, prune=True)
    return removals


def _claim_layers(data: DataRoot, image_id: str, lease: Lease) -> list[str]:
    """Claim the layers of an image, and return the chain ids to release."""
    # After a crash between the removal of the image and that of its layers only the lease names the layers.
    with contextlib.suppress(CorruptStore):  # the layers are unknown, but the damaged image can be removed
        if chain_id := lookup.config(data, image_id).chain_id:
            lease.claim("layer", chain_id)
            return [chain_id]
    return []
