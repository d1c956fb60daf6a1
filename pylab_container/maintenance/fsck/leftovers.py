"""What killed processes left: leases, write-sets, temporary files, scratch, views."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pylab_container.errors import CorruptStore
from pylab_container.host.removal import remove_below
from pylab_container.maintenance import recovery
from pylab_container.maintenance.fsck.report import Report
from pylab_container.oci.ids import EntryName
from pylab_container.runtime import Runtime
from pylab_container.store import overlayfs
from pylab_container.store.data_root import DataRoot


def check_abandoned(data: DataRoot, runtime: Runtime, report: Report) -> None:
    """Check for leases and write-sets of killed processes.

    The caller holds no lock: the repair takes several.
    """
    for lease in data.layers.leases.abandoned():
        claims = [f"the container {name[:12]}" for name in lease.claimed("container")]
        claims += [f"the layer {name[7:19]}" for name in lease.claimed("layer")]
        sentence = f"a killed command left its lease of {', '.join(claims) or 'nothing'}"
        fix: Callable[[], object] = partial(recovery.clear, data, runtime, lease)
        try:
            lease.check()
        except CorruptStore as error:
            sentence, fix = f"{sentence}; {error.message}; repair keeps the file", lease.set_aside
        report.add("leftover", sentence, lease.path, fix)
        if not report.repair:
            lease.leave()
    for path, cache_id in data.layers.abandoned_write_sets():
        place = f"{data.driver.name}/{(cache_id or '')[:12]}"
        sentence = f"a killed command left a layer half made or half deleted, {place}"
        report.add("leftover", sentence, path, partial(data.layers.clear_write_set, path, cache_id))


def check_files(data: DataRoot, report: Report) -> None:
    """Check for temporary files. The caller holds the locks under which they are written."""
    for path in (data.layers.root / "tmp").glob("mount-*"):
        sentence = f"a killed command left the record of a container's layer half written: {path.name}"
        report.add("leftover", sentence, path, partial(_remove, path))
    for path in recovery.half_written(data):
        report.add("leftover", f"a killed command left a file half written: {path.name}", path, path.unlink)
    with data.scratch_lock():
        for path in recovery.abandoned_scratch(data):
            sentence = f"a killed command left its scratch directory: tmp/{path.name}"
            report.add("leftover", sentence, path, partial(_remove, path))
    with overlayfs.abandoned_views(data.driver.root) as views:
        for path in views:
            sentence = f"a killed command left a view of layers: {data.driver.name}/{path.name}"
            report.add("leftover", sentence, path, partial(overlayfs.remove_view, path))


def _remove(path: Path) -> None:
    remove_below(path.parent, EntryName(path.name))
