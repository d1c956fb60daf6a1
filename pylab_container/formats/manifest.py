"""How several blobs are one image: Docker's manifest.json, OCI manifests and OCI indexes.

A *descriptor* names a blob by digest, size and kind. A *manifest* is the descriptors of
one image: its config and its layers, the lowest first. An *index* lists manifests. An
archive made by `docker save` has, beside these, a manifest.json with paths. Sources: OCI
image-spec descriptor.md, manifest.md, image-index.md, image-layout.md; moby
image/tarexport.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pylab_container.errors import InvalidArchive
from pylab_container.formats.image import Json, go_json

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_KINDS = {"": LAYER, "gzip": f"{LAYER}+gzip", "zstd": f"{LAYER}+zstd"}
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
REFERENCE_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'

_NONSENSE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading JSON of the wrong shape raises; the last where it is nested without end."""
_HINT = "was it made by docker save, or is it an OCI image layout?"


@dataclass(frozen=True)
class Descriptor:
    """One blob: what kind, which digest ("sha256:…"), how many bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = field(default_factory=dict)
    platform: Json = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where an image layout keeps the blob."""
        algorithm, _, digest = self.digest.partition(":")
        return f"blobs/{algorithm}/{digest}"

    def document(self) -> Json:
        """As JSON, without what is empty."""
        document: Json = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            document["annotations"] = dict(sorted(self.annotations.items()))
        if self.platform:
            document["platform"] = self.platform
        return document


@dataclass(frozen=True)
class Manifest:
    """One image's blobs, the lowest layer first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]

    def raw(self) -> bytes:
        """The manifest's bytes; their digest names the image in a registry."""
        return go_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self.config.document(),
                "layers": [layer.document() for layer in self.layers],
            }
        )


@dataclass(frozen=True)
class ArchivedImage:
    """One image in an archive made by `docker save`: paths inside it, and the names to give."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


def index(manifests: Sequence[Descriptor]) -> bytes:
    """An index.json."""
    return go_json(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest.document() for manifest in manifests]}
    )


def docker_manifest(images: Sequence[ArchivedImage]) -> bytes:
    """A manifest.json."""
    return go_json(
        [
            {"Config": image.config, "RepoTags": list(image.tags) or None, "Layers": list(image.layers)}
            for image in images
        ]
    )


def parse_docker_manifest(raw: bytes) -> list[ArchivedImage]:
    """The images of a manifest.json. Raises InvalidArchive."""
    try:
        entries = json.loads(raw)
        images = [
            ArchivedImage(_text(entry["Config"]), _texts(entry["Layers"]), _texts(entry.get("RepoTags") or []))
            for entry in entries
        ]
    except _NONSENSE as error:
        raise InvalidArchive(f"manifest.json cannot be understood: {error!r}", hint=_HINT) from error
    return images


def parse_index(raw: bytes) -> list[Descriptor]:
    """The manifests that an index lists. Raises InvalidArchive."""
    try:
        return [_descriptor(entry) for entry in json.loads(raw)["manifests"]]
    except _NONSENSE as error:
        raise InvalidArchive(f"the image index cannot be understood: {error!r}", hint=_HINT) from error


def parse_manifest(raw: bytes) -> Manifest:
    """One image's manifest, OCI's or Docker's schema 2. Raises InvalidArchive."""
    try:
        document = json.loads(raw)
        return Manifest(_descriptor(document["config"]), tuple(_descriptor(entry) for entry in document["layers"]))
    except _NONSENSE as error:
        raise InvalidArchive(f"the image manifest cannot be understood: {error!r}", hint=_HINT) from error


def is_index(descriptor: Descriptor) -> bool:
    """Whether a descriptor names an index, which lists manifests, rather than a manifest."""
    return descriptor.media_type in (INDEX, DOCKER_MANIFEST_LIST)


def choose_platform(manifests: Sequence[Descriptor], *, architecture: str) -> Descriptor:
    """The manifest for this machine. Raises InvalidArchive where there is none."""
    for manifest in manifests:
        platform = manifest.platform
        if not platform or (platform.get("os", "linux"), platform.get("architecture")) == ("linux", architecture):
            return manifest
    raise InvalidArchive(
        f"no image for linux/{architecture} in this archive", hint="get the image for this machine's architecture"
    )


def _descriptor(entry: Any) -> Descriptor:
    size = entry["size"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise TypeError(f"size {size!r}")
    digest = _text(entry["digest"])
    algorithm, _, hexadecimal = digest.partition(":")
    if algorithm != "sha256" or len(hexadecimal) != 64 or set(hexadecimal) - set("0123456789abcdef"):
        raise ValueError(f"digest {digest[:80]!r}")
    annotations = {_text(name): _text(value) for name, value in (entry.get("annotations") or {}).items()}
    return Descriptor(_text(entry.get("mediaType") or ""), digest, size, annotations, dict(entry.get("platform") or {}))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list")
    return tuple(_text(value) for value in values)
