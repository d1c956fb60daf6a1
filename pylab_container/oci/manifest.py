"""Manifests: OCI image indexes and manifests, Docker's schema 2, and the manifest.json of `docker save`.

    index         descriptors of manifests, one for each platform
    └── manifest  descriptors of an image's config and layers, the lowest layer first
        └── blob  a config or a layer: bytes named by their digest

A descriptor refers to a blob by media type, digest and size. An archive from `docker save` has a manifest.json with
paths as well. Sources: OCI image-spec descriptor.md, manifest.md, image-index.md, image-layout.md; distribution,
manifest-v2-2.md; moby image/tarexport.
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
"""Media types for the Accept header of a request for a manifest."""
REFERENCE_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'

# Compression is a suffix, such as +gzip. application/octet-stream is the type of any blob in registries with a bug
# (docker/distribution issue 1621), so dockerd accepts it too.
_LAYER_PREFIXES = (LAYER, "application/vnd.docker.image.rootfs.diff.tar", "application/octet-stream")
_UNKNOWN_PLATFORM_RANK = 9  # worse than every rank of Platform.rank(): such a manifest is the last choice
# Errors of reading JSON of an unexpected shape. Checking each access to untrusted input would hide the format.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_HINT = "was it made by docker save, or is it an OCI image layout?"


class Descriptor(Struct, frozen=True):
    """Reference to a blob. digest: "sha256:…". size: bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = field(default_factory=dict)
    platform: Json = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Path of the blob in an image layout (image-layout.md, "Blobs")."""
        algorithm, _, digest = self.digest.partition(":")
        return f"blobs/{algorithm}/{digest}"

    def document(self) -> Json:
        """Return the descriptor as a JSON document, without empty fields."""
        # Annotations are a Go map, whose keys are serialized in sorted order.
        document: Json = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            document["annotations"] = dict(sorted(self.annotations.items()))
        if self.platform:
            document["platform"] = self.platform
        return document


class Manifest(Struct, frozen=True):
    """The blobs of one image, the lowest layer first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]

    def raw(self) -> bytes:
        """Serialize as an OCI manifest. The digest of the bytes identifies the image in a registry."""
        return go_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self.config.document(),
                "layers": [layer.document() for layer in self.layers],
            }
        )


class ArchivedImage(Struct, frozen=True):
    """An entry of manifest.json.

    config, layers  paths in the archive, the lowest layer first
    tags            names for the image
    parent          id of the parent image, if the archive contains it
    """

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]
    parent: str = ""


def index(manifests: Sequence[Descriptor]) -> bytes:
    """Serialize an OCI image index: the index.json of an image layout."""
    return go_json(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest.document() for manifest in manifests]}
    )


def docker_manifest(images: Sequence[ArchivedImage]) -> bytes:
    """Serialize a manifest.json."""
    return go_json(
        [
            {
                "Config": image.config,
                "RepoTags": list(image.tags) or None,  # null for an empty slice, as from Go
                "Layers": list(image.layers),
                **({"Parent": image.parent} if image.parent else {}),
            }
            for image in images
        ]
    )


def parse_docker_manifest(raw: bytes) -> list[ArchivedImage]:
    """Parse a manifest.json. Raises InvalidArchive."""
    try:
        entries = parse_json(raw)
        config_shape.check_manifest(entries)
    except (NotJson, ValueError) as error:
        raise InvalidArchive(str(error), hint=_HINT) from None
    # Go reads null as the zero value: an empty entry, list or string.
    return [
        ArchivedImage(
            entry.get("Config") or "",
            tuple(name or "" for name in entry.get("Layers") or ()),
            tuple(name or "" for name in entry.get("RepoTags") or ()),
            entry.get("Parent") or "",
        )
        for entry in (entry or {} for entry in entries)
    ]


def parse_index(raw: bytes) -> list[Descriptor]:
    """Parse an index. Returns the descriptors of its manifests. Raises InvalidArchive."""
    try:
        return [_descriptor(entry) for entry in parse_json(raw)["manifests"]]
    except _MALFORMED as error:
        raise InvalidArchive(f"the image index cannot be understood{_problem(error)}", hint=_HINT) from error


def parse_manifest(raw: bytes) -> Manifest:
    """Parse a manifest of an image: OCI's or Docker's schema 2. Raises InvalidArchive."""
    try:
        document = parse_json(raw)
        layers = document.get("layers")  # missing or null for an empty list, as from Go
        return Manifest(_descriptor(document["config"]), tuple(map(_descriptor, () if layers is None else layers)))
    except _MALFORMED as error:
        raise InvalidArchive(f"the image manifest cannot be understood{_problem(error)}", hint=_HINT) from error


def is_index(descriptor: Descriptor) -> bool:
    """Report whether a descriptor refers to an index rather than a manifest."""
    return descriptor.media_type in INDEXES


