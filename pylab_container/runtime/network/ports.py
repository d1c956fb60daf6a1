"""Published ports: chosen under one lock, recorded in the kernel's nft rules only.

nft rules send packets for a port of the host to a container (DNAT), so no process per port is needed, such as
docker-proxy. One process for all ports forwards TCP from IPv6 to containers without IPv6 (forwarder.py). To check
whether a program of the host uses a port, the engine listens on it for a moment. Rules of containers that have exited
are orphans; every operation removes them.
"""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from pylab_container.errors import Conflict, InvalidInput, RuntimeFailed
from pylab_container.events import Emit, NetworkChanged
from pylab_container.host import programs
from pylab_container.host.files import locked
from pylab_container.oci.ports import PortRequest, PublishedPort
from pylab_container.runtime.network import netlink, rules
from pylab_container.runtime.network.forwarding import Forwarder, has_ipv6_loopback
from pylab_container.runtime.network.rules import Target

_MOST_ATTEMPTS = 200  # ports of the kernel's choice to try; each may be published already
_SOCKET_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class PortPublisher:
    """The published ports of all containers of this host, of any data root.

    run_root             directory of the lock; must be the same in all processes
    emit                 receives each change as a NetworkChanged
    connected_short_ids  returns the first twelve digits of the ids of all containers that are on a network now
    """

    def __init__(self, run_root: Path, *, emit: Emit, connected_short_ids: Callable[[], set[str]]) -> None:
        self._lock = run_root / "ports.lock"
        self._forwarder = Forwarder(run_root)
        self._emit = emit
        self._connected_containers = connected_short_ids

    def publish(
        self, container_id: str, requests: Sequence[PortRequest], *, address: str, address6: str = ""
    ) -> list[PublishedPort]:
        """Publish ports of a container; they replace the ports that it has published before.

        Raises Conflict in Docker's words for a port that another container or a program of the host uses,
        RuntimeFailed for an address that is not the host's, and InvalidInput for UDP from IPv6 to a container without
        IPv6. After an error the container's published ports are unchanged.
        """
        name = rules.ports_table_name(container_id)
        with locked(self._lock):
            others = self._published_by_others(name)
            targets: list[Target] = []
            for request in requests:
                taken = [*others, *(target.port for target in targets)]
                targets += _choose_targets(request, taken, address, address6)
            published = [target.port for target in targets]
            targets += _loopback_targets(targets, address)
            taken_ports = {port.host_port for port in (*others, *published)}
            forwarder = self._forwarder.ensure(taken_ports) if any(target.is_forwarded for target in targets) else 0
            # All rules are set in one transaction at the end, so an error above leaves the old rules. The forwarder
            # already listens when the first rule redirects to it.
            self._nft(rules.ports_table(name, targets, forwarder=forwarder))
        return published

    def withdraw(self, container_id: str) -> None:
        """Remove a container's rules, and orphaned rules. No error if it has none."""
        own = rules.ports_table_name(container_id)
        with locked(self._lock):
            tables = _our_tables()
            self._delete(tables, self._stale(tables) | ({own} & tables))

    def clear(self, known: Iterable[str]) -> None:
        """Remove orphaned rules. known: the names of the host's tables, which the caller has listed."""
        # Usually no ports are published; then neither the lock nor a list of interfaces is needed.
        if not any(name.startswith(rules.PORTS_PREFIX) for name in known):
            return
        with locked(self._lock):
            tables = _our_tables()
            self._delete(tables, self._stale(tables))

    def _delete(self, tables: set[str], obsolete: set[str]) -> None:
        for name in obsolete:
            self._nft(f"delete table inet {name}")
        # The last published port was removed, so no rule redirects to the forwarder.
        if obsolete == tables:
            self._forwarder.stop()

    def _stale(self, names: set[str]) -> set[str]:
        # The caller listed the tables before this lists the links. A container gets its link before its table, so a
        # table in the list implies a link, unless the container has exited. In the other order, a container that starts
        # between the two listings would have a table and no link, like an orphan.
        connected = self._connected_containers() if names else set()
        return {name for name in names if name.removeprefix(rules.PORTS_PREFIX) not in connected}

    def _published_by_others(self, own: str) -> list[PublishedPort]:
        names = _our_tables()
        stale = self._stale(names - {own})
        for name in stale:
            self._nft(f"delete table inet {name}")
        return _read_ports(names - stale - {own})

    def _nft(self, statements: str) -> None:
        programs.run(["nft", statements])
        self._emit(NetworkChanged(f"nft '{statements}'"))


