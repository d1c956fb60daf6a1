"""save: images as one file, with every layer byte for byte.

An archive has two formats at once, as today's `docker save` writes it: an OCI image layout (index.json, and blobs by
their digest), and manifest.json for older tools. A layer that several images share is stored once.

    blobs/sha256/<digest>   layers, configs, manifests
    oci-layout, index.json  the OCI image layout (image-spec, image-layout.md)
    manifest.json           Docker 1.10 and later
    repositories            before Docker 1.10: repository → tag → topmost layer
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import ImageNotFound, InvalidInput, InvalidReference
from pylab_container.host.removal import discard_below
from pylab_container.images import lookup
from pylab_container.images.reporting import report
from pylab_container.oci import manifest as manifests
from pylab_container.oci import reference as references
from pylab_container.oci import tar
from pylab_container.oci.ids import EntryName
from pylab_container.oci.image import ImageConfig, Json, go_json, sha256
from pylab_container.oci.manifest import ArchivedImage, Descriptor, Manifest
from pylab_container.oci.reference import Reference
from pylab_container.store import compression, layer_content
from pylab_container.store.data_root import DataRoot
from pylab_container.store.layer_store import Layer
from pylab_container.store.transactions import making

READ_SIZE = 1 << 20  # bytes
FORMATS = ("docker-archive", "oci-archive", "oci-dir")

Selection = Mapping[str, Sequence[Reference]]
"""The images to save, by id, each with the names to save."""


def save(data: DataRoot, names: Sequence[str], output: str | Path | BinaryIO, *, format: str, compress: str) -> None:
    """Write images to a file, a stream or a directory.

    ImageCollection.save() describes the arguments and errors.
    """
    if format not in FORMATS:
        raise InvalidInput(f'unknown format "{format}"', hint=f"use one of {', '.join(FORMATS)}")
    with data.scratch() as scratch:
        files = _files(data, names, compress, scratch, for_docker=format == "docker-archive")
        if format != "oci-dir":
            write(_tar(files), output)
        elif isinstance(output, str | Path):
            _write_directory(files, Path(output))
        else:
            raise InvalidInput("an OCI image layout is a directory, not a stream", hint="use oci-archive")
    _report_saved(data, names)


def stream(data: DataRoot, names: Sequence[str]) -> Iterator[bytes]:
    """Yield images as a Docker archive, in pieces. Raises ImageNotFound, InvalidInput."""
    with data.scratch() as scratch:
        yield from _tar(_files(data, names, "", scratch, for_docker=True))
    _report_saved(data, names)


def _report_saved(data: DataRoot, names: Sequence[str]) -> None:
    for name in names:
        with contextlib.suppress(ImageNotFound):  # the name of a repository, of which all images were saved
            report(data, "saved", lookup.find(data, name))


# -- the selection ---------------------------------------------------------------------------------


def _selection(data: DataRoot, names: Sequence[str]) -> Selection:
    """Select images by names and ids. The name of a repository selects all its tags, an id selects no name."""
    if not names:
        raise InvalidInput("no image to save", hint="give at least one name")
    selection: dict[str, list[Reference]] = {}
    for name in names:
        tags = [tag for tag in data.images.tags() if tag.reference.repository == name]
        if not tags:
            image_id = lookup.find(data, name)
            selection.setdefault(image_id, [])
            tags = [tag for tag in data.images.tags() if tag.image_id == image_id and _is_named(name, tag.reference)]
        for tag in tags:
            references_of_image = selection.setdefault(tag.image_id, [])
            if tag.reference not in references_of_image:
                references_of_image.append(tag.reference)
    return selection


def _is_named(name: str, reference: Reference) -> bool:
    try:
        return references.parse(name) == reference
    except InvalidReference:
        return False


# -- the files of an archive -----------------------------------------------------------------------


class _File(Struct, frozen=True):
    """One file of an archive: its size in bytes, and a function that yields its content."""

    path: str
    size: int
    content: Callable[[], Iterable[bytes]]


def _files(data: DataRoot, names: Sequence[str], compress: str, scratch: Path, *, for_docker: bool) -> Iterator[_File]:
    """Yield the files of an archive of the named images, each image's layers first.

    compress    "" writes layers as they are; "gzip" or "zstd" compresses each into a file in scratch first, since
                the size of a tar member precedes its content
    for_docker  also the files that docker and older tools read
    """
    selection = _selection(data, names)
    with making(data) as lease:  # the lease holds the layers while they are read
        configs = {image_id: lookup.hold(data, image_id, lease) for image_id in selection}
        yield from _Archive(data, selection, configs, compress, scratch).files(for_docker=for_docker)


class _Archive:
    """Produces the files of one archive; what the indexes list is collected on the way."""

    def __init__(
        self,
        data: DataRoot,
        selection: Selection,
        configs: Mapping[str, ImageConfig],
        compress: str,
        scratch: Path,
    ) -> None:
        self._data = data
        self._selection = selection
        self._configs = configs
        self._compress = compress
        self._scratch = scratch
        self._layers: dict[str, Descriptor] = {}
        self._archived: list[ArchivedImage] = []
        self._indexed: list[Descriptor] = []

    def files(self, *, for_docker: bool) -> Iterator[_File]:
        for image_id, tags in self._selection.items():
            yield from self._image_files(image_id, tags)
        yield _document("oci-layout", manifests.LAYOUT)
        yield _document("index.json", manifests.index(self._indexed))
        if for_docker:
            yield _document("manifest.json", manifests.docker_manifest(self._archived))
            if repositories := self._repositories():
                yield _document("repositories", go_json(repositories))

    def _image_files(self, image_id: str, tags: Sequence[Reference]) -> Iterator[_File]:
        image, layers = self._configs[image_id], []
        for layer in self._data.layers.chain(image.chain_id)[::-1]:
            if layer.chain_id not in self._layers:
                self._layers[layer.chain_id], file = self._layer_file(layer)
                yield file
            layers.append(self._layers[layer.chain_id])
        config = Descriptor(manifests.CONFIG, image_id, len(image.raw))
        manifest = Manifest(config, tuple(layers)).raw()
        descriptor = Descriptor(manifests.MANIFEST, sha256(manifest), len(manifest))
        yield _document(config.path, image.raw)
        yield _document(descriptor.path, manifest)
        self._archived.append(
            ArchivedImage(
                config.path,
                tuple(layer.path for layer in layers),
                tuple(map(str, tags)),
                self._saved_parent(image_id),
            )
        )
        self._indexed += [replace(descriptor, annotations=_annotations(tag)) for tag in tags] or [descriptor]

    def _saved_parent(self, image_id: str) -> str:
        parent = self._data.images.parent(image_id)
        return parent if parent in self._selection else ""

    def _layer_file(self, layer: Layer) -> tuple[Descriptor, _File]:
        store = self._data.layers
        if not self._compress:
            size = layer_content.tar_size(store, layer.chain_id)
            descriptor = Descriptor(manifests.LAYER, layer.diff_id, size)
            return descriptor, _File(descriptor.path, size, lambda: layer_content.tar_stream(store, layer.chain_id))
        packed = self._scratch / layer.chain_id.removeprefix("sha256:")
        digest = hashlib.sha256()
        with open(packed, "wb") as file:
            for chunk in compression.compressed(layer_content.tar_stream(store, layer.chain_id), self._compress):
                digest.update(chunk)
                file.write(chunk)
        kind = manifests.LAYER_KINDS[self._compress]
        descriptor = Descriptor(kind, f"sha256:{digest.hexdigest()}", packed.stat().st_size)
        return descriptor, _File(descriptor.path, descriptor.size, lambda: _read_once(packed))

    def _repositories(self) -> Json:
        """Return the names in the oldest format: repository → tag → digest of the topmost layer."""
        names: dict[str, dict[str, str]] = {}
        for image_id, tags in self._selection.items():
            top = self._configs[image_id].diff_ids[-1:] or ("sha256:",)
            for tag in tags:
                names.setdefault(tag.repository, {})[tag.tag or ""] = top[0].removeprefix("sha256:")
        return dict(sorted(names.items()))


def _read_once(path: Path) -> Iterator[bytes]:
    """Yield the content of a file in scratch; its name is deleted as soon as it is open."""
    with open(path, "rb") as file:
        path.unlink()
        while chunk := file.read(READ_SIZE):
            yield chunk


def _document(path: str, raw: bytes) -> _File:
    return _File(path, len(raw), lambda: (raw,))


def _annotations(tag: Reference) -> dict[str, str]:
    full_name = f"{tag.domain}/{tag.path}:{tag.tag}"
    return {manifests.REFERENCE_NAME: tag.tag or "", manifests.CONTAINERD_NAME: full_name}


# -- the output ------------------------------------------------------------------------------------


def _tar(files: Iterable[_File]) -> Iterator[bytes]:
    """Yield files as one tar, in pieces. Equal images give equal bytes: headers have no times and no owners."""
    seen: set[str] = set()
    for file in files:
        if file.path in seen:
            continue  # two images with the same config
        for directory in _parents(file.path):
            if directory not in seen:
                seen.add(directory)
                yield tar.build_header(tar.Header(directory, kind=tar.DIRECTORY, mode=0o755))
        seen.add(file.path)
        yield tar.build_header(tar.Header(file.path, size=file.size))
        yield from file.content()
        yield bytes(tar.padding(file.size))
    yield tar.END


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) + "/" for count in range(len(parts))]


def _write_directory(files: Iterable[_File], directory: Path) -> None:
    """Write files as an OCI image layout into a new or empty directory, atomically. Raises InvalidInput."""
    target = Path(os.path.realpath(directory))
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InvalidInput(f"{directory} is not an empty directory", hint="name a new directory")
        for file in files:
            path = partial / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as output:
                output.writelines(file.content())
        partial.rename(target)
    except OSError as error:
        raise _not_writable(directory, error) from error
    finally:
        discard_below(partial.parent, EntryName(partial.name))


def write(chunks: Iterable[bytes], output: str | Path | BinaryIO) -> None:
    """Write pieces to a stream, or atomically to a file.

    Raises InvalidInput for a path that cannot be written.
    """
    if not isinstance(output, str | Path):
        for chunk in chunks:
            output.write(chunk)
        return
    path = Path(os.path.realpath(output))
    if path.exists() and not path.is_file():
        raise InvalidInput(f'invalid output path: "{output}" must be a regular file', hint="name a file")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.writelines(chunks)
        partial.rename(path)
    except OSError as error:
        raise _not_writable(Path(output), error) from error
    finally:
        partial.unlink(missing_ok=True)


def _not_writable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(
        f"cannot write {path}: {error.strerror}", hint="check that the directory exists and its disk has space"
    )
