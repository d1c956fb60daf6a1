"""Freezing a container's processes while its files are read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pylab_container.containers.change_events import emit_change
from pylab_container.containers.lookup import read
from pylab_container.containers.settle import settle
from pylab_container.errors import Conflict, LabError
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.lifecycle import State
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot
from pylab_container.store.transactions import freezing


@contextlib.contextmanager
def unchanging(data: DataRoot, runtime: Runtime, container_id: ContainerId, *, pause: bool) -> Iterator[None]:
    """Lock a container while the block runs; with pause, its processes are frozen too."""
    with data.records.lock(container_id):
        settle(data, runtime, read(data.records, container_id))
        with frozen(data, runtime, container_id) if pause else contextlib.nullcontext():
            yield


@contextlib.contextmanager
def frozen(data: DataRoot, runtime: Runtime, container_id: ContainerId) -> Iterator[None]:
    """Freeze a container's processes while the block runs, if it runs, and emit the events.

    After a crash in the block the next engine thaws them (store/transactions.py).
    """
    if read(data.records, container_id).state is not State.RUNNING:
        yield
        return
    with freezing(data, container_id):
        try:
            runtime.runc.pause(container_id)
        except LabError:
            if runtime.monitor(container_id).exit_status() is None:
                raise
            yield  # it has just exited
            return
        try:
            emit_change(data.emit, "paused", read(data.records, container_id))
            yield
        finally:
            with contextlib.suppress(Conflict):  # another process froze it concurrently, and has thawed it
                runtime.runc.resume(container_id)
            emit_change(data.emit, "unpaused", read(data.records, container_id))
