"""Changing the limits of a container, running or not."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from pylab_container.containers import limits
from pylab_container.containers.change_events import emit_change
from pylab_container.containers.lookup import read
from pylab_container.containers.settle import settle
from pylab_container.oci import bundle
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.lifecycle import ALIVE, Transition, next_state
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot


def update(
    data: DataRoot, runtime: Runtime, container_id: ContainerId, change: Callable[[ContainerRecord], HostConfig]
) -> None:
    """Record another HostConfig, and set its limits in the cgroup of a running container.

    change  returns the new HostConfig for a settled record; an error that it raises leaves the container as it is

    Raises Conflict, RuntimeFailed.
    """
    with data.records.lock(container_id):
        record = settle(data, runtime, read(data.records, container_id))
        next_state(record.state, Transition.UPDATE, container=record.name, container_id=record.id)
        host_config = change(record)
        if record.state in ALIVE and host_config != record.host_config:
            # runc does not change a limit that is missing, so "no limit" is passed as -1.
            limited = replace(host_config, pids_limit=host_config.pids_limit or -1)
            runtime.runc.update(container_id, bundle.cgroup_limits(limits.bundle_limits(limited)))
        updated = data.records.update(record, host_config=host_config)
    emit_change(data.emit, "updated", updated)
