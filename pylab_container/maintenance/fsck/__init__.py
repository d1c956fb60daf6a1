"""fsck: check that the files of a data root are consistent, and repair them.

    images.py       each name points to an image; each config has the digest that names it; each parent exists
    layers.py       each image has its layers; a chain id follows from the diff id and the parent; the record is
                    complete; an object needs the layer
    content.py      deep: each layer's tar can be rebuilt, and its digest, size and files agree with the record
    directories.py  overlay2/: each layer has a directory with diff, link, lower and work; links match in both
                    directions; lower follows from the parents; each directory has an owner
    mounts.py       each container's record names its directories, and the layer below them
    containers.py   each container has a readable record and a writable layer, and each writable layer a container;
                    nothing is mounted or prepared for a container that does not run
    descriptions.py networks and volumes: the files that describe them
    leftovers.py    what killed processes left: leases, write-sets, temporary files, views of layers

A repair keeps each file that it replaces as "<name>.damaged" beside the new one (report.py), and copies every intact
field of it (salvage.py). It deletes only what no object reaches and no live process is creating; locks show that
(store/leases.py, store/layer_store.py). Damage that cannot be repaired is reported with advice. The files in volumes
are never changed.

Locks are taken in the order that the whole engine uses: names of containers, images, layers. A container's own lock is
taken only if it is free.
"""

from __future__ import annotations

from pylab_container.maintenance.fsck.containers import check_containers, check_incomplete
from pylab_container.maintenance.fsck.content import check_content
from pylab_container.maintenance.fsck.descriptions import check_networks, check_volumes
from pylab_container.maintenance.fsck.directories import Snapshot, check_directories
from pylab_container.maintenance.fsck.images import check_images
from pylab_container.maintenance.fsck.layers import check_layers
from pylab_container.maintenance.fsck.leftovers import check_abandoned, check_files
from pylab_container.maintenance.fsck.mounts import check_mounts
from pylab_container.maintenance.fsck.report import Finding, Report
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot

__all__ = ["Finding", "check"]


def check(data: DataRoot, runtime: Runtime, *, repair: bool, deep: bool) -> list[Finding]:
    """Check a data root and return the findings.

    repair  also repair what can be repaired without loss
    deep    also rebuild every layer's tar
    """
    report = Report(repair=repair)
    check_abandoned(data, runtime, report)
    with data.records.lock_names(), data.images_lock():
        # The directories are listed before the records are read: a new layer's record is written before its directory.
        snapshot = Snapshot.take(data.driver)
        configs = check_images(data, report)
        check_incomplete(data, runtime, report)
        check_mounts(data, report)  # before the layers: the layer below a container is not an orphan
        check_layers(data, report, configs)
        check_directories(data, report, snapshot)
        check_containers(data, runtime, report)
        check_networks(data, report)
        check_volumes(data, report)
        check_files(data, report)
    if deep:
        check_content(data, report)
    return report.findings
