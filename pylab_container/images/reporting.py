"""Report on the stream of events what happens to images."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from pylab_container.errors import CorruptStore
from pylab_container.events import ImageChanged
from pylab_container.store.data_root import DataRoot


def report(data: DataRoot, action: str, image_id: str, name: str = "") -> None:
    """Emit ImageChanged, with the image's labels if its config can be read.

    name  the name that the action is about, as users write it ("debian:12"); "" for none
    """
    labels: Mapping[str, str] = {}
    with contextlib.suppress(KeyError, CorruptStore):
        labels = data.images.get(image_id).config.get("Labels") or {}
    data.emit(ImageChanged(action, image_id, name, labels=tuple(labels.items())))
