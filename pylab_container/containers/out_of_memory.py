"""The event of a container that reached its memory limit.

The monitor creates the file oom in the bundle. No process of ours waits for it, so readers of the record and of the
event log look for it. A container may run on after it, if the kernel killed another process than the first.
"""

from __future__ import annotations

from pylab_container.containers.change_events import emit_change
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot


def report(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> None:
    """Emit the event if a container has reached its memory limit since the last report."""
    monitor = runtime.monitor(record.id)
    if monitor.ran_out_of_memory() and monitor.mark_out_of_memory():
        emit_change(data.emit, "oom", record)


def report_all(data: DataRoot, runtime: Runtime) -> None:
    """Emit the event of each container that has reached its memory limit since the last report."""
    for path in runtime.path.glob("*/oom"):
        if (record := data.records.load(path.parent.name)) is not None:
            report(data, runtime, record)
