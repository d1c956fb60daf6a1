"""Containers: record and writable layer belong together, and only one that runs is mounted."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pylab_container.engine.container import Container
from pylab_container.errors import CorruptStore, LabError
from pylab_container.host.removal import discard_below
from pylab_container.maintenance.fsck.report import Report, set_aside
from pylab_container.maintenance.fsck.salvage import salvage
from pylab_container.networks import endpoints
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.host_config import DEFAULT, HostConfig
from pylab_container.oci.ids import CacheId, ContainerId, Digest
from pylab_container.oci.image import EMPTY_CONFIG, Json, ordered_config
from pylab_container.oci.lifecycle import State
from pylab_container.oci.network_settings import NetworkSettings
from pylab_container.runtime.monitor import Monitor
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.reading import checked, read_document
from pylab_container.store.record_shape import HostShape, RecordShape

if TYPE_CHECKING:
    from pylab_container.engine import Engine


def check_halves(engine: Engine, report: Report) -> None:
    """Layers, files and locks of what is no container: it was killed while it came or went."""
    claimed = engine.data.layers.leases.claimed("container")
    places = [engine.data.layers.root / "mounts", engine.data.records.root, engine.data.locks, engine.runtime.path]
    places += [engine.runtime.path / "runc", engine.runtime.path / "exits", engine.runtime.path / "names"]
    for path in [path for place in places if place.is_dir() for path in place.iterdir()]:
        container_id = ContainerId.match(path.name)
        if container_id is None or engine.data.records.exists(container_id) or container_id in claimed:
            continue
        if _has_lost_record(engine, container_id):
            sentence = f"the container {container_id[:12]} has lost its config.v2.json; repair writes a new one"
            missing = engine.data.records.directory(container_id) / "config.v2.json"
            report.add("container", sentence, missing, partial(_rebuild, engine, container_id))
            claimed.add(container_id)
            continue
        with engine.data.records.try_lock(container_id) as free:
            if free and (path.exists() and path.parent.name != "locks"):
                sentence = f"{_what(path)} belongs to no container; a killed command left it"
                report.add("leftover", sentence, path, partial(_clear, engine, container_id))


def _has_lost_record(engine: Engine, container_id: ContainerId) -> bool:
    """Whether everything of a container is there but its record, and no command was killed while it came or went."""
    others = (
        engine.data.records.directory(container_id) / "hostconfig.json",
        engine.data.layers.root / "mounts" / container_id / "mount-id",
    )
    return all(map(Path.exists, others)) and container_id not in engine.data.layers.leases.claimed("writable")


def _what(path: Path) -> str:
    kinds = {
        "mounts": "the writable layer",
        "containers": "the directory of files",
        "runc": "runc's record",
        "exits": "the exit status",
        "names": "what is known to the name server of",
    }
    return f"{kinds.get(path.parent.name, 'the bundle')} {path.name[:12]}"


def _clear(engine: Engine, container_id: ContainerId) -> None:
    """Take away everything that bears the id of a container that does not exist."""
    monitor = Monitor(
        container_id, bundle=engine.runtime.path / container_id, exit_directory=engine.runtime.path / "exits"
    )
    if any((engine.runtime.path / place / container_id).exists() for place in (".", "runc", "names")):
        engine.runtime.conmon.abandon(monitor)
        endpoints.disconnect_unknown(engine.data, engine.runtime, container_id)
        discard_below(engine.runtime.path, container_id)
    monitor.remove_files()
    engine.data.layers.remove_writable(container_id, force=True)
    discard_below(engine.data.records.root, container_id)


def check_containers(engine: Engine, report: Report) -> None:
    """Check every container's record, layer and mount."""
    for container_id in sorted(engine.data.records.ids()):
        if engine.data.records.exists(container_id):
            _check_record(engine, report, container_id)
    for mount_point, cache_id, writable in _mounts(engine):
        with engine.data.records.try_lock(writable) as free:
            if free and not _runs(engine, writable) and mount_point.is_mount():
                sentence = f"the files of container {writable[:12]} are mounted, but it does not run"
                report.add("container", sentence, mount_point, partial(engine.data.driver.unmount, cache_id))


def _check_record(engine: Engine, report: Report, container_id: ContainerId) -> None:
    try:
        record = engine.data.records.load(container_id)
    except CorruptStore as error:
        sentence = f"the record of container {container_id[:12]}: {error.message}; repair keeps it, and what of it can"
        path = Path(error.path or engine.data.records.directory(container_id))
        report.add("container", f"{sentence} be read", path, partial(_rebuild, engine, container_id))
        return
    if record is None or record.driver != engine.data.driver.name:
        return
    bundle = engine.runtime.path / container_id
    with engine.data.records.try_lock(container_id) as free:
        started = bundle.exists() and record.state not in (State.RUNNING, State.PAUSED)
    if free and started:
        sentence = f"the start of container {record.name} was killed half-way"
        report.add("container", sentence, bundle, lambda: Container(engine, container_id).record)


