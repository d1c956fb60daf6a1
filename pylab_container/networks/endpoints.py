"""A container's networks at its start and its exit: interfaces, names and published ports.

attachment.py connects a container to a single network, or disconnects it from one, while it exists.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import Conflict, InvalidInput, NotFound
from pylab_container.networks import dns_records, links
from pylab_container.networks.addresses import refuse_on_predefined
from pylab_container.networks.bridge_options import bridge_options
from pylab_container.networks.bridges import open_bridge
from pylab_container.networks.container_files import write_network_files
from pylab_container.networks.endpoint_documents import endpoint_settings, running_settings
from pylab_container.networks.links import LinkedContainer
from pylab_container.networks.lookup import all_networks, find_network, network_of_endpoint
from pylab_container.networks.network_record import NetworkRecord
from pylab_container.oci import ports
from pylab_container.oci.image import Json
from pylab_container.oci.network_settings import EndpointIpam, EndpointSettings, NetworkSettings
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot

if TYPE_CHECKING:
    from pylab_container.runtime.network import Bridge, Endpoint


class JoinedNetwork(Struct, frozen=True):
    """A network that a container is connected to.

    endpoint  the container's interface on the bridge
    settings  the same, as Docker's EndpointSettings
    """

    network: NetworkRecord
    bridge: Bridge
    endpoint: Endpoint
    settings: EndpointSettings


def has_bridges(record: ContainerRecord) -> bool:
    """Whether the container has interfaces of its own: not with the network none, the host's or another container's."""
    mode = record.host_config.network
    return mode not in ("host", "none") and not mode.startswith("container:")


def connect_all(
    data: DataRoot, runtime: Runtime, record: ContainerRecord, pid: int, linked: Sequence[LinkedContainer] = ()
) -> NetworkSettings:
    """Connect a container to its networks, with names and ports; return NetworkSettings.

    pid     the container's first process, whose network namespace gets the interfaces
    linked  the containers that it is linked to

    Raises NotFound for a removed network, Conflict for an address or a port that is in use, InvalidInput. After an
    error the container is not connected to any network.
    """
    if not has_bridges(record):
        return running_settings(pid, _endpoints_without_bridge(data, record), {})
    # The name server opens its sockets in the container's namespace while the interfaces are created.
    serving = dns_records.serve(data, runtime, replace(record, pid=pid))
    try:
        # The removal of a network takes this lock exclusively: no network disappears between look-up and connection.
        with data.networks.lock(shared=True):
            joined = _join_all(data, runtime, record, pid)
            published = publish(runtime, record, joined)
    except BaseException:
        disconnect_all(data, runtime, record)
        raise
    own_addresses = [address for joined_network in joined for address in addresses_of(joined_network.endpoint)]
    gateway, linked_lines = joined[0].endpoint.gateway, links.host_lines(linked)
    write_network_files(data, record, own_addresses, gateway=gateway, linked=linked_lines)
    # The hosts files of the containers that are linked to this one hold the address of its last run.
    for joined_network in joined:
        if joined_network.network.name == "bridge":
            links.update_linking_containers(data, record, joined_network.endpoint.address)
    endpoints = {joined_network.network.name: joined_network.settings for joined_network in joined}
    settings = running_settings(pid, endpoints, ports_document(record, published))
    # The records contain the addresses, which are known only now. The program starts after result(), so that its first
    # query is answered.
    if serving is not None:
        dns_records.update(data, runtime, replace(record, pid=pid, network=settings))
        serving.result()
    return settings


def _endpoints_without_bridge(data: DataRoot, record: ContainerRecord) -> dict[str, EndpointSettings]:
    """The endpoints of a container with the network none, the host's or another container's. Raises InvalidInput."""
    mode = record.host_config.network
    if mode.startswith("container:"):
        return {}
    refuse_request(find_network(data, mode), record.network.endpoints.get(mode, EndpointSettings()))
    return {mode: EndpointSettings()}


def _join_all(data: DataRoot, runtime: Runtime, record: ContainerRecord, pid: int) -> list[JoinedNetwork]:
    """Connect a container to the networks of its record. The network that it was created with becomes eth0."""
    first = record.host_config.network
    requests = record.network.endpoints or {first: EndpointSettings()}
    names = sorted(requests, key=lambda name: name != first)
    networks = [(network_of_endpoint(data, name, requests[name]), requests[name]) for name in names]
    exit_id = min((network for network, _ in networks), key=_exit_rank).id
    joined: list[JoinedNetwork] = []
    for network, request in networks:
        refuse_request(network, request)
        bridge, interface = open_bridge(data, runtime, network), f"eth{len(joined)}"
        joined.append(join(network, bridge, record, request, pid, interface, leads_out=network.id == exit_id))
    return joined


def join(
    network: NetworkRecord,
    bridge: Bridge,
    record: ContainerRecord,
    request: EndpointSettings,
    pid: int,
    interface: str,
    *,
    leads_out: bool,
) -> JoinedNetwork:
    """Connect the container with the process pid to one network.

    request    the endpoint before the start (endpoint_documents.py)
    leads_out  whether this network gets the default route
    """
    chosen = request.ipam_config or EndpointIpam()
    endpoint = bridge.connect(
        record.id,
        pid,
        interface=interface,
        address=chosen.ipv4_address or None,
        address6=(chosen.ipv6_address or None) if network.document["EnableIPv6"] else None,
        mac=request.desired_mac_address or (record.config.mac_address if interface == "eth0" else ""),
        link_local=chosen.link_local_ips,
        default_route=leads_out,
    )
    own = (record.short_id, record.config.hostname or record.short_id)
    settings = endpoint_settings(request, network=network, endpoint=endpoint, own_aliases=own)
    return JoinedNetwork(network, bridge, endpoint, settings)


def refuse_request(network: NetworkRecord, request: EndpointSettings) -> None:
    """Raise InvalidInput for an endpoint request that the network cannot fulfil."""
    chosen = request.ipam_config or EndpointIpam()
    addresses = chosen.ipv4_address or chosen.ipv6_address
    if network.is_predefined:
        refuse_on_predefined(addresses=addresses, aliases=request.aliases)
    if addresses and not network.has_chosen_subnet:
        raise InvalidInput(
            "user specified IP address is supported only when connecting to networks with user configured subnets",
            hint="labctr network create --subnet",
        )
    for text in chosen.link_local_ips:
        import ipaddress  # importing it takes milliseconds that most containers do not need

        if not ipaddress.ip_address(text).is_link_local:
            raise InvalidInput(f"invalid link local IP address: {text}", hint="write 169.254.x.y, or fe80::…")


def exit_network(joined: Iterable[JoinedNetwork]) -> JoinedNetwork | None:
    """Return the network of the default route and the published ports."""
    return min(joined, key=lambda joined_network: _exit_rank(joined_network.network), default=None)


def _exit_rank(network: NetworkRecord) -> tuple[bool, str]:
    """The sort key of a container's networks: the first one gets the default route."""
    # As in libnetwork: by name, and an internal network, which has no way out, only if all networks are internal.
    return network.internal, network.name


