"""What takes how much space: `docker system df`.

Sizes are bytes of file content, as the store counts them; layers that several images
share count once in the whole.

The steps of builds are images, too. One that has no name and no container is build cache, be it on
the way to an image with a name or not; it counts there, and not among the images.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from pylab_container.build.cache import STEP_MARK
from pylab_container.build.mounts import cache_root
from pylab_container.engine.volumes import Volume
from pylab_container.errors import CorruptStore, NotFound
from pylab_container.host.descent import opened, walk
from pylab_container.host.files import open_lock, try_locked
from pylab_container.images.image import Image
from pylab_container.oci import tar
from pylab_container.oci.lifecycle import State
from pylab_container.store.damage import ReportingDamage
from pylab_container.store.layer_store import Layer
from pylab_container.text.timestamps import rfc3339

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container


class ImageUsage(Struct, frozen=True):
    """size: of all its layers; shared: of those that other images have too; containers: how many use it."""

    image: Image
    size: int
    shared: int
    containers: int


class ContainerUsage(Struct, frozen=True):
    """size: of what it wrote into its own layer."""

    container: Container
    size: int
    active: bool


class VolumeUsage(Struct, frozen=True):
    """links: how many containers mount it."""

    volume: Volume
    size: int
    links: int


class CacheUsage(Struct, frozen=True):
    """One thing of the build cache: a step of a build, or the directory of a RUN --mount=type=cache.

    id      the image's, or the directory's name
    kind    as docker names them: "regular" or "exec.cachemount"
    when    RFC 3339: when the step was made, when the directory was last used
    size    of the directory, or of the layers that no image needs and no newer step has
    active  an image with a name or a container was made from it, or a build needs it now
    shared  other images have its topmost layer, too
    layers  those of `size`
    """

    id: str
    kind: str
    when: str
    size: int
    active: bool
    shared: bool = False
    layers: tuple[Layer, ...] = ()


class DiskUsage(Struct, frozen=True):
    """Everything in a data root that takes space. layers_size: all images together."""

    layers_size: int
    images: tuple[ImageUsage, ...]
    containers: tuple[ContainerUsage, ...]
    volumes: tuple[VolumeUsage, ...]
    build_cache: tuple[CacheUsage, ...] = ()

    @property
    def reclaimable_images(self) -> int:
        """What removing all images without a container would free, as docker reckons it."""
        return self.layers_size - sum(usage.size - usage.shared for usage in self.images if usage.containers)

    @property
    def containers_size(self) -> int:
        """All containers' own layers."""
        return sum(usage.size for usage in self.containers)

    @property
    def reclaimable_containers(self) -> int:
        """Those of the containers that do not run."""
        return sum(usage.size for usage in self.containers if not usage.active)

    @property
    def volumes_size(self) -> int:
        """All volumes."""
        return sum(usage.size for usage in self.volumes)

    @property
    def reclaimable_volumes(self) -> int:
        """Those that no container mounts."""
        return sum(usage.size for usage in self.volumes if not usage.links)

    @property
    def build_cache_size(self) -> int:
        """All of the build cache, but what images have, too."""
        return sum(usage.size for usage in self.build_cache)

    @property
    def reclaimable_build_cache(self) -> int:
        """What `builder prune` would free."""
        return sum(usage.size for usage in self.build_cache if not usage.active)


def disk_usage(engine: Engine) -> DiskUsage:
    """Look at everything once."""
    steps = cache_steps(engine)
    images = _images(engine, without={step.id for step in steps})
    layers = {image.id: image.layers for image in images}
    references = Counter(layer.chain_id for chain in layers.values() for layer in chain)
    sizes = {layer.chain_id: layer.size for chain in layers.values() for layer in chain}
    users = Counter(record.image for record in engine.data.records.all())
    return DiskUsage(
        layers_size=sum(sizes.values()),
        images=tuple(
            ImageUsage(
                image,
                size=sum(layer.size for layer in layers[image.id]),
                shared=sum(layer.size for layer in layers[image.id] if references[layer.chain_id] > 1),
                containers=users[image.id],
            )
            for image in images
        ),
        containers=tuple(_containers(engine)),
        volumes=tuple(
            VolumeUsage(volume, directory_size(str(volume.path)), len(engine.volumes.users(volume)))
            for volume in engine.volumes.list()
        ),
        build_cache=(*steps, *cache_mounts(engine)),
    )


