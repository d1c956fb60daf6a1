"""save and load: images as one file, and back, with every layer byte for byte.

An archive is both of two formats at once, as today's `docker save` writes it: an OCI
image layout (index.json, blobs by their digest) and, beside it, the manifest.json that
older tools read. A layer that several images share is in it once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import ImageNotFound, InvalidArchive, InvalidInput, InvalidReference
from pylab_container.host import linux
from pylab_container.host.removal import discard_below
from pylab_container.images.image import Image, machine_architecture
from pylab_container.maintenance import recovery
from pylab_container.oci import legacy, tar
from pylab_container.oci import manifest as manifests
from pylab_container.oci import reference as references
from pylab_container.oci.ids import EntryName
from pylab_container.oci.image import ImageConfig, Json, go_json, sha256
from pylab_container.oci.manifest import ArchivedImage, Descriptor, Manifest
from pylab_container.store import compression, layer_content
from pylab_container.store.layer_store import Layer
from pylab_container.store.layertar import TarReader
from pylab_container.store.leases import Lease
from pylab_container.store.streams import HashedStream

if TYPE_CHECKING:
    from pylab_container.engine import Engine

_LONGEST_DOCUMENT = 16 << 20
"""No honest manifest or config is longer (bytes)."""
_CHUNK = 1 << 20
_DEEPEST_INDEX = 4
"""An index may list indexes; honest ones do so once (image-spec image-index.md)."""
_MOST_FILES = 100_000
"""No honest archive has more members: some for each layer of each image."""
_MOST_LINKS = 40
"""As the kernel follows them (path_resolution(7))."""
FORMATS = ("docker-archive", "oci-archive", "oci-dir")


# ---- save ----------------------------------------------------------------------------


class _Blob(Struct, frozen=True):
    """One file of an archive: its size in bytes, and a way to get its content."""

    path: str
    size: int
    content: Callable[[], Iterable[bytes]]


def save(engine: Engine, names: Sequence[str], output: str | Path | BinaryIO, *, format: str, compress: str) -> None:
    """Write images to a place; see ImageCollection.save."""
    if format not in FORMATS:
        raise InvalidInput(f'unknown format "{format}"', hint=f"use one of {', '.join(FORMATS)}")
    with engine.data.scratch() as scratch:
        files = blobs(engine, names, compress, scratch, docker=format == "docker-archive")
        if format != "oci-dir":
            write(archive(files), output)
        elif isinstance(output, str | Path):
            write_directory(files, Path(output))
        else:
            raise InvalidInput("an OCI image layout is a directory, not a stream", hint="use oci-archive")
    _tell_saved(engine, names)


def stream(engine: Engine, names: Sequence[str]) -> Iterator[bytes]:
    """Images as an archive, in pieces."""
    with engine.data.scratch() as scratch:
        yield from archive(blobs(engine, names, "", scratch, docker=True))
    _tell_saved(engine, names)


def _tell_saved(engine: Engine, names: Sequence[str]) -> None:
    for name in names:
        with contextlib.suppress(ImageNotFound):  # a repository, of which all images were saved
            engine.images.tell("saved", engine.images.get(name).id)


def blobs(engine: Engine, names: Sequence[str], compress: str, scratch: Path, *, docker: bool) -> Iterator[_Blob]:
    """The files of an archive of the named images, layers first. A name given as an id brings no tags along.

    compress  "" leaves layers as they are; "gzip" or "zstd" packs each into scratch first,
              since an archive must say a file's size before its content
    docker    also write the files that docker and older tools read
    """
    chosen = _chosen(engine, names)
    with recovery.making(engine) as lease:  # the layers stay while they are read
        for image, _ in chosen:
            engine.images.held(image.id, lease)
        yield from _blobs(engine, chosen, compress, scratch, docker=docker)


def _blobs(
    engine: Engine,
    chosen: Sequence[tuple[Image, Sequence[references.Reference]]],
    compress: str,
    scratch: Path,
    *,
    docker: bool,
) -> Iterator[_Blob]:
    written: dict[str, Descriptor] = {}
    archived, indexed, repositories = [], [], _repositories(chosen)
    for image, tags in chosen:
        layers = []
        for layer in image.layers:
            if layer.chain_id not in written:
                written[layer.chain_id], blob = _layer_blob(engine, layer, compress, scratch)
                yield blob
            layers.append(written[layer.chain_id])
        raw = image.config.raw
        config = Descriptor(manifests.CONFIG, image.id, len(raw))
        manifest = Manifest(config, tuple(layers)).raw()
        described = Descriptor(manifests.MANIFEST, sha256(manifest), len(manifest))
        yield _document(config.path, raw)
        yield _document(described.path, manifest)
        parent = engine.data.images.parent(image.id)
        archived.append(
            ArchivedImage(
                config.path,
                tuple(layer.path for layer in layers),
                tuple(map(str, tags)),
                parent if parent in {other.id for other, _ in chosen} else "",
            )
        )
        indexed += [replace(described, annotations=_annotations(tag)) for tag in tags] or [described]
    yield _document("oci-layout", manifests.LAYOUT)
    yield _document("index.json", manifests.index(indexed))
    if docker:
        yield _document("manifest.json", manifests.docker_manifest(archived))
    if docker and repositories:
        yield _document("repositories", go_json(repositories))


def archive(files: Iterable[_Blob]) -> Iterator[bytes]:
    """Files as one tar, in pieces. Equal images give equal bytes: no times, no owners."""
    seen: set[str] = set()
    for file in files:
        if file.path in seen:
            continue  # two images with one config
        for directory in _parents(file.path):
            if directory not in seen:
                seen.add(directory)
                yield tar.build_header(tar.Header(directory, kind=tar.DIRECTORY, mode=0o755))
        seen.add(file.path)
        yield tar.build_header(tar.Header(file.path, size=file.size))
        yield from file.content()
        yield bytes(tar.padding(file.size))
    yield tar.END


def write_directory(files: Iterable[_Blob], directory: Path) -> None:
    """Files as an OCI image layout in a directory, which must be new or empty. Raises InvalidInput.

    It is there whole or not at all.
    """
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
        raise _unwritable(directory, error) from error
    finally:
        discard_below(partial.parent, EntryName(partial.name))


def write(chunks: Iterable[bytes], output: str | Path | BinaryIO) -> None:
    """Write pieces to a stream, or to a file that is there whole or not at all."""
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
        raise _unwritable(Path(output), error) from error
    finally:
        partial.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(f"cannot write {path}: {error.strerror}", hint="is there such a directory, and space?")


def _chosen(engine: Engine, names: Sequence[str]) -> list[tuple[Image, list[references.Reference]]]:
    """The images to save, each once, with the names to save; a repository's name stands for all its tags."""
    if not names:
        raise InvalidInput("no image to save", hint="give at least one name")
    chosen: dict[str, list[references.Reference]] = {}
    for name in names:
        tags = [tag for tag in engine.data.images.tags() if tag.reference.repository == name]
        if not tags:
            image = engine.images.get(name)
            tags = [
                tag for tag in engine.data.images.tags() if tag.image_id == image.id and _names(name, tag.reference)
            ]
            chosen.setdefault(image.id, [])
        for tag in tags:
            known = chosen.setdefault(tag.image_id, [])
            if tag.reference not in known:
                known.append(tag.reference)
    return [(Image(engine, image_id), tags) for image_id, tags in chosen.items()]


