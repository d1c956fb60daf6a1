"""The nft rules of bridges and published ports, as text (nft(8)). Pure: ports.py and bridge.py run nft.

Each bridge has a table, and so has each container with published ports:

    table inet labctr0                      forwarding and source NAT of the default bridge
    table inet labctr_bridge_br0            the same for a bridge whose name a user chose: table_name()
    table inet labctr_ports_<12 digits>     destination NAT from ports of the host to a container

Removing a table takes one statement and leaves no rule behind. Rules outside these tables are never changed. The
disadvantage: an accept verdict ends only its own chain, while a drop verdict of any table is final (nft(8), "Verdict
statement"). Docker's iptables rules set the policy of FORWARD to DROP. On a host that also runs Docker, they drop the
packets of these containers to other networks, and with the module br_netfilter also packets between the containers.
Only the administrator can allow them:

    iptables -I DOCKER-USER -i labctr+ -j ACCEPT; iptables -I DOCKER-USER -o labctr+ -j ACCEPT

Packets between the host and its containers are not forwarded, so they are not affected. Published ports work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from pylab_container.oci.ports import PublishedPort
from pylab_container.runtime.network.forwarder import MARK

PORTS_PREFIX = "labctr_ports_"
_OWN_PREFIX = "labctr"
_BRIDGE_PREFIX = "labctr_bridge_"


def replace_table(name: str, *statements: str) -> str:
    """Build the statements that create or replace a table of family inet in one transaction."""
    # nft applies all statements of one call atomically, so no packet is processed by a half-built table. Deleting a
    # table that does not exist is an error, so it is added first. (`destroy table` ignores that, but needs Linux 6.3.)
    table = f"inet {name}"
    return "; ".join([f"add table {table}", f"delete table {table}", f"add table {table}", *statements])


def table_name(bridge: str) -> str:
    """The name of a bridge's table."""
    # The prefix keeps a bridge that a user named "filter", for example, from replacing the host's table of this name.
    return bridge if bridge.startswith(_OWN_PREFIX) else _BRIDGE_PREFIX + bridge


def is_free_name(bridge: str) -> bool:
    """Whether a bridge may have this name: its table must not be that of a container or of another bridge."""
    return not bridge.startswith((PORTS_PREFIX, _BRIDGE_PREFIX))


def bridge_table(name: str, subnet: str, subnet6: str, *, internal: bool, masquerade: bool = True) -> str:
    """Build the statements of a bridge's table.

    subnet      the bridge's subnet; subnet6 likewise, "" without IPv6
    internal    whether to drop all packets from and to other networks
    masquerade  whether packets to other networks get the host's address
    """
    networks = [("ip", subnet), *([("ip6", subnet6)] if subnet6 else [])]
    table = table_name(name)
    return replace_table(
        table,
        *_chain(
            table,
            "postrouting",
            "nat",
            "srcnat",
            _source_rules(name, networks, masquerade=masquerade and not internal, internal=internal),
        ),
        *_chain(table, "forward", "filter", "filter", _forward_rules(name, internal=internal)),
        *_chain(table, "prerouting", "filter", "raw", _loopback_rules(name)),
    )


def _chain(table: str, hook: str, kind: str, priority: str, rules: Sequence[str]) -> Iterator[str]:
    yield f"add chain inet {table} {hook} {{ type {kind} hook {hook} priority {priority}; policy accept; }}"
    for rule in rules:
        yield f"add rule inet {table} {hook} {rule}"


def _source_rules(name: str, networks: Sequence[tuple[str, str]], *, masquerade: bool, internal: bool) -> list[str]:
    """Source NAT: replace the source address by the host's where the answers must return through the host."""
    rules = []
    if masquerade:
        # To other networks, which have no route to the subnet.
        rules = [f'{family} saddr {subnet} oifname != "{name}" masquerade' for family, subnet in networks]
    if not internal:
        # From a container to a published port of a container in the same subnet. Without this, the answer would go
        # directly to the client, from an address to which the client did not connect.
        rules += [f'{family} saddr {subnet} oifname "{name}" ct status dnat masquerade' for family, subnet in networks]
    # From 127.0.0.1 on the host to a published port. Without this, the container would answer to its own loopback.
    return [*rules, f'ip saddr 127.0.0.0/8 oifname "{name}" masquerade']


