"""Names, configs and parents of images."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.errors import CorruptStore, LabError
from pylab_container.host.removal import remove_below
from pylab_container.maintenance.fsck.report import Report, replace_file, set_aside
from pylab_container.oci.ids import Digest, EntryName
from pylab_container.oci.image import ImageConfig, sha256
from pylab_container.store.reading import peek, read_bytes, read_text
from pylab_container.text.timestamps import parse_rfc3339

if TYPE_CHECKING:
    from pylab_container.engine import Engine

Configs = dict[Digest, ImageConfig | None]
"""Image id → config; None for one that cannot be read, so that nobody knows what it needs."""


def check_images(engine: Engine, report: Report) -> Configs:
    """Check all images; returns their configs."""
    configs: Configs = {image_id: _config(engine, report, image_id) for image_id in engine.data.images.all()}
    _check_names(engine, report, configs)
    _check_metadata(engine, report, configs)
    _check_distribution(engine, report)
    return configs


def title(engine: Engine, image_id: str) -> str:
    """An image as findings name it: "image 0123456789ab (debian:12)"."""
    try:
        names = ", ".join(tag.reference.familiar for tag in engine.data.images.names_of(image_id))
    except LabError:
        names = ""
    return f"image {image_id[7:19]}" + (f" ({names})" if names else "")


def _config(engine: Engine, report: Report, image_id: Digest) -> ImageConfig | None:
    path = engine.data.images.content_path(image_id)
    try:
        return engine.data.images.get(image_id)
    except CorruptStore as error:
        copy = _copy_of(path, image_id)
        if copy is None:
            advice = "remove it with rmi -f, and import, load or build it again"
            report.add("image", f"{error.message}; {advice}", path)
            return None
        report.add("image", f"{error.message}; {copy.name} holds it", path, partial(_restore, path, copy))
        return engine.data.images.get(image_id) if report.repair else None


def _copy_of(path: Path, image_id: str) -> Path | None:
    """Another file of the directory whose bytes are this image's config: two files may have been exchanged."""
    others = (other for other in sorted(path.parent.iterdir()) if other != path and other.is_file())
    return next((other for other in others if sha256(read_bytes(other)) == image_id), None)


def _restore(path: Path, copy: Path) -> None:
    content = read_bytes(copy)
    set_aside(path)
    path.write_bytes(content)
    path.chmod(0o600)


def _check_names(engine: Engine, report: Report, configs: Configs) -> None:
    path = engine.data.images.root / "repositories.json"
    try:
        tags = engine.data.images.names()
    except LabError as error:
        sentence = f"the names of images cannot be read ({error}); repair keeps the file, and what of it can be read"
        report.add("name", sentence.replace("\n", "; "), path, engine.data.images.reset_names)
        if not report.repair:
            return
        tags = engine.data.images.names()
    for tag in tags:
        if tag.image_id not in configs:
            sentence = f"the name {tag.reference.familiar} points to the image {tag.image_id[7:19]}, which is not here"
            report.add("name", sentence, path, partial(engine.data.images.untag, tag.reference))


def _check_metadata(engine: Engine, report: Report, configs: Configs) -> None:
    for directory in engine.data.images.metadata_directories():
        image_id = Digest(f"sha256:{directory.name}")
        if image_id not in configs:
            sentence = f"there is metadata of the image {image_id[7:19]}, which is not here"
            report.add("leftover", sentence, directory, partial(remove_below, directory.parent, image_id.hex))
            continue
        _check_parent(engine, report, configs, image_id, directory / "parent")
        _check_notes(engine, report, image_id, directory)


def _check_parent(engine: Engine, report: Report, configs: Configs, image_id: Digest, path: Path) -> None:
    try:
        parent = engine.data.images.parent(image_id)
    except CorruptStore as error:
        found = _made_from(configs, image_id)
        fix = partial(replace_file, path, found) if found else partial(set_aside, path)
        report.add("image", f"the note which image {title(engine, image_id)} was made from: {error.message}", path, fix)
        return
    if parent and parent not in configs:
        report.add("image", f"the parent {parent[7:19]} of {title(engine, image_id)} is not here", path, path.unlink)
    elif parent and not _may_be_made_from(configs[image_id], configs[Digest(parent)]):
        found = _made_from(configs, image_id)
        fix = partial(replace_file, path, found) if found else partial(set_aside, path)
        report.add("image", f"{title(engine, image_id)} was not made from its parent {parent[7:19]}", path, fix)


def _made_from(configs: Configs, image_id: Digest) -> Digest | None:
    """The image that another one was made from by one step, if exactly one can be: its layers and history say so."""
    own = configs[image_id]
    if own is None or not own.history:
        return None
    found = [
        other
        for other, config in configs.items()
        if config and config.history == own.history[:-1] and own.diff_ids[: len(config.diff_ids)] == config.diff_ids
    ]
    return found[0] if len(found) == 1 else None


def _may_be_made_from(own: ImageConfig | None, parent: ImageConfig | None) -> bool:
    if own is None or parent is None:
        return True  # a damaged config has its own finding
    return own.may_be_made_from(parent)


def _check_notes(engine: Engine, report: Report, image_id: Digest, directory: Path) -> None:
    """lastUpdated, and what the builder notes about files: nothing depends on them."""
    path = directory / "lastUpdated"
    if path.exists():
        try:
            parse_rfc3339(read_text(path))
        except (ValueError, OSError, CorruptStore):
            sentence = f"the note when {title(engine, image_id)} got its name is damaged"
            report.add("image", sentence, path, partial(set_aside, path))
    path = directory / "labctr-files"
    if path.exists() and not _is_json(path, dict):
        report.add("image", f"what {title(engine, image_id)} was made of is damaged", path, partial(set_aside, path))


def _check_distribution(engine: Engine, report: Report) -> None:
    """What registries call the layers; all are hints, and are learnt again."""
    root = engine.data.distribution.root
    for path in sorted(root.glob("diffid-by-digest/sha256/*")):
        if _is_entry(path) and not Digest.match(peek(path)):
            sentence = f"the diff id of the blob {path.name[:12]} is damaged"
            report.add("image", sentence, path, partial(set_aside, path))
    for path in sorted(root.glob("v2metadata-by-diffid/sha256/*")):
        if _is_entry(path) and not _is_json(path, list):
            sentence = f"where the layer {path.name[:12]} was is damaged"
            report.add("image", sentence, path, partial(set_aside, path))


def _is_entry(path: Path) -> bool:
    return Digest.match(f"sha256:{EntryName(path.name)}") is not None


def _is_json(path: Path, kind: type) -> bool:
    try:
        return isinstance(json.loads(read_bytes(path)), kind)
    except (ValueError, OSError, RecursionError, CorruptStore):
        return False
