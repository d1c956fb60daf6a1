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
from typing import Any

from msgspec import Struct, field

from pylab_container.errors import InvalidArchive
from pylab_container.oci import config_shape
from pylab_container.oci.image import Json, go_json
from pylab_container.oci.platform import Platform
from pylab_container.text.jsontext import NotJson, parse_json

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_KINDS = {"": LAYER, "gzip": f"{LAYER}+gzip", "zstd": f"{LAYER}+zstd"}
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
INDEXES = (INDEX, DOCKER_MANIFEST_LIST)
ACCEPTED = (DOCKER_MANIFEST, MANIFEST, *INDEXES)
"""The kinds of manifest that a registry may answer with."""
REFERENCE_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'

_LAYERS = (LAYER, "application/vnd.docker.image.rootfs.diff.tar", "application/octet-stream")
_UNSAID = 9
"""How well a manifest suits that does not say its platform: worse than any that does."""
_NONSENSE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading JSON of the wrong shape raises; the last where it is nested without end."""
_HINT = "was it made by docker save, or is it an OCI image layout?"


class Descriptor(Struct, frozen=True):
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


class Manifest(Struct, frozen=True):
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


class ArchivedImage(Struct, frozen=True):
    """One image in an archive made by `docker save`: paths inside it, and the names to give.

    parent  the id of the image that it was made from, if that is in the archive, too
    """

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]
    parent: str = ""


def index(manifests: Sequence[Descriptor]) -> bytes:
    """An index.json."""
    return go_json(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest.document() for manifest in manifests]}
    )


def docker_manifest(images: Sequence[ArchivedImage]) -> bytes:
    """A manifest.json."""
    return go_json(
        [
            {
                "Config": image.config,
                "RepoTags": list(image.tags) or None,
                "Layers": list(image.layers),
                **({"Parent": image.parent} if image.parent else {}),
            }
            for image in images
        ]
    )


def parse_docker_manifest(raw: bytes) -> list[ArchivedImage]:
    """The images of a manifest.json. Raises InvalidArchive."""
    try:
        entries = parse_json(raw)
        config_shape.check_manifest(entries)
    except (NotJson, ValueError) as error:
        raise InvalidArchive(str(error), hint=_HINT) from None
    # A null, also one in a list, is what Go makes of it: nothing, or an empty text.
    return [
        ArchivedImage(
            entry.get("Config") or "",
            tuple(name or "" for name in entry.get("Layers") or ()),
            tuple(name or "" for name in entry.get("RepoTags") or ()),
            entry.get("Parent") or "",
        )
        for entry in (each or {} for each in entries)
    ]


def parse_index(raw: bytes) -> list[Descriptor]:
    """The manifests that an index lists. Raises InvalidArchive."""
    try:
        return [_descriptor(entry) for entry in parse_json(raw)["manifests"]]
    except _NONSENSE as error:
        raise InvalidArchive(f"the image index cannot be understood{_problem(error)}", hint=_HINT) from error


def parse_manifest(raw: bytes) -> Manifest:
    """One image's manifest, OCI's or Docker's schema 2. Raises InvalidArchive."""
    try:
        document = parse_json(raw)
        listed = document.get("layers")  # null or missing, as Go's programs write and read an empty list
        return Manifest(_descriptor(document["config"]), tuple(map(_descriptor, () if listed is None else listed)))
    except _NONSENSE as error:
        raise InvalidArchive(f"the image manifest cannot be understood{_problem(error)}", hint=_HINT) from error


def is_index(descriptor: Descriptor) -> bool:
    """Whether a descriptor names an index, which lists manifests, rather than a manifest."""
    return descriptor.media_type in INDEXES


def choose_platform(manifests: Sequence[Descriptor], *, architecture: str) -> Descriptor:
    """The manifest for this machine. Raises InvalidArchive where there is none."""
    found = choose(manifests, Platform("linux", architecture))
    if found is None:
        raise InvalidArchive(
            f"no image for linux/{architecture} in this archive", hint="get the image for this machine's architecture"
        )
    return found


