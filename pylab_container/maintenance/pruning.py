"""prune: remove unneeded objects, and report how many bytes that freed.

As in moby, a container is needed while it runs, an image while it has a name, a container or a child image, a network
while a container is connected to it, and a volume while a container mounts it. Of the build cache, the steps on which
such an image was built are needed. Nothing that a running build uses is removed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from pylab_container.build.mounts import cache_root
from pylab_container.containers import removal as container_removal
from pylab_container.containers.settle import all_settled
from pylab_container.docker.container_filters import matching_containers
from pylab_container.docker.filters import Filters, has_labels, refuse_unknown, truth, values
from pylab_container.errors import Conflict, InvalidInput, NotFound
from pylab_container.events import ImageChanged, PruneDone
from pylab_container.host.files import try_locked
from pylab_container.host.random_ids import random_hex
from pylab_container.host.removal import remove_below
from pylab_container.images import lookup
from pylab_container.images import removal as image_removal
from pylab_container.images.image import Image
from pylab_container.images.removal import Removal
from pylab_container.maintenance import usage
from pylab_container.networks import creation as network_creation
from pylab_container.networks import orphans
from pylab_container.networks.lookup import all_networks
from pylab_container.oci.ids import EntryName
from pylab_container.oci.lifecycle import State
from pylab_container.runtime import Runtime
from pylab_container.store.damage import ReportingDamage
from pylab_container.store.data_root import DataRoot
from pylab_container.store.transactions import making
from pylab_container.text import timestamps
from pylab_container.volumes import removal as volume_removal


class Pruned(Struct, frozen=True):
    """The removed objects in order, and the bytes of file content that this freed."""

    deleted: tuple[Removal, ...]
    space_reclaimed: int


# -- filters -------------------------------------------------------------------------------------


class _Criteria(Struct, frozen=True):
    """Which of the unneeded objects to remove.

    until           only objects created before this time, in seconds since 1970
    labels          only objects that satisfy all of these conditions
    without_labels  no object that satisfies all of these conditions
    """

    until: float | None = None
    labels: tuple[str, ...] = ()
    without_labels: tuple[str, ...] = ()

    @classmethod
    def parse(cls, filters: Filters, *others: str) -> _Criteria:
        """Parse filters. others: the names of filters that the caller reads itself.

        Raises InvalidInput.
        """
        refuse_unknown(filters, ("until", "label", "label!", *others))
        moments = _texts(filters, "until")
        if len(moments) > 1:
            raise InvalidInput("more than one until filter specified", hint="give one")
        until = timestamps.moment(moments[0], now=time.time()) if moments else None
        return cls(until, _texts(filters, "label"), _texts(filters, "label!"))

    def matches(self, created: str, labels: Mapping[str, str]) -> bool:
        """Return whether an object is to be removed. created: RFC 3339."""
        if self.until is not None and timestamps.parse_rfc3339(created) > self.until * 10**9:
            return False
        if self.without_labels and has_labels(labels, self.without_labels):
            return False
        return has_labels(labels, self.labels)


def _texts(filters: Filters, name: str) -> tuple[str, ...]:
    if isinstance(filters.get(name), bool):
        raise InvalidInput(f"Invalid filter '{name}={filters[name]}'", hint="write its value as text")
    return values(filters, name)


def _done(data: DataRoot, kind: str, deleted: Sequence[Removal], freed: int) -> Pruned:
    data.emit(PruneDone(kind, freed))
    return Pruned(tuple(deleted), freed)


# -- images --------------------------------------------------------------------------------------


def prune_images(data: DataRoot, filters: Filters) -> Pruned:
    """Remove images that have no container and no child image.

    With dangling, which is the default, only those without a name.

    filters  dangling, until, label, label!

    Raises InvalidInput.
    """
    is_dangling_only = all(truth("dangling", text) for text in values(filters, "dangling"))
    criteria = _Criteria.parse(filters, "dangling")
    sizes: dict[str, int] = {layer.chain_id: layer.size for layer in data.layers.all()}
    deleted: list[Removal] = []
    image_ids = [] if _is_uncertain(data) else lookup.list_ids(data)
    being_built = data.layers.leases.claimed("layer")
    for image in (Image(data, image_id) for image_id in image_ids):
        with contextlib.suppress(NotFound), ReportingDamage(data.emit):  # removed concurrently
            if (image.tags and is_dangling_only) or (image.config.chain_id in being_built and not image.tags):
                continue
            if criteria.matches(image.config.created or timestamps.NEVER, image.labels):
                deleted += _remove_image(data, image)
    freed = sum(sizes.get(each.name, 0) for each in deleted if each.action == "Deleted")
    return _done(data, "image", deleted, freed)


def _is_uncertain(data: DataRoot) -> bool:
    """Return whether a damaged file hides which images are needed, so that none may be removed. It is reported."""
    with ReportingDamage(data.emit):
        data.images.names()
        data.records.whole()
        for image_id in data.images.all():
            lookup.check_parent(data, image_id)
        return False
    return True


def _remove_image(data: DataRoot, image: Image) -> list[Removal]:
    removals: list[Removal] = []
    for name in image.tags or [image.id]:
        with contextlib.suppress(Conflict, NotFound):  # a container needs it
            removals += image_removal.remove(data, name)
    return removals


# -- the build cache -----------------------------------------------------------------------------


def prune_builds(data: DataRoot, filters: Filters, *, all: bool) -> Pruned:
    """Remove the unneeded build cache: steps, root file systems of failed steps, and unused cache mounts.

    all      also the steps on which other images were built: these stay complete, but lose their history of parents
    filters  until, and the filters of `docker system prune`, which passes them all: build cache has no labels, so a
             filter for a label matches nothing

    Raises InvalidInput.
    """
    criteria = _Criteria.parse(filters)
    steps = [] if _is_uncertain(data) else _remove_steps(data, criteria, all=all)
    freed = sum(layer.size for step in steps for layer in step.layers if not data.layers.exists(layer.chain_id))
    mounts = [mount for mount in usage.cache_mounts(data) if criteria.matches(mount.when, {})]
    mounts = [mount for mount in mounts if _remove_cache_mount(data, mount.id)]
    deleted = [Removal("Deleted", entry.id) for entry in (*steps, *mounts)]
    return _done(data, "builder", deleted, freed + sum(mount.size for mount in mounts))


def _remove_steps(data: DataRoot, criteria: _Criteria, *, all: bool) -> list[usage.CacheUsage]:
    with making(data) as lease:  # the end of the block removes the layers that the lease claims
        with data.images_lock():
            steps = usage.cache_steps(data)
            chosen = {step.id for step in steps if criteria.matches(step.when or timestamps.NEVER, {})}
            chosen -= _needed(data, steps, without=chosen, all=all)
            children = _children(data)
            removed = [step for step in steps if step.id in chosen]
            for step in removed:
                if chain := lookup.config(data, step.id).chain_id:
                    lease.claim("layer", chain)
                for child in children.get(step.id, ()):
                    if data.images.exists(child):
                        data.images.set_parent(child, "")
                data.images.remove(step.id)
        for step in removed:
            data.emit(ImageChanged("deleted", step.id))
    return removed


def _needed(data: DataRoot, steps: Iterable[usage.CacheUsage], *, without: set[str], all: bool) -> set[str]:
    """Return the steps that running builds use and, unless all, those on which the remaining images were built."""
    claimed = data.layers.leases.claimed("layer")
    needed = {step.id for step in steps if lookup.config(data, step.id).chain_id in claimed}
    if all:
        return needed
    remaining = {image_id for image_id in data.images.all() if image_id not in without} | needed
    return {ancestor for image_id in remaining for ancestor in lookup.ancestors(data, image_id)}


def _children(data: DataRoot) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {}
    for image_id in data.images.all():
        children.setdefault(data.images.parent(image_id), []).append(image_id)
    return children


def _remove_cache_mount(data: DataRoot, name: str) -> bool:
    """Remove a cache mount's directory, unless a build uses it. The rename makes that atomic for the next build."""
    with try_locked(usage.cache_lock(data, name)) as is_free:
        if not is_free:
            return False
        # The new name is that of a scratch directory without a lock: if this process is killed, the next command
        # removes it. data.scratch() would have to create a directory, for which a full disk has no room.
        scratch_name = EntryName(random_hex(8))
        with contextlib.suppress(FileNotFoundError):  # another process is pruning
            (cache_root(data.path) / name).rename(data.path / "tmp" / scratch_name)
            with contextlib.suppress(FileNotFoundError):
                remove_below(data.path / "tmp", scratch_name)
            return True
    return False


