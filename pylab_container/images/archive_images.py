"""Which images an archive holds, in each of the three formats that `load` reads."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

from msgspec import Struct

from pylab_container.errors import InvalidArchive, InvalidReference
from pylab_container.images.archive_files import READ_SIZE, ArchiveFiles, read_document
from pylab_container.images.image import machine_architecture
from pylab_container.oci import legacy
from pylab_container.oci import manifest as manifests
from pylab_container.oci import reference as references
from pylab_container.oci.image import sha256
from pylab_container.oci.manifest import Descriptor
from pylab_container.oci.reference import Reference
from pylab_container.store import compression

MAX_INDEX_DEPTH = 4  # an index may list indexes; real archives nest once (image-spec, image-index.md)


class ImageEntry(Struct, frozen=True):
    """One image of an archive.

    config  the bytes of its config
    layers  the archive's file for each layer, the lowest first
    blobs   the digests of these files; "" if the format does not have them. They are checked besides the diff ids.
    tags    the names to give
    parent  the id of the image that it was made from; "" if the archive does not say it
    """

    config: bytes
    layers: tuple[str, ...]
    blobs: tuple[str, ...]
    tags: tuple[Reference, ...]
    parent: str = ""


def list_images(files: ArchiveFiles) -> Iterator[ImageEntry]:
    """Yield the images of an archive.

    They are listed in Docker's manifest.json, in an OCI image layout, or in the format before both.

    Raises InvalidArchive.
    """
    if files.has("manifest.json"):
        for image in manifests.parse_docker_manifest(read_document(files, "manifest.json")):
            tags = tuple(references.parse_tag(tag) for tag in image.tags)
            blobs = ("",) * len(image.layers)
            yield ImageEntry(read_document(files, image.config), image.layers, blobs, tags, image.parent)
    elif files.has("index.json"):
        yield from _layout_images(files, manifests.parse_index(read_document(files, "index.json")))
    elif files.has("repositories"):
        yield from _legacy_images(files)
    else:
        raise InvalidArchive(
            "not an image archive: it has neither manifest.json nor index.json",
            hint="a root file system is imported: labctr import FILE NAME",
        )


# -- the OCI image layout --------------------------------------------------------------------------


def _layout_images(files: ArchiveFiles, descriptors: Sequence[Descriptor]) -> Iterator[ImageEntry]:
    tags: dict[str, list[Reference]] = {}
    for descriptor in descriptors:
        tags.setdefault(descriptor.digest, []).extend(_annotated_names(descriptor))
    choices: dict[str, Descriptor] = {}  # index → its chosen manifest: many descriptors may name one large index
    for descriptor in {each.digest: each for each in descriptors}.values():
        manifest = manifests.parse_manifest(_read_blob(files, _choose_manifest(files, descriptor, choices)))
        yield ImageEntry(
            _read_blob(files, manifest.config),
            tuple(layer.path for layer in manifest.layers),
            tuple(layer.digest for layer in manifest.layers),
            tuple(tags[descriptor.digest]),
        )


def _choose_manifest(files: ArchiveFiles, descriptor: Descriptor, choices: dict[str, Descriptor]) -> Descriptor:
    """Follow indexes to the manifest for this machine's platform; choices caches the result for each index."""
    depth = 0
    while manifests.is_index(descriptor):
        depth += 1
        if depth > MAX_INDEX_DEPTH:
            raise InvalidArchive("the archive's indexes list indexes without end", hint="do not trust this archive")
        if descriptor.digest not in choices:
            listed = manifests.parse_index(_read_blob(files, descriptor))
            choices[descriptor.digest] = manifests.choose_platform(listed, architecture=machine_architecture())
        descriptor = choices[descriptor.digest]
    return descriptor


def _annotated_names(descriptor: Descriptor) -> list[Reference]:
    """The name in a descriptor's annotations. A bare tag is ignored, because it has no repository."""
    full_name = descriptor.annotations.get(manifests.CONTAINERD_NAME)
    short_name = descriptor.annotations.get(manifests.REFERENCE_NAME, "")
    name = full_name or (short_name if any(mark in short_name for mark in ":/") else "")
    with contextlib.suppress(InvalidReference):
        return [references.parse_tag(name)] if name else []
    return []


def _read_blob(files: ArchiveFiles, descriptor: Descriptor) -> bytes:
    raw = read_document(files, descriptor.path)
    if sha256(raw) != descriptor.digest:
        raise InvalidArchive(
            f"the blob {descriptor.digest} does not have its own digest", hint="the archive is damaged"
        )
    return raw


# -- before Docker 1.10 ----------------------------------------------------------------------------


def _legacy_images(files: ArchiveFiles) -> Iterator[ImageEntry]:
    """Yield the images of an archive of docker before 1.10, in which only layers have documents."""
    diff_ids: dict[str, str] = {}  # by path: many images may share a layer
    for image_id, tags in legacy.names(read_document(files, "repositories")).items():
        documents = legacy.chain(image_id, lambda layer_id: read_document(files, f"{layer_id}/json"))
        layers = tuple(f"{layer_id}/layer.tar" for layer_id in documents)
        diff_ids.update({layer: _compute_diff_id(files, layer) for layer in layers if layer not in diff_ids})
        config = legacy.config(list(documents.values()), [diff_ids[layer] for layer in layers])
        yield ImageEntry(config, layers, ("",) * len(layers), tuple(references.parse_tag(tag) for tag in tags))


def _compute_diff_id(files: ArchiveFiles, layer: str) -> str:
    """The digest of an unpacked layer: this format does not record it."""
    digest = hashlib.sha256()
    with files.open(layer) as file, compression.decompressed(file) as plain:
        while chunk := plain.read(READ_SIZE):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
