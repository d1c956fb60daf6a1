"""What takes how much space: `docker system df`.

Sizes are bytes of file content, as the store counts them; layers that several images
share count once in the whole.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pylab_container.engine.image import Image
from pylab_container.engine.volumes import Volume
from pylab_container.errors import NotFound
from pylab_container.formats import tar
from pylab_container.formats.lifecycle import State

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container


@dataclass(frozen=True)
class ImageUsage:
    """size: of all its layers; shared: of those that other images have too; containers: how many use it."""

    image: Image
    size: int
    shared: int
    containers: int


@dataclass(frozen=True)
class ContainerUsage:
    """size: of what it wrote into its own layer."""

    container: Container
    size: int
    active: bool


@dataclass(frozen=True)
class VolumeUsage:
    """links: how many containers mount it."""

    volume: Volume
    size: int
    links: int


@dataclass(frozen=True)
class DiskUsage:
    """Everything in a data root that takes space. layers_size: all images together."""

    layers_size: int
    images: tuple[ImageUsage, ...]
    containers: tuple[ContainerUsage, ...]
    volumes: tuple[VolumeUsage, ...]

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


def disk_usage(engine: Engine) -> DiskUsage:
    """Look at everything once."""
    images = engine.images.list()
    layers = {image.id: image.layers for image in images}
    references = Counter(layer.chain_id for chain in layers.values() for layer in chain)
    sizes = {layer.chain_id: layer.size for chain in layers.values() for layer in chain}
    users = Counter(record.image for record in engine.records.all())
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
    )


def _containers(engine: Engine) -> list[ContainerUsage]:
    found = []
    for container in engine.containers.list(all=True):
        with contextlib.suppress(NotFound):  # removed meanwhile
            active = container.record.state in (State.RUNNING, State.PAUSED)
            found.append(ContainerUsage(container, writable_size(engine, container), active))
    return found


def writable_size(engine: Engine, container: Container) -> int:
    """Bytes of file content that a container has written, a symbolic link's target included."""
    writable = engine.layers.writable(container.id)
    with engine.driver.members(writable.mount_id, writable.init_id) as members:
        return sum(len(os.fsencode(header.link)) if header.kind == tar.SYMLINK else header.size for header in members)


def directory_size(top: str) -> int:
    """Bytes of file content in a tree; a file with several names counts once, no link is followed."""
    counted: set[tuple[int, int]] = set()
    total = 0
    for parent, _, names in os.walk(top):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(os.path.join(parent, name))
                if (status.st_dev, status.st_ino) not in counted:
                    counted.add((status.st_dev, status.st_ino))
                    total += status.st_size
    return total
