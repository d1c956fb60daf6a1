"""Parse and choose the subnets and addresses of networks. Pure: subnets and addresses in use are parameters."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TypeVar

from pylab_container.errors import Conflict, InvalidInput
from pylab_container.text.address import parse_ip, parse_network
from pylab_container.text.visible import visible

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Network = TypeVar("_Network", ipaddress.IPv4Network, ipaddress.IPv6Network)

FEWEST_ADDRESSES = 4
"""The size of the smallest subnet: its own address, the gateway, one container, and the broadcast address."""

# Docker's default address pools, in Docker's order (ipamutils in libnetwork).
SUBNETS = tuple(ipaddress.IPv4Network(f"172.{second}.0.0/16") for second in range(17, 32)) + tuple(
    ipaddress.IPv4Network("192.168.0.0/16").subnets(new_prefix=20)
)


def parse_subnet(text: str) -> ipaddress.IPv4Network:
    """Parse an IPv4 subnet with room for a gateway and a container. Raises InvalidInput."""
    try:
        subnet = parse_network(text)
    except ValueError:
        subnet = None
    if not isinstance(subnet, ipaddress.IPv4Network):
        raise InvalidInput(f"invalid CIDR address: {visible(text)}", hint="write an IPv4 subnet as 172.20.0.0/16")
    return _with_room(subnet)


def parse_subnet6(text: str) -> ipaddress.IPv6Network:
    """Parse an IPv6 subnet with room for a gateway and a container. Raises InvalidInput."""
    try:
        subnet = parse_network(text)
    except ValueError:
        subnet = None
    if not isinstance(subnet, ipaddress.IPv6Network):
        raise InvalidInput(f"invalid CIDR address: {visible(text)}", hint="write an IPv6 subnet as fd00:1::/64")
    return _with_room(subnet)


def _with_room(subnet: _Network) -> _Network:
    if subnet.num_addresses < FEWEST_ADDRESSES:
        raise InvalidInput(f"the subnet {subnet} has no room for a gateway and a container", hint="use /30 or larger")
    return subnet


def parse_member(text: str, subnet: Network, *, what: str) -> Address:
    """Parse the address of a host in a subnet. what: the purpose of the address, for the hint. Raises InvalidInput."""
    try:
        address = parse_ip(text)
    except ValueError:
        raise InvalidInput(f"{visible(text)} is not an IP address", hint=f"{what}: choose one in {subnet}") from None
    edges = (subnet.network_address, subnet.broadcast_address)
    if address.version != subnet.version or address not in subnet or address in edges:
        raise InvalidInput(f"{address} is not the address of a host in {subnet}", hint=f"{what}: choose another")
    return address


def parse_range(text: str, subnet: Network) -> Network:
    """Parse the part of a subnet from which containers get their addresses. Raises InvalidInput."""
    try:
        part = parse_network(text)
    except ValueError:
        raise InvalidInput(f"invalid CIDR address: {visible(text)}", hint="write a range as 172.20.5.0/24") from None
    if part.version != subnet.version or not part.subnet_of(subnet):  # type: ignore[arg-type]
        raise InvalidInput(f"the range {part} is not within the subnet {subnet}", hint="choose a part of it")
    return part


def free_subnet(requested: ipaddress.IPv4Network | None, used: Iterable[str]) -> ipaddress.IPv4Network:
    """Return the requested subnet, by default the first free one of Docker's list. used: subnets in use.

    Raises Conflict if the requested subnet, or each one of the list, overlaps with a used subnet.
    """
    others = [ipaddress.IPv4Network(text) for text in used]
    for subnet in SUBNETS if requested is None else (requested,):
        if not any(subnet.overlaps(other) for other in others):
            return subnet
    if requested is not None:
        raise Conflict(
            f"the host already has a route into {requested}", hint="choose another subnet (ip route lists them)"
        )
    raise Conflict("every private subnet overlaps with a route of the host", hint="give the network a subnet")


def choose(requested: str | None, subnet: Network, pool: Network, taken: Iterable[str]) -> str:
    """Return the requested address of a subnet, by default the lowest free address of the pool.

    pool   the subnet, or a part of it
    taken  addresses in use

    Raises Conflict if the address is taken or the pool has no free address, InvalidInput for an invalid address.
    """
    unavailable = {ipaddress.ip_address(address) for address in taken}
    if requested is not None:
        address = parse_member(requested, subnet, what="--ip")
        if address in unavailable:
            raise Conflict(
                f"Address already in use: {address}", hint="leave the choice to the network, or choose another"
            )
        return str(address)
    edges = (subnet.network_address, subnet.broadcast_address)
    for candidate in pool:
        if candidate not in unavailable and candidate not in edges:
            return str(candidate)
    raise Conflict(f"no address is free in {pool}", hint="remove containers that you do not need")


def mac(address: str) -> str:
    """The MAC address for an IPv4 address by Docker's rule: 02:42, then the address's four bytes.

    The bit 0x02 of the first byte marks a locally administered address.
    """
    return "02:42:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)
