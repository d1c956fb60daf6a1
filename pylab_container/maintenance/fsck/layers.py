"""Layers: their records, the objects that need them, and the directory of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from msgspec import Struct

from pylab_container.errors import CorruptStore, LabError
from pylab_container.maintenance.fsck.content import OBTAIN_AGAIN, record_directory, write_size
from pylab_container.maintenance.fsck.images import Configs, title
from pylab_container.maintenance.fsck.report import Report, replace_file, set_aside
from pylab_container.oci.ids import CacheId, Digest
from pylab_container.oci.image import chain_id
from pylab_container.store import tarsplit
from pylab_container.store.data_root import DataRoot
from pylab_container.store.reading import find_id, peek


class _Place(Struct, frozen=True):
    """A layer according to an image's config: its diff id, the chain id of its parent, and the image's id."""

    diff_id: str
    parent: str
    image_id: str


def check_layers(data: DataRoot, report: Report, configs: Configs) -> None:
    """Check that images have their layers, layers are needed, and records are right."""
    present = data.layers.chains()
    places = _places(configs)
    for image_id, config in configs.items():
        chains = config.chain_ids if config else ()
        missing = next((chain for chain in chains if chain not in present), None)
        if missing:
            sentence = f"{title(data, image_id)} has lost its layer {missing[7:19]}; {OBTAIN_AGAIN}"
            report.add("image", sentence, record_directory(data, missing))
    # While a config cannot be read, the layers that its image needs are unknown.
    orphans = [] if None in configs.values() else _orphans(data, present, set(places))
    for chain in orphans if not _has_unknown_parent(data) else ():
        sentence = f"the layer {chain[7:19]} belongs to no image and no container"
        fix = partial(data.layers.release, [chain], set(places))
        report.add("layer", sentence, record_directory(data, chain), fix)
    for chain in present:
        if chain not in orphans:
            _check_record(data, report, chain, places.get(chain))


def _has_unknown_parent(data: DataRoot) -> bool:
    """Return whether a container's record does not name the layer below it, which may then be any layer."""
    for container_id in data.layers.mounts():
        try:
            find_id(data.layers.root / "mounts" / container_id / "parent", Digest)
        except CorruptStore:
            return True
    return False


def _places(configs: Configs) -> dict[str, _Place]:
    places = {}
    for image_id, config in configs.items():
        parent = ""
        for diff_id, chain in zip(config.diff_ids, config.chain_ids, strict=True) if config else ():
            places[chain] = _Place(diff_id, parent, image_id)
            parent = chain
    return places


def _orphans(data: DataRoot, present: Sequence[str], in_images: set[str]) -> list[str]:
    """Return the layers that no image, container or lease needs, children before their parents."""
    needed = set(in_images)
    roots = {peek(entry / "parent") for entry in (data.layers.root / "mounts").iterdir()}
    for root in roots | data.layers.leases.claimed("layer"):
        chain = root
        while Digest.match(chain) and chain not in needed:
            needed.add(chain)
            chain = peek(record_directory(data, chain) / "parent")
    return sorted(set(present) - needed, key=lambda chain: len(list(_below(data, chain))), reverse=True)


def _below(data: DataRoot, chain: str) -> Iterator[str]:
    """Yield the chain ids of the layers below a layer, the nearest first."""
    seen = set()
    while Digest.match(chain := peek(record_directory(data, chain) / "parent")) and chain not in seen:
        seen.add(chain)  # damaged records may form a cycle
        yield chain


# -- one layer's record --------------------------------------------------------------------------


def _check_record(data: DataRoot, report: Report, chain: str, place: _Place | None) -> None:
    """Check the files of one layer in layerdb/sha256/."""
    directory = record_directory(data, chain)
    name = f"the layer {chain[7:19]}" + (f" of {title(data, place.image_id)}" if place else "")
    diff_id, parent = peek(directory / "diff"), peek(directory / "parent")
    if (chain_id([parent, diff_id]) if parent else diff_id) != chain:
        # The directory's name is the digest of diff id and parent, so an image's config proves their values.
        fix = (lambda: _write_record(directory, place)) if place else None
        report.add("layer", f"the chain id of {name} does not follow from its diff id and its parent", directory, fix)
    elif parent and not record_directory(data, parent).exists():
        sentence = f"{name} is on top of the layer {parent[7:19]}, which is not here; {OBTAIN_AGAIN}"
        report.add("layer", sentence, directory)
    _check_tar_split(report, directory / "tar-split.json.gz", name)
    _check_cache_id(data, report, chain, name)
    if not peek(directory / "size").isdigit():
        fix_size = partial(write_size, data, directory)
        report.add("layer", f"{name} does not say its size", directory / "size", fix_size)


