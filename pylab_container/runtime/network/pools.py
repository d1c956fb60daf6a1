"""The address pools of a new network: checked, completed, apart from what is in use."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence

from pylab_container.errors import Conflict, InvalidInput
from pylab_container.runtime.network import addresses
from pylab_container.runtime.network.netlink import Netlink

Pool = dict[str, str]

# Docker's default bridge has the first one; a network of a user is not to take it first.
_RESERVED = "172.17.0.0/16"


def plan_pools(wanted: Sequence[Mapping[str, str]], used: Iterable[str], *, enable_ipv6: bool) -> list[Pool]:
    """Docker's IPAM.Config of a new network: Subnet, Gateway and where it was given IPRange.

    wanted  the same, as far as the user chose; an IPv4 subnet is chosen where none is given
    used    the subnets of other networks; those that the host has routes into are found out here

    Raises InvalidInput for what cannot be, Conflict for what is in use.
    """
    fours, sixes = ([pool for pool in wanted if (":" in pool.get("Subnet", "")) is six] for six in (False, True))
    if len(fours) > 1 or len(sixes) > 1:
        raise InvalidInput("a bridge has one IPv4 and one IPv6 subnet", hint="make a second network")
    if sixes and not enable_ipv6:
        raise InvalidInput(f"the subnet {sixes[0]['Subnet']} needs IPv6", hint="give --ipv6, too")
    if enable_ipv6 and not sixes:
        raise InvalidInput(
            "could not find an available, non-overlapping IPv6 address pool among the defaults to assign to the "
            "network",
            hint="give one with --subnet, such as fd00:1::/64",
        )
    others = [ipaddress.ip_network(text) for text in used]
    with Netlink() as kernel:
        routes = [network for network, _ in kernel.routes(socket.AF_INET) if network]
    return [_four(fours[0] if fours else {}, others, routes), *(_six(pool, others) for pool in sixes)]


def _four(pool: Mapping[str, str], others: Sequence[addresses.Network], routes: Sequence[str]) -> Pool:
    wanted = addresses.parse_subnet(pool["Subnet"]) if pool.get("Subnet") else None
    if wanted is not None:
        _refuse_overlap(wanted, others)
        subnet = addresses.free_subnet(wanted, routes)
    else:
        in_use = [str(other) for other in others if other.version == 4]
        subnet = addresses.free_subnet(None, [_RESERVED, *in_use, *routes])
    return _completed(pool, subnet)


def _six(pool: Mapping[str, str], others: Sequence[addresses.Network]) -> Pool:
    subnet = addresses.parse_subnet6(pool["Subnet"])
    _refuse_overlap(subnet, others)
    return _completed(pool, subnet)


def _refuse_overlap(subnet: addresses.Network, others: Sequence[addresses.Network]) -> None:
    for other in others:
        if other.version == subnet.version and subnet.overlaps(other):
            raise Conflict(
                "Pool overlaps with other one on this address space", hint=f"{other} is in use: choose another subnet"
            )


def _completed(pool: Mapping[str, str], subnet: addresses.Network) -> Pool:
    gateway = pool.get("Gateway") or str(subnet.network_address + 1)
    completed = {"Subnet": str(subnet), "Gateway": str(addresses.parse_member(gateway, subnet, what="gateway"))}
    if pool.get("IPRange"):
        completed["IPRange"] = str(addresses.parse_range(pool["IPRange"], subnet))
    return completed
