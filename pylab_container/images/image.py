"""One image: its config, names and layers, and its history.

`Image` has docker-py's names, so that code for one works with the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from pylab_container.errors import InvalidArchive
from pylab_container.images import lookup, naming
from pylab_container.oci.image import ImageConfig, Json
from pylab_container.store.data_root import DataRoot
from pylab_container.store.layer_store import Layer
from pylab_container.text.timestamps import NEVER

if TYPE_CHECKING:
    from pylab_container.images.build_report import BuildReport

DOCKER_VERSION = "20.10.24"
"""The moby whose image format this engine writes; image configs have it in `docker_version`."""


class HistoryEntry(Struct, frozen=True):
    """One line of `docker history`. `id` is "<missing>" if the step's image is not stored here."""

    id: str
    created: str
    created_by: str
    size: int
    comment: str
    tags: tuple[str, ...]


class Image:
    """One image of one data root. An object without state: each property reads the store.

    build_report  how it was built, if build() has returned this object
    """

    def __init__(self, data: DataRoot, image_id: str, build_report: BuildReport | None = None) -> None:
        self._data = data
        self.id = image_id
        self.build_report = build_report

    @property
    def short_id(self) -> str:
        """ "sha256:" and twelve digits, as docker-py returns it."""
        return self.id[:19]

    @property
    def config(self) -> ImageConfig:
        """The image's config document. Raises ImageNotFound after the image was removed."""
        return lookup.config(self._data, self.id)

    @property
    def tags(self) -> list[str]:
        """The names that point to this image, sorted."""
        names = [tag.reference for tag in self._data.images.names_of(self.id)]
        return [name.familiar for name in names if not name.digest]

    @property
    def digests(self) -> list[str]:
        """The names with digests that registries have for it, "debian@sha256:…", sorted."""
        names = [tag.reference for tag in self._data.images.names_of(self.id)]
        return [name.familiar for name in names if name.digest]

    @property
    def labels(self) -> dict[str, str]:
        """The config's labels."""
        return dict(self.config.config.get("Labels") or {})

    @property
    def layers(self) -> list[Layer]:
        """The layers, the lowest first."""
        return self._data.layers.chain(self.config.chain_id)[::-1]

    @property
    def size(self) -> int:
        """Bytes of file content in all layers together."""
        return sum(layer.size for layer in self.layers)

    @property
    def attrs(self) -> Json:
        """The document that `docker inspect` shows."""
        return _inspect(self._data, self)

    def history(self) -> list[HistoryEntry]:
        """The steps that made the image, the newest first."""
        return _history(self._data, self)

    def save(self, *, named: bool | str = False) -> Iterator[bytes]:
        """Return the image as an archive for `load`, in pieces.

        named  True: with its first name; a string: with this one of its names; False: without a name
        """
        from pylab_container.images import save as saving

        name = (self.tags[:1] or [self.id])[0] if named is True else named or self.id
        return saving.stream(self._data, [name])

    def tag(self, name: str) -> Image:
        """Give the image one more name. A name that another image had moves to this one."""
        naming.tag(self._data, self.id, name)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        tags = ", ".join(f"'{tag}'" for tag in self.tags)
        return f"<Image: {tags}>" if tags else f"<Image: {self.short_id}>"


# -- history ---------------------------------------------------------------------------------------


def _history(data: DataRoot, image: Image) -> list[HistoryEntry]:
    steps = _sized_steps(image)[::-1]
    tags: dict[str, list[str]] = {}
    for tag in data.images.tags():
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
        for (step, size), image_id in zip(steps, _step_ids(data, image.id, len(steps)), strict=True)
    ]


def _sized_steps(image: Image) -> list[tuple[Json, int]]:
    """Each entry of the config's history with the size of its layer in bytes, the oldest first."""
    layers, steps = iter(image.layers), []
    for step in image.config.history:
        size = 0
        if not step.get("empty_layer"):
            layer = next(layers, None)
            if layer is None:
                raise InvalidArchive(f"the history of image {image.id[7:19]} has more layers than the image")
            size = layer.size
        steps.append((step, size))
    return steps


def _step_ids(data: DataRoot, image_id: str, count: int) -> Iterable[str]:
    """The ids of the images after each step, the newest first; "<missing>" if no image of the step is stored."""
    for _ in range(count):
        yield image_id or "<missing>"
        image_id = data.images.shown_parent(image_id) if image_id else ""


# -- inspect ---------------------------------------------------------------------------------------


def _inspect(data: DataRoot, image: Image) -> Json:
    config, layers = image.config, image.layers
    document = config.document
    size = sum(layer.size for layer in layers)
    return {
        "Id": image.id,
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Parent": data.images.shown_parent(image.id),
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
        "GraphDriver": {
            "Data": data.driver.graph_data(layers[-1].cache_id) if layers else {},
            "Name": data.driver.name,
        },
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Metadata": {"LastTagTime": data.images.last_tagged(image.id) or NEVER},
    }


def machine_architecture() -> str:
    """This machine's architecture, by the name that Go and the OCI use."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}.get(machine, machine)
