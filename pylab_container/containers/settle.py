"""Settling: recording the exit of a container's process.

No daemon of ours runs beside a container, only its monitor (conmon). So its exit is recorded by the first process
that notices it: the monitor's exit command (`labctr container settle`), or any process that reads the record and
finds that the monitor has written an exit status. All of them call settled(), which also decides from the restart
policy whether the container stays exited.

Everything of one run is stored in its bundle (runtime/monitor.py), with one file of start.py:

    started.json    the record of the running container, written before its process is let go: a start that is killed
                    right after that does not leave a running container recorded as "created"
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

from msgspec.structs import replace

from pylab_container.containers import health, health_watcher, out_of_memory
from pylab_container.containers.change_events import emit_change
from pylab_container.containers.commands import exit_command, spawn
from pylab_container.containers.deletion import delete
from pylab_container.containers.lookup import no_such_container, read
from pylab_container.containers.release import release, release_resources, remove_run
from pylab_container.containers.restart_policy import delay_after_exit, ensure_restart
from pylab_container.errors import ContainerNotFound, CorruptStore
from pylab_container.events import StoreDamaged
from pylab_container.networks import attachment_events, dns_records
from pylab_container.networks.endpoint_documents import settings_after_exit
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.lifecycle import ALIVE, State, Transition, next_state
from pylab_container.runtime import Runtime
from pylab_container.runtime.log_archive import archive_log
from pylab_container.runtime.logdriver import log_limit
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.text.timestamps import rfc3339


def settled(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> ContainerRecord:
    """Return the record, corrected if its process has exited since it was written.

    Raises ContainerNotFound if the container was removed (auto_remove).
    """
    # Checked without the lock first: nearly every record is current, and the lock would serialize all readers.
    if not _is_stale(runtime, record):
        if record.state in ALIVE:
            dns_records.ensure_server(runtime, record)
            out_of_memory.report(data, runtime, record)
        return record
    if not data.records.writable:
        return _corrected(runtime, record)
    # Read again under the lock: another process may have settled, started or removed the container in the meantime.
    with data.records.lock(record.id):
        return settle(data, runtime, read(data.records, record.id))


def read_settled(data: DataRoot, runtime: Runtime, container_id: ContainerId) -> ContainerRecord:
    """Return the settled record of an id. Raises ContainerNotFound."""
    return settled(data, runtime, read(data.records, container_id))


def all_settled(data: DataRoot, runtime: Runtime) -> Iterator[ContainerRecord]:
    """Yield the settled record of each container; report a damaged record (StoreDamaged) and leave it out."""
    for record in data.records.all():
        try:
            yield settled(data, runtime, record)
        except ContainerNotFound:
            continue
        except CorruptStore as error:
            if data.records.exists(record.id):  # else it was read while it was removed
                data.emit(StoreDamaged.of(error))


def _corrected(runtime: Runtime, record: ContainerRecord) -> ContainerRecord:
    """The record after the exit of its process, without writing it: the disk is read-only."""
    if record.state not in ALIVE or (status := runtime.monitor(record.id).exit_status()) is None:
        return record
    state = next_state(record.state, Transition.EXIT, container=record.name)
    return replace(record, state=state, pid=0, exit_code=status, network=settings_after_exit(record.network))


def _is_stale(runtime: Runtime, record: ContainerRecord) -> bool:
    """Whether settle() may have work to do: an exit, a killed health watcher, a killed start, or a restart."""
    if record.state in ALIVE:
        return runtime.monitor(record.id).exit_status() is not None or health_watcher.is_unwatched(runtime, record)
    # A bundle without a running record belongs to a start. It holds the lock while it lives, so settle() waits for it;
    # if it was killed, the kernel has released its lock (flock(2)).
    return record.state is State.RESTARTING or runtime.bundle(record.id).exists()


def settle(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> ContainerRecord:
    """Record the exit of a container's process, if it has exited, and release its run. The caller holds the lock.

    Also repairs what killed processes have left: a start, a scheduled restart, a health watcher. Raises
    ContainerNotFound if the exit removed the container (auto_remove).
    """
    if record.state not in ALIVE and runtime.bundle(record.id).exists():
        record = _after_killed_start(data, runtime, record)
    if record.state is State.RESTARTING:
        ensure_restart(data, runtime, record)
    if record.state not in ALIVE:
        return record
    monitor = runtime.monitor(record.id)
    status = monitor.exit_status()
    if status is None:
        if health_watcher.is_unwatched(runtime, record):
            health_watcher.start_watcher(data, runtime, record)
        return record
    monitor_wrote_status = monitor.exit_file.exists()
    out_of_memory.report(data, runtime, record)
    exited = _exited(data, runtime, record, status, out_of_memory=monitor.out_of_memory())
    # Emitted before the record is written: a process that reads the new record without the lock emits the next events
    # ("stopped", "restarted"), which must come later.
    emit_change(data.emit, "exited", record, f"status {status}")
    attachment_events.emit_left(data.emit, record)
    data.records.save(exited)
    # After the record has the exit status: a crash in between must not lose it.
    remove_run(runtime, record.id)
    if record.host_config.auto_remove:
        delete(data, exited, volumes=True)
        raise no_such_container(record.short_id)
    if exited.state is State.RESTARTING and not monitor_wrote_status:
        # The monitor was killed, or the host crashed: no exit command will run, which would restart the container.
        spawn(exit_command(data, record.id))
    return exited


def _exited(
    data: DataRoot, runtime: Runtime, record: ContainerRecord, status: int, *, out_of_memory: bool
) -> ContainerRecord:
    """Release the resources of the run and archive its log; return the record after the exit."""
    now = time.time_ns()
    delay = delay_after_exit(record, status, now=now)
    release_resources(data, runtime, record)
    if not record.host_config.auto_remove:  # else the caller deletes the container with its log
        limit = log_limit(record.host_config.log_config)
        archive_log(data.records.run_log(record.id), data.records.log(record.id), limit=limit)
    return replace(
        record,
        state=next_state(record.state, Transition.EXIT if delay is None else Transition.RETRY, container=record.name),
        pid=0,
        network=settings_after_exit(record.network),
        exit_code=status,
        oom_killed=out_of_memory,
        finished_at=rfc3339(now),
        health=health.stopped(record.health),
        restart_delay=delay or 0,
    )


def _after_killed_start(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> ContainerRecord:
    """Complete a start that was killed after `runc start`; roll back one that was killed before.

    Returns the record: running, or unchanged.
    """
    intent_path = runtime.bundle(record.id) / "started.json"
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        intent = json.loads(intent_path.read_bytes())
        running = data.records.parse(intent["config"], HostConfig.parse(intent["host_config"]))
        state = runtime.runc.state(record.id) or {}
        # In the state "created" the program has not been executed (OCI runtime.md, "State"), so the start is rolled
        # back. In the state "stopped" it has exited, which settle() records next.
        if state.get("status") in ("running", "paused", "stopped"):
            data.records.save(running)
            intent_path.unlink()
            attachment_events.emit_joined(data.emit, running)
            emit_change(data.emit, "started", running, "its starter was killed")
            health_watcher.start_watcher(data, runtime, running)
            return running
    runtime.conmon.abandon(runtime.monitor(record.id))
    release(data, runtime, record)
    return record
