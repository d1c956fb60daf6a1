"""The event of a change to a container."""

from __future__ import annotations

from collections.abc import Mapping

from pylab_container.events import ContainerChanged, Emit
from pylab_container.store.container_store import ContainerRecord


def emit_change(
    emit: Emit, action: str, record: ContainerRecord, detail: str = "", *, attributes: Mapping[str, str] | None = None
) -> None:
    """Emit what happened to a container.

    attributes  what Docker adds to the attributes of this action
    """
    labels = tuple(record.config.labels.items())
    image = str(record.config.image or record.image)
    more = tuple((attributes or {}).items())
    emit(ContainerChanged(action, record.id, record.name, detail, image=image, labels=labels, attributes=more))
