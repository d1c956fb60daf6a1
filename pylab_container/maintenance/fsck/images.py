"""Names, configs and parents of images."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from pylab_container.errors import CorruptStore, LabError
from pylab_container.host.removal import remove_below
from pylab_container.maintenance.fsck.report import Report, replace_file, set_aside
from pylab_container.oci.ids import Digest, EntryName
from pylab_container.oci.image import ImageConfig, sha256
from pylab_container.store.data_root import DataRoot
from pylab_container.store.reading import peek, read_bytes, read_text
from pylab_container.text.timestamps import parse_rfc3339

Configs = dict[Digest, ImageConfig | None]
"""Image id → config; None if the config cannot be read, so that the image's layers are unknown."""


def check_images(data: DataRoot, report: Report) -> Configs:
    """Check all images, and return their configs."""
    configs: Configs = {image_id: _check_config(data, report, image_id) for image_id in data.images.all()}
    _check_names(data, report, configs)
    _check_metadata(data, report, configs)
    _check_distribution(data, report)
    return configs


def title(data: DataRoot, image_id: str) -> str:
    """Return the name of an image in findings: "image 0123456789ab (debian:12)"."""
    try:
        names = ", ".join(tag.reference.familiar for tag in data.images.names_of(image_id))
    except LabError:
        names = ""
    return f"image {image_id[7:19]}" + (f" ({names})" if names else "")


def _check_config(data: DataRoot, report: Report, image_id: Digest) -> ImageConfig | None:
    path = data.images.content_path(image_id)
    try:
        return data.images.get(image_id)
    except CorruptStore as error:
        copy = _copy_of(path, image_id)
        if copy is None:
            advice = "remove it with rmi -f, and import, load or build it again"
            report.add("image", f"{error.message}; {advice}", path)
            return None
        report.add("image", f"{error.message}; {copy.name} holds it", path, partial(_restore, path, copy))
        return data.images.get(image_id) if report.repair else None


def _copy_of(path: Path, image_id: str) -> Path | None:
    """Return another file of the directory with this image's config, as after two files were exchanged."""
    others = (other for other in sorted(path.parent.iterdir()) if other != path and other.is_file())
    return next((other for other in others if sha256(read_bytes(other)) == image_id), None)


def _restore(path: Path, copy: Path) -> None:
    content = read_bytes(copy)
    set_aside(path)
    path.write_bytes(content)
    path.chmod(0o600)


def _check_names(data: DataRoot, report: Report, configs: Configs) -> None:
    path = data.images.root / "repositories.json"
    try:
        tags = data.images.names()
    except LabError as error:
        sentence = f"the names of images cannot be read ({error}); repair keeps the file, and every name that is intact"
        report.add("name", sentence.replace("\n", "; "), path, data.images.reset_names)
        if not report.repair:
            return
        tags = data.images.names()
    for tag in tags:
        if tag.image_id not in configs:
            sentence = f"the name {tag.reference.familiar} points to the image {tag.image_id[7:19]}, which is not here"
            report.add("name", sentence, path, partial(data.images.untag, tag.reference))


def _check_metadata(data: DataRoot, report: Report, configs: Configs) -> None:
    for directory in data.images.metadata_directories():
        image_id = Digest(f"sha256:{directory.name}")
        if image_id not in configs:
            sentence = f"there is metadata of the image {image_id[7:19]}, which is not here"
            report.add("leftover", sentence, directory, partial(remove_below, directory.parent, image_id.hex))
            continue
        _check_parent(data, report, configs, image_id, directory / "parent")
        _check_notes(data, report, image_id, directory)


def _check_parent(data: DataRoot, report: Report, configs: Configs, image_id: Digest, path: Path) -> None:
    try:
        parent = data.images.parent(image_id)
    except CorruptStore as error:
        sentence = f"the parent of {title(data, image_id)} cannot be read: {error.message}"
        report.add("image", sentence, path, _parent_repair(configs, image_id, path))
        return
    if parent and parent not in configs:
        report.add("image", f"the parent {parent[7:19]} of {title(data, image_id)} is not here", path, path.unlink)
    elif parent and not _may_be_made_from(configs[image_id], configs[Digest(parent)]):
        sentence = f"{title(data, image_id)} was not made from its parent {parent[7:19]}"
        report.add("image", sentence, path, _parent_repair(configs, image_id, path))


def _parent_repair(configs: Configs, image_id: Digest, path: Path) -> partial[None]:
    """Return the repair of a parent file: write the true parent, or remove the file if the parent is unknown."""
    parent = _find_parent(configs, image_id)
    return partial(replace_file, path, parent) if parent else partial(set_aside, path)


def _find_parent(configs: Configs, image_id: Digest) -> Digest | None:
    """Return the image that has the same layers and history without the last step, if there is exactly one."""
    own = configs[image_id]
    if own is None or not own.history:
        return None
    candidates = [
        other
        for other, config in configs.items()
        if config and config.history == own.history[:-1] and own.diff_ids[: len(config.diff_ids)] == config.diff_ids
    ]
    return candidates[0] if len(candidates) == 1 else None


def _may_be_made_from(own: ImageConfig | None, parent: ImageConfig | None) -> bool:
    if own is None or parent is None:
        return True  # the damaged config has its own finding
    return own.may_be_made_from(parent)


def _check_notes(data: DataRoot, report: Report, image_id: Digest, directory: Path) -> None:
    """Check lastUpdated, and the builder's labctr-files. No other file depends on them."""
    path = directory / "lastUpdated"
    if path.exists():
        try:
            parse_rfc3339(read_text(path))
        except (ValueError, OSError, CorruptStore):
            sentence = f"the time at which {title(data, image_id)} got its name is damaged"
            report.add("image", sentence, path, partial(set_aside, path))
    path = directory / "labctr-files"
    if path.exists() and not _is_json(path, dict):
        sentence = f"the builder's list of files for {title(data, image_id)} is damaged"
        report.add("image", sentence, path, partial(set_aside, path))


def _check_distribution(data: DataRoot, report: Report) -> None:
    """Check the names that registries use for layers. They are a cache: the next pull or push writes them again."""
    root = data.distribution.root
    for path in sorted(root.glob("diffid-by-digest/sha256/*")):
        if _is_entry(path) and not Digest.match(peek(path)):
            sentence = f"the diff id of the blob {path.name[:12]} is damaged"
            report.add("image", sentence, path, partial(set_aside, path))
    for path in sorted(root.glob("v2metadata-by-diffid/sha256/*")):
        if _is_entry(path) and not _is_json(path, list):
            sentence = f"the list of repositories of the layer {path.name[:12]} is damaged"
            report.add("image", sentence, path, partial(set_aside, path))


def _is_entry(path: Path) -> bool:
    return Digest.match(f"sha256:{EntryName(path.name)}") is not None


def _is_json(path: Path, kind: type) -> bool:
    try:
        return isinstance(json.loads(read_bytes(path)), kind)
    except (ValueError, OSError, RecursionError, CorruptStore):
        return False
