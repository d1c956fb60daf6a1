"""Containers: record and writable layer belong together, and only one that runs is mounted."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.engine.containers import launch
from pylab_container.engine.containers.container import Container
from pylab_container.engine.fsck.report import Report
from pylab_container.engine.networks import endpoints
from pylab_container.errors import CorruptStore
from pylab_container.formats.image import EMPTY_CONFIG, ordered_config
from pylab_container.formats.lifecycle import State
from pylab_container.runtime.conmon import Monitor
from pylab_container.store.records import ContainerRecord

if TYPE_CHECKING:
    from pylab_container.engine import Engine

_ID = re.compile(r"[0-9a-f]{64}")


def check_halves(engine: Engine, report: Report) -> None:
    """Layers, files and locks of what is no container: it was killed while it came or went."""
    claimed = engine.layers.leases.claimed("container")
    places = [engine.layers.root / "mounts", engine.records.root, engine.locks, engine.run_root]
    places += [engine.run_root / "runc", engine.run_root / "exits", engine.run_root / "names"]
    for path in [path for place in places if place.is_dir() for path in place.iterdir() if _ID.fullmatch(path.name)]:
        container_id = path.name
        if engine.records.exists(container_id) or container_id in claimed:
            continue
        with engine.records.try_lock(container_id) as free:
            if free and (path.exists() and path.parent.name != "locks"):
                sentence = f"{_what(path)} belongs to no container; a killed command left it"
                report.add("leftover", sentence, path, partial(_clear, engine, container_id))


def _what(path: Path) -> str:
    kinds = {
        "mounts": "the writable layer",
        "containers": "the directory of files",
        "runc": "runc's record",
        "exits": "the exit status",
        "names": "what is known to the name server of",
    }
    return f"{kinds.get(path.parent.name, 'the bundle')} {path.name[:12]}"


def _clear(engine: Engine, container_id: str) -> None:
    """Take away everything that bears the id of a container that does not exist."""
    monitor = Monitor(container_id, bundle=engine.run_root / container_id, exit_directory=engine.run_root / "exits")
    if any((engine.run_root / place / container_id).exists() for place in (".", "runc", "names")):
        engine.conmon.abandon(monitor)
        endpoints.disconnect_unknown(engine, container_id)
        shutil.rmtree(monitor.bundle, ignore_errors=True)
    monitor.remove_files()
    engine.layers.remove_writable(container_id)
    shutil.rmtree(engine.records.directory(container_id), ignore_errors=True)


def check_containers(engine: Engine, report: Report) -> None:
    """Check every container's record, layer and mount."""
    for directory in sorted(engine.records.root.iterdir()):
        if engine.records.exists(directory.name):
            _check_record(engine, report, directory.name)
    for mount_point, writable in _mounts(engine):
        with engine.records.try_lock(writable) as free:
            if free and not _runs(engine, writable) and mount_point.is_mount():
                sentence = f"the files of container {writable[:12]} are mounted, but it does not run"
                cache_id = mount_point.parent.name
                report.add("container", sentence, mount_point, partial(engine.driver.unmount, cache_id))


def _check_record(engine: Engine, report: Report, container_id: str) -> None:
    directory = engine.records.directory(container_id)
    try:
        record = engine.records.load(container_id)
    except CorruptStore as error:
        sentence = f"{error.message}; repair writes a new one, with the image's command and no limits"
        report.add("container", sentence, directory, partial(_rebuild, engine, container_id))
        return
    if record is None:
        report.add(
            "container",
            f"the container {container_id[:12]} has lost its hostconfig.json; repair writes a new one",
            directory / "hostconfig.json",
            partial(_rebuild, engine, container_id),
        )
        return
    try:
        engine.layers.writable(container_id)
    except CorruptStore:
        sentence = f"the container {record.name} has lost its writable layer; repair gives it a new, empty one"
        fix = partial(_new_layer, engine, record)
        report.add("container", sentence, engine.layers.root / "mounts" / container_id, fix)
    bundle = engine.run_root / container_id
    with engine.records.try_lock(container_id) as free:
        started = bundle.exists() and record.state not in (State.RUNNING, State.PAUSED)
    if free and started:
        sentence = f"the start of container {record.name} was killed half-way"
        report.add("container", sentence, bundle, lambda: Container(engine, container_id).record)


def _new_layer(engine: Engine, record: ContainerRecord) -> None:
    engine.layers.remove_writable(record.id)
    chain = engine.images.config(record.image).chain_id if record.image else ""
    engine.layers.create_writable(record.id, chain, launch.fill_init_layer)


def _rebuild(engine: Engine, container_id: str) -> None:
    """A new record for a container whose old one cannot be read: the writable layer says which image it had."""
    directory = engine.records.directory(container_id)
    parent = engine.layers.writable(container_id).parent
    image_id = next((id for id in engine.image_store.all() if engine.images.config(id).chain_id == parent), "")
    config = {**EMPTY_CONFIG, **(engine.images.config(image_id).config if image_id else {})}
    words = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())] or ["/bin/sh"]
    runs = (engine.run_root / container_id).exists()
    record = ContainerRecord(
        id=container_id,
        name=f"recovered_{container_id[:12]}",
        created=engine.now(),
        image=image_id,
        path=words[0],
        args=tuple(words[1:]),
        config=ordered_config({**config, "Hostname": container_id[:12]}),
        host_config={"NetworkMode": "bridge"},
        driver=engine.driver.name,
        state=State.RUNNING if runs else State.EXITED,
    )
    with_old = _readable_part(directory, record)
    engine.records.save(with_old)


def _readable_part(directory: Path, record: ContainerRecord) -> ContainerRecord:
    """The old record, where only its host configuration is damaged."""
    try:
        document = json.loads((directory / "config.v2.json").read_bytes())
        return ContainerRecord.from_documents(document, record.host_config)
    except (OSError, ValueError, KeyError, TypeError):
        return record


def _runs(engine: Engine, container_id: str) -> bool:
    try:
        record = engine.records.load(container_id)
    except CorruptStore:
        return True  # nobody knows
    return record is not None and record.state in (State.RUNNING, State.PAUSED)


def _mounts(engine: Engine) -> Iterator[tuple[Path, str]]:
    """Mount points below the driver's directory that belong to containers: (merged directory, container id)."""
    for writable in engine.layers.writable_layers():
        for cache_id in (writable.mount_id, writable.init_id):
            if engine.driver.is_mounted(cache_id):
                yield engine.driver.merged_path(cache_id), writable.container_id
