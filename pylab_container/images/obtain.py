"""The image with a name: the one in the store, or one that is pulled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pylab_container.errors import ImageNotFound, Unreachable
from pylab_container.events import Emit, TransferMessage, ignore
from pylab_container.images import lookup
from pylab_container.images.image import Image
from pylab_container.oci import reference as references
from pylab_container.store.data_root import DataRoot

PullPolicy = Literal["missing", "always", "never"]


def obtain(
    data: DataRoot, name: str, policy: PullPolicy, pull: Callable[[], Image], *, progress: Emit | None = None
) -> Image:
    """Return the image with this name or id; pull it if it is missing, or always.

    pull  pulls the image by its name

    Raises what lookup.find() and pull raise; ImageNotFound if the image is missing and its registry is unreachable.
    """
    if policy == "always":
        return pull()
    try:
        return Image(data, lookup.find(data, name))
    except ImageNotFound as missing:
        if policy == "never":
            raise
        (progress or ignore)(TransferMessage(f"Unable to find image '{references.parse(name).familiar}' locally"))
        try:
            return pull()
        except Unreachable as error:
            message = f"{missing.message}, and it cannot be pulled: {error.message}"
            raise ImageNotFound(message, hint=missing.hint) from error