def _forward_rules(name: str, *, internal: bool) -> list[str]:
    """Accept packets from other networks only if they are answers or for published ports.

    This also isolates the engine's bridges from each other. An internal network exchanges no packets with others.
    """
    if internal:
        return [f'iifname "{name}" oifname != "{name}" drop', f'iifname != "{name}" oifname "{name}" drop']
    inward = f'iifname != "{name}" oifname "{name}"'
    return [f"{inward} ct state established,related accept", f"{inward} ct status dnat accept", f"{inward} drop"]


def _loopback_rules(name: str) -> list[str]:
    """Drop packets from the bridge with a loopback address."""
    # The kernel drops such "martian" packets itself, unless route_localnet is set (ip-sysctl). bridge.py sets it, so
    # that 127.0.0.1:PORT of the host reaches a container. Without these rules a container could reach services that
    # listen only on the host's loopback (compare CVE-2020-8558).
    return [f'iifname "{name}" ip {end} 127.0.0.0/8 drop' for end in ("daddr", "saddr")]


# Published ports


def ports_table_name(container_id: str) -> str:
    """The name of the table with a container's published ports."""
    return f"{PORTS_PREFIX}{container_id[:12]}"


class Target(Struct, frozen=True):
    """A published port of the host, and the container's address."""

    port: PublishedPort
    address: str

    @property
    def is_forwarded(self) -> bool:
        """Whether the port needs the forwarder: from an IPv6 address of the host to a container without IPv6."""
        return ":" in self.port.host_ip and ":" not in self.address


def ports_table(name: str, targets: Sequence[Target], *, forwarder: int) -> str:
    """Build the statements of the table of a container's published ports.

    forwarder  the port on which the forwarder listens

    Each rule has a comment that parse_comment() can read.
    """
    # Ports on the loopback are only for the host's own processes. They have no prerouting rule, because another machine
    # may also send packets to 127.0.0.1.
    incoming = [_port_rule(target, forwarder) for target in targets if not _is_loopback(target.port.host_ip)]
    # The forwarder's own connections have its mark. They must match only the rules of _forwarded_rule(), and skip all
    # others, here and in other containers' tables.
    outgoing = [f"meta mark != {MARK} {_port_rule(target, forwarder)}" for target in targets]
    outgoing += [_forwarded_rule(target) for target in targets if target.is_forwarded]
    # Packets of the host's own processes do not pass prerouting, so each port needs a rule in output as well.
    return replace_table(
        name,
        *_chain(name, "prerouting", "nat", "dstnat", incoming),
        *_chain(name, "output", "nat", "-100", outgoing),
    )


def _port_rule(target: Target, forwarder: int) -> str:
    port, address = target.port, target.address
    if target.is_forwarded:
        verdict = f"redirect to :{forwarder}"
    elif ":" in address:
        verdict = f"dnat ip6 to [{address}]:{port.container_port}"
    else:
        verdict = f"dnat ip to {address}:{port.container_port}"
    return f'{_destination(target)} {port.protocol} dport {port.host_port} {verdict} comment "{_comment(port)}"'


def _destination(target: Target) -> str:
    """The match for the addresses of the host on which a port is published."""
    # `fib daddr type local` matches all addresses of the host, also addresses that are added later.
    match target.port.host_ip:
        case "0.0.0.0":
            return "meta nfproto ipv4 fib daddr type local"
        case "::" if target.is_forwarded:
            return "meta nfproto ipv6 fib daddr type local"
        case "::":
            # A rule of its own redirects ::1 to the forwarder, because DNAT does not work for ::1 (forwarder.py).
            return "ip6 daddr != ::1 fib daddr type local"
        case address:
            return f"{'ip6' if ':' in address else 'ip'} daddr {address}"


def _forwarded_rule(target: Target) -> str:
    """The DNAT of the forwarder's own connections to the container, also for a port that is not published on IPv4."""
    port = target.port
    match = f"meta mark {MARK} ip daddr 127.0.0.1 {port.protocol} dport {port.host_port}"
    return f"{match} dnat ip to {target.address}:{port.container_port}"


def _comment(port: PublishedPort) -> str:
    return f"{port.host_ip} {port.host_port} {port.container_port} {port.protocol}"


def parse_comment(comment: str) -> PublishedPort:
    """Parse the comment of a rule of ports_table(). Raises ValueError for another comment."""
    host_ip, host_port, container_port, protocol = comment.split()
    return PublishedPort(
        host_ip=host_ip, host_port=int(host_port), container_port=int(container_port), protocol=protocol
    )


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
