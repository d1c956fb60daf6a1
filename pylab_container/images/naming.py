"""Give images names."""

from __future__ import annotations

from pylab_container.images import lookup
from pylab_container.images.reporting import report
from pylab_container.oci import reference as references
from pylab_container.oci.reference import Reference
from pylab_container.store.data_root import DataRoot


def tag(data: DataRoot, image_id: str, name: str) -> None:
    """Give an image one more name. A name that another image has moves to this one.

    Raises ImageNotFound, InvalidReference.
    """
    target = references.parse_tag(name)
    previous = point(data, target, image_id)
    data.images.set_last_tagged(image_id, data.now())
    if previous:
        report(data, "untagged", previous, target.familiar)
    report(data, "tagged", image_id, target.familiar)


def point(data: DataRoot, name: Reference, image_id: str) -> str | None:
    """Make a name refer to an image, without an event and a new LastTagTime, as `load` does.

    Returns the id that the name referred to before; None if the name is new or already referred to this image.
    Raises ImageNotFound.
    """
    with data.images_lock():
        lookup.config(data, image_id)
        return data.images.tag(name, image_id)