def choose_platform(manifests: Sequence[Descriptor], *, architecture: str) -> Descriptor:
    """Return the manifest for linux and an architecture.

    Raises InvalidArchive if the index has none.
    """
    manifest = choose(manifests, Platform("linux", architecture))
    if manifest is None:
        raise InvalidArchive(
            f"no image for linux/{architecture} in this archive", hint="get the image for this machine's architecture"
        )
    return manifest


def schema2(manifest: Manifest) -> bytes:
    """Serialize as Docker's image manifest version 2, schema 2, byte for byte as dockerd does."""

    def descriptor(blob: Descriptor) -> Json:
        return {"mediaType": blob.media_type, "size": blob.size, "digest": blob.digest}

    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor(manifest.config),
        "layers": [descriptor(layer) for layer in manifest.layers],
    }
    # The same order of fields and the same indent of three as distribution's manifest/schema2: equal images pushed by
    # dockerd and by this engine get equal digests.
    return json.dumps(document, indent=3).encode()


def kind_of(raw: bytes, content_type: str = "") -> str:
    """Return the media type of a manifest or index. Raises InvalidArchive for other documents.

    content_type  the registry's header, used if the document has no mediaType: the field is optional in OCI manifests.
                  Without both, the document's fields decide
    """
    try:
        document = parse_json(raw)
        if not isinstance(document, dict):
            raise _Malformed("it is not an object")
        # Schema 1 has no config: its layers are configs in v1 format, signed with JWS. Docker 1.10 replaced it in 2016.
        if document.get("schemaVersion") == 1:
            raise InvalidArchive(
                "the image has a manifest of schema 1, which is obsolete", hint="push the image again with a newer tool"
            )
        apparent = INDEX if "manifests" in document else MANIFEST
        media_type = _string(document.get("mediaType") or "")
    except _MALFORMED as error:
        raise InvalidArchive(
            f"the registry's manifest cannot be understood{_problem(error)}",
            hint="check that this is the address of a registry",
        ) from error
    kind = media_type or (content_type if content_type in ACCEPTED else apparent)
    # A document that is both, or claims to be the other, could be an index for one program and a manifest for the
    # next, with other contents under one digest (CVE-2021-41190).
    if kind not in ACCEPTED or (kind in INDEXES) != (apparent == INDEX):
        raise InvalidArchive(f'a manifest of an unknown kind "{kind}"', hint="is it an image?")
    return kind


def check_layers(manifest: Manifest) -> None:
    """Raise InvalidArchive if it is not an image, or if registries do not store its layers."""
    # Registries also store Helm charts, signatures and SBOMs as manifests with another config (manifest.md,
    # "Guidelines for Artifact Usage").
    if manifest.config.media_type not in ("", CONFIG, DOCKER_CONFIG, "application/octet-stream"):
        raise InvalidArchive(
            f'the config is of the kind "{manifest.config.media_type}": this is not an image', hint="pull an image"
        )
    for layer in manifest.layers:
        kind = layer.media_type
        # Base layers of Windows may be distributed by Microsoft only; the manifest has their URLs.
        if "foreign" in kind or "nondistributable" in kind:
            raise InvalidArchive(
                f"the layer {layer.digest} is of the kind {kind}: registries do not store it",
                hint="pull an image for Linux; this one is for Windows",
            )
        if kind.endswith("+encrypted") or not any(kind.startswith(prefix) for prefix in _LAYER_PREFIXES):
            raise InvalidArchive(f'the layer {layer.digest} is of an unknown kind "{kind}"', hint="is it an image?")


def choose(manifests: Sequence[Descriptor], platform: Platform) -> Descriptor | None:
    """Return the manifest of an index that suits a platform best; None if none does.

    The first of equals wins.
    """
    ranked = []
    for manifest in manifests:
        rank = Platform.of(manifest.platform).rank(platform) if manifest.platform else _UNKNOWN_PLATFORM_RANK
        if rank is not None:
            ranked.append((rank, manifest))
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _descriptor(entry: Any) -> Descriptor:
    size = entry["size"]
    # bool is a subclass of int in Python. Go's int64 is the format's limit (descriptor.md, "size").
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
        raise _Malformed("a size is not a number of bytes")
    # The digest becomes a path in the store and in the image layout: only the exact form is safe.
    digest = _string(entry["digest"])
    algorithm, _, hexadecimal = digest.partition(":")
    if algorithm != "sha256" or len(hexadecimal) != 64 or set(hexadecimal) - set("0123456789abcdef"):
        raise _Malformed(f'a digest is "{digest[:80]}"')
    annotations = {_string(name): _string(value) for name, value in (entry.get("annotations") or {}).items()}
    return Descriptor(
        _string(entry.get("mediaType") or ""), digest, size, annotations, dict(entry.get("platform") or {})
    )


def _problem(error: Exception) -> str:
    """Return the reason as the end of a message; "" for an error whose text is Python's own."""
    if isinstance(error, KeyError):
        return f': "{error.args[0]}" is missing'
    return f": {error}" if isinstance(error, NotJson | _Malformed) else ""


class _Malformed(ValueError):
    """A value that is not valid in a manifest."""


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise _Malformed("a value is not a string")
    return value