# -- containers, networks and volumes ------------------------------------------------------------


def prune_containers(data: DataRoot, runtime: Runtime, filters: Filters) -> Pruned:
    """Remove the containers that do not run.

    filters  until, label, label!

    Raises InvalidInput.
    """
    criteria = _Criteria.parse(filters)
    deleted, freed = [], 0
    for record in matching_containers(data, all_settled(data, runtime), {}, all=True):
        # It was started or removed concurrently, or the record of its layer is damaged.
        with contextlib.suppress(Conflict, NotFound), ReportingDamage(data.emit):
            if record.state in (State.RUNNING, State.PAUSED):
                continue
            if criteria.matches(record.created, record.config.labels):
                size = usage.writable_size(data, record)
                container_removal.remove(data, runtime, record.id)
                deleted.append(Removal("Deleted", record.id))
                freed += size
    return _done(data, "container", deleted, freed)


def prune_networks(data: DataRoot, runtime: Runtime, filters: Filters) -> Pruned:
    """Remove the users' networks to which no container is connected, and orphaned bridges.

    filters  until, label, label!

    Raises InvalidInput.
    """
    criteria = _Criteria.parse(filters)
    orphans.clear()
    deleted = []
    for record in sorted(all_networks(data), key=lambda record: record.name):
        if not record.is_predefined and criteria.matches(record.document["Created"], record.document["Labels"]):
            with contextlib.suppress(Conflict, NotFound):  # a container is connected to it
                network_creation.remove(data, runtime, record)
                deleted.append(Removal("Deleted", record.name))
    return _done(data, "network", deleted, 0)


