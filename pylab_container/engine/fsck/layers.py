"""Layers: their records, who needs them, and whether they still are what they were."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from msgspec import Struct

from pylab_container.engine.fsck.images import Configs, title
from pylab_container.engine.fsck.report import Report
from pylab_container.errors import LabError
from pylab_container.formats import tar
from pylab_container.formats.image import chain_id
from pylab_container.store import tarsplit
from pylab_container.store.layers import CACHE_ID
from pylab_container.store.layertar import TarReader

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
    present = [f"sha256:{entry.name}" for entry in (engine.layers.root / "sha256").iterdir()]
    places = _places(configs)
    for image_id, config in configs.items():
        chains = _chains(config.diff_ids) if config else []
        missing = next((chain for chain in chains if chain not in present), None)
        if missing:
            sentence = f"{title(engine, image_id)} has lost its layer {missing[7:19]}; {_AGAIN}"
            report.add("image", sentence, _directory(engine, missing))
    # While one config cannot be read, nobody knows which layers it needs.
    orphans = [] if None in configs.values() else _orphans(engine, present, set(places))
    for chain in orphans:
        sentence = f"the layer {chain[7:19]} belongs to no image and no container"
        report.add("layer", sentence, _directory(engine, chain), partial(engine.layers.release, [chain], set(places)))
    for chain in present:
        if chain not in orphans:
            _check_record(engine, report, chain, places.get(chain))


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


def _orphans(engine: Engine, present: list[str], named: set[str]) -> list[str]:
    """The layers that no image, container or lease reaches, children before their parents."""
    needed = set(named)
    roots = {_text(entry / "parent") for entry in (engine.layers.root / "mounts").iterdir()}
    for root in roots | engine.layers.leases.claimed("layer"):
        chain = root
        while chain and chain not in needed:
            needed.add(chain)
            chain = _text(_directory(engine, chain) / "parent")
    return sorted(set(present) - needed, key=lambda chain: len(list(_below(engine, chain))), reverse=True)


def _below(engine: Engine, chain: str) -> Iterator[str]:
    seen = set()
    while (chain := _text(_directory(engine, chain) / "parent")) and chain not in seen:
        seen.add(chain)  # a damaged record may lead in a circle
        yield chain


def _check_record(engine: Engine, report: Report, chain: str, place: _Place | None) -> None:
    """One layer's files in layerdb/sha256/."""
    directory = _directory(engine, chain)
    name = f"the layer {chain[7:19]}" + (f" of {title(engine, place.image_id)}" if place else "")
    diff_id, parent = _text(directory / "diff"), _text(directory / "parent")
    if (chain_id([parent, diff_id]) if parent else diff_id) != chain:
        # The digest of diff id and parent is the layer's name: an image's config proves what they were.
        fix = (lambda: _write_record(directory, place)) if place else None
        report.add("layer", f"the chain id of {name} does not follow from its diff id and its parent", directory, fix)
    elif parent and not _directory(engine, parent).exists():
        report.add("layer", f"{name} lies on the layer {parent[7:19]}, which is not here; {_AGAIN}", directory)
    if not _text(directory / "size").isdigit():
        report.add("layer", f"{name} does not say its size", directory / "size", lambda: _write_size(engine, chain))
    if not (directory / "tar-split.json.gz").exists():
        sentence = f"{name} has no tar-split.json.gz: it runs, but its tar cannot be rebuilt; {_AGAIN}"
        report.add("layer", sentence, directory / "tar-split.json.gz")
    cache_id = _text(directory / "cache-id").strip()
    if not CACHE_ID.fullmatch(cache_id):
        report.add("layer", f"{name} does not say in cache-id which directory it has; {_AGAIN}", directory / "cache-id")
    elif not engine.driver.diff_path(cache_id).is_dir():
        report.add("layer", f"{name} has lost its files; {_AGAIN}", engine.driver.diff_path(cache_id))


def _write_record(directory: Path, place: _Place) -> None:
    (directory / "diff").write_text(place.diff_id)
    (directory / "parent").unlink(missing_ok=True)
    if place.parent:
        (directory / "parent").write_text(place.parent)


# ---- deep ----------------------------------------------------------------------------


def check_content(engine: Engine, report: Report) -> None:
    """Rebuild every layer's tar. Without locks, for it takes long: a layer that vanishes meanwhile is no finding."""
    damaged = {finding.path for finding in report.findings if not finding.repaired}
    for entry in sorted((engine.layers.root / "sha256").iterdir()):
        # What already has a finding cannot be rebuilt, and is known.
        if not any(path == entry or entry in path.parents for path in damaged):
            _check_content(engine, report, f"sha256:{entry.name}")


def _check_content(engine: Engine, report: Report, chain: str) -> None:
    name = _title(engine, chain)
    try:
        layer = engine.layers.get(chain)
        content = _Content.read(engine.layers.tar_stream(chain))
        # In a whole tree most files came from the layers below.
        extra = "" if engine.driver.keeps_trees else content.extra(engine.driver.diff_path(layer.cache_id))
    except (LabError, OSError) as error:
        if _directory(engine, chain).exists():
            message = error.message if isinstance(error, LabError) else str(error)
            report.add("layer", f"{name} is damaged: {message}; {_AGAIN}", _directory(engine, chain))
        return
    path = engine.driver.diff_path(layer.cache_id)
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
    for image_id in engine.image_store.all():
        try:
            if chain in _chains(engine.image_store.get(image_id).diff_ids):
                return f"the layer {chain[7:19]} of {title(engine, image_id)}"
        except (LabError, KeyError):
            continue
    return f"the layer {chain[7:19]}"


def _write_size(engine: Engine, chain: str) -> None:
    directory = _directory(engine, chain)
    files = engine.driver.diff_path(_text(directory / "cache-id").strip())
    size = _Content.read(tarsplit.assemble(directory / "tar-split.json.gz", files)).size
    (directory / "size").write_text(str(size))


class _Content(Struct, frozen=True):
    """What a layer's rebuilt tar holds. size as in layertar.StoredLayer; names as they are on disk."""

    digest: str
    size: int
    names: frozenset[str]

    @classmethod
    def read(cls, stream: Iterator[bytes]) -> _Content:
        hashed = _Hashed(stream)
        members = TarReader(cast(BinaryIO, io.BufferedReader(hashed, 1 << 20)))
        size, names = 0, set()
        for header in members:
            size += len(os.fsencode(header.link)) if header.kind == tar.SYMLINK else header.size
            directory, name = posixpath.split(posixpath.normpath(header.name).lstrip("/"))
            names.add(posixpath.join(directory, name.removeprefix(".wh.")))
            for _ in members.content():
                pass
        for _ in members.trailer():
            pass
        return cls(f"sha256:{hashed.digest.hexdigest()}", size, frozenset(names))

    def extra(self, directory: Path) -> str:
        """A file in directory that the tar does not bring, "" if there is none. Directories may come by themselves."""
        for top, _, files in os.walk(directory):
            inside = os.path.relpath(top, directory)
            for file in files:
                if (path := posixpath.normpath(posixpath.join(inside, file))) not in self.names:
                    return path
        return ""


class _Hashed(io.RawIOBase):
    """Pieces of bytes as a stream that is hashed while it is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self.digest.update(piece)
            self._rest = piece
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _directory(engine: Engine, chain: str) -> Path:
    return engine.layers.root / "sha256" / chain.removeprefix("sha256:")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
