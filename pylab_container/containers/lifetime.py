"""How a container comes to run, how its end is noticed, and how it goes.

Nothing of ours runs beside a container but its monitor (conmon). So its end is written down by
whoever sees it first: the monitor's exit command (`labctr container settle`), or anybody who reads the
record and finds that the monitor is gone. All of them come through settled(), which also decides,
by the restart policy, whether the end is one.

What belongs to one run lies in /run/pylab-container/…/<id>/ (see runtime/conmon.py), and besides
    started.json    the record as it shall be once the process runs: written before it is let go, so
                    that a starter killed right after that does not leave a running container "created"
    shm/            the /dev/shm of --ipc shareable, mounted
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pylab_container.containers import health, launch, remap
from pylab_container.errors import Conflict, ContainerNotFound, CorruptStore, LabError
from pylab_container.events import ContainerChanged, StoreDamaged
from pylab_container.host import programs
from pylab_container.host.background import Background
from pylab_container.host.extras import require
from pylab_container.host.files import try_locked
from pylab_container.host.removal import discard_below
from pylab_container.maintenance import failures
from pylab_container.networks import attachment_events, dns_records, endpoints
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.ids import ContainerId, EntryName
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import ALIVE, State, Transition, after, restart_delay
from pylab_container.oci.network_settings import NetworkSettings
from pylab_container.runtime.log_archive import archive_log
from pylab_container.runtime.logdriver import log_limit, log_size, require_driver
from pylab_container.runtime.monitor import Attachment, Monitor
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.transactions import changing, making
from pylab_container.text.timestamps import parse_rfc3339, rfc3339
from pylab_container.volumes import mounting as volume_mounts

if TYPE_CHECKING:
    from pylab_container.engine import Engine

_OVERDUE = 5.0  # seconds after which a restart that did not happen, or a check that nobody does, is nobody's business
_GRACE = 10.0  # seconds that a killed process gets to be gone


def no_such_container(name: str) -> ContainerNotFound:
    """The error of who names a container that there is not."""
    return ContainerNotFound(f"No such container: {name}", hint="labctr ps -a lists what there is")


def read(engine: Engine, container_id: str) -> ContainerRecord:
    """The record as it was last written. Raises ContainerNotFound."""
    record = engine.data.records.load(container_id)
    if record is None:
        raise no_such_container(container_id[:12])
    return record


def bundle_directory(engine: Engine, container_id: str) -> Path:
    """Where what belongs to one run of a container lies."""
    return engine.runtime.path / container_id


def monitor(engine: Engine, container_id: str) -> Monitor:
    """The container's monitor, running or not."""
    return Monitor(
        container_id, bundle=bundle_directory(engine, container_id), exit_directory=engine.runtime.path / "exits"
    )


def tell(
    engine: Engine,
    action: str,
    record: ContainerRecord,
    detail: str = "",
    *,
    attributes: Mapping[str, str] | None = None,
) -> None:
    """Say on the engine's stream of events what happened to a container; attributes are what Docker adds to its own."""
    labels = tuple(record.config.labels.items())
    image = str(record.config.image or record.image)
    more = tuple((attributes or {}).items())
    engine.data.emit(
        ContainerChanged(action, record.id, record.name, detail, image=image, labels=labels, attributes=more)
    )


# ---- the start -------------------------------------------------------------------------------


