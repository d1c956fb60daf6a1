"""Starting a container: from its record to a process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from pylab_container.containers import health, health_watcher, launch, lookup, remap, rootfs, sandbox
from pylab_container.containers.change_events import emit_change
from pylab_container.containers.commands import exit_command
from pylab_container.containers.release import release
from pylab_container.containers.restart_policy import has_restart_policy
from pylab_container.containers.settle import settle, settled
from pylab_container.errors import LabError
from pylab_container.host.extras import require
from pylab_container.networks import attachment_events, dns_records, endpoints, links
from pylab_container.networks.container_files import write_network_files
from pylab_container.networks.links import LinkedContainer
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.lifecycle import State, Transition, after
from pylab_container.oci.network_settings import NetworkSettings
from pylab_container.runtime import Runtime
from pylab_container.runtime.logdriver import log_size, require_driver
from pylab_container.runtime.monitor import Attachment, Monitor
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.text.timestamps import rfc3339
from pylab_container.volumes import mounting as volume_mounting


def start(
    data: DataRoot,
    runtime: Runtime,
    container_id: ContainerId,
    *,
    exit_hook: bool,
    clients: int = 0,
    restarting: bool = False,
) -> Attachment | None:
    """Prepare the container → connect the clients → let its process go → record it.

    A failure rolls back.

    exit_hook   the monitor records the exit; else the caller does, and the monitor only if the caller was killed
    clients     number of clients to connect before the process runs; the connection is returned, None without one
    restarting  the restart policy starts it; nothing happens if the container was started or stopped in between

    Raises Conflict if its state forbids it, LabError if the machine refuses.
    """
    with data.records.lock(container_id):
        record = settle(data, runtime, lookup.read(data.records, container_id))
        if restarting and record.state is not State.RESTARTING:
            return None
        after(record.state, Transition.START, container=record.name, container_id=container_id)
        if endpoints.has_bridges(record):
            require("run")  # checked now: without the libraries the start could not be rolled back either
        attachment: Attachment | None = None
        try:
            # Before this container has a bundle: another start that settles this record would wait for our lock, and we
            # would wait for its lock.
            linked = links.running_linked(data.records, record, partial(settled, data, runtime))
            joined = sandbox.joined_containers(record, partial(_find_other, data, runtime, record))
            root = _prepare_files(data, runtime, record)
            hook = exit_hook or has_restart_policy(record)
            monitor = _create_process(data, runtime, record, root, joined=joined, linked=linked, exit_hook=hook)
            network = endpoints.connect_all(data, runtime, record, monitor.container_pid, linked)
            running = _running_record(record, monitor.container_pid, network, restarting=restarting)
            _write_intent(data, runtime, running)
            if clients:
                attachment = _attach(data, record, monitor, clients)
            runtime.runc.start(container_id)
        except BaseException as error:
            if attachment:
                attachment.close()
            _roll_back(data, runtime, record, error)
            raise
        _record_start(data, runtime, running)
    return attachment


def _find_other(data: DataRoot, runtime: Runtime, record: ContainerRecord, name: str) -> ContainerRecord:
    """Look up another container and settle it.

    The container's own record is settled, and its lock is held.
    """
    other = lookup.find(data.records, name)
    return record if other.id == record.id else settled(data, runtime, other)


def _prepare_files(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> Path:
    """Create the bundle directory, mount the layers and the volumes, write the files of /etc.

    Return the root.
    """
    require_driver(record.host_config.log_config)
    # Before anything is mounted: the next reader of the record releases a run with a bundle if we are killed.
    runtime.bundle(record.id).mkdir(parents=True, exist_ok=True, mode=0o700)
    root = remap.mount_root(data, record)
    write_network_files(data, record)
    mounted = volume_mounting.mount(data, record)
    rootfs.fill_volumes(record, root, mounted=mounted)
    return root


def _create_process(
    data: DataRoot,
    runtime: Runtime,
    record: ContainerRecord,
    root: Path,
    *,
    joined: Mapping[str, ContainerRecord],
    linked: Sequence[LinkedContainer],
    exit_hook: bool,
) -> Monitor:
    """Write the bundle, and let runc create the container's process, which waits for runc start."""
    log = record.host_config.log_config
    bundle = launch.write_bundle(data, runtime, record, root, joined=joined, linked=linked)
    if endpoints.has_bridges(record):
        dns_records.prepare(runtime, record)
        runtime.prepare_network()  # in a thread, while this one waits for runc
    return runtime.conmon.create(
        record.id,
        bundle=bundle,
        log=None if log.type == "none" else data.records.run_log(record.id),
        log_size=log_size(log),
        terminal=record.config.tty,
        stdin_open=record.config.open_stdin,
        # Closing a terminal's input would close its output too, so it stays open.
        stdin_once=record.config.stdin_once and not record.config.tty,
        exit_directory=runtime.exits,
        exit_command=exit_command(data, record.id, unless=0 if exit_hook else os.getpid()),
    )


def _running_record(
    record: ContainerRecord, pid: int, network: NetworkSettings, *, restarting: bool
) -> ContainerRecord:
    """The record of the container once its process runs."""
    is_checked = health.effective(record.config.healthcheck) is not None
    return replace(
        record,
        state=State.RUNNING,
        pid=pid,
        network=network,
        error="",
        exit_code=0,
        oom_killed=False,
        started_at=rfc3339(time.time_ns()),
        health=health.starting() if is_checked else None,
        restart_count=record.restart_count + 1 if restarting else 0,
        restart_delay=record.restart_delay if restarting else 0,
        manually_stopped=False,
    )


def _write_intent(data: DataRoot, runtime: Runtime, running: ContainerRecord) -> None:
    """Write started.json (settle.py): a crash after runc start loses no container."""
    config = running.document(data.records.directory(running.id))
    intent = {"config": config, "host_config": running.host_config.document()}
    (runtime.bundle(running.id) / "started.json").write_text(json.dumps(intent))


def _attach(data: DataRoot, record: ContainerRecord, monitor: Monitor, clients: int) -> Attachment:
    attachment = monitor.attach()
    for _ in range(clients):
        emit_change(data.emit, "attached", record)
    return attachment


def _roll_back(data: DataRoot, runtime: Runtime, record: ContainerRecord, error: BaseException) -> None:
    """Restore the container after a failed start, with the error recorded.

    No restart policy tries again.
    """
    release(data, runtime, record)
    if isinstance(error, LabError):
        state = State.EXITED if record.state is State.RESTARTING else record.state
        data.records.update(record, state=state, error=error.message, exit_code=error.exit_code)


def _record_start(data: DataRoot, runtime: Runtime, running: ContainerRecord) -> None:
    """Record that the container runs and emit the events. The caller still holds the lock.

    The process may have exited already. The lock delays the process that records the exit, so its events come later.
    """
    data.records.save(running)
    (runtime.bundle(running.id) / "started.json").unlink(missing_ok=True)
    attachment_events.emit_joined(data.emit, running)
    emit_change(data.emit, "started", running)
    health_watcher.start_watcher(data, runtime, running)
