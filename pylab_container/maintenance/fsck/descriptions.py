"""Networks and volumes: the files that describe them. What a volume holds is never touched."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.errors import CorruptStore
from pylab_container.maintenance.fsck.report import Report, set_aside
from pylab_container.maintenance.fsck.salvage import salvage
from pylab_container.networks.creation import plain_document
from pylab_container.oci.ids import NetworkId, VolumeName
from pylab_container.store.reading import checked
from pylab_container.store.record_shape import NetworkShape, VolumeShape
from pylab_container.volumes.removal import lost

if TYPE_CHECKING:
    from pylab_container.engine import Engine


def check_networks(engine: Engine, report: Report) -> None:
    """Check every network's record."""
    for network_id in sorted(engine.data.networks.ids()):
        try:
            engine.data.networks.load(network_id)
        except CorruptStore as error:
            sentence = f"the network {network_id[:12]}: {error.message}; repair keeps the file, and what of it can be"
            path = engine.data.networks.path(network_id)
            report.add("network", f"{sentence} read", path, partial(_rebuild_network, engine, network_id))


def _rebuild_network(engine: Engine, network_id: NetworkId) -> None:
    """A new record with the same id; a subnet that cannot be read is chosen again."""
    path = engine.data.networks.path(network_id)
    plain = plain_document(engine.data, network_id, f"recovered_{network_id[:12]}")
    document = salvage(path, plain, lambda one: checked(one, NetworkShape), fields=plain)
    document["Id"] = network_id
    if any(one["Name"] == document["Name"] for one in engine.data.networks.all()):
        document["Name"] = plain["Name"]
    set_aside(path)
    engine.data.networks.save(document)


def check_volumes(engine: Engine, report: Report) -> None:
    """Check every volume's description, and that the unnamed volumes of containers exist."""
    for error in lost(engine.data, engine.data.records.all()):
        sentence = f"{error.message}; copy what you need out of the container, and remove it"
        report.add("volume", sentence, Path(error.path or engine.data.path))
    for name in engine.data.volumes.names():
        try:
            engine.data.volumes.get(name)
        except CorruptStore as error:
            sentence = f"the volume {name}: {error.message}; repair keeps the file, and what of it can be read"
            report.add(
                "volume",
                sentence,
                Path(error.path or engine.data.path),
                partial(_rebuild_volume, engine, name),
            )


def _rebuild_volume(engine: Engine, name: VolumeName) -> None:
    path = engine.data.path / "volumes" / name / "volume.json"
    plain = {"CreatedAt": None, "Labels": None, "Options": None}
    description = salvage(path, plain, lambda one: checked(one, VolumeShape), fields=plain)
    set_aside(path)
    engine.data.volumes.describe(name, description)
