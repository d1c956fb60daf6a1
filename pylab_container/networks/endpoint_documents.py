"""Docker's documents about a container's networks: EndpointSettings and NetworkSettings (Engine API 1.41).

NetworkSettings.Networks has one endpoint for each network. Before the start an endpoint says what was requested
(IPAMConfig, Aliases, Links); while the container runs, also what it was given.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pylab_container.networks.addresses import parse_address, parse_mac
from pylab_container.networks.link_variables import link_pairs
from pylab_container.networks.network_record import NetworkRecord
from pylab_container.oci.image import Json
from pylab_container.text.visible import check_line

if TYPE_CHECKING:
    from pylab_container.runtime.network import Endpoint

DESIRED = "DesiredMacAddress"
"""The field of an endpoint with the requested hardware address; inspect does not show it."""

_REQUESTED_FIELDS = ("IPAMConfig", "Links", "Aliases", "NetworkID", "DriverOpts", DESIRED)
"""The fields of an endpoint that outlive a run."""

_LEGACY = (
    "EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen IPAddress IPPrefixLen IPv6Gateway MacAddress".split()
)
"""The fields of NetworkSettings itself, from before a container could have several networks: the default bridge's."""

_WITHOUT_NETWORK: Json = {
    "Bridge": "",
    "SandboxID": "",
    "HairpinMode": False,
    "LinkLocalIPv6Address": "",
    "LinkLocalIPv6PrefixLen": 0,
    "Ports": {},
    "SandboxKey": "",
    "SecondaryIPAddresses": None,
    "SecondaryIPv6Addresses": None,
}
"""NetworkSettings of a container without a network."""


def endpoint_request(
    *,
    aliases: Sequence[str] = (),
    links: Mapping[str, str] | Sequence[str] = (),
    ipv4_address: str = "",
    ipv6_address: str = "",
    link_local_ips: Sequence[str] = (),
    driver_opt: Mapping[str, str] | None = None,
    mac_address: str = "",
) -> Json:
    """Build an endpoint as Docker's NetworkingConfig has it, before the start. Raises InvalidInput."""
    chosen = {"IPv4Address": ipv4_address, "IPv6Address": ipv6_address, "LinkLocalIPs": list(link_local_ips)}
    addresses = ((ipv4_address, 4), (ipv6_address, 6), *((address, None) for address in link_local_ips))
    for text, version in addresses:
        if text:
            parse_address(text, version)
    return {
        "IPAMConfig": {name: value for name, value in chosen.items() if value} or None,
        "Links": [":".join(pair) for pair in link_pairs(links)] or None,
        "Aliases": [check_line(alias, "network alias") for alias in aliases] or None,
        "DriverOpts": dict(driver_opt) if driver_opt else None,
        **({DESIRED: parse_mac(mac_address), "MacAddress": mac_address} if mac_address else {}),
    }


def endpoint_document(
    request: Json, *, network: NetworkRecord | None = None, endpoint: Endpoint | None = None, own: Sequence[str] = ()
) -> Json:
    """Build Docker's EndpointSettings: what was requested and, with an endpoint, what the container was given.

    own  the aliases that the container has on every network of users
    """
    aliases = [name for name in request.get("Aliases") or () if name not in own]
    if network is not None and not network.is_predefined:
        aliases += dict.fromkeys(own)
    return {
        "IPAMConfig": request.get("IPAMConfig"),
        "Links": request.get("Links"),
        "Aliases": aliases or None,
        "NetworkID": network.id if network else str(request.get("NetworkID") or ""),
        "EndpointID": secrets.token_hex(32) if endpoint else "",
        "Gateway": endpoint.gateway if endpoint else "",
        "IPAddress": endpoint.address if endpoint else "",
        "IPPrefixLen": endpoint.prefix_length if endpoint else 0,
        "IPv6Gateway": endpoint.gateway6 if endpoint else "",
        "GlobalIPv6Address": endpoint.address6 if endpoint else "",
        "GlobalIPv6PrefixLen": endpoint.prefix_length6 if endpoint else 0,
        "MacAddress": endpoint.mac if endpoint else str(request.get(DESIRED) or ""),
        "DriverOpts": request.get("DriverOpts"),
        **({DESIRED: request[DESIRED]} if request.get(DESIRED) else {}),
    }


def running_settings(pid: int, endpoints: Json, ports: Json) -> Json:
    """Build NetworkSettings of a running container.

    pid        of its first process
    endpoints  {name of the network: EndpointSettings}
    ports      {"80/tcp": [{"HostIp": …, "HostPort": …}] or None}
    """
    own = {"SandboxID": secrets.token_hex(32), "Ports": ports, "SandboxKey": f"/proc/{pid}/ns/net"}
    return with_endpoints({**_WITHOUT_NETWORK, **own}, endpoints)


def with_endpoints(settings: Json, endpoints: Json) -> Json:
    """Return NetworkSettings with other endpoints."""
    default = endpoints.get("bridge") or endpoint_document({})
    legacy = {field: default[field] for field in _LEGACY if field in default}
    return {**settings, **legacy, "Networks": endpoints}


def settings_after_exit(settings: Json) -> Json:
    """Reduce NetworkSettings to what outlives a run: the networks, and what was requested on them."""
    requests = {
        name: {field: endpoint[field] for field in _REQUESTED_FIELDS if field in (endpoint or {})}
        for name, endpoint in (settings.get("Networks") or {}).items()
    }
    return {"Networks": requests} if requests else {}


def complete_settings(settings: Json) -> Json:
    """Return NetworkSettings with every field that inspect shows, also of a container that does not run."""
    endpoints = {
        name: {**endpoint_document({}), **(endpoint or {})}
        for name, endpoint in (settings.get("Networks") or {}).items()
    }
    for endpoint in endpoints.values():
        endpoint.pop(DESIRED, None)
    return with_endpoints({**_WITHOUT_NETWORK, **settings}, endpoints)
