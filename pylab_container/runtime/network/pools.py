"""Plan the address pools of a new network: check and complete the requested pools, avoid subnets that are in use."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pylab_container.errors import Forbidden, InvalidInput
from pylab_container.runtime.network import addresses
from pylab_container.runtime.network.netlink import Netlink

Pool = dict[str, Any]

# Docker's default bridge takes this subnet, so a user's network never gets it by default.
_DEFAULT_BRIDGE_SUBNET = "172.17.0.0/16"


def plan_pools(
    requested: Sequence[Mapping[str, Any]], used: Iterable[str], *, enable_ipv6: bool, bridge: str = ""
) -> list[Pool]:
    """Build Docker's IPAM.Config of a new network.

    Each pool has Subnet and Gateway; if they were requested, also IPRange and AuxiliaryAddresses.

    requested  the user's pools, with any of these keys. Without an IPv4 subnet a free one is chosen. An IPv6 subnet
               without enable_ipv6 is only recorded, as in Docker
    used       the subnets of other networks; this function reads the host's routes itself
    bridge     name of the bridge that the user chose, "" for none. If it exists, the network adopts its addresses

    Raises InvalidInput for an invalid value, Conflict for a subnet that the host uses, and Forbidden for one that
    another network uses.
    """
    pools6 = [pool for pool in requested if ":" in pool.get("Subnet", "")]
    pools4 = [pool for pool in requested if ":" not in pool.get("Subnet", "")]
    if len(pools4) > 1 or len(pools6) > 1:
        raise Forbidden("bridge driver doesn't support multiple subnets", hint="create a second network")
    if enable_ipv6 and not pools6:
        raise InvalidInput(
            "could not find an available, non-overlapping IPv6 address pool among the defaults to assign to the "
            "network",
            hint="give one with --subnet, such as fd00:1::/64",
        )
    others = [ipaddress.ip_network(text) for text in used]
    with Netlink() as kernel:
        link = kernel.link(bridge) if bridge else None
        # The chosen bridge's own route does not count: the network adopts its subnet.
        own_index = link.index if link else 0
        routes = [network for network, index in kernel.routes(socket.AF_INET) if network and index != own_index]
        present = (
            [ipaddress.ip_interface(text) for text in kernel.addresses(link.index, socket.AF_UNSPEC)] if link else []
        )
    pool4 = _adopt_addresses(pools4[0] if pools4 else {}, [address for address in present if address.version == 4])
    return [
        _plan4(pool4, others, routes),
        *(_plan6(_adopt_addresses(pool, present), others) if enable_ipv6 else dict(pool) for pool in pools6),
    ]


def _adopt_addresses(
    pool: Mapping[str, Any], present: Sequence[ipaddress.IPv4Interface | ipaddress.IPv6Interface]
) -> Pool:
    """Complete a pool's missing gateway and subnet from the addresses of the chosen bridge."""
    matching = [address for address in present if pool.get("Subnet") in (None, "", str(address.network))]
    if pool.get("Gateway") or not matching or matching[0].network.num_addresses < addresses.FEWEST_ADDRESSES:
        return dict(pool)
    return {**pool, "Subnet": str(matching[0].network), "Gateway": str(matching[0].ip)}


def _plan4(pool: Mapping[str, Any], others: Sequence[addresses.Network], routes: Sequence[str]) -> Pool:
    requested = addresses.parse_subnet(pool["Subnet"]) if pool.get("Subnet") else None
    if requested is not None:
        _refuse_overlap(requested, others)
        subnet = addresses.free_subnet(requested, routes)
    else:
        in_use = [str(other) for other in others if other.version == 4]
        subnet = addresses.free_subnet(None, [_DEFAULT_BRIDGE_SUBNET, *in_use, *routes])
    return _completed(pool, subnet)


def _plan6(pool: Mapping[str, Any], others: Sequence[addresses.Network]) -> Pool:
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
