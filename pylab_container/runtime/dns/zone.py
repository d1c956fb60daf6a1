"""The names on users' networks: which addresses a container gets for a name.

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
    links      {alias of a link: a name of the container that it leads to}
    """

    network: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    links: dict[str, str] = field(default_factory=dict)


class UpstreamServer(Struct, frozen=True):
    """A name server that answers for other names. on_host: it is reached from the host's network namespace."""

    address: str
    on_host: bool


class DnsClient(Struct, frozen=True, kw_only=True):
    """A running container on users' networks, as the name server knows it.

    pid            the container's first process
    namespace      the inode of its network namespace
    memberships    {id of a network: the container on it}
    servers        the upstream servers, in the order in which they are tried
    single_labels  whether names without a dot are forwarded to them
    """

    pid: int
    namespace: int
    # "places" in the files: a process of an older version may have written those of running containers.
    memberships: dict[str, NetworkMembership] = field(name="places")
    servers: tuple[UpstreamServer, ...] = ()
    single_labels: bool = True


def addresses(client: DnsClient, clients: Collection[DnsClient], name: str) -> list[str] | None:
    """All IPv4 and IPv6 addresses for a name that a client asks for, None if the name is unknown."""
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
    """NAME.NETWORK for a name below in-addr.arpa or ip6.arpa, None if no container has that address."""
    for network_id in client.memberships:
        for member in _members(network_id, clients):
            if any(ipaddress.ip_address(address).reverse_pointer == pointer.lower() for address in member.addresses):
                return f"{member.names[0]}.{member.network}"
    return None


def _interpretations(name: str) -> Iterator[tuple[str, str]]:
    """The meanings of a name: (host name, "" for any network), then for each dot (host name, network)."""
    # From the right: both host names and networks may contain dots, and the longest host name counts.
    yield name, ""
    for position in range(len(name) - 1, 0, -1):
        if name[position] == ".":
            yield name[:position], name[position + 1 :]


def _members(network_id: str, clients: Collection[DnsClient]) -> Iterator[NetworkMembership]:
    return (client.memberships[network_id] for client in clients if network_id in client.memberships)


def _addresses_on(network_id: str, clients: Collection[DnsClient], name: str) -> list[str]:
    members = _members(network_id, clients)
    return [address for member in members if name in map(str.lower, member.names) for address in member.addresses]