def start(
    engine: Engine, container_id: ContainerId, *, exit_hook: bool, clients: int = 0, restarting: bool = False
) -> Attachment | None:
    """mount the layers → write the bundle → create → connect → start, or all of it undone.

    exit_hook    let the monitor note the end; else whoever is attached does, unless he is killed before
    clients      for how many its streams are connected before it runs; the connection is returned, None for nobody
    restarting   the policy starts it, if it still is to be

    Raises Conflict where its state forbids it, LabError where the machine refuses.
    """
    with engine.data.records.lock(container_id):
        record = settle(engine, read(engine, container_id))
        if restarting and record.state is not State.RESTARTING:
            return None
        after(record.state, Transition.START, container=record.name, container_id=container_id)
        if endpoints.has_bridges(record):
            require("run")  # or undoing the start would miss the libraries, too
        attachment: Attachment | None = None
        hooked = exit_hook or record.host_config.restart_policy.name != "no"
        try:
            running = _prepare(engine, record, exit_hook=hooked, restarting=restarting)
            if clients:
                attachment = monitor(engine, container_id).attach()
            for _ in range(clients):
                tell(engine, "attached", record)
            engine.runtime.runc.start(container_id)
        except BaseException as error:
            if attachment:
                attachment.close()
            _undo(engine, record, error)
            failures.explain(error, engine.data.path)
            raise
        engine.data.records.save(running)
        (bundle_directory(engine, container_id) / "started.json").unlink(missing_ok=True)
        # Still under the lock: it may have ended by now, and whoever notes that tells it later, and clears the bundle.
        attachment_events.joined(engine, running)
        tell(engine, "started", record)
        _watch_health(engine, running)
    return attachment


def _prepare(engine: Engine, record: ContainerRecord, *, exit_hook: bool, restarting: bool) -> ContainerRecord:
    """All that comes before the process is let go; the record as it is after that."""
    require_driver(record.host_config.log_config)
    root = remap.mount_root(engine, record)
    launch.write_network_files(engine, record)
    fresh = volume_mounts.mount(engine, record)
    launch.fill_volumes(record, root, mounted=fresh)
    made = _create_process(engine, record, root, exit_hook=exit_hook)
    network = endpoints.connect_all(engine, record, made.container_pid)
    checked = health.effective(record.config.healthcheck) is not None
    running = replace(
        record,
        state=State.RUNNING,
        pid=made.container_pid,
        network=network,
        error="",
        exit_code=0,
        oom_killed=False,
        started_at=rfc3339(time.time_ns()),
        health=health.starting() if checked else None,
        restart_count=record.restart_count + 1 if restarting else 0,
        restart_delay=record.restart_delay if restarting else 0,
        manually_stopped=False,
    )
    directory = engine.data.records.directory(record.id)
    intent = {"config": running.document(directory), "host_config": running.host_config.document()}
    (bundle_directory(engine, record.id) / "started.json").write_text(json.dumps(intent))
    return running


def _undo(engine: Engine, record: ContainerRecord, error: BaseException) -> None:
    """A start that failed: the container is as it was before, with the error noted; no policy tries again."""
    release(engine, record)
    if isinstance(error, LabError):
        state = State.EXITED if record.state is State.RESTARTING else record.state
        engine.data.records.update(record, state=state, error=error.message, exit_code=error.exit_code)


def _create_process(engine: Engine, record: ContainerRecord, root: Path, *, exit_hook: bool) -> Monitor:
    log = record.host_config.log_config
    bundle = launch.write_bundle(engine, record, root)
    if endpoints.has_bridges(record):
        dns_records.prepare(engine, record)
        engine.runtime.prepare_network()  # while the runtime works and this thread waits for it
    return engine.runtime.conmon.create(
        record.id,
        bundle=bundle,
        log=None if log.type == "none" else engine.data.records.run_log(record.id),
        log_size=log_size(log),
        terminal=record.config.tty,
        stdin_open=record.config.open_stdin,
        # Closing a terminal's input would close its output too, so that one stays open.
        stdin_once=record.config.stdin_once and not record.config.tty,
        exit_directory=engine.runtime.path / "exits",
        exit_command=engine.containers.exit_command(record.id, unless=0 if exit_hook else os.getpid()),
    )


# ---- the end ---------------------------------------------------------------------------------


def settled(engine: Engine, record: ContainerRecord) -> ContainerRecord:
    """The record, corrected if its process has ended since it was written. Raises ContainerNotFound."""
    if not _is_stale(engine, record):
        if record.state in ALIVE:
            dns_records.keep(engine, record)
            _report_out_of_memory(engine, record)
        return record
    if not engine.data.records.writable:
        return _as_it_is(engine, record)
    with engine.data.records.lock(record.id):
        return settle(engine, read(engine, record.id))


