"""Layers: their records, who needs them, and whether they still are what they were."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from msgspec import Struct

from pylab_container.errors import CorruptStore, LabError
from pylab_container.maintenance.fsck.images import Configs, title
from pylab_container.maintenance.fsck.report import Report, replace_file, set_aside
from pylab_container.oci import tar
from pylab_container.oci.ids import CacheId, Digest
from pylab_container.oci.image import chain_id
from pylab_container.store import layer_content, tarsplit
from pylab_container.store.layertar import TarReader
from pylab_container.store.reading import find_id, peek, read_id
from pylab_container.store.streams import HashedStream, PieceStream

if TYPE_CHECKING:
    from pylab_container.engine import Engine

_AGAIN = "remove the image and import, load or build it again"


class _Place(Struct, frozen=True):
    """What an image's config says about a layer: its diff id, the chain id below, and one such image."""

    diff_id: str
    parent: str
    image_id: str


def check_layers(engine: Engine, report: Report, configs: Configs) -> None:
    """Check that images have their layers, that layers are needed, and that their records are right."""
    present = engine.data.layers.chains()
    places = _places(configs)
    for image_id, config in configs.items():
        chains = _chains(config.diff_ids) if config else []
        missing = next((chain for chain in chains if chain not in present), None)
        if missing:
            sentence = f"{title(engine, image_id)} has lost its layer {missing[7:19]}; {_AGAIN}"
            report.add("image", sentence, _directory(engine, missing))
    # While one config cannot be read, nobody knows which layers it needs.
    orphans = [] if None in configs.values() else _orphans(engine, present, set(places))
    for chain in orphans if not _is_hidden(engine) else ():
        sentence = f"the layer {chain[7:19]} belongs to no image and no container"
        report.add(
            "layer", sentence, _directory(engine, chain), partial(engine.data.layers.release, [chain], set(places))
        )
    for chain in present:
        if chain not in orphans:
            _check_record(engine, report, chain, places.get(chain))


def _is_hidden(engine: Engine) -> bool:
    """Whether a container does not name the layer below it: it may be any layer."""
    for container_id in engine.data.layers.mounts():
        try:
            find_id(engine.data.layers.root / "mounts" / container_id / "parent", Digest)
        except CorruptStore:
            return True
    return False


def _places(configs: Configs) -> dict[str, _Place]:
    places = {}
    for image_id, config in configs.items():
        parent = ""
        for diff_id, chain in zip(config.diff_ids, _chains(config.diff_ids), strict=True) if config else ():
            places[chain] = _Place(diff_id, parent, image_id)
            parent = chain
    return places


def _chains(diff_ids: tuple[str, ...]) -> list[str]:
    return [chain_id(diff_ids[: count + 1]) for count in range(len(diff_ids))]


def _orphans(engine: Engine, present: Sequence[str], named: set[str]) -> list[str]:
    """The layers that no image, container or lease reaches, children before their parents."""
    needed = set(named)
    roots = {peek(entry / "parent") for entry in (engine.data.layers.root / "mounts").iterdir()}
    for root in roots | engine.data.layers.leases.claimed("layer"):
        chain = root
        while Digest.match(chain) and chain not in needed:
            needed.add(chain)
            chain = peek(_directory(engine, chain) / "parent")
    return sorted(set(present) - needed, key=lambda chain: len(list(_below(engine, chain))), reverse=True)


def _below(engine: Engine, chain: str) -> Iterator[str]:
    seen = set()
    while Digest.match(chain := peek(_directory(engine, chain) / "parent")) and chain not in seen:
        seen.add(chain)  # a damaged record may lead in a circle
        yield chain