def prune_volumes(data: DataRoot, filters: Filters) -> Pruned:
    """Remove the volumes that no container mounts; by default only anonymous ones.

    filters  all=true: also volumes with a name; label, label!

    Raises InvalidInput. While a container's record is damaged, no volume is removed: its use is unknown.
    """
    refuse_unknown(filters, ("all", "label", "label!"))
    includes_named = "all" in filters and _truth("".join(values(filters, "all")).lower())
    labels, excluded = values(filters, "label"), values(filters, "label!")
    deleted, freed = [], 0
    with data.volumes.lock(), ReportingDamage(data.emit):
        for volume in list(data.volumes.all()):
            is_excluded = "label!" in filters and has_labels(volume.labels, excluded)
            is_candidate = has_labels(volume.labels, labels) and not is_excluded
            if is_candidate and (includes_named or volume.anonymous):
                if volume_removal.reliable_users(data, volume):
                    continue
                freed += usage.directory_size(str(volume.path))
                volume_removal.delete(data, volume)  # as in Docker, the prune event alone reports it
                deleted.append(Removal("Deleted", volume.name))
    return _done(data, "volume", deleted, freed)


def _truth(text: str) -> bool:
    if text not in ("true", "1", "false", "0"):
        raise InvalidInput(f"invalid value of a filter: {text}", hint="write true or false")
    return text in ("true", "1")
