"""Emit the network and volume events of a container's start and exit, as dockerd does."""

from __future__ import annotations

from pylab_container.events import Emit, NetworkAction, VolumeMounted, VolumeUnmounted
from pylab_container.store.container_store import ContainerRecord

_DRIVERS = {"host": "host", "none": "null"}  # all other networks are bridges


def emit_joined(emit: Emit, record: ContainerRecord) -> None:
    """Report that a started container has joined its networks and mounted its volumes."""
    _emit_networks(emit, record, "connect")
    for mount in record.mounts:
        if mount.type == "volume":
            emit(
                VolumeMounted(
                    mount.name,
                    container_id=record.id,
                    destination=mount.destination,
                    writable=mount.writable,
                    propagation=mount.propagation,
                )
            )


def emit_left(emit: Emit, record: ContainerRecord) -> None:
    """Report that an exited container has left its networks and volumes.

    record  as it was while the container ran
    """
    _emit_networks(emit, record, "disconnect")
    for mount in record.mounts:
        if mount.type == "volume":
            emit(VolumeUnmounted(mount.name, container_id=record.id))


def _emit_networks(emit: Emit, record: ContainerRecord, action: str) -> None:
    for name, endpoint in record.network.endpoints.items():
        driver = _DRIVERS.get(name, "bridge")
        emit(NetworkAction(action, endpoint.network_id, name, driver, record.id))
