"""Disk usage: `docker system df`.

Sizes are bytes of file content as the layer store counts them. A layer that several images share is counted once in
the total.

Each step of a build is an image, too. A step that has no name and no container is build cache, also if an image with
a name was built on it; it is not counted among the images.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from functools import partial
from pathlib import Path

from msgspec import Struct

from pylab_container.build.cache import STEP_MARK
from pylab_container.build.mounts import cache_root
from pylab_container.containers.settle import all_settled
from pylab_container.docker.container_filters import matching_containers
from pylab_container.errors import CorruptStore, NotFound
from pylab_container.host.descent import opened, walk
from pylab_container.host.files import open_lock, try_locked
from pylab_container.images import lookup
from pylab_container.images.image import Image
from pylab_container.oci import tar
from pylab_container.oci.image import ImageConfig
from pylab_container.oci.lifecycle import State
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.damage import ReportingDamage
from pylab_container.store.data_root import DataRoot
from pylab_container.store.layer_store import Layer
from pylab_container.store.volume_store import StoredVolume
from pylab_container.text.timestamps import rfc3339
from pylab_container.volumes import removal as volume_removal


class ImageUsage(Struct, frozen=True):
    """The disk usage of an image.

    size        bytes in its layers
    shared      bytes in layers that other images have too
    containers  number of containers that use it
    """

    image: Image
    size: int
    shared: int
    containers: int


class ContainerUsage(Struct, frozen=True):
    """The disk usage of a container.

    size    bytes in its own layer
    active  whether it runs or is paused
    """

    record: ContainerRecord
    size: int
    active: bool


class VolumeUsage(Struct, frozen=True):
    """The disk usage of a volume: its size in bytes.

    links  number of containers that mount it
    """

    volume: StoredVolume
    size: int
    links: int


class CacheUsage(Struct, frozen=True):
    """One entry of the build cache: a step, or a directory of RUN --mount=type=cache.

    id      the image's id, or the directory's name
    kind    Docker's name of the type: "regular" or "exec.cachemount"
    when    RFC 3339: the creation of a step, the last use of a directory
    size    in bytes: of the directory, or of the step's layers that no image and no newer step has
    active  whether an image with a name or a container was made from it, or a build is using it
    shared  whether an image has its topmost layer
    layers  the layers that size counts
    """

    id: str
    kind: str
    when: str
    size: int
    active: bool
    shared: bool = False
    layers: tuple[Layer, ...] = ()


class DiskUsage(Struct, frozen=True):
    """The disk usage of a data root. layers_size: bytes in the layers of all images."""

    layers_size: int
    images: tuple[ImageUsage, ...]
    containers: tuple[ContainerUsage, ...]
    volumes: tuple[VolumeUsage, ...]
    build_cache: tuple[CacheUsage, ...] = ()

    @property
    def reclaimable_images(self) -> int:
        """Bytes that removing all images without a container would free, by Docker's formula."""
        return self.layers_size - sum(usage.size - usage.shared for usage in self.images if usage.containers)

    @property
    def containers_size(self) -> int:
        """Bytes in the own layers of all containers."""
        return sum(usage.size for usage in self.containers)

    @property
    def reclaimable_containers(self) -> int:
        """Bytes in the own layers of containers that do not run."""
        return sum(usage.size for usage in self.containers if not usage.active)

    @property
    def volumes_size(self) -> int:
        """Bytes in all volumes."""
        return sum(usage.size for usage in self.volumes)

    @property
    def reclaimable_volumes(self) -> int:
        """Bytes in the volumes that no container mounts."""
        return sum(usage.size for usage in self.volumes if not usage.links)

    @property
    def build_cache_size(self) -> int:
        """Bytes in the build cache, without layers that images have too."""
        return sum(usage.size for usage in self.build_cache)

    @property
    def reclaimable_build_cache(self) -> int:
        """Bytes that `builder prune` would free."""
        return sum(usage.size for usage in self.build_cache if not usage.active)


def disk_usage(data: DataRoot, runtime: Runtime) -> DiskUsage:
    """Measure a data root."""
    steps = cache_steps(data)
    images = _images(data, without={step.id for step in steps})
    layers = {image.id: image.layers for image in images}
    references = Counter(layer.chain_id for chain in layers.values() for layer in chain)
    sizes = {layer.chain_id: layer.size for chain in layers.values() for layer in chain}
    users = Counter(record.image for record in data.records.all())
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
        containers=tuple(_containers(data, runtime)),
        volumes=tuple(
            VolumeUsage(volume, directory_size(str(volume.path)), len(volume_removal.users(data, volume)))
            for volume in data.volumes.all()
        ),
        build_cache=(*steps, *cache_mounts(data)),
    )


# -- images and the build cache ------------------------------------------------------------------