def _names(name: str, reference: references.Reference) -> bool:
    try:
        return references.parse(name) == reference
    except InvalidReference:
        return False


def _layer_blob(engine: Engine, layer: Layer, compress: str, scratch: Path) -> tuple[Descriptor, _Blob]:
    if not compress:
        size = layer_content.tar_size(engine.data.layers, layer.chain_id)
        descriptor = Descriptor(manifests.LAYER, layer.diff_id, size)
        return descriptor, _Blob(
            descriptor.path, size, lambda: layer_content.tar_stream(engine.data.layers, layer.chain_id)
        )
    packed = scratch / layer.chain_id.removeprefix("sha256:")
    digest = hashlib.sha256()
    with open(packed, "wb") as file:
        for chunk in compression.compressed(layer_content.tar_stream(engine.data.layers, layer.chain_id), compress):
            digest.update(chunk)
            file.write(chunk)
    kind = manifests.LAYER_KINDS[compress]
    descriptor = Descriptor(kind, f"sha256:{digest.hexdigest()}", packed.stat().st_size)
    return descriptor, _Blob(descriptor.path, descriptor.size, lambda: _file(packed))


def _file(path: Path) -> Iterator[bytes]:
    """A scratch file's content; the file is gone afterwards."""
    with open(path, "rb") as file:
        path.unlink()
        while chunk := file.read(_CHUNK):
            yield chunk


