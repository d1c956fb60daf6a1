"""Which subnets and addresses a network may have: pure choices out of what is taken."""

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

# Docker's own choice and order: 172.17.0.0/16 to 172.31.0.0/16, then pieces of 192.168.0.0/16.
SUBNETS = tuple(ipaddress.IPv4Network(f"172.{second}.0.0/16") for second in range(17, 32)) + tuple(
    ipaddress.IPv4Network("192.168.0.0/16").subnets(new_prefix=20)
)


def parse_subnet(text: str) -> ipaddress.IPv4Network:
    """An IPv4 subnet with room for a gateway and a container. Raises InvalidInput."""
    try:
        subnet = parse_network(text)
    except ValueError:
        subnet = None
    if not isinstance(subnet, ipaddress.IPv4Network):
        raise InvalidInput(f"invalid CIDR address: {visible(text)}", hint="write an IPv4 subnet as 172.20.0.0/16")
    return _with_room(subnet)


def parse_subnet6(text: str) -> ipaddress.IPv6Network:
    """An IPv6 subnet with room for a gateway and a container. Raises InvalidInput."""
    try:
        subnet = parse_network(text)
    except ValueError:
        subnet = None
    if not isinstance(subnet, ipaddress.IPv6Network):
        raise InvalidInput(f"invalid CIDR address: {visible(text)}", hint="write an IPv6 subnet as fd00:1::/64")
    return _with_room(subnet)


def _with_room(subnet: _Network) -> _Network:
    if subnet.num_addresses < 4:
        raise InvalidInput(f"the subnet {subnet} has no room for a gateway and a container", hint="use /30 or larger")
    return subnet


def parse_member(text: str, subnet: Network, *, what: str) -> Address:
    """An address of a host in a subnet; `what` it is meant for goes into the error. Raises InvalidInput."""
    try:
        address = parse_ip(text)
    except ValueError:
        raise InvalidInput(f"{visible(text)} is not an IP address", hint=f"{what}: choose one in {subnet}") from None
    edges = (subnet.network_address, subnet.broadcast_address)
    if address.version != subnet.version or address not in subnet or address in edges:
        raise InvalidInput(f"{address} is not the address of a host in {subnet}", hint=f"{what}: choose another")
    return address


def parse_range(text: str, subnet: Network) -> Network:
    """A part of a subnet, from which addresses are given. Raises InvalidInput."""
    try:
        part = parse_network(text)
    except ValueError:
        raise InvalidInput(f"invalid CIDR address: {visible(text)}", hint="write a range as 172.20.5.0/24") from None
    if part.version != subnet.version or not part.subnet_of(subnet):  # type: ignore[arg-type]
        raise InvalidInput(f"the range {part} is not within the subnet {subnet}", hint="choose a part of it")
    return part


def free_subnet(wanted: ipaddress.IPv4Network | None, used: Iterable[str]) -> ipaddress.IPv4Network:
    """The wanted subnet, or else the first of Docker's list, that overlaps with nothing in use on the host."""
    others = [ipaddress.IPv4Network(text) for text in used]
    for subnet in SUBNETS if wanted is None else (wanted,):
        if not any(subnet.overlaps(other) for other in others):
            return subnet
    if wanted is not None:
        raise Conflict(
            f"the host already has a route into {wanted}", hint="choose another subnet (ip route lists them)"
        )
    raise Conflict("every private subnet overlaps with a route of the host", hint="give the network a subnet")


def choose(wanted: str | None, subnet: Network, pool: Network, taken: Iterable[str]) -> str:
    """The wanted address, or the lowest free one of the pool, which is the subnet or a part of it.

    Raises Conflict for one that is taken, or when none is free; InvalidInput for one that cannot be.
    """
    unavailable = {ipaddress.ip_address(address) for address in taken}
    if wanted is not None:
        address = parse_member(wanted, subnet, what="--ip")
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
    """Docker's rule: 02:42 (locally administered), then the four bytes of the IPv4 address."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)
