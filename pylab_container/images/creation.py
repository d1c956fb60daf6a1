"""Make an image from a config whose layers are registered.

This is the last step of import, commit, load, build and pull.
"""

from __future__ import annotations

from collections.abc import Sequence

from pylab_container.errors import Conflict
from pylab_container.images.reporting import report
from pylab_container.oci.image import ImageConfig
from pylab_container.oci.reference import Reference
from pylab_container.store.data_root import DataRoot


def add(
    data: DataRoot, config: ImageConfig, name: Reference | None = None, *, parent: str = "", action: str = "added"
) -> str:
    """Store an image, name it and report it; returns its id.

    parent  the id of the image that it was made from; "" for none
    action  what the event says of the image: "imported", "built", "committed", …

    Raises Conflict if the layers or the parent were removed concurrently.
    """
    image_id = store(data, config, [name] if name else [], parent=parent)
    if name:
        data.images.set_last_tagged(image_id, data.now())
    report(data, action, image_id, name.familiar if name else "")
    return image_id


def store(data: DataRoot, config: ImageConfig, names: Sequence[Reference], *, parent: str = "") -> str:
    """Store an image and point names to it, without an event; returns its id.

    Raises Conflict as add().
    """
    # The lock from the check until the image exists: a removal in between would delete layers that no image names yet.
    with data.images_lock():
        if config.chain_id and not data.layers.exists(config.chain_id):
            raise Conflict("the image's layers were removed concurrently", hint="try again")
        if parent and not data.images.exists(parent):
            raise Conflict("the image below was removed concurrently", hint="try again")
        image_id = data.images.add(config, parent=parent)
        # Names last: a crash in between leaves an image without a name, which can be named or pruned. A name without
        # an image would be damage (ImageStore.refuse_dangling).
        for name in names:
            data.images.tag(name, image_id)
    return image_id