def _document(path: str, raw: bytes) -> _Blob:
    return _Blob(path, len(raw), lambda: (raw,))


def _annotations(tag: references.Reference) -> dict[str, str]:
    full = f"{tag.domain}/{tag.path}:{tag.tag}"
    return {manifests.REFERENCE_NAME: tag.tag or "", manifests.CONTAINERD_NAME: full}


def _repositories(chosen: Sequence[tuple[Image, Sequence[references.Reference]]]) -> Json:
    """The oldest format's file of names: repository → tag → digest of the topmost layer."""
    names: dict[str, dict[str, str]] = {}
    for image, tags in chosen:
        for tag in tags:
            top = image.config.diff_ids[-1:] or ("sha256:",)
            names.setdefault(tag.repository, {})[tag.tag or ""] = top[0].removeprefix("sha256:")
    return dict(sorted(names.items()))


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) + "/" for count in range(len(parts))]


# ---- load ----------------------------------------------------------------------------


class _Files(Protocol):
    """An archive's files by their names in it."""

    def has(self, name: str) -> bool: ...

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]: ...


class _Wanted(Struct, frozen=True):
    """One image to load: its config's bytes, a file for each layer, and the names to give.

    blobs  the layers' own digests, where the archive says them: checked besides the diff ids
    parent  the image that it was made from, by id; "" where the archive does not have it
    """

    config: bytes
    layers: tuple[str, ...]
    blobs: tuple[str, ...]
    tags: tuple[references.Reference, ...]
    parent: str = ""


def load(engine: Engine, source: str | Path | BinaryIO, max_size: int | None) -> list[Image]:
    """Store every image of an archive; see ImageCollection.load."""
    limit = compression.Limit(max_size, engine.data.path)
    with _opened(engine, source, max_size) as files:
        loaded, parents = [], {}
        for wanted in _wanted(files):  # one after the other: many entries may name one large config
            image = _load_image(engine, files, wanted, limit)
            loaded.append(image)
            parents[image.id] = wanted.parent
    if not loaded:
        raise InvalidArchive("the archive holds no image", hint="name the images when saving")
    _note_parents(engine, parents)
    return loaded


def _note_parents(engine: Engine, parents: Mapping[str, str]) -> None:
    """Note what was made from what among the images of an archive. Raises InvalidArchive where that cannot be."""
    for image_id, parent in parents.items():
        if parent not in parents or parent == image_id:
            continue
        history, below = (engine.images.config(each).history for each in (image_id, parent))
        if not history:
            continue  # nothing tells that it is true, nor that there is no circle
        if history[:-1] != below:
            raise InvalidArchive(
                f"image {parent} is not a valid parent for {image_id}", hint="do not trust this archive"
            )
        engine.data.images.set_parent(image_id, parent)


def _load_image(engine: Engine, files: _Files, wanted: _Wanted, limit: compression.Limit) -> Image:
    config = ImageConfig.parse(wanted.config)
    if len(config.diff_ids) != len(wanted.layers):
        raise InvalidArchive(
            f"invalid manifest, layers length mismatch: expected {len(wanted.layers)}, got {len(config.diff_ids)}",
            hint="the archive is damaged",
        )
    with recovery.making(engine) as lease:
        chain = ""
        for position, diff_id in enumerate(config.diff_ids):
            known = engine.data.layers.find(chain, diff_id, lease)
            chain = (known or _load_layer(engine, files, wanted, position, chain, lease, limit)).chain_id
        image = engine.images.add(config, action="loaded")
    for tag in wanted.tags:
        if before := engine.images.set_name(image, tag):
            engine.images.tell("unnamed", before, tag.familiar)
        engine.images.tell("named", image.id, tag.familiar)
    return image


