"""The filters of `docker images`. Source: moby daemon/images/images.go, 20.10."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from pylab_container.docker.filters import Filters, has_labels, refuse_unknown, truth, values
from pylab_container.images import lookup
from pylab_container.images.image import Image
from pylab_container.oci import reference as references
from pylab_container.store.data_root import DataRoot
from pylab_container.text.globs import Glob, match_steps
from pylab_container.text.timestamps import moment

IMAGE_FILTERS = ("before", "dangling", "label", "reference", "since", "until")


def matching_images(data: DataRoot, images: Iterable[Image], filters: Filters) -> list[Image]:
    """Return the images that pass all filters.

    filters  before and since (another image), until (a time), dangling, label, reference

    Raises InvalidInput for an unknown filter or an invalid value, ImageNotFound for before and since.
    """
    refuse_unknown(filters, IMAGE_FILTERS)
    before, since = (
        [lookup.config(data, lookup.find(data, name)).created_at for name in values(filters, filter_name)]
        for filter_name in ("before", "since")
    )
    labels, dangling = values(filters, "label"), [truth("dangling", text) for text in values(filters, "dangling")]
    if True in dangling:  # of both values, dockerd uses "true"
        dangling = [True]
    patterns = values(filters, "reference")
    until = [moment(text, now=time.time()) for text in values(filters, "until")]
    return [
        image
        for image in images
        if all(image.config.created_at < other for other in before)
        and all(image.config.created_at > other for other in since)
        and (not until or image.config.created_at < min(until) * 10**9)
        and has_labels(image.config.config.get("Labels") or {}, labels)
        and (not dangling or (not image.tags) in dangling)
        and (not patterns or matching_names(image.tags, patterns))
    ]


def matching_names(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Return the names that match a pattern of Go's path.Match: "deb*", "debian:12". Raises InvalidInput.

    A pattern may match the name, the name without tag or digest, or both in full: "docker.io/library/debian:12".
    """
    globs = [Glob(match_steps(pattern)) for pattern in patterns]
    return [name for name in names if any(glob.matches(form) for form in _forms(name) for glob in globs)]


def _forms(name: str) -> Iterator[str]:
    reference = references.parse(name)
    full = f"{reference.domain}/{reference.path}"
    yield from (name, reference.repository)
    yield from (full, full + name.removeprefix(reference.repository))
