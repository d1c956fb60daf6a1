"""What killed commands leave: leases and write-sets without a lock, half-written files, scratch directories, views."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.engine import recovery
from pylab_container.engine.fsck.report import Report
from pylab_container.store import overlayfs

if TYPE_CHECKING:
    from pylab_container.engine import Engine


def check_abandoned(engine: Engine, report: Report) -> None:
    """Leases and write-sets of dead makers. Their clearing takes the engine's locks, so the caller has none."""
    for lease in engine.layers.leases.abandoned():
        things = [f"the container {name[:12]}" for name in lease.claimed("container")]
        things += [f"the layer {name[7:19]}" for name in lease.claimed("layer")]
        sentence = f"a killed command left its lease of {', '.join(things) or 'nothing'}"
        report.add("leftover", sentence, lease.path, partial(recovery.clear, engine, lease))
        if not report.repair:
            lease.leave()
    for path, cache_id in engine.layers.abandoned_write_sets():
        sentence = f"a killed command left a layer half made or half deleted, {engine.driver.name}/{cache_id[:12]}"
        report.add("leftover", sentence, path, partial(engine.layers.clear_write_set, path, cache_id))


def check_files(engine: Engine, report: Report) -> None:
    """Files that are only there while somebody writes; the caller holds the locks under which that is done."""
    for path in (engine.layers.root / "tmp").glob("mount-*"):
        sentence = f"a killed command left the record of a container's layer half written: {path.name}"
        report.add("leftover", sentence, path, partial(shutil.rmtree, path))
    for path in _half_written(engine):
        report.add("leftover", f"a killed command left a file half written: {path.name}", path, path.unlink)
    with engine.scratch_lock():
        for path in recovery.abandoned_scratch(engine):
            sentence = f"a killed command left its scratch directory: tmp/{path.name}"
            report.add("leftover", sentence, path, partial(shutil.rmtree, path))
    with overlayfs.abandoned_views(engine.driver.root) as views:
        for path in views:
            sentence = f"a killed command left a view of layers: {engine.driver.name}/{path.name}"
            report.add("leftover", sentence, path, partial(overlayfs.remove_view, path))


def _half_written(engine: Engine) -> Iterator[Path]:
    """Temporary files of host.files.write_atomic: of images and names, and of containers that nobody changes now."""
    root = engine.image_store.root
    patterns = (".tmp-*", "imagedb/content/sha256/.tmp-*", "imagedb/metadata/sha256/*/.tmp-*")
    for pattern in (*patterns, "distribution/*/sha256/.tmp-*"):
        yield from root.glob(pattern)
    for path in engine.records.root.glob("*/.tmp-*"):
        with engine.records.try_lock(path.parent.name) as free:
            if free and path.exists():
                yield path
