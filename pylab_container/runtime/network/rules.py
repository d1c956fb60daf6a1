"""The nft rules of our networks, as text (nft(8)). Pure: ports.py and bridge.py hand them to nft.

Every bridge has a table, every container with published ports one more:

    table inet labctr0                      who may reach whom, and what the world sees
    table inet labctr_ports_<12 digits>     which ports of the host lead to the container
    table inet labctr_bridge_br0            of a bridge with a name that a user chose: table_name()

Removing one takes one statement and leaves nothing. No rule outside these tables is touched. That has
a price: a verdict of ours cannot overrule one of another table. Where Docker runs beside us, its
iptables rules set the FORWARD policy to DROP, and what our containers say to the world ends there;
with the module br_netfilter also what they say to each other. Only the administrator can allow it:

    iptables -I DOCKER-USER -i labctr+ -j ACCEPT; iptables -I DOCKER-USER -o labctr+ -j ACCEPT

What host and containers say to each other is not forwarded, so it goes on, published ports included.
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
    """One transaction that puts a table of family inet in the place of an older one."""
    table = f"inet {name}"
    return "; ".join([f"add table {table}", f"delete table {table}", f"add table {table}", *statements])


def table_name(bridge: str) -> str:
    """The table of a bridge. A user may call a bridge as the host calls a table, such as "filter"."""
    return bridge if bridge.startswith(_OWN_PREFIX) else _BRIDGE_PREFIX + bridge


def is_free_name(bridge: str) -> bool:
    """Whether the table of a bridge of this name would not be one of a container or of another bridge."""
    return not bridge.startswith((PORTS_PREFIX, _BRIDGE_PREFIX))


def bridge_table(name: str, subnet: str, subnet6: str, *, internal: bool, masquerade: bool = True) -> str:
    """The table of a bridge.

    subnet    what leaves it for elsewhere gets the host's address; subnet6 the same, "" without IPv6
    internal  nothing leaves, and nothing comes in
    masquerade  whether what leaves gets that address
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
            _source_rules(name, networks, leaves=masquerade and not internal, internal=internal),
        ),
        *_chain(table, "forward", "filter", "filter", _forward_rules(name, internal=internal)),
        *_chain(table, "prerouting", "filter", "raw", _loopback_rules(name)),
    )


def _chain(table: str, hook: str, kind: str, priority: str, rules: Sequence[str]) -> Iterator[str]:
    yield f"add chain inet {table} {hook} {{ type {kind} hook {hook} priority {priority}; policy accept; }}"
    for rule in rules:
        yield f"add rule inet {table} {hook} {rule}"


def _source_rules(name: str, networks: Sequence[tuple[str, str]], *, leaves: bool, internal: bool) -> list[str]:
    """Whose address a packet bears when it leaves: the host's, where the answer must come back through it."""
    rules = []
    if leaves:
        rules = [f'{family} saddr {subnet} oifname != "{name}" masquerade' for family, subnet in networks]
    if not internal:
        # Within the subnet the container would answer the asker itself, who asked somebody else.
        rules += [f'{family} saddr {subnet} oifname "{name}" ct status dnat masquerade' for family, subnet in networks]
    return [*rules, f'ip saddr 127.0.0.0/8 oifname "{name}" masquerade']


def _forward_rules(name: str, *, internal: bool) -> list[str]:
    """From outside only answers come in, and what a published port led here: so bridges are apart, too."""
    if internal:
        return [f'iifname "{name}" oifname != "{name}" drop', f'iifname != "{name}" oifname "{name}" drop']
    inward = f'iifname != "{name}" oifname "{name}"'
    return [f"{inward} ct state established,related accept", f"{inward} ct status dnat accept", f"{inward} drop"]


def _loopback_rules(name: str) -> list[str]:
    """The kernel drops 127.0.0.1 from a network; route_localnet, which 127.0.0.1:PORT needs, stops that."""
    return [f'iifname "{name}" ip {end} 127.0.0.0/8 drop' for end in ("daddr", "saddr")]


# Published ports


def ports_table_name(container_id: str) -> str:
    """The name of a container's table of published ports."""
    return f"{PORTS_PREFIX}{container_id[:12]}"


class Target(Struct, frozen=True):
    """A port of the host, and the address of the container that it leads to."""

    port: PublishedPort
    address: str

    @property
    def is_forwarded(self) -> bool:
        """Whether the forwarder must make IPv4 of IPv6."""
        return ":" in self.port.host_ip and ":" not in self.address


def ports_table(name: str, targets: Sequence[Target], *, forwarder: int) -> str:
    """The table of a container; forwarder is the forwarder's port. Comments say what parse_comment() reads."""
    coming = [_port_rule(one, forwarder) for one in targets if not _is_loopback(one.port.host_ip)]
    # Marked packets are for the rules of forwarded ports, which another container may have.
    going = [f"meta mark != {MARK} {_port_rule(one, forwarder)}" for one in targets]
    going += [_forwarded_rule(one) for one in targets if one.is_forwarded]
    # A stranger on the network may send to 127.0.0.1, too: what is published there is for the host alone.
    return replace_table(
        name,
        *_chain(name, "prerouting", "nat", "dstnat", coming),
        *_chain(name, "output", "nat", "-100", going),
    )


def _port_rule(target: Target, forwarder: int) -> str:
    port, address = target.port, target.address
    if target.is_forwarded:
        lead = f"redirect to :{forwarder}"
    elif ":" in address:
        lead = f"dnat ip6 to [{address}]:{port.container_port}"
    else:
        lead = f"dnat ip to {address}:{port.container_port}"
    return f'{_where(target)} {port.protocol} dport {port.host_port} {lead} comment "{_comment(port)}"'


def _where(target: Target) -> str:
    """Which addresses of the host a rule is about."""
    match target.port.host_ip:
        case "0.0.0.0":
            return "meta nfproto ipv4 fib daddr type local"
        case "::" if target.is_forwarded:
            return "meta nfproto ipv6 fib daddr type local"
        case "::":
            return "ip6 daddr != ::1 fib daddr type local"  # ::1 has a rule of its own: only the forwarder leads it
        case address:
            return f"{'ip6' if ':' in address else 'ip'} daddr {address}"


def _forwarded_rule(target: Target) -> str:
    """How what the forwarder sends on comes to the container, also where nothing is published on IPv4."""
    port = target.port
    where = f"meta mark {MARK} ip daddr 127.0.0.1 {port.protocol} dport {port.host_port}"
    return f"{where} dnat ip to {target.address}:{port.container_port}"


def _comment(port: PublishedPort) -> str:
    return f"{port.host_ip} {port.host_port} {port.container_port} {port.protocol}"


def parse_comment(comment: str) -> PublishedPort:
    """The port that a rule of ports_table() is about. Raises ValueError for a comment that is none of ours."""
    host_ip, host_port, container_port, protocol = comment.split()
    return PublishedPort(
        host_ip=host_ip, host_port=int(host_port), container_port=int(container_port), protocol=protocol
    )


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
