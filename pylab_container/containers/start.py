"""Starting a container: from its record to a process.

settle.py is the counterpart: it records the exit, and completes or rolls back a start whose process was killed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from pylab_container.containers import health, health_watcher, launch, lookup, namespaces, remap, rootfs
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
from pylab_container.oci.lifecycle import State, Transition, next_state
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
    """Start a container: files → process that waits → network → clients → `runc start` → record.

    A failure rolls everything back.

    exit_hook   True: the monitor records the exit. False: the caller does, and the monitor only if the caller was
                killed. A restart policy implies True, because the exit command also restarts the container.
    clients     number of clients to connect before the process runs. They share the returned connection; None for 0.
    restarting  the restart policy starts it. Nothing happens if the container was started or stopped in between.

    Raises Conflict if its state forbids a start, LabError if the machine cannot run it.
    """
    with data.records.lock(container_id):
        record = settle(data, runtime, lookup.read(data.records, container_id))
        if restarting and record.state is not State.RESTARTING:
            return None
        next_state(record.state, Transition.START, container=record.name, container_id=container_id)  # raises Conflict
        if endpoints.has_bridges(record):
            require("run")  # checked now: without the libraries the start could not be rolled back either
        attachment: Attachment | None = None
        try:
            # Both settle other containers, which takes their locks. Once this container has a bundle, a start of one
            # of them settles this record in turn and waits for our lock: a deadlock. So _prepare_files() comes later.
            linked = links.running_linked(data.records, record, partial(settled, data, runtime))
            joined = namespaces.joined_containers(record, partial(_find_other, data, runtime, record))
            root = _prepare_files(data, runtime, record)
            hook = exit_hook or has_restart_policy(record)
            monitor = _create_process(data, runtime, record, root, joined=joined, linked=linked, exit_hook=hook)
            # Between create and start (OCI runtime.md, "Lifecycle"): the interfaces need a network namespace, which the
            # waiting process holds, and the program must not run before it has an address.
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
    """Return the settled record of a container whose namespace this one joins. Raises ContainerNotFound."""
    other = lookup.find(data.records, name)
    # The own record is settled already. Its lock is held, and a second flock(2) of this process would wait for itself.
    return record if other.id == record.id else settled(data, runtime, other)


def _prepare_files(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> Path:
    """Create the bundle directory, mount the layers and the volumes, write the files of /etc; return the root."""
    require_driver(record.host_config.log_config)
    # Created before anything is mounted. If this process is killed, the bundle shows the next reader of the record that
    # a start was not completed, and settle() releases what it had mounted.
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
    """Write the bundle and create the container's process, which waits for `runc start` before it runs the program."""
    log = record.host_config.log_config
    bundle = launch.write_bundle(data, runtime, record, root, joined=joined, linked=linked)
    if endpoints.has_bridges(record):
        dns_records.prepare(runtime, record)
        runtime.prepare_network()  # imports pyroute2 in a thread, while this one waits for runc
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
    # A start by a user resets what the restart policy counts (moby, daemon/start.go, ResetRestartManager()).
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
    """Write started.json before `runc start`, so that a crash after it does not lose the running container."""
    # Neither atomic nor flushed. A truncated file fails to parse, and settle() rolls the start back, which is right:
    # the program has not run. /run is a tmpfs, so after a crash of the host neither the file nor the process exists.
    config = running.document(data.records.directory(running.id))
    intent = {"config": config, "host_config": running.host_config.document()}
    (runtime.bundle(running.id) / "started.json").write_text(json.dumps(intent))


def _attach(data: DataRoot, record: ContainerRecord, monitor: Monitor, clients: int) -> Attachment:
    """Connect to the streams, and emit one event per client. Before `runc start`, no output is missed."""
    attachment = monitor.attach()
    for _ in range(clients):
        emit_change(data.emit, "attached", record)
    return attachment


def _roll_back(data: DataRoot, runtime: Runtime, record: ContainerRecord, error: BaseException) -> None:
    """Release what a failed start has prepared, and record the error."""
    release(data, runtime, record)
    # A failed restart ends the restart policy: the container has exited (moby, daemon/monitor.go, handleContainerExit).
    # Any other exception, such as KeyboardInterrupt, is not an error of the container and leaves its record unchanged.
    if isinstance(error, LabError):
        state = State.EXITED if record.state is State.RESTARTING else record.state
        data.records.update(record, state=state, error=error.message, exit_code=error.exit_code)


def _record_start(data: DataRoot, runtime: Runtime, running: ContainerRecord) -> None:
    """Record that the container runs and emit the events. The caller still holds the lock.

    The process may have exited already. The lock delays the process that records the exit, so its events come later.
    """
    data.records.save(running)
    # After the record: a crash between the two leaves a file that settle() ignores, because the record says running.
    # Removed first, it would leave a process that runs and a record that says "created".
    (runtime.bundle(running.id) / "started.json").unlink(missing_ok=True)
    attachment_events.emit_joined(data.emit, running)
    emit_change(data.emit, "started", running)
    health_watcher.start_watcher(data, runtime, running)
