"""fsck: does everything in a data root agree?

    images.py       every name points to an image; every image's config has its own digest,
                    and a parent that exists
    layers.py       every image has its layers; a layer's chain id follows from its diff id and
                    its parent; its record is whole; somebody needs it. Deep: its tar is rebuilt,
                    the digest is the diff id, the sizes agree, and no file is in it that is not in the tar
    directories.py  overlay2/: each layer has a directory with diff, link, lower and work; links match
                    in both directions; lower follows from the parents; no directory is nobody's
    mounts.py       every container says which directories are its own, and the layer below
    containers.py   every container has a record that can be read and a writable layer, and the other
                    way round; nothing is mounted or prepared for one that does not run
    descriptions.py networks and volumes: the files that describe them
    leftovers.py    what killed commands leave: leases, write-sets, half-written files, views of layers

A repair overwrites nothing that it did not understand: the file that it replaces is kept beside the new one as
"<name>.damaged" (report.py), and what of it is whole is taken over (salvage.py).

Repair deletes only what nothing reaches, and only what no live process is making: locks tell
(store/leases.py, store/layer_store.py). What was lost stays a finding, with the advice what to do.
Volumes are never touched. Locks are taken in the order of the whole engine: names of
containers, images, layers; a container's own lock is only tried for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylab_container.maintenance.fsck.containers import check_containers, check_halves
from pylab_container.maintenance.fsck.content import check_content
from pylab_container.maintenance.fsck.descriptions import check_networks, check_volumes
from pylab_container.maintenance.fsck.directories import Snapshot, check_directories
from pylab_container.maintenance.fsck.images import check_images
from pylab_container.maintenance.fsck.layers import check_layers
from pylab_container.maintenance.fsck.leftovers import check_abandoned, check_files
from pylab_container.maintenance.fsck.mounts import check_mounts
from pylab_container.maintenance.fsck.report import Finding, Report

if TYPE_CHECKING:
    from pylab_container.engine import Engine

__all__ = ["Finding", "check"]


def check(engine: Engine, *, repair: bool, deep: bool) -> list[Finding]:
    """Look at everything and return what is wrong; with repair, after mending what can be mended."""
    report = Report(repair=repair)
    check_abandoned(engine, report)
    with engine.data.records.lock_names(), engine.data.images_lock():
        # Directories before the records that name them: who makes a layer writes the name first.
        seen = Snapshot.take(engine.data.driver)
        configs = check_images(engine.data, report)
        check_halves(engine, report)
        check_mounts(engine.data, report)  # the layer below a container is not an orphan
        check_layers(engine.data, report, configs)
        check_directories(engine.data, report, seen)
        check_containers(engine, report)
        check_networks(engine, report)
        check_volumes(engine, report)
        check_files(engine, report)
    if deep:
        check_content(engine.data, report)
    return report.findings
