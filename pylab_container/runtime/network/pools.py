"""The address pools of a new network: checked, completed, apart from what is in use."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pylab_container.errors import Forbidden, InvalidInput
from pylab_container.runtime.network import addresses
from pylab_container.runtime.network.netlink import Netlink

Pool = dict[str, Any]

# Docker's default bridge has the first one; a network of a user is not to take it first.
_RESERVED = "172.17.0.0/16"


def plan_pools(
    wanted: Sequence[Mapping[str, Any]], used: Iterable[str], *, enable_ipv6: bool, bridge: str = ""
) -> list[Pool]:
    """Docker's IPAM.Config of a new network: Subnet, Gateway and where they were given IPRange, AuxiliaryAddresses.

    wanted  the same, as far as the user chose; an IPv4 subnet is chosen where none is given. An IPv6 one without
            enable_ipv6 is only recorded, as in Docker.
    used    the subnets of other networks; those that the host has routes into are found out here
    bridge  the name that the user chose, "" for a new one: the addresses of one that exists are taken

    Raises InvalidInput for what cannot be, Conflict (Forbidden where it is another network's) for what is in use.
    """
    fours, sixes = ([pool for pool in wanted if (":" in pool.get("Subnet", "")) is six] for six in (False, True))
    if len(fours) > 1 or len(sixes) > 1:
        raise Forbidden("bridge driver doesn't support multiple subnets", hint="make a second network")
    if enable_ipv6 and not sixes:
        raise InvalidInput(
            "could not find an available, non-overlapping IPv6 address pool among the defaults to assign to the "
            "network",
            hint="give one with --subnet, such as fd00:1::/64",
        )
    others = [ipaddress.ip_network(text) for text in used]
    with Netlink() as kernel:
        link = kernel.link(bridge) if bridge else None
        routes = [one for one, index in kernel.routes(socket.AF_INET) if one and not (link and link.index == index)]
        present = (
            [ipaddress.ip_interface(text) for text in kernel.addresses(link.index, socket.AF_UNSPEC)] if link else []
        )
    four = _with_addresses(fours[0] if fours else {}, [one for one in present if one.version == 4])
    return [
        _four(four, others, routes),
        *(_six(_with_addresses(pool, present), others) if enable_ipv6 else dict(pool) for pool in sixes),
    ]


def _with_addresses(
    pool: Mapping[str, Any], present: Sequence[ipaddress.IPv4Interface | ipaddress.IPv6Interface]
) -> Pool:
    """A pool with the gateway, or without a subnet also with the subnet, that the chosen bridge has already."""
    fitting = [one for one in present if pool.get("Subnet") in (None, "", str(one.network))]
    if pool.get("Gateway") or not fitting or fitting[0].network.num_addresses < 4:
        return dict(pool)
    return {**pool, "Subnet": str(fitting[0].network), "Gateway": str(fitting[0].ip)}


def _four(pool: Mapping[str, Any], others: Sequence[addresses.Network], routes: Sequence[str]) -> Pool:
    wanted = addresses.parse_subnet(pool["Subnet"]) if pool.get("Subnet") else None
    if wanted is not None:
        _refuse_overlap(wanted, others)
        subnet = addresses.free_subnet(wanted, routes)
    else:
        in_use = [str(other) for other in others if other.version == 4]
        subnet = addresses.free_subnet(None, [_RESERVED, *in_use, *routes])
    return _completed(pool, subnet)


def _six(pool: Mapping[str, Any], others: Sequence[addresses.Network]) -> Pool:
    subnet = addresses.parse_subnet6(pool["Subnet"])
    _refuse_overlap(subnet, others)
    return _completed(pool, subnet)


def _refuse_overlap(subnet: addresses.Network, others: Sequence[addresses.Network]) -> None:
    for other in others:
        if other.version == subnet.version and subnet.overlaps(other):
            raise Forbidden(
                "Pool overlaps with other one on this address space", hint=f"{other} is in use: choose another subnet"
            )


def _completed(pool: Mapping[str, Any], subnet: addresses.Network) -> Pool:
    gateway = pool.get("Gateway") or str(subnet.network_address + 1)
    completed: Pool = {"Subnet": str(subnet), "Gateway": str(addresses.parse_member(gateway, subnet, what="gateway"))}
    if pool.get("IPRange"):
        completed["IPRange"] = str(addresses.parse_range(pool["IPRange"], subnet))
    if reserved := pool.get("AuxiliaryAddresses"):
        completed["AuxiliaryAddresses"] = {name: _reserved(name, address, subnet) for name, address in reserved.items()}
    return completed


def _reserved(name: str, address: str, subnet: addresses.Network) -> str:
    try:
        return str(addresses.parse_member(address, subnet, what=f"aux-address {name}"))
    except InvalidInput as error:
        raise Forbidden(
            f"auxiliary address: ({name}:{address}) must belong to the master pool: {subnet}", hint=error.hint
        ) from None