def _check_record(engine: Engine, report: Report, chain: str, place: _Place | None) -> None:
    """One layer's files in layerdb/sha256/."""
    directory = _directory(engine, chain)
    name = f"the layer {chain[7:19]}" + (f" of {title(engine, place.image_id)}" if place else "")
    diff_id, parent = peek(directory / "diff"), peek(directory / "parent")
    if (chain_id([parent, diff_id]) if parent else diff_id) != chain:
        # The digest of diff id and parent is the layer's name: an image's config proves what they were.
        fix = (lambda: _write_record(directory, place)) if place else None
        report.add("layer", f"the chain id of {name} does not follow from its diff id and its parent", directory, fix)
    elif parent and not _directory(engine, parent).exists():
        report.add("layer", f"{name} lies on the layer {parent[7:19]}, which is not here; {_AGAIN}", directory)
    if not (directory / "tar-split.json.gz").exists():
        sentence = f"{name} has no tar-split.json.gz: it runs, but its tar cannot be rebuilt; {_AGAIN}"
        report.add("layer", sentence, directory / "tar-split.json.gz")
    else:
        _check_tar_split(report, directory / "tar-split.json.gz", name)
    _check_place(engine, report, chain, name)
    if not peek(directory / "size").isdigit():
        report.add("layer", f"{name} does not say its size", directory / "size", lambda: _write_size(engine, chain))


def _check_tar_split(report: Report, path: Path, name: str) -> None:
    try:
        tarsplit.size(path)
    except CorruptStore as error:
        sentence = f"{error.message}; {name} runs, but its tar cannot be rebuilt; {_AGAIN}"
        report.add("layer", sentence, path)


def _has_files(engine: Engine, cache_id: CacheId) -> bool:
    try:
        return engine.data.driver.diff_path(cache_id).is_dir()
    except CorruptStore:
        return False  # a link has taken its place, which directories.py reports


def _check_place(engine: Engine, report: Report, chain: str, name: str) -> None:
    """Whether a layer says which directory it has, and has that alone."""
    path = _directory(engine, chain) / "cache-id"
    cache_id = CacheId.match(peek(path).strip())
    if cache_id is None:
        sentence = f"{name} does not say in cache-id which directory it has"
    elif not _has_files(engine, cache_id):
        sentence, path = f"{name} has lost its files", engine.data.driver.root / cache_id
    elif _is_shared(engine, chain, cache_id) and not _has_content(engine, chain, cache_id):
        sentence = f"{name} names in cache-id the directory of another layer"
    else:
        return
    if found := _directory_with_content(engine, chain):
        own = _directory(engine, chain) / "cache-id"
        report.add("layer", f"{sentence}; {found[:12]} holds them", path, partial(replace_file, own, found))
    else:
        report.add("layer", f"{sentence}; {_AGAIN}", path)


def _is_shared(engine: Engine, chain: str, cache_id: CacheId) -> bool:
    """Whether another record names the directory, too, or the directory has another number of layers below it."""
    others = [_directory(engine, other) / "cache-id" for other in engine.data.layers.chains() if other != chain]
    others += [
        engine.data.layers.root / "mounts" / container_id / "mount-id" for container_id in engine.data.layers.mounts()
    ]
    if cache_id in {peek(path).strip() for path in others}:
        return True
    try:
        layers = engine.data.layers.chain(chain)
    except CorruptStore:
        return False  # it is named on its own
    return engine.data.driver.name == "overlay2" and len(_lowers(engine, cache_id)) != len(layers) - 1


def _lowers(engine: Engine, cache_id: CacheId) -> list[str]:
    return [one for one in peek(engine.data.driver.root / cache_id / "lower").split(":") if one]


def _directory_with_content(engine: Engine, chain: str) -> CacheId | None:
    """The one directory that holds a layer's files: one that nothing names, else another layer's.

    With drivers that keep whole trees the layers above hold the same files, and so do containers.
    """
    present = set(engine.data.driver.cache_ids())
    candidates = [one for one in sorted(present) if not one.endswith("-init") and f"{one}-init" not in present]
    holding = [one for one in candidates if _has_content(engine, chain, one)]
    named = {peek(_directory(engine, other) / "cache-id").strip() for other in engine.data.layers.chains()}
    for found in ([one for one in holding if one not in named], holding):
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _has_content(engine: Engine, chain: str, cache_id: CacheId) -> bool:
    """Whether a directory holds what a layer's tar had."""
    directory, digest = _directory(engine, chain), hashlib.sha256()
    try:
        for piece in tarsplit.assemble(directory / "tar-split.json.gz", engine.data.driver.diff_path(cache_id)):
            digest.update(piece)
    except LabError:
        return False
    return f"sha256:{digest.hexdigest()}" == peek(directory / "diff")


