"""Connecting an existing container to a network, and disconnecting it. The caller holds the container's lock.

A running container is changed at once, another one at its next start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from msgspec.structs import replace

from pylab_container.errors import Conflict, Forbidden, InvalidInput, NotFound
from pylab_container.networks import dns_records, links
from pylab_container.networks.bridges import open_bridge
from pylab_container.networks.container_files import add_addresses, remove_addresses
from pylab_container.networks.endpoint_documents import endpoint_settings, with_endpoints
from pylab_container.networks.endpoints import (
    JoinedNetwork,
    addresses_of,
    exit_network,
    join,
    port_requests,
    ports_document,
    publish,
    refuse_request,
)
from pylab_container.networks.lookup import find_network, network_of_endpoint
from pylab_container.networks.network_record import NetworkRecord
from pylab_container.oci import ports
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import ALIVE
from pylab_container.oci.network_settings import EndpointSettings
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot


def connect(
    data: DataRoot, runtime: Runtime, network: NetworkRecord, record: ContainerRecord, request: EndpointSettings
) -> None:
    """Connect a container to another network.

    record   the settled record
    request  the endpoint before the start (endpoint_documents.py)

    Raises Conflict, Forbidden, InvalidInput, NotFound.
    """
    _refuse_connection(network, record, request)
    endpoints = record.network.endpoints
    if record.state not in ALIVE:
        endpoints[network.name] = endpoint_settings(request)
        data.records.update(record, network=with_endpoints(record.network, endpoints))
        return
    # The removal of a network takes this lock exclusively.
    with data.networks.lock(shared=True):
        find_network(data, network.id)  # raises NotFound if it was removed since the caller looked it up
        present = _joined_networks(data, runtime, record)
        bridge, interface = open_bridge(data, runtime, network), _free_interface(present)
        new = join(network, bridge, record, request, record.pid, interface, leads_out=False)
    add_addresses(data, record, addresses_of(new.endpoint))
    if network.name == "bridge":
        links.update_linking_containers(data, record, new.endpoint.address)
    endpoints[network.name] = new.settings
    settings = record.network
    if exit_network([*present, new]) == new:
        settings = replace(settings, ports=_use_exit(runtime, record, [*present, new]))
    changed = data.records.update(record, network=with_endpoints(settings, endpoints))
    dns_records.serve_running(data, runtime, changed)


def disconnect(
    data: DataRoot, runtime: Runtime, network: NetworkRecord, record: ContainerRecord, *, force: bool
) -> None:
    """Disconnect a container from one network.

    record  the settled record
    force   no error if the container is not connected

    Raises Conflict, InvalidInput.
    """
    settings, endpoints = record.network, record.network.endpoints
    if network.name not in endpoints:
        if force:
            return
        raise Conflict(f"container {record.id} is not connected to network {network.name}", hint="labctr inspect")
    if network.name == "host":
        raise InvalidInput(
            "container cannot be disconnected from host network or connected to host network",
            hint="make another container",
        )
    endpoint = endpoints.pop(network.name)
    if record.state in ALIVE and network.driver == "bridge":
        before = _joined_networks(data, runtime, record)
        open_bridge(data, runtime, network).disconnect(record.id)
        addresses = (endpoint.ip_address, endpoint.global_ipv6_address)
        remove_addresses(data, record, filter(None, addresses))
        # The default route and the published ports were on this network: the next one in the order takes them over.
        if (exit_ := exit_network(before)) and exit_.network.id == network.id:
            remaining = [joined_network for joined_network in before if joined_network.network.id != network.id]
            settings = replace(settings, ports=_use_exit(runtime, record, remaining))
    changed = data.records.update(record, network=with_endpoints(settings, endpoints))
    dns_records.update(data, runtime, changed)


def _refuse_connection(network: NetworkRecord, record: ContainerRecord, request: EndpointSettings) -> None:
    """Refuse a network that contradicts the container's other networks, as dockerd does."""
    mode = record.host_config.network
    networks = record.network.networks
    refuse_request(network, request)
    if network.name in networks and record.state in ALIVE:
        raise Forbidden(
            f"endpoint with name {record.name} already exists in network {network.name}",
            hint=f"labctr network disconnect {network.name} {record.name}, to connect it in another way",
        )
    if network.name == "host" and mode != "host" and not mode.startswith("container:"):
        raise InvalidInput(
            "container cannot be disconnected from host network or connected to host network",
            hint="make another container, with --network host",
        )
    if mode.startswith("container:") or mode == "host":
        raise InvalidInput(
            "container sharing network namespace with another container or host cannot be connected to any other "
            "network",
            hint="make another container",
        )
    if network.name == "none" or "none" in networks or (mode == "none" and not networks):
        raise InvalidInput(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            hint=f"labctr network disconnect none {record.name}",
        )


def _joined_networks(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> list[JoinedNetwork]:
    """The networks that a running container is connected to, sorted by the names of its interfaces."""
    joined = []
    for name, settings in record.network.endpoints.items():
        with contextlib.suppress(NotFound):  # the network was removed
            network = network_of_endpoint(data, name, settings)
            if network.driver == "bridge":
                bridge = open_bridge(data, runtime, network)
                own = [endpoint for endpoint in bridge.endpoints() if endpoint.container_id == record.id]
                joined += [JoinedNetwork(network, bridge, endpoint, settings) for endpoint in own]
    return sorted(joined, key=lambda joined_network: joined_network.endpoint.interface)


def _free_interface(joined: Sequence[JoinedNetwork]) -> str:
    names = {joined_network.endpoint.interface for joined_network in joined}
    return next(name for name in map("eth{}".format, range(len(names) + 1)) if name not in names)


def _use_exit(runtime: Runtime, record: ContainerRecord, joined: Sequence[JoinedNetwork]) -> Json:
    """Move the default route and the published ports to the exit network; return NetworkSettings.Ports."""
    if exit_ := exit_network(joined):
        exit_.bridge.set_default_route(exit_.endpoint, record.pid)
    published: list[ports.PublishedPort] = []
    if port_requests(record):
        runtime.bridge.ports.withdraw(record.id)
        published = publish(runtime, record, joined)
    return ports_document(record, published)
