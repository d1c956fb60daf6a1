"""From docker-py's keywords to a container's record: what names other objects is resolved, and mounts get sources.

options.py and hostconfig.py build the documents without looking at the disk; this module completes them.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.containers import lookup, remap, sandbox
from pylab_container.containers.create import create_sources
from pylab_container.containers.settle import settle
from pylab_container.docker.hostconfig import DEFAULTS
from pylab_container.docker.options import ContainerOptions, Host, command_line, documents, refuse_unknown
from pylab_container.networks import links
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import Transition, after
from pylab_container.oci.mounts import borrow, declared_volume, parse_volume, with_propagation
from pylab_container.oci.network_settings import NetworkSettings
from pylab_container.runtime import Runtime, cgroup
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.text.timestamps import rfc3339


class ImageOfContainer(Struct, frozen=True):
    """The image that a container is created from. name is the one that the user wrote."""

    id: str
    name: str
    config: Json


class Description(Struct, frozen=True):
    """What a client says besides the keywords: documents that inspect shows.

    config       on top of the image's configuration, below the options
    host_config  recorded as it is: only fields without an effect, or whose effect an option has already
    networks     instead of the networks that the options name: {name: the endpoint's settings}

    Empty fields in config and host_config preserve whether a field was null or an empty list.
    """

    config: Mapping[str, Any] = {}
    host_config: Mapping[str, Any] = {}
    networks: Mapping[str, Any] = {}


def new_record(
    data: DataRoot,
    container_id: ContainerId,
    image: ImageOfContainer,
    command: str | Sequence[str] | None,
    options: ContainerOptions,
    description: Description,
) -> tuple[ContainerRecord, list[str]]:
    """Build the record of a new container, and warnings about its options, in Docker's words.

    Raises InvalidInput, ContainerNotFound for an option that names a container, TypeError for an unknown keyword.
    """
    refuse_unknown(options)
    built = documents(
        container_id,
        _with_config(image.config, description.config),
        command,
        options,
        image_name=image.name,
        host=_host(),
        borrowed=_borrowed_mounts(data, options),
    )
    empty = {name: value for name, value in description.config.items() if not value and not built.config.get(name)}
    host = _recorded_host(data, built.host_config, description.host_config)
    record = finished_record(
        data,
        container_id,
        image.id,
        {**built.config, **empty},
        host,
        name=options.get("name"),
        mounts=tuple(_with_sources(data, built.mounts)),
        networks=dict(description.networks) or built.networks,
    )
    return record, [*built.warnings, *_unpublished(host)]


def finished_record(
    data: DataRoot,
    container_id: ContainerId,
    image_id: str,
    config: Json,
    host_config: Json,
    *,
    name: str | None = None,
    mounts: tuple[Json, ...] = (),
    networks: Json | None = None,
) -> ContainerRecord:
    """Build a record from finished documents. image_id "" is the empty image, FROM scratch. Raises InvalidInput."""
    path, *arguments = command_line(config)
    return ContainerRecord(
        id=container_id,
        name=name or "",
        created=rfc3339(time.time_ns()),
        image=image_id,
        path=path,
        args=tuple(arguments),
        config=ContainerConfig.parse(config),
        host_config=HostConfig.parse({**DEFAULTS, **host_config}),
        network=NetworkSettings.parse({"Networks": networks} if networks else {}),
        mounts=mounts,
        driver=data.driver.name,
    )


def redescribe(
    data: DataRoot,
    runtime: Runtime,
    container_id: ContainerId,
    options: ContainerOptions,
    host_config: Mapping[str, Any],
) -> None:
    """Replace the HostConfig of a container that does not run, as a start could until version 1.23 of the API.

    The mounts are added to its mounts. If the network is another one, the old networks are replaced. options and
    host_config are as for new_record(). Raises the errors of that, and Conflict if it runs.
    """
    with data.records.lock(container_id):
        record = settle(data, runtime, lookup.read(data.records, container_id))
        after(record.state, Transition.START, container=record.name, container_id=record.id)
        built = documents(
            record.id,
            {**record.config, "Volumes": None},
            None,
            options,
            image_name=str(record.config.get("Image") or ""),
            host=_host(),
            borrowed=_borrowed_mounts(data, options),
        )
        host = {**DEFAULTS, **_recorded_host(data, built.host_config, host_config)}
        host |= {name: host[name] or [] for name in ("Dns", "DnsOptions", "DnsSearch")}  # moby records [] here
        mounts = {mount["Destination"]: mount for mount in (*record.mounts, *_with_sources(data, built.mounts))}
        keeps_network = host["NetworkMode"] == record.host_config.get("NetworkMode")
        network = record.network if keeps_network else {"Networks": built.networks}
        record = replace(record, host_config=host, mounts=tuple(mounts.values()), network=network)
        with data.volumes.lock():
            create_sources(data, record)
            data.records.save(record)


def _with_config(base: Mapping[str, Any], given: Mapping[str, Any]) -> Json:
    """An image's configuration with fields on top; volumes are added to the image's.

    An empty field keeps that of the image, except OnBuild: triggers are for builds only.
    """
    given = {name: value for name, value in given.items() if value or name == "OnBuild"}
    volumes = {**(base.get("Volumes") or {}), **(given.get("Volumes") or {})}
    return {**base, **given, **({"Volumes": volumes} if volumes else {})}


def _host() -> Host:
    return Host(os.uname().nodename, os.cpu_count() or 1, cgroup.memory_nodes(), cgroup.unsupported_limits())


def _borrowed_mounts(data: DataRoot, options: ContainerOptions) -> list[Json]:
    """The mounts of the containers that --volumes-from names."""
    mounts: list[Json] = []
    for text in options.get("volumes_from") or ():
        name, _, mode = text.partition(":")
        mounts += borrow(lookup.find(data.records, name).mounts, mode)
    return mounts


def _recorded_host(data: DataRoot, requested: Json, written: Mapping[str, Any]) -> Json:
    """The HostConfig to record: the requested one with its names resolved, and the spelling of the client."""
    find = partial(lookup.find, data.records)
    host = resolved_host(data, requested)
    if host["Links"]:
        host["Links"] = links.resolve(host["Links"], find)
    return host | {name: value for name, value in sandbox.resolve(written, find).items() if value or not host.get(name)}


def resolved_host(data: DataRoot, host_config: Json) -> Json:
    """Replace names of containers by ids, and the path of a seccomp profile by its text."""
    if host_config.get("UsernsMode"):
        remap.refuse(host_config)
    resolved = sandbox.resolve(host_config, partial(lookup.find, data.records))
    if options := resolved.get("SecurityOpt"):
        resolved["SecurityOpt"] = [sandbox.with_profile(option) for option in options]
    return resolved


def _unpublished(host: Json) -> list[str]:
    if host["NetworkMode"] == "host" and host["PortBindings"]:
        return ["Published ports are discarded when using host network mode"]
    return []


def declared_mounts(data: DataRoot, volumes: Sequence[str], declared: Mapping[str, Any]) -> Iterator[Json]:
    """Yield Docker's Mounts entries for -v options, and for the image's VOLUMEs that none of them covers."""
    entries = [parse_volume(text) for text in volumes]
    covered = {entry["Destination"] for entry in entries}
    entries += [declared_volume(path) for path in sorted(declared) if os.path.normpath(path) not in covered]
    yield from _with_sources(data, entries)


def _with_sources(data: DataRoot, entries: Iterable[Json]) -> Iterator[Json]:
    """Mounts entries whose volumes have a name and a path, and whose binds have a propagation."""
    for entry in entries:
        if entry["Type"] == "bind":
            yield with_propagation(entry, str(data.path))
            continue
        if entry["Type"] == "volume" and "Driver" not in entry:
            entry["Anonymous"] = not entry["Name"]
            entry["Name"] = entry["Name"] or secrets.token_hex(32)
            entry["Source"] = str(data.volumes.root / entry["Name"] / "_data")
            entry["Driver"] = "local"
        yield entry