def _write_record(directory: Path, place: _Place) -> None:
    replace_file(directory / "diff", place.diff_id)
    set_aside(directory / "parent")
    if place.parent:
        (directory / "parent").write_text(place.parent)


# ---- deep ----------------------------------------------------------------------------


def check_content(engine: Engine, report: Report) -> None:
    """Rebuild every layer's tar. Without locks, for it takes long: a layer that vanishes meanwhile is no finding."""
    damaged = {finding.path for finding in report.findings if not finding.repaired}
    for chain in sorted(engine.data.layers.chains()):
        entry = _directory(engine, chain)
        # What already has a finding cannot be rebuilt, and is known.
        if not any(path == entry or entry in path.parents for path in damaged):
            _check_content(engine, report, chain)


def _check_content(engine: Engine, report: Report, chain: str) -> None:
    name = _title(engine, chain)
    try:
        layer = engine.data.layers.get(chain)
        content = _Content.read(layer_content.tar_stream(engine.data.layers, chain))
        # In a whole tree most files came from the layers below.
        extra = "" if engine.data.driver.keeps_trees else content.extra(engine.data.driver.diff_path(layer.cache_id))
    except (LabError, OSError) as error:
        if _directory(engine, chain).exists():
            message = error.message if isinstance(error, LabError) else str(error)
            report.add("layer", f"{name} is damaged: {message}; {_AGAIN}", _directory(engine, chain))
        return
    path = engine.data.driver.diff_path(layer.cache_id)
    if content.digest != layer.diff_id:
        report.add("layer", f"the tar of {name} has the digest {content.digest}, not its diff id; {_AGAIN}", path)
        return
    if extra:
        report.add("layer", f'{name} has the file "{extra}", which came from elsewhere; {_AGAIN}', path / extra)
    if content.size != layer.size:
        sentence = f"{name} has {content.size} bytes of content, but says {layer.size}"
        report.add("layer", sentence, _directory(engine, chain) / "size", lambda: _write_size(engine, chain))


def _title(engine: Engine, chain: str) -> str:
    """A layer with an image that has it on top, as findings name it."""
    for image_id in engine.data.images.all():
        try:
            if chain in _chains(engine.data.images.get(image_id).diff_ids):
                return f"the layer {chain[7:19]} of {title(engine, image_id)}"
        except (LabError, KeyError):
            continue
    return f"the layer {chain[7:19]}"


def _write_size(engine: Engine, chain: str) -> None:
    directory = _directory(engine, chain)
    files = engine.data.driver.diff_path(read_id(directory / "cache-id", CacheId))
    size = _Content.read(tarsplit.assemble(directory / "tar-split.json.gz", files)).size
    replace_file(directory / "size", str(size))


class _Content(Struct, frozen=True):
    """What a layer's rebuilt tar holds. size as in layertar.StoredLayer; names as they are on disk."""

    digest: str
    size: int
    names: frozenset[str]

    @classmethod
    def read(cls, stream: Iterator[bytes]) -> _Content:
        hashed = HashedStream(cast(BinaryIO, PieceStream(stream)))
        members = TarReader(cast(BinaryIO, hashed))
        size, names = 0, set()
        for header in members:
            size += len(os.fsencode(header.link)) if header.kind == tar.SYMLINK else header.size
            directory, name = posixpath.split(posixpath.normpath(header.name).lstrip("/"))
            names.add(posixpath.join(directory, name.removeprefix(".wh.")))
            for _ in members.content():
                pass
        for _ in members.trailer():
            pass
        return cls(hashed.digest(), size, frozenset(names))

    def extra(self, directory: Path) -> str:
        """A file in directory that the tar does not bring, "" if there is none. Directories may come by themselves."""
        for top, _, files in os.walk(directory):
            inside = os.path.relpath(top, directory)
            for file in files:
                if (path := posixpath.normpath(posixpath.join(inside, file))) not in self.names:
                    return path
        return ""


def _directory(engine: Engine, chain: str) -> Path:
    return engine.data.layers.root / "sha256" / chain.removeprefix("sha256:")