def _as_it_is(engine: Engine, record: ContainerRecord) -> ContainerRecord:
    """The record as it would be corrected, where nothing can be recorded: readers of a read-only disk get the truth."""
    if record.state not in ALIVE or (status := monitor(engine, record.id).exit_status()) is None:
        return record
    state = after(record.state, Transition.EXIT, container=record.name)
    return replace(record, state=state, pid=0, exit_code=status, network=_at_rest(record))


def report_out_of_memory(engine: Engine) -> None:
    """Emit the event of each container that has reached its memory limit since the last one, and may run on.

    Nothing waits for that file beside a container; a process that follows the events looks for it.
    """
    for path in engine.runtime.path.glob("*/oom"):
        if (record := engine.data.records.load(path.parent.name)) is not None:
            _report_out_of_memory(engine, record)


def _report_out_of_memory(engine: Engine, record: ContainerRecord) -> None:
    its_monitor = monitor(engine, record.id)
    if its_monitor.ran_out_of_memory() and its_monitor.mark_out_of_memory():
        tell(engine, "oom", record)


def _is_stale(engine: Engine, record: ContainerRecord) -> bool:
    if record.state in ALIVE:
        return monitor(engine, record.id).exit_status() is not None or _is_unwatched(engine, record)
    return record.state is State.RESTARTING or bundle_directory(engine, record.id).exists()


def settle(engine: Engine, record: ContainerRecord) -> ContainerRecord:
    """Under the lock: note the end of a process, and give back what it used.

    Raises ContainerNotFound where the container wanted to be removed then.
    """
    if record.state not in ALIVE and bundle_directory(engine, record.id).exists():
        record = _after_killed_starter(engine, record)
    if record.state is State.RESTARTING:
        _ensure_restart(engine, record)
    if record.state not in ALIVE:
        return record
    its_monitor = monitor(engine, record.id)
    status = its_monitor.exit_status()
    if status is None:
        if _is_unwatched(engine, record):
            _watch_health(engine, record)
        return record
    seen = its_monitor.exit_file.exists()
    _report_out_of_memory(engine, record)
    ended = _ended(engine, record, status, out_of_memory=its_monitor.out_of_memory())
    # Told before it is noted: who finds it noted, without the lock, goes on to tell that it was stopped or restarted.
    tell(engine, "exited", record, f"status {status}")
    attachment_events.left(engine, record)
    engine.data.records.save(ended)
    if record.host_config.auto_remove:
        remove(engine, ended, volumes=True)
        raise no_such_container(record.short_id)
    if ended.state is State.RESTARTING and not seen:
        # The monitor was killed, or the machine went down: no exit command will come.
        spawn(engine.containers.exit_command(record.id))
    return ended


def _ended(engine: Engine, record: ContainerRecord, status: int, *, out_of_memory: bool) -> ContainerRecord:
    """Give back what the run used; the record as it is after that."""
    now = time.time_ns()
    delay = restart_delay(
        record.host_config.restart_policy,
        exit_code=status,
        restart_count=record.restart_count,
        manually_stopped=record.manually_stopped,
        ran=(now - parse_rfc3339(record.started_at)) / 10**9,
        last_delay=record.restart_delay,
    )
    release(engine, record)
    if not record.host_config.auto_remove:
        limit = log_limit(record.host_config.log_config)
        archive_log(engine.data.records.run_log(record.id), engine.data.records.log(record.id), limit=limit)
    return replace(
        record,
        state=after(record.state, Transition.EXIT if delay is None else Transition.RETRY, container=record.name),
        pid=0,
        network=_at_rest(record),
        exit_code=status,
        oom_killed=out_of_memory,
        finished_at=rfc3339(now),
        health=health.stopped(record.health),
        restart_delay=delay or 0,
    )


def at_rest(network: Json) -> Json:
    """NetworkSettings of a container that does not run: which networks it wants and what was chosen for it there."""
    kept = ("IPAMConfig", "Links", "Aliases", "NetworkID", "DriverOpts", endpoints.DESIRED)
    wanted = {
        name: {field: settings[field] for field in kept if field in (settings or {})}
        for name, settings in (network.get("Networks") or {}).items()
    }
    return {"Networks": wanted} if wanted else {}