def schema2(manifest: Manifest) -> bytes:
    """A manifest as Docker writes it for a registry: image manifest version 2, schema 2, to the letter."""

    def described(blob: Descriptor) -> Json:
        return {"mediaType": blob.media_type, "size": blob.size, "digest": blob.digest}

    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": described(manifest.config),
        "layers": [described(layer) for layer in manifest.layers],
    }
    return json.dumps(document, indent=3).encode()


def kind_of(raw: bytes, said: str = "") -> str:
    """The media type of a manifest or index: what its text says, else what the registry said, else what it looks like.

    Raises InvalidArchive where raw is none of either.
    """
    try:
        document = parse_json(raw)
        if not isinstance(document, dict):
            raise _Nonsense("it is not an object")
        if document.get("schemaVersion") == 1:
            raise InvalidArchive(
                "the image has a manifest of schema 1, which nobody writes any more", hint="push the image anew"
            )
        looks = INDEX if "manifests" in document else MANIFEST
        found = _text(document.get("mediaType") or "")
    except _NONSENSE as error:
        raise InvalidArchive(
            f"the registry's manifest cannot be understood{_problem(error)}", hint="is this the address of a registry?"
        ) from error
    kind = found or (said if said in ACCEPTED else looks)
    if kind not in ACCEPTED or (kind in INDEXES) != (looks == INDEX):
        raise InvalidArchive(f'a manifest of an unknown kind "{kind}"', hint="is it an image?")
    return kind


def check_layers(manifest: Manifest) -> None:
    """Raises InvalidArchive for a manifest of something else than an image, or of one whose layers are elsewhere."""
    if manifest.config.media_type not in ("", CONFIG, DOCKER_CONFIG, "application/octet-stream"):
        raise InvalidArchive(
            f'the config is of the kind "{manifest.config.media_type}": this is no image', hint="pull an image"
        )
    for layer in manifest.layers:
        kind = layer.media_type
        if "foreign" in kind or "nondistributable" in kind:
            raise InvalidArchive(
                f"the layer {layer.digest} is of the kind {kind}: no registry has it", hint="it is an image for Windows"
            )
        if kind.endswith("+encrypted") or not any(kind.startswith(known) for known in _LAYERS):
            raise InvalidArchive(f'the layer {layer.digest} is of an unknown kind "{kind}"', hint="is it an image?")


def choose(manifests: Sequence[Descriptor], wanted: Platform) -> Descriptor | None:
    """The manifest of an index that suits a platform best; None where none does."""
    ranked = []
    for manifest in manifests:
        rank = Platform.of(manifest.platform).rank(wanted) if manifest.platform else _UNSAID
        if rank is not None:
            ranked.append((rank, manifest))
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _descriptor(entry: Any) -> Descriptor:
    size = entry["size"]
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
        raise _Nonsense("a size is not a number of bytes")
    digest = _text(entry["digest"])
    algorithm, _, hexadecimal = digest.partition(":")
    if algorithm != "sha256" or len(hexadecimal) != 64 or set(hexadecimal) - set("0123456789abcdef"):
        raise _Nonsense(f'a digest is "{digest[:80]}"')
    annotations = {_text(name): _text(value) for name, value in (entry.get("annotations") or {}).items()}
    return Descriptor(_text(entry.get("mediaType") or ""), digest, size, annotations, dict(entry.get("platform") or {}))


def _problem(error: Exception) -> str:
    """What is wrong, for the end of a sentence; "" where only Python has words for it."""
    if isinstance(error, KeyError):
        return f': "{error.args[0]}" is missing'
    return f": {error}" if isinstance(error, NotJson | _Nonsense) else ""


class _Nonsense(ValueError):
    """A value that no manifest can have."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Nonsense("a value is not a text")
    return value
