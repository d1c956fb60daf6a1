"""prune: remove what nobody needs, and say how much that freed.

What counts as needed is moby's: a container while it runs, an image while it has a name
or a container or a child, a volume while a container mounts it. Of the build cache that is what
leads to such an image; and nothing is taken from a build that runs.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from pylab_container.build.mounts import cache_root
from pylab_container.docker.filters import Filters, has_labels, refuse_unknown, truth, values
from pylab_container.errors import Conflict, InvalidInput, NotFound
from pylab_container.events import ImageChanged, PruneDone
from pylab_container.host.files import try_locked
from pylab_container.host.removal import remove_below
from pylab_container.images.image import Image
from pylab_container.images.removal import Removal
from pylab_container.maintenance import usage
from pylab_container.oci.ids import EntryName
from pylab_container.oci.lifecycle import State
from pylab_container.store.damage import ReportingDamage
from pylab_container.store.transactions import making
from pylab_container.text import timestamps

if TYPE_CHECKING:
    from pylab_container.engine import Engine


class Pruned(Struct, frozen=True):
    """What went, in order, and the bytes of file content that it freed."""

    deleted: tuple[Removal, ...]
    space_reclaimed: int


class _Criteria(Struct, frozen=True):
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
        if self.without_labels and has_labels(labels, self.without_labels):
            return False
        return has_labels(labels, self.labels)


def prune_images(engine: Engine, filters: Filters) -> Pruned:
    """Remove images; see ImageCollection.prune."""
    dangling, criteria = _dangling(filters), _criteria(filters, "dangling")
    sizes: dict[str, int] = {layer.chain_id: layer.size for layer in engine.data.layers.all()}
    deleted: list[Removal] = []
    images = [] if _is_uncertain(engine) else engine.images.list()
    being_built = engine.data.layers.leases.claimed("layer")
    for image in images:
        with contextlib.suppress(NotFound), ReportingDamage(engine.data.emit):  # removed by another process since
            if image.config.chain_id in being_built and not image.tags:
                continue
            if criteria.matches(image.config.created or timestamps.NEVER, image.labels):
                deleted += _remove_image(engine, image, dangling=dangling)
    freed = sum(sizes.get(removal.name, 0) for removal in deleted if removal.action == "Deleted")
    return _done(engine, "image", deleted, freed)


def _is_uncertain(engine: Engine) -> bool:
    """Whether a damaged file hides which images are needed: then none may be removed. It is reported (StoreDamaged)."""
    with ReportingDamage(engine.data.emit):
        engine.data.images.names()
        engine.data.records.whole()
        for image_id in engine.data.images.all():
            engine.images.check_parent(image_id)
        return False
    return True


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
        # It was started or removed since, or its layer's record is damaged.
        with contextlib.suppress(Conflict, NotFound), ReportingDamage(engine.data.emit):
            record = container.record
            if record.state in (State.RUNNING, State.PAUSED):
                continue
            if criteria.matches(record.created, record.config.get("Labels") or {}):
                size = usage.writable_size(engine, container)
                container.remove()
                deleted.append(Removal("Deleted", container.id))
                freed += size
    return _done(engine, "container", deleted, freed)


def prune_builds(engine: Engine, filters: Filters, *, all: bool) -> Pruned:
    """Remove the build cache that nothing needs; see Engine.prune_builds.

    It is the steps that lead to no image with a name and to no container, the roots of failed steps,
    and the directories of cache mounts that no build is using. With all, the steps on the way to
    other images go, too: those images are whole without them, and forget what they were made from.
    Build cache has no labels: a filter for a label finds nothing. `docker system prune` passes its filters on to here.
    """
    criteria = _criteria(filters)
    steps = [] if _is_uncertain(engine) else _remove_steps(engine, criteria, all=all)
    freed = sum(layer.size for step in steps for layer in step.layers if not engine.data.layers.exists(layer.chain_id))
    mounts = [mount for mount in usage.cache_mounts(engine) if criteria.matches(mount.when, {})]
    mounts = [mount for mount in mounts if _remove_cache_mount(engine, mount.id)]
    deleted = [Removal("Deleted", one.id) for one in (*steps, *mounts)]
    return _done(engine, "builder", deleted, freed + sum(mount.size for mount in mounts))


def _done(engine: Engine, kind: str, deleted: Sequence[Removal], freed: int) -> Pruned:
    engine.data.emit(PruneDone(kind, freed))
    return Pruned(tuple(deleted), freed)


def _remove_steps(engine: Engine, criteria: _Criteria, *, all: bool) -> list[usage.CacheUsage]:
    store = engine.data.images
    with making(engine.data) as lease:  # at its end the layers go
        with engine.data.images_lock():
            steps = usage.cache_steps(engine)
            going = {step.id for step in steps if criteria.matches(step.when or timestamps.NEVER, {})}
            going -= _needed(engine, steps, without=going, all=all)
            children = _children(engine)
            removed = [step for step in steps if step.id in going]
            for step in removed:
                if chain := engine.images.config(step.id).chain_id:
                    lease.claim("layer", chain)
                for child in children.get(step.id, ()):
                    if store.exists(child):
                        store.set_parent(child, "")
                store.remove(step.id)
        for step in removed:
            engine.data.emit(ImageChanged("deleted", step.id))
    return removed


def _needed(engine: Engine, steps: Iterable[usage.CacheUsage], *, without: set[str], all: bool) -> set[str]:
    """Those that running builds stand on, and unless all may go, what images that stay were made from."""
    claimed = engine.data.layers.leases.claimed("layer")
    needed = {step.id for step in steps if engine.images.config(step.id).chain_id in claimed}
    if all:
        return needed
    staying = {image_id for image_id in engine.data.images.all() if image_id not in without} | needed
    return {ancestor for image_id in staying for ancestor in engine.images.ancestors(image_id)}


def _children(engine: Engine) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {}
    for image_id in engine.data.images.all():
        children.setdefault(engine.data.images.parent(image_id), []).append(image_id)
    return children


def _remove_cache_mount(engine: Engine, name: str) -> bool:
    """Remove a cache mount's directory unless a build uses it. It goes in one step: half of it would be a trap."""
    with try_locked(usage.cache_lock(engine, name)) as free:
        if not free:
            return False
        # A scratch directory without a lock: a killed prune leaves one that the next command removes. A locked one
        # would have to be made, for which a full disk has no room; the maker of the cache has made tmp/.
        gone = EntryName(secrets.token_hex(8))
        with contextlib.suppress(FileNotFoundError):  # another process prunes, too
            (cache_root(engine.data.path) / name).rename(engine.data.path / "tmp" / gone)
            with contextlib.suppress(FileNotFoundError):
                remove_below(engine.data.path / "tmp", gone)
            return True
    return False