def _check_tar_split(report: Report, path: Path, name: str) -> None:
    if not path.exists():
        sentence = f"{name} has no tar-split.json.gz: it runs, but its tar cannot be rebuilt; {OBTAIN_AGAIN}"
        report.add("layer", sentence, path)
        return
    try:
        tarsplit.size(path)
    except CorruptStore as error:
        sentence = f"{error.message}; {name} runs, but its tar cannot be rebuilt; {OBTAIN_AGAIN}"
        report.add("layer", sentence, path)


def _write_record(directory: Path, place: _Place) -> None:
    replace_file(directory / "diff", place.diff_id)
    set_aside(directory / "parent")
    if place.parent:
        (directory / "parent").write_text(place.parent)


# -- the directory of a layer's files ------------------------------------------------------------


def _check_cache_id(data: DataRoot, report: Report, chain: str, name: str) -> None:
    """Check that a layer's cache-id names a directory that exists, and that no other layer has."""
    path = record_directory(data, chain) / "cache-id"
    cache_id = CacheId.match(peek(path).strip())
    if cache_id is None:
        sentence = f"{name} does not say in cache-id which directory it has"
    elif not _has_files(data, cache_id):
        sentence, path = f"{name} has lost its files", data.driver.root / cache_id
    elif _is_shared(data, chain, cache_id) and not _has_content(data, chain, cache_id):
        sentence = f"{name} names in cache-id the directory of another layer"
    else:
        return
    if right := _directory_with_content(data, chain):
        cache_id_path = record_directory(data, chain) / "cache-id"
        report.add("layer", f"{sentence}; {right[:12]} holds them", path, partial(replace_file, cache_id_path, right))
    else:
        report.add("layer", f"{sentence}; {OBTAIN_AGAIN}", path)


def _has_files(data: DataRoot, cache_id: CacheId) -> bool:
    try:
        return data.driver.diff_path(cache_id).is_dir()
    except CorruptStore:
        return False  # a symbolic link has replaced the directory; directories.py reports it


def _is_shared(data: DataRoot, chain: str, cache_id: CacheId) -> bool:
    """Return whether another record also names the directory, or its lower file has a wrong number of layers."""
    others = [record_directory(data, other) / "cache-id" for other in data.layers.chains() if other != chain]
    others += [data.layers.root / "mounts" / container_id / "mount-id" for container_id in data.layers.mounts()]
    if cache_id in {peek(path).strip() for path in others}:
        return True
    try:
        layers = data.layers.chain(chain)
    except CorruptStore:
        return False  # a damaged record below has its own finding
    return data.driver.name == "overlay2" and len(_lower_names(data, cache_id)) != len(layers) - 1


def _lower_names(data: DataRoot, cache_id: CacheId) -> list[str]:
    return [name for name in peek(data.driver.root / cache_id / "lower").split(":") if name]


def _directory_with_content(data: DataRoot, chain: str) -> CacheId | None:
    """Return the directory that holds a layer's files; None if no directory or more than one can be it.

    A directory that no record names is preferred. Drivers that store whole trees repeat a layer's files in the
    directories of the layers above it and of containers.
    """
    present = set(data.driver.cache_ids())
    candidates = [
        cache_id for cache_id in sorted(present) if not cache_id.endswith("-init") and f"{cache_id}-init" not in present
    ]
    matching = [cache_id for cache_id in candidates if _has_content(data, chain, cache_id)]
    recorded = {peek(record_directory(data, other) / "cache-id").strip() for other in data.layers.chains()}
    for choice in ([cache_id for cache_id in matching if cache_id not in recorded], matching):
        if choice:
            return choice[0] if len(choice) == 1 else None
    return None


def _has_content(data: DataRoot, chain: str, cache_id: CacheId) -> bool:
    """Return whether a directory holds the content of a layer's tar: its rebuilt tar has the layer's diff id."""
    directory, digest = record_directory(data, chain), hashlib.sha256()
    try:
        for piece in tarsplit.assemble(directory / "tar-split.json.gz", data.driver.diff_path(cache_id)):
            digest.update(piece)
    except LabError:
        return False
    return f"sha256:{digest.hexdigest()}" == peek(directory / "diff")