def _rebuild(engine: Engine, container_id: ContainerId) -> None:
    """A new record for a container whose old one cannot be read, with what of that is whole.

    The writable layer says which image the container had: the rest comes from the image's configuration.
    """
    directory = engine.data.records.directory(container_id)
    config, host_config = directory / "config.v2.json", directory / "hostconfig.json"
    document = salvage(config, _plain_record(engine, container_id).document(directory), _accepts_record, fields=_FIELDS)
    document["ID"] = container_id
    if any(record.name == document["Name"][1:] for record in engine.data.records.all()):
        document["Name"] = f"/recovered_{container_id[:12]}"
    base = _host_of(document).document()
    host = salvage(host_config, base, _accepts_host, fields=base)
    for path in (config, host_config):
        if not _is_whole(path, container_id):
            set_aside(path)
    engine.data.records.save(engine.data.records.parse(document, HostConfig.parse(host)))


_FIELDS = (
    "State Created Path Args Config Image NetworkSettings Name MountPoints RestartCount HasBeenManuallyStopped".split()
)


def _accepts_record(document: Json) -> None:
    """Raise ValueError for a document that is not a container's, KeyError or TypeError for a part of one."""
    checked(document, RecordShape)
    if document["Image"] and not Digest.match(document["Image"]):
        raise ValueError("not the id of an image")
    if not re.fullmatch(r"/[a-zA-Z0-9][a-zA-Z0-9_.-]+", document["Name"]):
        raise ValueError("not the name of a container")
    ContainerRecord.from_documents(document, HostConfig())


def _accepts_host(document: Json) -> None:
    """Raise ValueError for a document that is not a HostConfig."""
    checked(document, HostShape)
    HostConfig.parse(document)


def _is_whole(path: Path, container_id: ContainerId) -> bool:
    """Whether one of the two files can be used; the other one is what is damaged."""
    try:
        if path.name == "hostconfig.json":
            _accepts_host(read_document(path, HostShape)[0])
            return True
        document, _ = read_document(path, RecordShape)
        _accepts_record(document)
    except (LabError, ValueError, KeyError, TypeError, OSError):
        return False
    return bool(document["ID"] == container_id)


def _host_of(document: Json) -> HostConfig:
    """The default HostConfig with the network and the published ports that config.v2.json shows."""
    settings = NetworkSettings.parse(document["NetworkSettings"] or {})
    published = {port: bindings for port, bindings in settings.ports.items() if bindings}
    return replace(DEFAULT, network_mode=next(iter(settings.networks), "bridge"), port_bindings=published)


def _plain_record(engine: Engine, container_id: ContainerId) -> ContainerRecord:
    image_id = _image_of(engine, container_id)
    config = {**EMPTY_CONFIG, **(engine.images.config(image_id).config if image_id else {})}
    words = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())] or ["/bin/sh"]
    runs = (engine.runtime.path / container_id).exists()
    return ContainerRecord(
        id=container_id,
        name=f"recovered_{container_id[:12]}",
        created=engine.data.now(),
        image=image_id,
        path=words[0],
        args=tuple(words[1:]),
        config=ContainerConfig.parse(ordered_config({**config, "Hostname": container_id[:12]})),
        host_config=HostConfig(network_mode="bridge"),
        driver=engine.data.driver.name,
        state=State.RUNNING if runs else State.EXITED,
    )


def _image_of(engine: Engine, container_id: ContainerId) -> str:
    """An image whose layers are those below a container's own, "" if no image has them."""
    try:
        parent = engine.data.layers.writable(container_id).parent
    except CorruptStore:
        return ""
    for image_id in engine.data.images.all():
        with contextlib.suppress(LabError):
            if engine.images.config(image_id).chain_id == parent:
                return image_id
    return ""


def _runs(engine: Engine, container_id: ContainerId) -> bool:
    try:
        record = engine.data.records.load(container_id)
    except CorruptStore:
        return True  # nobody knows
    return record is not None and record.state in (State.RUNNING, State.PAUSED)


def _mounts(engine: Engine) -> Iterator[tuple[Path, CacheId, ContainerId]]:
    """Mount points below the driver's directory that belong to containers: (merged directory, its layer, container)."""
    for writable in engine.data.layers.writable_layers():
        for cache_id in (writable.mount_id, writable.init_id):
            if engine.data.driver.is_mounted(cache_id):
                yield engine.data.driver.merged_path(cache_id), cache_id, writable.container_id