def _at_rest(record: ContainerRecord) -> NetworkSettings:
    return NetworkSettings.parse(at_rest(record.network.document()))


def _after_killed_starter(engine: Engine, record: ContainerRecord) -> ContainerRecord:
    """Somebody was killed while he started it. What runs by now runs on; what does not is undone."""
    bundle = bundle_directory(engine, record.id)
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        intent = json.loads((bundle / "started.json").read_bytes())
        running = engine.data.records.parse(intent["config"], HostConfig.parse(intent["host_config"]))
        state = engine.runtime.runc.state(record.id) or {}
        if state.get("status") in ("running", "paused", "stopped"):
            engine.data.records.save(running)
            (bundle / "started.json").unlink()
            attachment_events.joined(engine, running)
            tell(engine, "started", running, "its starter was killed")
            _watch_health(engine, running)
            return running
    engine.runtime.conmon.abandon(monitor(engine, record.id))
    release(engine, record)
    return record


def release(engine: Engine, record: ContainerRecord) -> None:
    """Give back cgroup, address, mounts and bundle of a container that does not run (any more)."""
    deleted = Background(lambda: engine.runtime.runc.delete(record.id, force=True))
    try:
        # Neither needs to wait for runc: the container's own mounts are another namespace's.
        endpoints.disconnect_all(engine, record)
        launch.unmount_shared_memory(engine, record.id)
        launch.unmount_parts(engine, record.id)
        remap.unmount(engine, record.id)
        _unmount_layer(engine, record.id)
        volume_mounts.unmount(engine, record)
    finally:
        deleted.result()
    monitor(engine, record.id).remove_files()
    _remove_bundle(bundle_directory(engine, record.id))


def _unmount_layer(engine: Engine, container_id: ContainerId) -> None:
    """Unmount a container's files; a damaged record of its layer must not keep the container from ending."""
    try:
        engine.data.driver.unmount(engine.data.layers.writable(container_id).mount_id)
    except CorruptStore as error:
        engine.data.emit(StoreDamaged.of(error))


def _remove_bundle(bundle: Path) -> None:
    """Commands in the container end with it; their monitors write and remove what is theirs in it at the same time."""
    deadline = time.monotonic() + _GRACE
    if bundle.exists():
        discard_below(bundle.parent, EntryName(bundle.name))
    while bundle.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
        discard_below(bundle.parent, EntryName(bundle.name))


def remove(engine: Engine, record: ContainerRecord, *, volumes: bool, force: bool = False) -> None:
    """Under the lock: a container that does not run goes; with volumes, those without a name go too.

    force  also if the record of its layer is damaged: the layer's directories are left for `fsck`

    Raises CorruptStore without force; then the container stays.
    """
    if not force:
        engine.data.layers.check_removable(record.id)
    with _orphaned_layers(engine, record), changing(engine.data, record.id, record.mounts if volumes else ()):
        # First of all it is no container any more: half of one must not look like a whole one.
        engine.data.records.forget(record.id)
        if volumes and record.mounts:
            engine.volumes.remove_anonymous(record.mounts)
        engine.data.layers.remove_writable(record.id, force=force)
        engine.data.records.remove(record.id)
    tell(engine, "removed", record)


@contextlib.contextmanager
def _orphaned_layers(engine: Engine, record: ContainerRecord) -> Iterator[None]:
    """The layers of an image that was removed by force go with the last container that is made of them."""
    if not record.image or engine.data.images.exists(record.image):
        yield
        return
    with making(engine.data) as lease:
        with contextlib.suppress(CorruptStore):
            lease.claim("layer", engine.data.layers.writable(record.id).parent)
        yield


