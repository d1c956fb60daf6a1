"""Docker's EndpointSettings and NetworkSettings of a container (Engine API 1.41).

NetworkSettings.Networks has one endpoint for each network. Before the start an endpoint has only the request
(IPAMConfig, Aliases, Links). While the container runs, it also has the assigned addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pylab_container.host.random_ids import random_hex
from pylab_container.networks.addresses import parse_address, parse_mac
from pylab_container.networks.link_variables import link_pairs
from pylab_container.networks.network_record import NetworkRecord
from pylab_container.oci.image import Json
from pylab_container.oci.network_settings import EndpointIpam, EndpointSettings, NetworkSettings
from pylab_container.text.visible import check_line

if TYPE_CHECKING:
    from pylab_container.runtime.network import Endpoint


def endpoint_request(
    *,
    aliases: Sequence[str] = (),
    links: Mapping[str, str] | Sequence[str] = (),
    ipv4_address: str = "",
    ipv6_address: str = "",
    link_local_ips: Sequence[str] = (),
    driver_opt: Mapping[str, str] | None = None,
    mac_address: str = "",
) -> EndpointSettings:
    """Build the endpoint of a container that has not started, as in Docker's NetworkingConfig. Raises InvalidInput."""
    addresses = ((ipv4_address, 4), (ipv6_address, 6), *((address, None) for address in link_local_ips))
    for text, version in addresses:
        if text:
            parse_address(text, version)
    chosen = EndpointIpam(ipv4_address=ipv4_address, ipv6_address=ipv6_address, link_local_ips=tuple(link_local_ips))
    return EndpointSettings(
        ipam_config=chosen if chosen.document() else None,
        links=tuple(":".join(pair) for pair in link_pairs(links)),
        aliases=tuple(check_line(alias, "network alias") for alias in aliases),
        driver_opts=dict(driver_opt or {}),
        desired_mac_address=parse_mac(mac_address) if mac_address else "",
        mac_address=mac_address,
    )


def endpoint_settings(
    request: EndpointSettings,
    *,
    network: NetworkRecord | None = None,
    endpoint: Endpoint | None = None,
    own_aliases: Sequence[str] = (),
) -> EndpointSettings:
    """Build the endpoint document of a request.

    endpoint     the container's connection to the bridge: its addresses are added. None before the start
    own_aliases  the aliases that the container has on every network of users
    """
    aliases = [name for name in request.aliases if name not in own_aliases]
    if network is not None and not network.is_predefined:
        aliases += dict.fromkeys(own_aliases)
    settings = replace(
        endpoint_after_exit(request),
        aliases=tuple(aliases),
        network_id=network.id if network else request.network_id,
        mac_address=request.desired_mac_address,
    )
    if endpoint is None:
        return settings
    return replace(
        settings,
        endpoint_id=random_hex(32),
        gateway=endpoint.gateway,
        ip_address=endpoint.address,
        ip_prefix_len=endpoint.prefix_length,
        ipv6_gateway=endpoint.gateway6,
        global_ipv6_address=endpoint.address6,
        global_ipv6_prefix_len=endpoint.prefix_length6,
        mac_address=endpoint.mac,
    )


def running_settings(pid: int, endpoints: Mapping[str, EndpointSettings], ports: Json) -> NetworkSettings:
    """Build NetworkSettings of a running container.

    pid        of the container's first process
    endpoints  {name of the network: EndpointSettings}
    ports      {"80/tcp": [{"HostIp": …, "HostPort": …}] or None}
    """
    settings = NetworkSettings(
        sandbox_id=random_hex(32), ports=ports, sandbox_key=f"/proc/{pid}/ns/net", missing=frozenset()
    )
    return with_endpoints(settings, endpoints)


def with_endpoints(settings: NetworkSettings, endpoints: Mapping[str, EndpointSettings]) -> NetworkSettings:
    """Return NetworkSettings with other endpoints."""
    # NetworkSettings itself repeats the endpoint on the network "bridge", which older clients read (Engine API 1.41).
    default = endpoints.get("bridge") or EndpointSettings()
    return replace(
        settings,
        networks=endpoints,
        endpoint_id=default.endpoint_id,
        gateway=default.gateway,
        global_ipv6_address=default.global_ipv6_address,
        global_ipv6_prefix_len=default.global_ipv6_prefix_len,
        ip_address=default.ip_address,
        ip_prefix_len=default.ip_prefix_len,
        ipv6_gateway=default.ipv6_gateway,
        mac_address=default.mac_address,
    )


def settings_after_exit(settings: NetworkSettings) -> NetworkSettings:
    """Reduce NetworkSettings to the networks and the requests for them; the assigned addresses end with the run."""
    return NetworkSettings(
        networks={name: endpoint_after_exit(endpoint) for name, endpoint in settings.endpoints.items()}
    )


def endpoint_after_exit(endpoint: EndpointSettings) -> EndpointSettings:
    """Reduce an endpoint to what was requested, and the network's id."""
    completed = endpoint.completed()
    return EndpointSettings(
        ipam_config=completed.ipam_config,
        links=completed.links,
        aliases=completed.aliases,
        network_id=completed.network_id,
        driver_opts=completed.driver_opts,
        desired_mac_address=completed.desired_mac_address,
        nulls=completed.nulls | {"Aliases"},
    )


def complete_settings(settings: NetworkSettings) -> Json:
    """Return NetworkSettings with every field that inspect shows, also fields that only a running container has."""
    complete = with_endpoints(replace(settings, missing=frozenset()), settings.endpoints)
    shown = {name: endpoint.shown() for name, endpoint in settings.endpoints.items()}
    return {**complete.document(), "Networks": shown}
