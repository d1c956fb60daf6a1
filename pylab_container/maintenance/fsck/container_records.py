"""Rebuild a container's record from its damaged files, its image and its writable layer."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from msgspec.structs import replace

from pylab_container.errors import CorruptStore, LabError
from pylab_container.maintenance.fsck.report import set_aside
from pylab_container.maintenance.fsck.salvage import salvage
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.host_config import DEFAULT, HostConfig
from pylab_container.oci.ids import ContainerId, Digest
from pylab_container.oci.image import EMPTY_CONFIG, Json, ordered_config
from pylab_container.oci.lifecycle import State
from pylab_container.oci.network_settings import NetworkSettings
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.store.reading import checked, read_document
from pylab_container.store.record_shape import HostShape, RecordShape

RECORD_FIELDS = (
    "State Created Path Args Config Image NetworkSettings Name MountPoints RestartCount HasBeenManuallyStopped".split()
)
"""The fields of config.v2.json to salvage."""


def rebuild(data: DataRoot, runtime: Runtime, container_id: ContainerId) -> None:
    """Write a new record with every intact field of the old one.

    Other fields come from the config of the container's image, which the writable layer identifies.
    """
    directory = data.records.directory(container_id)
    config_path, host_path = directory / "config.v2.json", directory / "hostconfig.json"
    plain = _plain_record(data, runtime, container_id).document(directory)
    document = salvage(config_path, plain, _accepts_record, fields=RECORD_FIELDS)
    document["ID"] = container_id
    if any(record.name == document["Name"][1:] for record in data.records.all()):
        document["Name"] = f"/recovered_{container_id[:12]}"
    plain_host = _host_config_of(document).document()
    host = salvage(host_path, plain_host, _accepts_host_config, fields=plain_host)
    for path in (config_path, host_path):
        if not _is_intact(path, container_id):
            set_aside(path)
    data.records.save(data.records.parse(document, HostConfig.parse(host)))


def _accepts_record(document: Json) -> None:
    """Raise ValueError, KeyError or TypeError for a document that is not a valid config.v2.json."""
    checked(document, RecordShape)
    if document["Image"] and not Digest.match(document["Image"]):
        raise ValueError("not the id of an image")
    if not re.fullmatch(r"/[a-zA-Z0-9][a-zA-Z0-9_.-]+", document["Name"]):
        raise ValueError("not the name of a container")
    ContainerRecord.from_documents(document, HostConfig())


def _accepts_host_config(document: Json) -> None:
    """Raise ValueError for a document that is not a valid hostconfig.json."""
    checked(document, HostShape)
    HostConfig.parse(document)


def _is_intact(path: Path, container_id: ContainerId) -> bool:
    """Return whether one of the two files is valid; then only the other one is damaged."""
    try:
        if path.name == "hostconfig.json":
            _accepts_host_config(read_document(path, HostShape)[0])
            return True
        document, _ = read_document(path, RecordShape)
        _accepts_record(document)
    except (LabError, ValueError, KeyError, TypeError, OSError):
        return False
    return bool(document["ID"] == container_id)


def _host_config_of(document: Json) -> HostConfig:
    """Return the default HostConfig with the network and the published ports that config.v2.json repeats."""
    settings = NetworkSettings.parse(document["NetworkSettings"] or {})
    published = {port: bindings for port, bindings in settings.ports.items() if bindings}
    return replace(DEFAULT, network_mode=next(iter(settings.networks), "bridge"), port_bindings=published)


def _plain_record(data: DataRoot, runtime: Runtime, container_id: ContainerId) -> ContainerRecord:
    """Return a record without any field of the old one: the defaults and the image's config."""
    image_id = _find_image(data, container_id)
    config = {**EMPTY_CONFIG, **(data.images.get(image_id).config if image_id else {})}
    words = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())] or ["/bin/sh"]
    return ContainerRecord(
        id=container_id,
        name=f"recovered_{container_id[:12]}",
        created=data.now(),
        image=image_id,
        path=words[0],
        args=tuple(words[1:]),
        config=ContainerConfig.parse(ordered_config({**config, "Hostname": container_id[:12]})),
        host_config=HostConfig(network_mode="bridge"),
        driver=data.driver.name,
        state=State.RUNNING if runtime.bundle(container_id).exists() else State.EXITED,
    )


def _find_image(data: DataRoot, container_id: ContainerId) -> str:
    """Return the id of an image with the layers that are below a container's own; "" if no image has them."""
    try:
        parent = data.layers.writable(container_id).parent
    except CorruptStore:
        return ""
    for image_id in data.images.all():
        with contextlib.suppress(LabError, KeyError):
            if data.images.get(image_id).chain_id == parent:
                return image_id
    return ""