def _our_tables() -> set[str]:
    return {name for name in netlink.tables() if name.startswith(rules.PORTS_PREFIX)}


def _read_ports(tables: set[str]) -> list[PublishedPort]:
    # Usually there are no other published ports, and running nft would delay the start of the container.
    if not tables:
        return []
    items = json.loads(programs.run(["nft", "-j", "list", "ruleset", "inet"]).output)["nftables"]
    listed = [item["rule"] for item in items if "rule" in item]
    return [rules.parse_comment(rule["comment"]) for rule in listed if rule["table"] in tables and "comment" in rule]


def _choose_targets(request: PortRequest, taken: Sequence[PublishedPort], address: str, address6: str) -> list[Target]:
    """Choose the host's port for a request. Without a host address, there is a target for IPv4 and one for IPv6."""
    can_be_forwarded = request.protocol == "tcp"
    has_six = bool(address6) or (can_be_forwarded and has_ipv6_loopback())
    hosts = [request.host_ip] if request.host_ip else ["0.0.0.0", *(["::"] if has_six else [])]
    pairs = [(host, address6 if ":" in host and host != "::1" and address6 else address) for host in hosts]
    for host, target in pairs:
        if ":" in host and ":" not in target and not can_be_forwarded:
            raise InvalidInput(
                f"cannot publish {request.container_port}/{request.protocol} on {host}: only TCP is led from IPv6 to "
                "IPv4",
                hint="publish it on an IPv4 address, or on a network with IPv6 (network create --ipv6) and not on ::1",
            )
    port = _free_port(request, hosts, taken)
    return [Target(_published(request, host, port), target) for host, target in pairs]


def _published(request: PortRequest, host_ip: str, host_port: int) -> PublishedPort:
    return PublishedPort(
        host_ip=host_ip, host_port=host_port, container_port=request.container_port, protocol=request.protocol
    )


def _loopback_targets(targets: Sequence[Target], address: str) -> list[Target]:
    """Targets for ::1, one for each port that is published on `::`, which includes ::1."""
    # DNAT does not work for ::1 (forwarder.py), so these ports need the forwarder, also for a container with IPv6.
    unspecified = [target.port for target in targets if target.port.host_ip == "::" and not target.is_forwarded]
    return [Target(replace(port, host_ip="::1"), address) for port in unspecified if port.protocol == "tcp"]


def _free_port(request: PortRequest, hosts: Sequence[str], taken: Sequence[PublishedPort]) -> int:
    if request.host_ports is None:
        # The kernel chooses a port of its ephemeral range that no socket uses. It may be published, without a socket.
        for _ in range(_MOST_ATTEMPTS):
            port = _probe_port(request.protocol, hosts[0], 0)
            if all(_is_free(request.protocol, host, port, taken) for host in hosts):
                return port
        raise Conflict("no port of the host is free", hint="remove containers that you do not need")
    for port in range(request.host_ports.first, request.host_ports.last + 1):
        if all(_is_free(request.protocol, host, port, taken) for host in hosts):
            return port
    if len(request.host_ports) > 1:
        raise Conflict("Bind failed: all ports are allocated", hint="give a wider range, or none")
    raise Conflict(
        f"Bind for {hosts[0]}:{request.host_ports.first} failed: port is already allocated",
        hint="labctr ps and ss -ltnup show what uses it",
    )


def _is_free(protocol: str, host: str, port: int, taken: Iterable[PublishedPort]) -> bool:
    for other in taken:
        if (other.protocol, other.host_port) == (protocol, port) and _overlap(host, other.host_ip):
            return False
    try:
        _probe_port(protocol, host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    return True


def _overlap(first: str, second: str) -> bool:
    if ":" in first or ":" in second:
        # Any two IPv6 addresses overlap: the forwarder distinguishes connections only by their port.
        return ":" in first and ":" in second
    return first == second or "0.0.0.0" in (first, second)


def _probe_port(protocol: str, host: str, port: int) -> int:
    """Listen on a port for a moment; return its number. The kernel chooses the port if port is 0.

    Raises OSError if the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, _SOCKET_TYPES[protocol]) as probe:
        if family == socket.AF_INET6:
            # Without it, a socket on :: would also need the port on all IPv4 addresses (ipv6(7)).
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            # Without SO_REUSEADDR, closed connections in TIME_WAIT would keep the port in use for a minute (socket(7)).
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            if protocol == "tcp":
                probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise RuntimeFailed(
                    f"cannot publish on {host}: it is not an address of this host", hint="ip addr lists them"
                ) from error
            raise
        return int(probe.getsockname()[1])
