"""Names, configs and parents of images."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

from pylab_container.engine.fsck.report import Report
from pylab_container.errors import CorruptStore, LabError
from pylab_container.formats.image import ImageConfig

if TYPE_CHECKING:
    from pylab_container.engine import Engine

Configs = dict[str, ImageConfig | None]
"""Image id → config; None for one that cannot be read, so that nobody knows what it needs."""


def check_images(engine: Engine, report: Report) -> Configs:
    """Check all images; returns their configs."""
    configs = {image_id: _config(engine, report, image_id) for image_id in engine.image_store.all()}
    _check_names(engine, report, configs)
    _check_metadata(engine, report, configs)
    return configs


def title(engine: Engine, image_id: str) -> str:
    """An image as findings name it: "image 0123456789ab (debian:12)"."""
    try:
        names = ", ".join(tag.reference.familiar for tag in engine.image_store.tags() if tag.image_id == image_id)
    except LabError:
        names = ""
    return f"image {image_id[7:19]}" + (f" ({names})" if names else "")


def _config(engine: Engine, report: Report, image_id: str) -> ImageConfig | None:
    try:
        return engine.image_store.get(image_id)
    except CorruptStore as error:
        advice = "remove it with rmi -f, and import, load or build it again"
        report.add("image", f"{error.message}; {advice}", engine.image_store.content_path(image_id))
        return None


def _check_names(engine: Engine, report: Report, configs: Configs) -> None:
    path = engine.image_store.root / "repositories.json"
    try:
        tags = engine.image_store.names()
    except LabError:
        sentence = "repositories.json cannot be read, so no image has a name; repair starts a new one and keeps the old"
        report.add("name", sentence, path, engine.image_store.reset_names)
        return
    for tag in tags:
        if tag.image_id not in configs:
            sentence = f"the name {tag.reference.familiar} points to the image {tag.image_id[7:19]}, which is not here"
            report.add("name", sentence, path, partial(engine.image_store.untag, tag.reference))


def _check_metadata(engine: Engine, report: Report, configs: Configs) -> None:
    for directory in engine.image_store.metadata_directories():
        image_id = f"sha256:{directory.name}"
        if image_id not in configs:
            sentence = f"there is metadata of the image {image_id[7:19]}, which is not here"
            report.add("leftover", sentence, directory, partial(shutil.rmtree, directory))
        elif (parent := engine.image_store.parent(image_id)) and parent not in configs:
            sentence = f"the parent {parent[7:19]} of {title(engine, image_id)} is not here"
            report.add("image", sentence, directory / "parent", (directory / "parent").unlink)