def _criteria(filters: Filters, *others: str) -> _Criteria:
    """What filters say; others are those that the caller reads himself. Raises InvalidInput."""
    refuse_unknown(filters, ("until", "label", "label!", *others))
    moments = _texts(filters, "until")
    if len(moments) > 1:
        raise InvalidInput("more than one until filter specified", hint="give one")
    until = timestamps.moment(moments[0], now=time.time()) if moments else None
    return _Criteria(until, _texts(filters, "label"), _texts(filters, "label!"))


def _texts(filters: Filters, name: str) -> tuple[str, ...]:
    if isinstance(filters.get(name), bool):
        raise InvalidInput(f"Invalid filter '{name}={filters[name]}'", hint="its value is text")
    return values(filters, name)


def _dangling(filters: Filters) -> bool:
    """Whether only images without a name may go; so it is if nothing is said."""
    return all(truth("dangling", text) for text in values(filters, "dangling"))


def prune_networks(engine: Engine, filters: Filters) -> Pruned:
    """Remove the users' networks that no container is on; see NetworkCollection.prune."""
    from pylab_container.networks import orphans

    criteria = _criteria(filters)
    orphans.clear()
    deleted = []
    for network in engine.networks.list():
        document = network.document
        if not network.is_predefined and criteria.matches(document["Created"], document["Labels"]):
            with contextlib.suppress(Conflict, NotFound):  # a container is on it
                network.remove()
                deleted.append(Removal("Deleted", network.name))
    return _done(engine, "network", deleted, 0)
