"""Find images by a name or an id, list them, and follow what they were built on.

All functions work on full image ids ("sha256:…").
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial

from pylab_container.errors import ImageNotFound, InvalidInput, InvalidReference
from pylab_container.oci import reference as references
from pylab_container.oci.ids import Digest
from pylab_container.oci.image import ImageConfig
from pylab_container.store.damage import ReportingDamage
from pylab_container.store.data_root import DataRoot
from pylab_container.store.image_store import Tag
from pylab_container.store.leases import Lease
from pylab_container.store.reading import corrupt

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})\Z")


def find(data: DataRoot, name: str) -> Digest:
    """Return the id of the image with this name, id or beginning of an id.

    Raises ImageNotFound, and InvalidInput for the beginning of several ids.
    """
    # A name wins over the beginning of an id, as in moby (daemon/images/image.go, GetImage): which image `run cafe`
    # starts must not depend on the ids that happen to exist.
    with contextlib.suppress(InvalidReference):
        if image_id := data.images.resolve(references.parse(name)):
            return image_id
    if image_id := _find_by_prefix(data, name):
        return image_id
    similar = _most_similar_name(data, name)
    hint = f'did you mean "{similar}"?' if similar else "labctr images lists the images"
    raise ImageNotFound(f"No such image: {name}", hint=hint)


def _find_by_prefix(data: DataRoot, name: str) -> Digest | None:
    match = _ID.match(name)
    if match is None:
        return None
    matches = [image_id for image_id in data.images.all() if image_id.removeprefix("sha256:").startswith(match[1])]
    # Never the first of several: with `rmi` that would delete an image that the user did not mean.
    if len(matches) > 1:
        raise InvalidInput(f'"{name}" is the beginning of {len(matches)} image ids', hint="write more digits")
    return matches[0] if matches else None


def _most_similar_name(data: DataRoot, name: str) -> str | None:
    import difflib  # late: only an error needs it

    names = [tag.reference.familiar for tag in data.images.tags()]
    return next(iter(difflib.get_close_matches(name, names, 1)), None)


def config(data: DataRoot, image_id: str) -> ImageConfig:
    """Return the config of an image.

    Raises ImageNotFound, and CorruptStore if a name points to the missing image.
    """
    try:
        return data.images.get(image_id)
    except KeyError:
        data.images.refuse_dangling(image_id)
        raise ImageNotFound(f"No such image: {image_id}", hint="labctr images lists the images") from None


def hold(data: DataRoot, image_id: str, lease: Lease) -> ImageConfig:
    """Claim an image's layers for a lease, so that they outlive the image; return its config.

    Raises as config().
    """
    # Race: without the lock a removal could delete the layers between the reading of the config and the claim.
    with data.images_lock():
        image = config(data, image_id)
        if image.chain_id:
            lease.claim("layer", image.chain_id)
    return image


def list_ids(data: DataRoot, name: str | None = None, *, all: bool = False) -> list[str]:
    """List images, the newest first.

    An image with a damaged config or layer is left out and reported.

    name  only the images of this repository, or the image with exactly this name
    all   also the intermediate images of builds
    """
    dated = []
    # No lock: a listing must not wait for a removal. An image that is removed after the listing of ids is not damage.
    for image_id in _candidates(data, name, all=all):
        removed = partial(_is_removed, data, image_id)
        with contextlib.suppress(ImageNotFound), ReportingDamage(data.emit, removed):
            image = config(data, image_id)
            data.layers.chain(image.chain_id)
            dated.append((image.created_at, image_id))
    return [image_id for _, image_id in sorted(dated, reverse=True)]


def _candidates(data: DataRoot, name: str | None, *, all: bool) -> set[str]:
    if name is not None:
        return {tag.image_id for tag in _matching(data, name)}
    image_ids: set[str] = set(data.images.all())
    if all:
        return image_ids
    # An intermediate image is one without a name that another image was built on (moby, imageStore.Heads).
    named = {tag.image_id for tag in data.images.shown_names()}
    parents = {data.images.shown_parent(image_id) for image_id in image_ids}
    return {image_id for image_id in image_ids if image_id in named or image_id not in parents}


def _matching(data: DataRoot, name: str) -> list[Tag]:
    """The names of a repository; only one of them if name has a tag or a digest."""
    reference = references.parse(name)
    is_exact = name.endswith(f":{reference.tag}") or reference.digest
    return [
        tag
        for tag in data.images.shown_names()
        if tag.reference.repository == reference.repository and (not is_exact or tag.reference == reference)
    ]


def _is_removed(data: DataRoot, image_id: str) -> bool:
    return not data.images.exists(image_id)


def ancestors(data: DataRoot, image_id: str) -> Iterator[str]:
    """Yield the image itself, then the images that it was built on and that are stored here."""
    seen = set[str]()
    while image_id and image_id not in seen:  # damaged notes may form a cycle
        seen.add(image_id)
        yield image_id
        image_id = data.images.shown_parent(image_id)


def check_parent(data: DataRoot, image_id: str) -> None:
    """Raise CorruptStore if the note of an image's parent is damaged or wrong."""
    parent = data.images.parent(image_id)
    try:
        is_right = not parent or data.images.get(image_id).may_be_made_from(data.images.get(parent))
    except KeyError:
        is_right = not data.images.exists(image_id)  # else the parent does not exist
    if not is_right:
        raise corrupt(data.images.parent_path(image_id), f"the image was not made from {parent[:19]}")
