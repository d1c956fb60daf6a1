"""The nft rules of our networks, as text (nft(8)). Pure: ports.py and bridge.py hand them to nft.

Every bridge has a table with its name, every container with published ports one more:

    table inet labctr0                      who may reach whom, and what the world sees
    table inet labctr_ports_<12 digits>     which ports of the host lead to the container

Removing one takes one statement and leaves nothing. No rule outside these tables is touched. That has
a price: a verdict of ours cannot overrule one of another table. Where Docker runs beside us, its
iptables rules set the FORWARD policy to DROP, and what our containers say to the world ends there;
with the module br_netfilter also what they say to each other. Only the administrator can allow it:

    iptables -I DOCKER-USER -i labctr+ -j ACCEPT; iptables -I DOCKER-USER -o labctr+ -j ACCEPT

What host and containers say to each other is not forwarded, so it goes on, published ports included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pylab_container.formats.ports import PublishedPort

PORTS_PREFIX = "labctr_ports_"


def replace_table(name: str, *statements: str) -> str:
    """One transaction that puts a table of family inet in the place of an older one."""
    table = f"inet {name}"
    return "; ".join([f"add table {table}", f"delete table {table}", f"add table {table}", *statements])


def bridge_table(name: str, subnet: str, subnet6: str, *, internal: bool) -> str:
    """The table of a bridge.

    subnet    what leaves it for elsewhere gets the host's address; subnet6 the same, "" without IPv6
    internal  nothing leaves, and nothing comes in
    """
    networks = [("ip", subnet), *([("ip6", subnet6)] if subnet6 else [])]
    return replace_table(
        name,
        *_chain(name, "postrouting", "nat", "srcnat", _source_rules(name, networks, internal=internal)),
        *_chain(name, "forward", "filter", "filter", _forward_rules(name, internal=internal)),
        *_chain(name, "prerouting", "filter", "raw", _loopback_rules(name)),
    )


def _chain(table: str, hook: str, kind: str, priority: str, rules: Sequence[str]) -> Iterator[str]:
    yield f"add chain inet {table} {hook} {{ type {kind} hook {hook} priority {priority}; policy accept; }}"
    for rule in rules:
        yield f"add rule inet {table} {hook} {rule}"


def _source_rules(name: str, networks: Sequence[tuple[str, str]], *, internal: bool) -> list[str]:
    """Whose address a packet bears when it leaves: the host's, where the answer must come back through it."""
    rules = []
    if not internal:
        rules = [f'{family} saddr {subnet} oifname != "{name}" masquerade' for family, subnet in networks]
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


def ports_table(name: str, targets: Sequence[tuple[PublishedPort, str]]) -> str:
    """The table of a container: (port, the container's address) pairs. The comments say what read_ports() reads."""
    coming = [_port_rule(port, address) for port, address in targets if not _is_loopback(port.host_ip)]
    going = [_port_rule(port, address) for port, address in targets]
    # A stranger on the network may send to 127.0.0.1, too: what is published there is for the host alone.
    return replace_table(
        name,
        *_chain(name, "prerouting", "nat", "dstnat", coming),
        *_chain(name, "output", "nat", "-100", going),
    )


def _port_rule(port: PublishedPort, address: str) -> str:
    family, target = ("ip6", f"[{address}]") if ":" in address else ("ip", address)
    everywhere = port.host_ip in ("0.0.0.0", "::")
    # Unlike 127.0.0.1, ::1 cannot be led elsewhere: there it is refused at once, and clients try the former.
    local = "ip6 daddr != ::1 fib daddr type local" if family == "ip6" else "meta nfproto ipv4 fib daddr type local"
    where = local if everywhere else f"{family} daddr {port.host_ip}"
    lead = f"dnat {family} to {target}:{port.container_port}"
    return f'{where} {port.protocol} dport {port.host_port} {lead} comment "{_comment(port)}"'


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
