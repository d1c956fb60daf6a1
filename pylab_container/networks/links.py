"""Links on the default bridge (`--link`), which has no name server.

A container that is linked to another one has the other's alias in its /etc/hosts, and variables about the other in its
environment (link_variables.py). HostConfig.Links records "<id of the other container>:<alias>", so both containers may
be renamed. No list of links is stored elsewhere, so the removal of a container also removes its links.

On a user-defined network, whose name server knows every container, a link is part of an endpoint
(endpoint_documents.py). It sets no variables, and the other container need not exist yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from pylab_container.errors import ContainerNotFound, InvalidInput, RuntimeFailed
from pylab_container.networks.container_files import set_linked_address
from pylab_container.networks.link_variables import link_environment, parse_link
from pylab_container.oci.lifecycle import ALIVE
from pylab_container.oci.network_settings import EndpointSettings
from pylab_container.store.container_store import ContainerRecord, ContainerStore
from pylab_container.store.data_root import DataRoot


class LinkedContainer(Struct, frozen=True):
    """A running container that another one is linked to.

    name      "/container/alias", of which alias is the last part
    endpoint  its endpoint on the default bridge (EndpointSettings)
    """

    name: str
    alias: str
    record: ContainerRecord
    endpoint: EndpointSettings


def resolve(texts: Sequence[str], find: Callable[[str], ContainerRecord]) -> list[str]:
    """Turn "NAME[:ALIAS]" into the entries of HostConfig.Links. Raises InvalidInput.

    find  looks a container up by name; raises ContainerNotFound
    """
    resolved: dict[str, str] = {}
    for name, alias in map(parse_link, texts):
        other = _network_owner(name, find)
        if other.host_config.network_mode == "host":
            raise InvalidInput(
                "conflicting options: host type networking can't be used with links. This would result in undefined "
                "behavior",
                hint=f"{name} has the network of the host: reach it there",
            )
        resolved.setdefault(alias, f"{other.id}:{alias}")  # as in Docker, a second link with this alias is ignored
    return list(resolved.values())


def _network_owner(name: str, find: Callable[[str], ContainerRecord]) -> ContainerRecord:
    """The container whose network the named container uses: itself, or the one that its "container:NAME" leads to."""
    try:
        record = find(name)
        while (mode := record.host_config.network_mode).startswith("container:"):
            name = mode.removeprefix("container:")
            record = find(name)
    except ContainerNotFound as error:
        raise InvalidInput(f"could not get container for {name}: {error.message}", hint=error.hint) from None
    return record


def linked(records: ContainerStore, record: ContainerRecord) -> Iterator[tuple[str, ContainerRecord]]:
    """Yield (alias, record) of each existing container that a container is linked to."""
    for text in record.host_config.links:
        container_id, _, alias = text.partition(":")
        if other := records.load(container_id):
            yield alias, other


def inspected(records: ContainerStore, record: ContainerRecord) -> list[str] | None:
    """Return HostConfig.Links as `inspect` shows it: "/other:/container/alias"; None without links."""
    return [f"/{other.name}:/{record.name}/{alias}" for alias, other in linked(records, record)] or None


def names(records: Iterable[ContainerRecord]) -> Mapping[str, list[str]]:
    """Return the names that links give to containers: {id: ["/container/alias"]}."""
    names_by_id: dict[str, list[str]] = {}
    for record in records:
        for text in record.host_config.links:
            container_id, _, alias = text.partition(":")
            names_by_id.setdefault(container_id, []).append(f"/{record.name}/{alias}")
    return names_by_id


def running_linked(
    records: ContainerStore, record: ContainerRecord, settled: Callable[[ContainerRecord], ContainerRecord]
) -> list[LinkedContainer]:
    """Return the containers that a container on the default bridge is linked to, without removed ones.

    settled  corrects a record whose process has exited; raises ContainerNotFound

    Raises RuntimeFailed if one of them does not run, or is not on the default bridge.
    """
    running: list[LinkedContainer] = []
    if not record.host_config.links or (record.network.networks and "bridge" not in record.network.networks):
        return running
    for alias, recorded in linked(records, record):
        with contextlib.suppress(ContainerNotFound):  # it was removed since its record was read
            # A link is an address and variables that are fixed at the start, so the other container must run now.
            other, name = settled(recorded), f"/{record.name}/{alias}"
            if other.state not in ALIVE:
                raise RuntimeFailed(
                    f"Cannot link to a non running container: /{other.name} AS {name}",
                    hint=f"labctr start {other.name}",
                )
            endpoint = other.network.endpoints.get("bridge", EndpointSettings())
            if not endpoint.ip_address:
                raise RuntimeFailed(
                    f"Cannot link to /{other.name}, as it does not belong to the default network",
                    hint="put both on a network of your own",
                )
            running.append(LinkedContainer(name, alias, other, endpoint))
    return running


def environment(linked_containers: Iterable[LinkedContainer]) -> list[str]:
    """Return the environment entries about linked containers (link_variables.py)."""
    variables: list[str] = []
    for linked_container in linked_containers:
        variables += link_environment(
            linked_container.name,
            linked_container.endpoint.ip_address,
            environment=linked_container.record.config.env,
            exposed=linked_container.record.config.exposed_ports,
        )
    return variables


def host_lines(linked_containers: Iterable[LinkedContainer]) -> list[tuple[str, str]]:
    """Return (names, address) of linked containers for the hosts file."""
    lines = []
    for linked_container in linked_containers:
        alias, other, endpoint = linked_container.alias, linked_container.record, linked_container.endpoint
        words = [alias, other.config.hostname or other.short_id, other.name]
        text = " ".join(words[:2] if alias == other.name else words)
        addresses = (endpoint.ip_address, endpoint.global_ipv6_address)
        lines += [(text, str(address)) for address in addresses if address]
    return lines


def update_linking_containers(data: DataRoot, record: ContainerRecord, address: str) -> None:
    """Write a container's new address into the hosts files of containers linked to it."""
    for other in data.records.all():
        if other.state in ALIVE and other.host_config.links:
            for alias, target in linked(data.records, other):
                if target.id == record.id:
                    set_linked_address(data, other, alias, address)