def end_by_force(engine: Engine, record: ContainerRecord) -> None:
    """Kill a container; when this returns nothing of it runs, even if its monitor does not answer."""
    its_monitor = monitor(engine, record.id)
    with engine.data.records.lock(record.id):
        current = engine.data.records.load(record.id)
        if current is None or current.state not in (*ALIVE, State.RESTARTING):
            return
        current = engine.data.records.update(current, manually_stopped=True)
        if current.state is State.RESTARTING:
            engine.data.records.update(current, state=after(current.state, Transition.KILL, container=current.name))
            return
    send_signal(engine, current, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        its_monitor.wait(_GRACE)
        return
    with contextlib.suppress(ProcessLookupError):
        if its_monitor.alive():
            os.kill(its_monitor.conmon_pid, signal.SIGKILL)
        while its_monitor.alive():
            time.sleep(0.001)


def send_signal(engine: Engine, record: ContainerRecord, number: int, *, thaws: bool = True) -> None:
    """Send a signal to the first process. thaws: a frozen one goes on, so that it gets it now."""
    # It may end by itself at any moment; then there is nobody to signal. Under the lock nobody tells of the end that
    # the signal brings before the signal itself is told.
    with engine.data.records.lock(record.id), contextlib.suppress(Conflict, ContainerNotFound):
        engine.runtime.runc.kill(record.id, number)
        tell(engine, "killed", record, f"signal {number}")
    if record.state is State.PAUSED and thaws:
        with contextlib.suppress(LabError):
            engine.runtime.runc.resume(record.id)


# ---- restarts --------------------------------------------------------------------------------


def restart_when_due(engine: Engine, container_id: ContainerId) -> None:
    """Wait as long as the policy says, and start the container again; the exit command's second half.

    It ends early where somebody stopped, started or removed the container meanwhile.
    """
    marker = _restart_marker(engine, container_id)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    with contextlib.suppress(FileNotFoundError), try_locked(marker) as alone:
        if not alone:
            return
        try:
            while record := _waiting(engine, container_id):
                if (rest := _seconds_to_restart(record)) <= 0:
                    start(engine, container_id, exit_hook=True, restarting=True)
                    return
                time.sleep(min(rest, 0.1))
        finally:
            marker.unlink(missing_ok=True)


def _waiting(engine: Engine, container_id: str) -> ContainerRecord | None:
    record = engine.data.records.load(container_id)
    return record if record is not None and record.state is State.RESTARTING else None


def _seconds_to_restart(record: ContainerRecord) -> float:
    return record.restart_delay - (time.time() - parse_rfc3339(record.finished_at) / 10**9)


def _ensure_restart(engine: Engine, record: ContainerRecord) -> None:
    """Somebody waits to start the container again. If he was killed, another one does."""
    if _seconds_to_restart(record) > -_OVERDUE:
        return
    marker = _restart_marker(engine, record.id)
    try:
        with try_locked(marker) as alone:
            orphaned = alone
    except FileNotFoundError:
        orphaned = True
    if orphaned:
        spawn(engine.containers.exit_command(record.id))


def _restart_marker(engine: Engine, container_id: str) -> Path:
    return engine.runtime.path / "restarts" / container_id


# ---- health ----------------------------------------------------------------------------------


def health_lock(engine: Engine, container_id: str) -> Path:
    """What the process that checks a container's health locks (containers/health_checks.py), one for each run."""
    return bundle_directory(engine, container_id) / "health"


def _watch_health(engine: Engine, record: ContainerRecord) -> None:
    """Start the process that checks the health of a container that runs, if it has a check."""
    if record.health is not None:
        health_lock(engine, record.id).touch()
        spawn(engine.containers.health_command(record))


def _is_unwatched(engine: Engine, record: ContainerRecord) -> bool:
    """Whether that process was killed: nobody has the lock, though there was time to take it."""
    if record.health is None:
        return False
    lock = health_lock(engine, record.id)
    try:
        if time.time() - lock.stat().st_mtime < _OVERDUE:
            return False  # a new one must find the lock free, not tried by us
        with try_locked(lock) as alone:
            return alone
    except FileNotFoundError:
        return True


def spawn(command: list[str]) -> None:
    """Start a program that outlives this process and that nobody waits for (setsid(1))."""
    with programs.spawn(
        ["setsid", "--fork", *command], environment={"PATH": os.environ.get("PATH", os.defpath)}
    ) as one:
        one.wait()
