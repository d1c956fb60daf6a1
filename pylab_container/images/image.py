"""One image: its config, its names, its layers, and how it came about.

It carries docker-py's names, so what a student learns here works with the real Docker.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from pylab_container.errors import InvalidArchive
from pylab_container.oci.image import ImageConfig, Json
from pylab_container.store.layer_store import Layer
from pylab_container.text.timestamps import NEVER

if TYPE_CHECKING:
    from pylab_container.build.report import BuildReport
    from pylab_container.engine import Engine

DOCKER_VERSION = "20.10.24"
"""The moby whose image format ours follows; image configs say so in `docker_version`."""


class HistoryEntry(Struct, frozen=True):
    """One line of `docker history`. `id` is "<missing>" for steps whose image is not here."""

    id: str
    created: str
    created_by: str
    size: int
    comment: str
    tags: tuple[str, ...]


class Image:
    """One image of one engine. Cheap: everything is read when asked for."""

    def __init__(self, engine: Engine, image_id: str, build_report: BuildReport | None = None) -> None:
        self._engine = engine
        self.id = image_id
        self.build_report = build_report

    @property
    def short_id(self) -> str:
        """ "sha256:" and twelve digits, as docker-py gives it."""
        return self.id[:19]

    @property
    def config(self) -> ImageConfig:
        """The image's config document. Raises ImageNotFound once the image is gone."""
        return self._engine.images.config(self.id)

    @property
    def tags(self) -> list[str]:
        """The names that point to this image, sorted."""
        names = [tag.reference for tag in self._engine.data.images.names_of(self.id)]
        return [name.familiar for name in names if not name.digest]

    @property
    def digests(self) -> list[str]:
        """The names that registries gave it, "debian@sha256:…", sorted."""
        names = [tag.reference for tag in self._engine.data.images.names_of(self.id)]
        return [name.familiar for name in names if name.digest]

    @property
    def labels(self) -> dict[str, str]:
        """The config's labels."""
        return dict(self.config.config.get("Labels") or {})

    @property
    def layers(self) -> list[Layer]:
        """The layers, the lowest first."""
        return self._engine.data.layers.chain(self.config.chain_id)[::-1]

    @property
    def size(self) -> int:
        """Bytes of file content in all layers together."""
        return sum(layer.size for layer in self.layers)

    @property
    def attrs(self) -> Json:
        """What `docker inspect` shows."""
        return _inspect(self)

    def history(self) -> list[HistoryEntry]:
        """How the image came about, the newest step first."""
        return _history(self)

    def save(self, *, named: bool | str = False) -> Iterator[bytes]:
        """The image as an archive that `load` takes, in pieces.

        named  with its first name, or with this one of its names; without any if False
        """
        name = (self.tags[:1] or [self.id])[0] if named is True else named or self.id
        return self._engine.images.stream([name])

    def tag(self, name: str) -> Image:
        """Give the image one more name. A name that another image had moves here."""
        self._engine.images.tag(self, name)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        tags = ", ".join(f"'{tag}'" for tag in self.tags)
        return f"<Image: {tags}>" if tags else f"<Image: {self.short_id}>"


def _history(image: Image) -> list[HistoryEntry]:
    engine, config = image._engine, image.config
    layers = iter(image.layers)
    entries = []
    for step in config.history:
        size = 0
        if not step.get("empty_layer"):
            layer = next(layers, None)
            if layer is None:
                raise InvalidArchive(f"the history of image {image.id[7:19]} has more layers than the image")
            size = layer.size
        entries.append((step, size))
    entries.reverse()
    ids = _ancestors(image, len(entries))
    tags: dict[str, list[str]] = {}
    for tag in engine.data.images.tags():
        tags.setdefault(tag.image_id, []).append(tag.reference.familiar)
    return [
        HistoryEntry(
            id=image_id,
            created=step.get("created") or NEVER,
            created_by=step.get("created_by") or "",
            size=size,
            comment=step.get("comment") or "",
            tags=tuple(tags.get(image_id, ())),
        )
        for (step, size), image_id in zip(entries, ids, strict=True)
    ]


def _ancestors(image: Image, count: int) -> list[str]:
    """The ids of the images after each step, the newest first; "<missing>" where nobody kept one."""
    ids, current = [], image.id
    for _ in range(count):
        ids.append(current or "<missing>")
        current = image._engine.data.images.shown_parent(current) if current else ""
    return ids


def _inspect(image: Image) -> Json:
    engine, config = image._engine, image.config
    document = config.document
    size = image.size
    return {
        "Id": image.id,
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Parent": engine.data.images.shown_parent(image.id),
        "Comment": document.get("comment") or (config.history[-1].get("comment", "") if config.history else ""),
        "Created": config.created,
        "Container": document.get("container", ""),
        "ContainerConfig": document.get("container_config"),
        "DockerVersion": document.get("docker_version", ""),
        "Author": config.author,
        "Config": config.config,
        "Architecture": config.architecture,
        "Os": document.get("os", "linux"),
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {"Data": _graph_data(image), "Name": engine.data.driver.name},
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Metadata": {"LastTagTime": engine.data.images.last_tagged(image.id) or NEVER},
    }


def _graph_data(image: Image) -> dict[str, str] | None:
    layers = image.layers
    return image._engine.data.driver.graph_data(layers[-1].cache_id) if layers else {}


def machine_architecture() -> str:
    """This machine's architecture as Go and the OCI name it."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}.get(machine, machine)
