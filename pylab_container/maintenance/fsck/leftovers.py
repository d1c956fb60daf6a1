"""What killed commands leave: leases and write-sets without a lock, half-written files, scratch directories, views."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.errors import CorruptStore
from pylab_container.host.removal import remove_below
from pylab_container.maintenance import recovery
from pylab_container.maintenance.fsck.report import Report
from pylab_container.oci.ids import EntryName
from pylab_container.store import overlayfs

if TYPE_CHECKING:
    from pylab_container.engine import Engine


def check_abandoned(engine: Engine, report: Report) -> None:
    """Leases and write-sets of dead makers.

    Their clearing takes the engine's locks, so the caller has none.
    """
    for lease in engine.data.layers.leases.abandoned():
        things = [f"the container {name[:12]}" for name in lease.claimed("container")]
        things += [f"the layer {name[7:19]}" for name in lease.claimed("layer")]
        sentence = f"a killed command left its lease of {', '.join(things) or 'nothing'}"
        fix: Callable[[], object] = partial(recovery.clear, engine, lease)
        try:
            lease.check()
        except CorruptStore as error:
            sentence, fix = f"{sentence}; {error.message}; repair keeps the file", lease.set_aside
        report.add("leftover", sentence, lease.path, fix)
        if not report.repair:
            lease.leave()
    for path, cache_id in engine.data.layers.abandoned_write_sets():
        place = f"{engine.data.driver.name}/{(cache_id or '')[:12]}"
        sentence = f"a killed command left a layer half made or half deleted, {place}"
        report.add("leftover", sentence, path, partial(engine.data.layers.clear_write_set, path, cache_id))


def check_files(engine: Engine, report: Report) -> None:
    """Files that are only there while somebody writes; the caller holds the locks under which that is done."""
    for path in (engine.data.layers.root / "tmp").glob("mount-*"):
        sentence = f"a killed command left the record of a container's layer half written: {path.name}"
        report.add("leftover", sentence, path, partial(_remove, path))
    for path in recovery.half_written(engine):
        report.add("leftover", f"a killed command left a file half written: {path.name}", path, path.unlink)
    with engine.data.scratch_lock():
        for path in recovery.abandoned_scratch(engine):
            sentence = f"a killed command left its scratch directory: tmp/{path.name}"
            report.add("leftover", sentence, path, partial(_remove, path))
    with overlayfs.abandoned_views(engine.data.driver.root) as views:
        for path in views:
            sentence = f"a killed command left a view of layers: {engine.data.driver.name}/{path.name}"
            report.add("leftover", sentence, path, partial(overlayfs.remove_view, path))


def _remove(path: Path) -> None:
    remove_below(path.parent, EntryName(path.name))
