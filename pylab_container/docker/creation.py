"""From docker-py's keywords to a container's record.

options.py and hostconfig.py translate the keywords to documents, without reading the disk. This module resolves the
names in them: of networks, of other containers, of files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.containers import lookup, namespaces, remap, rights
from pylab_container.containers.create import create_sources
from pylab_container.containers.settle import settle
from pylab_container.docker.hostconfig import NETWORK_MODES, requested_network
from pylab_container.docker.options import ContainerOptions, Host, command_line, documents, refuse_unknown
from pylab_container.networks import links
from pylab_container.networks.lookup import find_network
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import Transition, next_state
from pylab_container.oci.mounts import MountPoint, borrow
from pylab_container.oci.network_settings import EndpointSettings, NetworkSettings
from pylab_container.runtime import Runtime, cgroup
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.store.mountpoints import place_mounts
from pylab_container.text.timestamps import rfc3339


class ImageOfContainer(Struct, frozen=True):
    """The image that a container is created from. name is spelled as by the user."""

    id: str
    name: str
    config: Json


class Description(Struct, frozen=True):
    """Documents that a client of the API sends in addition to the keywords, for `inspect` to show.

    config       replaces fields of the image's configuration; the options replace fields of both
    host_config  recorded unchanged. It has no effect: what has one must be in the options too.
    networks     {network: endpoint}, replaces the networks that the options name

    Empty fields in config and host_config preserve whether the client sent null or an empty list.
    """

    config: ContainerConfig | None = None
    host_config: HostConfig | None = None
    networks: Mapping[str, EndpointSettings] = {}


def refuse_unknown_network(data: DataRoot, options: ContainerOptions) -> None:
    """Raise NotFound or ContainerNotFound for options whose network or container does not exist."""
    mode = requested_network(options)
    if mode.startswith("container:"):
        lookup.find(data.records, mode.removeprefix("container:"))
    elif mode not in NETWORK_MODES:
        find_network(data, mode)


def new_record(
    data: DataRoot,
    container_id: ContainerId,
    image: ImageOfContainer,
    command: str | Sequence[str] | None,
    options: ContainerOptions,
    description: Description,
) -> tuple[ContainerRecord, list[str]]:
    """Build the record of a new container, and warnings about its options in Docker's words. Nothing is written.

    Raises InvalidInput, ContainerNotFound for an option that names a container, TypeError for an unknown keyword.
    """
    refuse_unknown(options)
    built = documents(
        container_id,
        _with_config(image.config, description.config.document() if description.config else {}),
        command,
        options,
        image_name=image.name,
        host=_host(),
        borrowed=_borrowed_mounts(data, options),
    )
    config = built.config.overlaid(_empty_fields(description.config)) if description.config else built.config
    host = _recorded_host(data, built.host_config, description.host_config)
    record = finished_record(
        data,
        container_id,
        image.id,
        config,
        host,
        name=options.get("name"),
        mounts=tuple(place_mounts(built.mounts, data.path)),
        networks=description.networks or built.networks,
    )
    return record, [*built.warnings, *_unpublished(host)]


def finished_record(
    data: DataRoot,
    container_id: ContainerId,
    image_id: str,
    config: ContainerConfig,
    host_config: HostConfig,
    *,
    name: str | None = None,
    mounts: tuple[MountPoint, ...] = (),
    networks: Mapping[str, EndpointSettings] | None = None,
) -> ContainerRecord:
    """Build a record from complete documents. Raises InvalidInput.

    image_id  "" for the empty image, FROM scratch
    """
    path, *arguments = command_line(config)
    return ContainerRecord(
        id=container_id,
        name=name or "",
        created=rfc3339(time.time_ns()),
        image=image_id,
        path=path,
        args=tuple(arguments),
        config=config,
        host_config=host_config,
        network=NetworkSettings(networks=networks or {}),
        mounts=mounts,
        driver=data.driver.name,
    )


def redescribe(
    data: DataRoot,
    runtime: Runtime,
    container_id: ContainerId,
    options: ContainerOptions,
    host_config: HostConfig,
) -> None:
    """Replace the HostConfig of a container that does not run, as a start could do until version 1.23 of the API.

    options, host_config  as for new_record()

    New mounts are added to those of the container. Another network mode replaces its networks. Raises the errors of
    new_record(), and Conflict if the container runs.
    """
    with data.records.lock(container_id):
        record = settle(data, runtime, lookup.read(data.records, container_id))
        next_state(record.state, Transition.START, container=record.name, container_id=record.id)
        built = documents(
            record.id,
            {**record.config.document(), "Volumes": None},
            None,
            options,
            image_name=record.config.image,
            host=_host(),
            borrowed=_borrowed_mounts(data, options),
        )
        host = _recorded_host(data, built.host_config, host_config)
        host = replace(host, nulls=host.nulls - {"Dns", "DnsOptions", "DnsSearch"})  # moby records [] here
        mounts = {mount.destination: mount for mount in (*record.mounts, *place_mounts(built.mounts, data.path))}
        keeps_network = host.network_mode == record.host_config.network_mode
        network = record.network if keeps_network else NetworkSettings(networks=built.networks)
        record = replace(record, host_config=host, mounts=tuple(mounts.values()), network=network)
        with data.volumes.lock():
            create_sources(data, record)
            data.records.save(record)


def _with_config(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Json:
    """An image's configuration with some fields replaced; volumes are added to the image's."""
    # An empty field keeps that of the image, except OnBuild: triggers are for builds only.
    changes = {name: value for name, value in changes.items() if value or name == "OnBuild"}
    volumes = {**(base.get("Volumes") or {}), **(changes.get("Volumes") or {})}
    return {**base, **changes, **({"Volumes": volumes} if volumes else {})}


def _host() -> Host:
    return Host(os.uname().nodename, os.cpu_count() or 1, cgroup.memory_nodes(), cgroup.unsupported_limits())


def _empty_fields(config: ContainerConfig) -> ContainerConfig:
    """Return a config with only the empty fields of another: null, [] or {}."""
    return ContainerConfig.parse({name: value for name, value in config.document().items() if not value})


def _borrowed_mounts(data: DataRoot, options: ContainerOptions) -> list[MountPoint]:
    """Return the mounts of the containers that --volumes-from names."""
    mounts: list[MountPoint] = []
    for text in options.get("volumes_from") or ():
        name, _, mode = text.partition(":")
        mounts += borrow(lookup.find(data.records, name).mounts, mode)
    return mounts


def _recorded_host(data: DataRoot, requested: HostConfig, sent: HostConfig | None) -> HostConfig:
    """Return the HostConfig to record: names are resolved, the client's spelling is kept."""
    find = partial(lookup.find, data.records)
    remap.refuse(requested)
    host = namespaces.resolve_modes(requested, find)
    host = replace(host, security_opt=tuple(map(rights.with_profile, host.security_opt)))
    if host.links:
        host = replace(host, links=tuple(links.resolve(host.links, find)))
    return host.overlaid(namespaces.resolve_modes(sent, find)) if sent else host


def _unpublished(host: HostConfig) -> list[str]:
    if host.network_mode == "host" and host.port_bindings:
        return ["Published ports are discarded when using host network mode"]
    return []
