"""The streams of a running container: the size of its terminal, and the events of its clients."""

from __future__ import annotations

from pylab_container.containers.change_events import emit_change
from pylab_container.containers.lookup import read
from pylab_container.oci.ids import ContainerId
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot


def resize(data: DataRoot, runtime: Runtime, container_id: ContainerId, *, rows: int, columns: int) -> None:
    """Set the size of a container's terminal and emit the event."""
    runtime.monitor(container_id).resize(rows=rows, columns=columns)
    size = {"height": str(rows), "width": str(columns)}
    emit_change(data.emit, "resized", read(data.records, container_id), attributes=size)


def emit_client(data: DataRoot, container_id: ContainerId, action: str) -> None:
    """Emit the event of a client of a container. action: attached, or detached after the detach keys."""
    emit_change(data.emit, action, read(data.records, container_id))