def _images(data: DataRoot, *, without: set[str]) -> list[Image]:
    """Return the images that `docker images` would list without the images of the build cache."""
    image_ids = [image_id for image_id in lookup.list_ids(data, all=True) if image_id not in without]
    named = {tag.image_id for tag in data.images.shown_names()}
    parents = {data.images.shown_parent(image_id) for image_id in image_ids}
    return [Image(data, image_id) for image_id in image_ids if image_id in named or image_id not in parents]


def cache_steps(data: DataRoot) -> list[CacheUsage]:
    """Return the steps of builds that have no name and no container, the newest first."""
    steps, kept = _divide_images(data)
    claimed = data.layers.leases.claimed("layer")
    needed = {ancestor for image_id in kept for ancestor in lookup.ancestors(data, image_id)}
    in_images = {layer.chain_id for config in kept.values() if config for layer in data.layers.chain(config.chain_id)}
    counted = set(in_images)
    usages = []
    for image_id, config in sorted(steps.items(), key=lambda step: step[1].created_at):
        layers = [layer for layer in data.layers.chain(config.chain_id) if layer.chain_id not in counted]
        counted.update(layer.chain_id for layer in layers)
        usages.append(
            CacheUsage(
                image_id,
                kind="regular",
                when=config.created,
                size=sum(layer.size for layer in layers),
                active=image_id in needed or config.chain_id in claimed,
                shared=config.chain_id in in_images,
                layers=tuple(layers),
            )
        )
    return usages[::-1]


def _divide_images(data: DataRoot) -> tuple[dict[str, ImageConfig], dict[str, ImageConfig | None]]:
    """Return the steps of the build cache, and all other images: each image id with its config.

    The config is None if an image with a name or a container is damaged. Another damaged image is in neither of them;
    a listing of images reports it.
    """
    steps: dict[str, ImageConfig] = {}
    kept: dict[str, ImageConfig | None] = {tag.image_id: None for tag in data.images.shown_names()}
    kept |= {record.image: None for record in data.records.all()}
    for image_id in data.images.all():
        with contextlib.suppress(NotFound, CorruptStore):
            config = lookup.config(data, image_id)
            data.layers.chain(config.chain_id)
            if image_id not in kept and data.images.marked(image_id, STEP_MARK):
                steps[image_id] = config
            else:
                kept[image_id] = config
    return steps, kept


def cache_mounts(data: DataRoot) -> list[CacheUsage]:
    """Return the directories of RUN --mount=type=cache, sorted by name."""
    usages = []
    for path in sorted(cache_root(data.path).glob("*")):
        with contextlib.suppress(FileNotFoundError):  # removed concurrently
            when = rfc3339(path.stat().st_mtime_ns)
            with try_locked(cache_lock(data, path.name)) as is_free:
                size = directory_size(str(path))
            usages.append(CacheUsage(path.name, kind="exec.cachemount", when=when, size=size, active=not is_free))
    return usages


def cache_lock(data: DataRoot, name: str) -> Path:
    """Return the file that a build locks while it uses a cache mount. It is created if missing."""
    path = data.locks / f"cache-{name}"
    os.close(open_lock(path))
    return path


# -- containers and volumes ----------------------------------------------------------------------


def _containers(data: DataRoot, runtime: Runtime) -> list[ContainerUsage]:
    usages = []
    for record in matching_containers(data, all_settled(data, runtime), {}, all=True):
        with contextlib.suppress(NotFound), ReportingDamage(data.emit, partial(_is_removed, data, record.id)):
            active = record.state in (State.RUNNING, State.PAUSED)
            usages.append(ContainerUsage(record, writable_size(data, record), active))
    return usages


def _is_removed(data: DataRoot, container_id: str) -> bool:
    return not data.records.exists(container_id)


def writable_size(data: DataRoot, record: ContainerRecord) -> int:
    """Return the bytes of file content that a container has written.

    A symbolic link counts with the length of its target.
    """
    writable = data.layers.writable(record.id)
    with data.driver.members(writable.mount_id, writable.init_id) as members:
        return sum(len(os.fsencode(header.link)) if header.kind == tar.SYMLINK else header.size for header in members)


def container_sizes(data: DataRoot, record: ContainerRecord) -> tuple[int, int]:
    """Return the bytes that a container has written, and those of its whole file system.

    Its layers exist also if its image was removed. Returns (0, 0) and reports StoreDamaged for a damaged layer.
    """
    with ReportingDamage(data.emit, partial(_is_removed, data, record.id)):
        written = writable_size(data, record)
        parent = data.layers.writable(record.id).parent
        return written, written + sum(layer.size for layer in data.layers.chain(parent))
    return 0, 0


def directory_size(path: str) -> int:
    """Return the bytes of file content in a tree.

    Hard links count once, symbolic links are not followed.

    The size of a path that does not exist is 0.
    """
    counted: set[tuple[int, int]] = set()
    total = 0
    try:
        fd = opened(path)
    except FileNotFoundError:
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
