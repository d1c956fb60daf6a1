"""What is told of a container's networks and volumes when it starts and when it has ended, as Docker tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylab_container.events import NetworkAction, VolumeMounted, VolumeUnmounted

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.store.container_store import ContainerRecord

_DRIVERS = {"host": "host", "none": "null"}  # all others are bridges


def joined(engine: Engine, record: ContainerRecord) -> None:
    """It is on its networks, and its volumes are mounted."""
    _tell_networks(engine, record, "connect")
    for mount in record.mounts:
        if mount.type == "volume":
            engine.data.emit(
                VolumeMounted(
                    mount.name,
                    container_id=record.id,
                    destination=mount.destination,
                    writable=mount.writable,
                    propagation=mount.propagation,
                )
            )


def left(engine: Engine, record: ContainerRecord) -> None:
    """It is off them again. record is that of its run."""
    _tell_networks(engine, record, "disconnect")
    for mount in record.mounts:
        if mount.type == "volume":
            engine.data.emit(VolumeUnmounted(mount.name, container_id=record.id))


def _tell_networks(engine: Engine, record: ContainerRecord, action: str) -> None:
    for name, endpoint in (record.network.get("Networks") or {}).items():
        driver = _DRIVERS.get(name, "bridge")
        engine.data.emit(NetworkAction(action, (endpoint or {}).get("NetworkID", ""), name, driver, record.id))
