"""Resolve names on users' networks: the addresses that a container gets for a name.

Docker's rules: a container resolves the names on its own networks, alone or followed by the network's name. The alias
of a link takes precedence over all names. Names are case-insensitive. Source: libnetwork's sandbox.go, network.go and
resolver.go (moby 20.10).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator

from msgspec import Struct, field


class NetworkMembership(Struct, frozen=True, kw_only=True):
    """A container on one network.

    network    the network's name
    names      the container's name, then its aliases
    addresses  the IPv4 address, and the IPv6 address if it has one
    links      {alias of a link: a name of the linked container}
    """

    network: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    links: dict[str, str] = field(default_factory=dict)


class UpstreamServer(Struct, frozen=True):
    """A name server for all other names. on_host: it is only reachable from the host's network namespace."""

    address: str
    on_host: bool


class DnsClient(Struct, frozen=True, kw_only=True):
    """A running container on users' networks, as the name server knows it.

    pid            the container's first process
    namespace      the inode of its network namespace
    memberships    {network id: the container's membership}
    servers        the upstream servers, in the order in which to try them
    single_labels  whether to forward names without a dot to them
    """

    pid: int
    namespace: int
    # The field is called "places" in the files: an older version may have written those of running containers.
    memberships: dict[str, NetworkMembership] = field(name="places")
    servers: tuple[UpstreamServer, ...] = ()
    single_labels: bool = True


def addresses(client: DnsClient, clients: Collection[DnsClient], name: str) -> list[str] | None:
    """All IPv4 and IPv6 addresses for a name, as client sees it; None if the name is unknown."""
    for host_name, network in _interpretations(name.lower()):
        memberships = [
            (network_id, membership)
            for network_id, membership in client.memberships.items()
            if not network or membership.network.lower() == network
        ]
        links = [(id_, member.links[host_name]) for id_, member in memberships if host_name in member.links]
        names = [(id_, host_name) for id_, member in memberships if host_name not in member.links]
        for network_id, target in (*links, *names):
            if matches := _addresses_on(network_id, clients, target.lower()):
                return matches
    return None


def name_of(client: DnsClient, clients: Collection[DnsClient], pointer: str) -> str | None:
    """Reverse lookup: NAME.NETWORK for a name below in-addr.arpa or ip6.arpa, None for an unknown address."""
    for network_id in client.memberships:
        for member in _members(network_id, clients):
            if any(ipaddress.ip_address(address).reverse_pointer == pointer.lower() for address in member.addresses):
                return f"{member.names[0]}.{member.network}"
    return None


def _interpretations(name: str) -> Iterator[tuple[str, str]]:
    """All possible meanings of a name as (host name, network). The network is "" if the name has none."""
    # Both host names and networks may contain dots. The longest host name takes precedence.
    yield name, ""
    for position in range(len(name) - 1, 0, -1):
        if name[position] == ".":
            yield name[:position], name[position + 1 :]


def _members(network_id: str, clients: Collection[DnsClient]) -> Iterator[NetworkMembership]:
    return (client.memberships[network_id] for client in clients if network_id in client.memberships)


def _addresses_on(network_id: str, clients: Collection[DnsClient], name: str) -> list[str]:
    members = _members(network_id, clients)
    return [address for member in members if name in map(str.lower, member.names) for address in member.addresses]
