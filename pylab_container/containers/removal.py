"""Removing containers, running or not."""

from __future__ import annotations

import contextlib

from pylab_container.containers.deletion import delete
from pylab_container.containers.lookup import read
from pylab_container.containers.settle import read_settled, settle
from pylab_container.containers.signals import kill_for_certain
from pylab_container.errors import ContainerNotFound
from pylab_container.host.removal import discard_below
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.lifecycle import ALIVE, State, Transition, next_state
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot


def remove(
    data: DataRoot, runtime: Runtime, container_id: ContainerId, *, force: bool = False, volumes: bool = False
) -> None:
    """Remove a container with its writable layer.

    force    kill it first; also remove it if the record of its layer is damaged
    volumes  also remove its anonymous volumes

    Raises Conflict if it runs, ContainerNotFound, CorruptStore.
    """
    while not _try_to_remove(data, runtime, container_id, force=force, volumes=volumes):
        pass  # another process started it between the kill and the lock


def _try_to_remove(data: DataRoot, runtime: Runtime, container_id: ContainerId, *, force: bool, volumes: bool) -> bool:
    """Remove a container; False if another process has started it again in between."""
    # Without the lock, which kill_for_certain() takes itself: a second flock(2) of this process would wait for its own.
    try:
        record = read_settled(data, runtime, container_id)
        if force and record.state in (*ALIVE, State.RESTARTING):
            kill_for_certain(data, runtime, record)
    except ContainerNotFound:
        # The exit has removed it (auto_remove), which is what the caller of a forced removal wants.
        if data.records.load(container_id) is None and not force:
            raise
    with data.records.lock(container_id):
        try:
            record = settle(data, runtime, read(data.records, container_id))
        except ContainerNotFound:
            return True  # its exit removed it (auto_remove)
        if force and record.state in (*ALIVE, State.RESTARTING):
            return False
        next_state(record.state, Transition.REMOVE, container=record.name, container_id=record.id)
        delete(data, record, volumes=volumes, force=force)
    return True


def discard(data: DataRoot, runtime: Runtime, container_id: ContainerId) -> None:
    """Remove a temporary container, running or not, with the secrets of its build step. Idempotent."""
    with contextlib.suppress(ContainerNotFound):
        remove(data, runtime, container_id, force=True, volumes=True)
    # The layer of a container whose creation was not completed: it has no record, so remove() did not find it.
    data.layers.remove_writable(container_id)
    secrets = runtime.secrets(container_id)
    if secrets.exists():
        discard_below(secrets.parent, container_id)
