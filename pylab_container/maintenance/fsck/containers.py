"""Containers: each has a record and a writable layer, mounted only while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pylab_container.containers.settle import read_settled
from pylab_container.errors import CorruptStore
from pylab_container.host.removal import discard_below
from pylab_container.maintenance.fsck.container_records import rebuild
from pylab_container.maintenance.fsck.report import Report
from pylab_container.networks import endpoints
from pylab_container.oci.ids import CacheId, ContainerId
from pylab_container.oci.lifecycle import State
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot

# -- incomplete containers -----------------------------------------------------------------------


def check_incomplete(data: DataRoot, runtime: Runtime, report: Report) -> None:
    """Find layers, files and locks without a container.

    They are left by a process that was killed while it created or removed one.
    """
    claimed = data.layers.leases.claimed("container")
    places = [data.layers.root / "mounts", data.records.root, data.locks, runtime.path]
    places += [runtime.path / "runc", runtime.exits, runtime.path / "names"]
    for path in [path for place in places if place.is_dir() for path in place.iterdir()]:
        container_id = ContainerId.match(path.name)
        if container_id is None or data.records.exists(container_id) or container_id in claimed:
            continue
        if _has_lost_record(data, container_id):
            sentence = f"the container {container_id[:12]} has lost its config.v2.json; repair writes a new one"
            missing = data.records.directory(container_id) / "config.v2.json"
            report.add("container", sentence, missing, partial(rebuild, data, runtime, container_id))
            claimed.add(container_id)
            continue
        with data.records.try_lock(container_id) as is_free:
            if is_free and path.exists() and path.parent != data.locks:
                sentence = f"{_kind(path)} {container_id[:12]} belongs to no container; a killed command left it"
                report.add("leftover", sentence, path, partial(_clear, data, runtime, container_id))


def _has_lost_record(data: DataRoot, container_id: ContainerId) -> bool:
    """Return whether only the record is missing, without a claim of a killed creation or removal."""
    others = (
        data.records.directory(container_id) / "hostconfig.json",
        data.layers.root / "mounts" / container_id / "mount-id",
    )
    return all(map(Path.exists, others)) and container_id not in data.layers.leases.claimed("writable")


def _kind(path: Path) -> str:
    kinds = {
        "mounts": "the writable layer",
        "containers": "the directory of files",
        "runc": "runc's record",
        "exits": "the exit status",
        "names": "the name server's record of",
    }
    return kinds.get(path.parent.name, "the bundle")


def _clear(data: DataRoot, runtime: Runtime, container_id: ContainerId) -> None:
    """Remove everything that has the id of a container that does not exist."""
    monitor = runtime.monitor(container_id)
    if any((runtime.path / place / container_id).exists() for place in (".", "runc", "names")):
        runtime.conmon.abandon(monitor)
        endpoints.disconnect_unknown(data, runtime, container_id)
        discard_below(runtime.path, container_id)
    monitor.remove_files()
    data.layers.remove_writable(container_id, force=True)
    discard_below(data.records.root, container_id)


# -- records and mounts --------------------------------------------------------------------------


def check_containers(data: DataRoot, runtime: Runtime, report: Report) -> None:
    """Check every container's record, its interrupted start, and its mounts."""
    for container_id in sorted(data.records.ids()):
        if data.records.exists(container_id):
            _check_record(data, runtime, report, container_id)
    for mount_point, cache_id, container_id in _mounts(data):
        with data.records.try_lock(container_id) as is_free:
            if is_free and not _runs(data, container_id) and mount_point.is_mount():
                sentence = f"the files of container {container_id[:12]} are mounted, but it does not run"
                report.add("container", sentence, mount_point, partial(data.driver.unmount, cache_id))


def _check_record(data: DataRoot, runtime: Runtime, report: Report, container_id: ContainerId) -> None:
    try:
        record = data.records.load(container_id)
    except CorruptStore as error:
        sentence = f"the record of container {container_id[:12]}: {error.message}"
        sentence = f"{sentence}; repair keeps the file, and each intact field"
        path = Path(error.path or data.records.directory(container_id))
        report.add("container", sentence, path, partial(rebuild, data, runtime, container_id))
        return
    if record is None or record.driver != data.driver.name:
        return
    bundle = runtime.bundle(container_id)
    with data.records.try_lock(container_id) as is_free:
        is_started = bundle.exists() and record.state not in (State.RUNNING, State.PAUSED)
    if is_free and is_started:
        sentence = f"the start of container {record.name} was killed half-way"
        report.add("container", sentence, bundle, partial(read_settled, data, runtime, container_id))


def _runs(data: DataRoot, container_id: ContainerId) -> bool:
    try:
        record = data.records.load(container_id)
    except CorruptStore:
        return True  # its state is unknown, so its files are left mounted
    return record is not None and record.state in (State.RUNNING, State.PAUSED)


def _mounts(data: DataRoot) -> Iterator[tuple[Path, CacheId, ContainerId]]:
    """Yield each mounted layer of a container: (mount point, cache id, container)."""
    for writable in data.layers.writable_layers():
        for cache_id in (writable.mount_id, writable.init_id):
            if data.driver.is_mounted(cache_id):
                yield data.driver.merged_path(cache_id), cache_id, writable.container_id
