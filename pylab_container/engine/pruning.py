"""prune: remove what nobody needs, and say how much that freed.

What counts as needed is moby's: a container while it runs, an image while it has a name
or a container or a child, a volume while a container mounts it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pylab_container.engine import usage
from pylab_container.engine.image import Image
from pylab_container.engine.images import Removal
from pylab_container.errors import Conflict, InvalidInput, NotFound
from pylab_container.formats import timestamps
from pylab_container.formats.lifecycle import State

if TYPE_CHECKING:
    from pylab_container.engine import Engine

Filters = Mapping[str, bool | str | Sequence[str]]
"""name → value or values; dangling alone may be true or false."""


@dataclass(frozen=True)
class Pruned:
    """What went, in order, and the bytes of file content that it freed."""

    deleted: tuple[Removal, ...]
    space_reclaimed: int


@dataclass(frozen=True)
class _Criteria:
    """Which of the unneeded things may go.

    until           only what was created before, seconds since 1970
    labels          only what has all of these
    without_labels  nothing that has all of these
    """

    until: float | None = None
    labels: tuple[str, ...] = ()
    without_labels: tuple[str, ...] = ()

    def matches(self, created: str, labels: Mapping[str, str]) -> bool:
        if self.until is not None and timestamps.parse_rfc3339(created) > self.until * 10**9:
            return False
        if self.without_labels and _has_all(labels, self.without_labels):
            return False
        return _has_all(labels, self.labels)


def prune_images(engine: Engine, filters: Filters) -> Pruned:
    """Remove images; see ImageCollection.prune."""
    dangling, criteria = _dangling(filters), _criteria(filters, "dangling")
    sizes = {layer.chain_id: layer.size for layer in engine.layers.all()}
    deleted: list[Removal] = []
    for image in engine.images.list():
        with contextlib.suppress(NotFound):  # removed by somebody else meanwhile
            if criteria.matches(image.config.created or timestamps.NEVER, image.labels):
                deleted += _remove_image(engine, image, dangling=dangling)
    freed = sum(sizes.get(removal.name, 0) for removal in deleted if removal.action == "Deleted")
    return Pruned(tuple(deleted), freed)


def _remove_image(engine: Engine, image: Image, *, dangling: bool) -> Iterator[Removal]:
    names = image.tags
    if names and dangling:
        return
    for name in names or [image.id]:
        with contextlib.suppress(Conflict, NotFound):  # a container needs it
            yield from engine.images.remove(name)


def prune_containers(engine: Engine, filters: Filters) -> Pruned:
    """Remove the containers that do not run; see ContainerCollection.prune."""
    criteria = _criteria(filters)
    deleted, freed = [], 0
    for container in engine.containers.list(all=True):
        with contextlib.suppress(Conflict, NotFound):  # started or removed meanwhile
            record = container.record
            if record.state in (State.RUNNING, State.PAUSED):
                continue
            if criteria.matches(record.created, record.config.get("Labels") or {}):
                size = usage.writable_size(engine, container)
                container.remove()
                deleted.append(Removal("Deleted", container.id))
                freed += size
    return Pruned(tuple(deleted), freed)


def _criteria(filters: Filters, *others: str) -> _Criteria:
    """What filters say; others are those that the caller reads himself. Raises InvalidInput."""
    for name in filters:
        if name not in ("until", "label", "label!", *others):
            raise InvalidInput(f"Invalid filter '{name}'", hint="there are until=TIME, label=NAME and label!=NAME")
    moments = _texts(filters, "until")
    if len(moments) > 1:
        raise InvalidInput("more than one until filter specified", hint="give one")
    until = timestamps.moment(moments[0], now=time.time()) if moments else None
    return _Criteria(until, _texts(filters, "label"), _texts(filters, "label!"))


def _texts(filters: Filters, name: str) -> tuple[str, ...]:
    value = filters.get(name, ())
    if isinstance(value, bool):
        raise InvalidInput(f"Invalid filter '{name}={value}'", hint="its value is text")
    return (value,) if isinstance(value, str) else tuple(value)


def _dangling(filters: Filters) -> bool:
    value = filters.get("dangling", True)
    text = str(value).lower() if isinstance(value, bool | str) else "".join(value)
    if text not in ("true", "1", "false", "0"):
        raise InvalidInput(f"Invalid filter 'dangling={text}'", hint="write dangling=true or dangling=false")
    return text in ("true", "1")


def _has_all(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """Whether labels have every "name" or "name=value"."""
    pairs = (text.partition("=") for text in wanted)
    return all(name in labels and (not equals or labels[name] == value) for name, equals, value in pairs)