def _images(engine: Engine, *, without: set[str]) -> list[Image]:
    """As ImageCollection.list, were it not for the images of a build cache."""
    images = [image for image in engine.images.list(all=True) if image.id not in without]
    tagged = {name.image_id for name in engine.data.images.shown_names()}
    parents = {engine.data.images.shown_parent(image.id) for image in images}
    return [image for image in images if image.id in tagged or image.id not in parents]


def cache_steps(engine: Engine) -> list[CacheUsage]:
    """The steps of builds that have no name and no container, the newest first."""
    store = engine.data.images
    kept: set[str] = {name.image_id for name in store.shown_names()} | {
        record.image for record in engine.data.records.all()
    }
    steps, chains = {}, set()
    for image_id in store.all():
        with contextlib.suppress(
            NotFound, CorruptStore
        ):  # a damaged one does not count as a step; the listing reports it
            config = engine.images.config(image_id)
            engine.data.layers.chain(config.chain_id)
            if image_id not in kept and store.marked(image_id, STEP_MARK):
                steps[image_id] = config
            else:
                kept.add(image_id)
                chains.add(config.chain_id)
    claimed = engine.data.layers.leases.claimed("layer")
    needed = {ancestor for image_id in kept for ancestor in engine.images.ancestors(image_id)}
    of_images = {layer.chain_id for chain in chains for layer in engine.data.layers.chain(chain)}
    seen = set(of_images)
    found = []
    for image_id, config in sorted(steps.items(), key=lambda step: step[1].created_at):
        layers = [layer for layer in engine.data.layers.chain(config.chain_id) if layer.chain_id not in seen]
        seen.update(layer.chain_id for layer in layers)
        found.append(
            CacheUsage(
                image_id,
                kind="regular",
                when=config.created,
                size=sum(layer.size for layer in layers),
                active=image_id in needed or config.chain_id in claimed,
                shared=config.chain_id in of_images,
                layers=tuple(layers),
            )
        )
    return found[::-1]


def cache_mounts(engine: Engine) -> list[CacheUsage]:
    """The directories of RUN --mount=type=cache, sorted by name."""
    found = []
    for path in sorted(cache_root(engine.data.path).glob("*")):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            when = rfc3339(path.stat().st_mtime_ns)
            with try_locked(cache_lock(engine, path.name)) as free:
                size = directory_size(str(path))
            found.append(CacheUsage(path.name, kind="exec.cachemount", when=when, size=size, active=not free))
    return found


def cache_lock(engine: Engine, name: str) -> Path:
    """The file that a build holds a lock on while it uses such a directory."""
    path = engine.data.locks / f"cache-{name}"
    os.close(open_lock(path))
    return path


def _containers(engine: Engine) -> list[ContainerUsage]:
    found = []
    for container in engine.containers.list(all=True):
        with contextlib.suppress(NotFound), ReportingDamage(engine.events.emit, partial(_is_removed, container)):
            active = container.record.state in (State.RUNNING, State.PAUSED)
            found.append(ContainerUsage(container, writable_size(engine, container), active))
    return found


def _is_removed(container: Container) -> bool:
    return not container._engine.data.records.exists(container.id)


def writable_size(engine: Engine, container: Container) -> int:
    """Bytes of file content that a container has written, a symbolic link's target included."""
    writable = engine.data.layers.writable(container.id)
    with engine.data.driver.members(writable.mount_id, writable.init_id) as members:
        return sum(len(os.fsencode(header.link)) if header.kind == tar.SYMLINK else header.size for header in members)


def container_sizes(engine: Engine, container: Container) -> tuple[int, int]:
    """Bytes that a container has written, and those of its whole root. Its image may be gone, its layers are not."""
    with ReportingDamage(engine.events.emit, partial(_is_removed, container)):
        written = writable_size(engine, container)
        below = engine.data.layers.writable(container.id).parent
        return written, written + sum(layer.size for layer in engine.data.layers.chain(below))
    return 0, 0


def directory_size(top: str) -> int:
    """Bytes of file content in a tree; a file with several names counts once, no link is followed."""
    counted: set[tuple[int, int]] = set()
    total = 0
    try:
        fd = opened(top)
    except FileNotFoundError:  # removed a moment ago
        return 0
    try:
        for _, entry in walk(fd):
            status = entry.status
            if not entry.is_directory and (status.st_dev, status.st_ino) not in counted:
                counted.add((status.st_dev, status.st_ino))
                total += status.st_size
    finally:
        os.close(fd)
    return total