def _load_layer(
    engine: Engine,
    files: _Files,
    wanted: _Wanted,
    position: int,
    parent: str,
    lease: Lease,
    limit: compression.Limit,
) -> Layer:
    name, blob = wanted.layers[position], wanted.blobs[position]
    diff_id = ImageConfig.parse(wanted.config).diff_ids[position]
    with files.open(name) as file:
        hashed = HashedStream(file) if blob else None

        def check(found: str) -> None:
            if found != diff_id:
                raise InvalidArchive(
                    f"the layer {name} has the diff id {found}, but the config wants {diff_id}",
                    hint="the archive is damaged",
                )
            if hashed and hashed.digest() != blob:
                raise InvalidArchive(f"the blob {name} does not have its own digest", hint="the archive is damaged")

        with limit.stream(compression.decompressed(cast(BinaryIO, hashed or file))) as plain:
            return layer_content.register(engine.data.layers, TarReader(plain), parent, lease, check=check)


def _wanted(files: _Files) -> Iterator[_Wanted]:
    """What an archive holds, told apart by content: Docker's manifest.json, an OCI image layout, or what was before."""
    if files.has("manifest.json"):
        for image in manifests.parse_docker_manifest(_read(files, "manifest.json")):
            names = tuple(references.parse_tag(tag) for tag in image.tags)
            blobs = ("",) * len(image.layers)
            yield _Wanted(_read(files, image.config), image.layers, blobs, names, image.parent)
    elif files.has("index.json"):
        yield from _indexed(files, manifests.parse_index(_read(files, "index.json")))
    elif files.has("repositories"):
        yield from _oldest(files)
    else:
        raise InvalidArchive(
            "not an image archive: it has neither manifest.json nor index.json",
            hint="a root file system is imported: labctr import FILE NAME",
        )


def _oldest(files: _Files) -> Iterator[_Wanted]:
    """The images of an archive of docker before 1.10, in which only layers have documents."""
    diff_ids: dict[str, str] = {}  # by path: many images may have a layer in common
    for image_id, tags in legacy.names(_read(files, "repositories")).items():
        documents = legacy.chain(image_id, lambda layer_id: _read(files, f"{layer_id}/json"))
        layers = tuple(f"{layer_id}/layer.tar" for layer_id in documents)
        diff_ids.update({layer: _diff_id(files, layer) for layer in layers if layer not in diff_ids})
        config = legacy.config(list(documents.values()), [diff_ids[layer] for layer in layers])
        yield _Wanted(config, layers, ("",) * len(layers), tuple(references.parse_tag(tag) for tag in tags))


def _diff_id(files: _Files, layer: str) -> str:
    """What nobody has written down: the digest of an unpacked layer."""
    digest = hashlib.sha256()
    with files.open(layer) as file, compression.decompressed(file) as plain:
        while chunk := plain.read(_CHUNK):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _indexed(files: _Files, descriptors: Sequence[Descriptor]) -> Iterator[_Wanted]:
    tags: dict[str, list[references.Reference]] = {}
    for descriptor in descriptors:
        tags.setdefault(descriptor.digest, []).extend(_annotated(descriptor))
    indexes: dict[str, Descriptor] = {}  # what was chosen of each: many may list one large index
    for descriptor in {each.digest: each for each in descriptors}.values():
        chosen, depth = descriptor, 0
        while manifests.is_index(chosen):
            depth += 1
            if depth > _DEEPEST_INDEX:
                raise InvalidArchive("the archive's indexes list indexes without end", hint="do not trust this archive")
            if chosen.digest not in indexes:
                listed = manifests.parse_index(_blob(files, chosen))
                indexes[chosen.digest] = manifests.choose_platform(listed, architecture=machine_architecture())
            chosen = indexes[chosen.digest]
        manifest = manifests.parse_manifest(_blob(files, chosen))
        yield _Wanted(
            _blob(files, manifest.config),
            tuple(layer.path for layer in manifest.layers),
            tuple(layer.digest for layer in manifest.layers),
            tuple(tags[descriptor.digest]),
        )


def _annotated(descriptor: Descriptor) -> list[references.Reference]:
    """The name in a descriptor's annotations, if it is one: a bare tag alone says no repository."""
    full = descriptor.annotations.get(manifests.CONTAINERD_NAME)
    short = descriptor.annotations.get(manifests.REFERENCE_NAME, "")
    name = full or (short if any(mark in short for mark in ":/") else "")
    with contextlib.suppress(InvalidReference):
        return [references.parse_tag(name)] if name else []
    return []