def addresses_of(endpoint: Endpoint) -> list[str]:
    """Return the addresses of an endpoint, IPv4 first."""
    return [address for address in (endpoint.address, endpoint.address6) if address]


# -- published ports -----------------------------------------------------------------------------


def publish(runtime: Runtime, record: ContainerRecord, joined: Sequence[JoinedNetwork]) -> list[ports.PublishedPort]:
    """Publish a container's ports over its exit network. Raises Conflict for a used port."""
    exit_ = exit_network(joined)
    if exit_ is None or exit_.network.internal:
        return []
    binding = bridge_options(exit_.network.document["Options"]).binding
    requests = [replace(request, host_ip=request.host_ip or binding) for request in port_requests(record)]
    if not requests:
        return []
    endpoint = exit_.endpoint
    # Without hairpin mode a bridge does not send a frame back through the port that it came from (ip-link(8)), so the
    # container could not reach its own published port.
    exit_.bridge.enable_hairpin(endpoint)
    try:
        return runtime.bridge.ports.publish(record.id, requests, address=endpoint.address, address6=endpoint.address6)
    except Conflict as error:
        place = f"endpoint {record.name} ({exit_.settings.endpoint_id})"
        message = f"driver failed programming external connectivity on {place}: {error.message}"
        raise Conflict(message, hint=error.hint) from error


def port_requests(record: ContainerRecord) -> list[ports.PortRequest]:
    """Return the ports that a container publishes, of -p and -P."""
    host = record.host_config
    exposed = record.config.exposed_ports
    return ports.requests(exposed, host.port_bindings, publish_all=host.publish_all_ports)


def ports_document(record: ContainerRecord, published: Sequence[ports.PublishedPort]) -> Json:
    """Build NetworkSettings.Ports from the exposed and the published ports."""
    return ports.ports_document(record.config.exposed_ports, published)


# -- disconnecting -------------------------------------------------------------------------------


def disconnect_all(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> None:
    """Remove a container's interfaces, DNS records and published ports. Idempotent."""
    if not has_bridges(record):
        return
    dns_records.remove(runtime, record.id)
    if port_requests(record):
        runtime.bridge.ports.withdraw(record.id)
    # The record of a container that was never started may have no endpoints; it uses the network of its HostConfig.
    endpoints = {record.host_config.network: EndpointSettings(), **record.network.endpoints}
    for name, endpoint in endpoints.items():
        with contextlib.suppress(NotFound, InvalidInput):  # the network was removed
            network = network_of_endpoint(data, name, endpoint)
            open_bridge(data, runtime, network).disconnect(record.id)


def disconnect_unknown(data: DataRoot, runtime: Runtime, container_id: str) -> None:
    """Disconnect a container without a record from all networks."""
    dns_records.remove(runtime, container_id)
    runtime.bridge.ports.withdraw(container_id)
    for network in all_networks(data):
        if network.driver == "bridge":
            open_bridge(data, runtime, network).disconnect(container_id)
