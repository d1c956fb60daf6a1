"""Networks and volumes: the files that describe them.

The files in a volume are never changed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pylab_container.errors import CorruptStore
from pylab_container.maintenance.fsck.report import Report, set_aside
from pylab_container.maintenance.fsck.salvage import salvage
from pylab_container.networks import creation
from pylab_container.oci.ids import NetworkId, VolumeName
from pylab_container.store.data_root import DataRoot
from pylab_container.store.reading import checked
from pylab_container.store.record_shape import NetworkShape, VolumeShape
from pylab_container.volumes import removal


def check_networks(data: DataRoot, report: Report) -> None:
    """Check every network's record."""
    for network_id in sorted(data.networks.ids()):
        try:
            data.networks.load(network_id)
        except CorruptStore as error:
            sentence = f"the network {network_id[:12]}: {error.message}; repair keeps the file, and each intact field"
            fix = partial(_rebuild_network, data, network_id)
            report.add("network", sentence, data.networks.path(network_id), fix)


def _rebuild_network(data: DataRoot, network_id: NetworkId) -> None:
    """Write a new record with the same id. A damaged subnet is replaced by one that no network uses."""
    path = data.networks.path(network_id)
    plain = creation.replacement_document(data, network_id, f"recovered_{network_id[:12]}")
    document = salvage(path, plain, lambda candidate: checked(candidate, NetworkShape), fields=plain)
    document["Id"] = network_id
    if any(other["Name"] == document["Name"] for other in data.networks.all()):
        document["Name"] = plain["Name"]
    set_aside(path)
    data.networks.save(document)


def check_volumes(data: DataRoot, report: Report) -> None:
    """Check every volume's description, and that the anonymous volumes of containers exist."""
    for error in removal.lost_volume_errors(data, data.records.all()):
        sentence = f"{error.message}; copy what you need out of the container, and remove it"
        report.add("volume", sentence, Path(error.path or data.path))
    for name in data.volumes.names():
        try:
            data.volumes.get(name)
        except CorruptStore as error:
            sentence = f"the volume {name}: {error.message}; repair keeps the file, and each intact field"
            report.add("volume", sentence, Path(error.path or data.path), partial(_rebuild_volume, data, name))


def _rebuild_volume(data: DataRoot, name: VolumeName) -> None:
    path = data.volumes.root / name / "volume.json"
    plain = {"CreatedAt": None, "Labels": None, "Options": None}
    description = salvage(path, plain, lambda candidate: checked(candidate, VolumeShape), fields=plain)
    set_aside(path)
    data.volumes.describe(name, description)