def _blob(files: _Files, descriptor: Descriptor) -> bytes:
    raw = _read(files, descriptor.path)
    if sha256(raw) != descriptor.digest:
        raise InvalidArchive(
            f"the blob {descriptor.digest} does not have its own digest", hint="the archive is damaged"
        )
    return raw


def _read(files: _Files, name: str) -> bytes:
    with files.open(name) as file:
        raw = file.read(_LONGEST_DOCUMENT + 1)
    if len(raw) > _LONGEST_DOCUMENT:
        raise InvalidArchive(f"{name} is longer than {_LONGEST_DOCUMENT} bytes", hint="do not trust this archive")
    return raw


class _TarFiles:
    """The members of a tar that can be read at any place. Links lead to other members, never to the disk."""

    def __init__(self, stream: BinaryIO) -> None:
        try:
            self._tar = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115 (the stream is the caller's)
            self._members: dict[str, tarfile.TarInfo] = {}
            for member in self._tar:
                self._members[posixpath.normpath(member.name)] = member
                if len(self._members) > _MOST_FILES:
                    raise InvalidArchive("the archive has too many files", hint="is it a root file system? import it")
        except (tarfile.TarError, EOFError, ValueError, OSError, RecursionError) as error:
            raise InvalidArchive(
                f"not an image archive: {error}", hint="give a tar made by labctr save or docker save"
            ) from error

    def has(self, name: str) -> bool:
        return name in self._members

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        member = self._followed(posixpath.normpath(name))
        file = self._tar.extractfile(member) if member is not None and member.isfile() else None
        if file is None:
            raise InvalidArchive(
                f'the archive has no file "{name}", which it names', hint="the archive is cut off or hostile"
            )
        with file:
            yield cast(BinaryIO, file)

    def _followed(self, name: str) -> tarfile.TarInfo | None:
        """The member that a name leads to through links: docker 20.10 writes some. None for a loop or a missing one."""
        for _ in range(_MOST_LINKS):
            member = self._members.get(name)
            if member is None or not (member.issym() or member.islnk()):
                return member
            directory = posixpath.dirname(name) if member.issym() else ""
            name = posixpath.normpath(posixpath.join(directory, member.linkname))
        return None


class _DirectoryFiles:
    """An image layout in a directory. Nothing outside it is read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def has(self, name: str) -> bool:
        return (self._directory / name).is_file()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        base = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Not blocking: a fifo in the place of a blob would hold us for ever.
            fd = linux.openat2(base, name, os.O_RDONLY | os.O_NONBLOCK, resolve=linux.RESOLVE_BENEATH)
        except OSError as error:
            raise InvalidArchive(
                f'the image layout has no file "{name}", which it names: {error.strerror}',
                hint="the layout is not complete",
            ) from error
        finally:
            os.close(base)
        with open(fd, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise InvalidArchive(f'"{name}" in the image layout is no file', hint="do not trust this directory")
            yield cast(BinaryIO, file)


@contextlib.contextmanager
def _opened(engine: Engine, source: str | Path | BinaryIO, max_size: int | None) -> Iterator[_Files]:
    """An archive's files. What is compressed or cannot be read at any place is put into a temporary file first."""
    if isinstance(source, str | Path) and Path(source).is_dir():
        yield _DirectoryFiles(Path(source))
        return
    with engine.images.opened(source) as (stream, _):
        if _is_plain(stream):
            yield _TarFiles(stream)
            return
        with engine.data.scratch() as scratch, tempfile.TemporaryFile(dir=scratch) as spool:
            with compression.Limit(max_size, scratch).stream(compression.decompressed(stream)) as plain:
                while chunk := plain.read(_CHUNK):
                    spool.write(chunk)
            spool.seek(0)
            yield _TarFiles(cast(BinaryIO, spool))


def _is_plain(stream: BinaryIO) -> bool:
    """Whether a stream can be read at any place and is not compressed."""
    try:
        if not stream.seekable():
            return False
        start = stream.tell()
        first = stream.read(6)
        stream.seek(start)
    except (OSError, AttributeError):
        return False
    return compression.kind(first) == ""
