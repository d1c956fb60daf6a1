"""Who is called what on the networks of users, as the name server answers it.

Docker's rules (libnetwork sandbox.go, network.go, resolver.go; moby 20.10): a container knows the names on the
networks that it is on itself, alone or followed by the network's name; what a link calls another one goes before
all names; capital letters make no difference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec import Struct, field


class NetworkMembership(Struct, frozen=True, kw_only=True):
    """A container on one network.

    network    the network's name
    names      its own first, then its aliases
    addresses  one, or with IPv6 two
    links      {what it calls another one: one of that one's names}
    """

    network: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    links: dict[str, str] = field(default_factory=dict)


class UpstreamServer(Struct, frozen=True):
    """Another name server. on_host: it is on the host's loopback, else the container's own network leads to it."""

    address: str
    on_host: bool


class DnsClient(Struct, frozen=True, kw_only=True):
    """A running container that is on networks of users, as the name server must know it.

    pid, namespace  its first process, and the inode of that one's network namespace
    places          by the networks' ids
    servers         who is asked what nobody here is called, in this order
    single_labels   whether they are asked for names without a dot, too
    """

    pid: int
    namespace: int
    places: dict[str, NetworkMembership]
    servers: tuple[UpstreamServer, ...] = ()
    single_labels: bool = True


def addresses(asker: DnsClient, everybody: Collection[DnsClient], name: str) -> list[str] | None:
    """All addresses of those that are called so, of both families; None where nobody is."""
    for called, network in _readings(name.lower()):
        places = [one for one in asker.places.items() if not network or one[1].network.lower() == network]
        linked = [(number, place.links[called]) for number, place in places if called in place.links]
        named = [(number, called) for number, place in places if called not in place.links]
        for number, wanted in (*linked, *named):
            if found := _on(number, everybody, wanted.lower()):
                return found
    return None


def name_of(asker: DnsClient, everybody: Collection[DnsClient], pointer: str) -> str | None:
    """NAME.NETWORK of the one whose address a name below in-addr.arpa or ip6.arpa means; None where nobody's is."""
    import ipaddress  # the engine, which needs none of this, would pay for it at a container's start

    for number in asker.places:
        for place in _places(number, everybody):
            if any(ipaddress.ip_address(one).reverse_pointer == pointer.lower() for one in place.addresses):
                return f"{place.names[0]}.{place.network}"
    return None


def _readings(name: str) -> Iterator[tuple[str, str]]:
    """What a name may mean: (it, on any network), and wherever it has a dot (what is before, on the network after)."""
    yield name, ""
    for position in range(len(name) - 1, 0, -1):
        if name[position] == ".":
            yield name[:position], name[position + 1 :]


def _places(number: str, everybody: Collection[DnsClient]) -> Iterator[NetworkMembership]:
    return (one.places[number] for one in everybody if number in one.places)


def _on(number: str, everybody: Collection[DnsClient], name: str) -> list[str]:
    places = _places(number, everybody)
    return [one for place in places if name in map(str.lower, place.names) for one in place.addresses]
