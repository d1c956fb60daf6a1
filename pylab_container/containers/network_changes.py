"""Connect a container to a network, or disconnect it, under the container's lock; emit the event."""

from __future__ import annotations

from pylab_container.containers.lookup import read
from pylab_container.containers.settle import settle
from pylab_container.networks import attachment
from pylab_container.networks.creation import emit_action
from pylab_container.networks.network_record import NetworkRecord
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.network_settings import EndpointSettings
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot


def connect(
    data: DataRoot, runtime: Runtime, network: NetworkRecord, container_id: ContainerId, request: EndpointSettings
) -> None:
    """Connect a container to a network and emit the event. Raises what attachment.connect() raises."""
    with data.records.lock(container_id):
        record = settle(data, runtime, read(data.records, container_id))
        attachment.connect(data, runtime, network, record, request)
    emit_action(data, network, "connect", container_id)


def disconnect(
    data: DataRoot, runtime: Runtime, network: NetworkRecord, container_id: ContainerId, *, force: bool
) -> None:
    """Disconnect a container from a network and emit the event. Raises what attachment.disconnect() raises.

    force  no error if it is not connected; the event is emitted in this case, too
    """
    with data.records.lock(container_id):
        record = settle(data, runtime, read(data.records, container_id))
        attachment.disconnect(data, runtime, network, record, force=force)
    emit_action(data, network, "disconnect", container_id)
