"""Published ports: chosen under one lock, kept by the kernel.

Rules of nft lead them to the container, without a process for each, as docker-proxy is one; only where
IPv6 has to become IPv4 there is one process for all (forwarder.py). What is published is read from those rules;
whether a program of the host has a port is found out by listening on it for a moment. The rules of a
container that is gone are removed by whoever comes next.
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
from pylab_container.runtime.network.forwarding import Forwarder, is_possible
from pylab_container.runtime.network.rules import Target

_ATTEMPTS = 200  # to be given a port by the kernel that no container has
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class PortPublisher:
    """All published ports of this machine's containers, of any data root.

    All processes must give the same run_root: the lock is there. Changes are told to emit.
    """

    def __init__(self, run_root: Path, *, emit: Emit, is_connected: Callable[[], set[str]]) -> None:
        """is_connected: the ids of the containers that are on any network now, by their first twelve digits."""
        self._lock = run_root / "ports.lock"
        self._forwarder = Forwarder(run_root)
        self._emit = emit
        self._connected = is_connected

    def publish(
        self, container_id: str, wanted: Sequence[PortRequest], *, address: str, address6: str = ""
    ) -> list[PublishedPort]:
        """Lead ports of the host to a container's addresses; what it had published before is replaced.

        Raises Conflict in Docker's words for a port that another container or a program of the host
        has, RuntimeFailed for an address that is not the host's, InvalidInput for UDP over IPv6 to a
        container without; then nothing of it is published.
        """
        name = rules.ports_table_name(container_id)
        with locked(self._lock):
            others = self._published_by_others(name)
            targets: list[Target] = []
            for request in wanted:
                taken = [*others, *(target.port for target in targets)]
                targets += _choose(request, taken, address, address6)
            published = [target.port for target in targets]
            targets += _loopbacks(targets, address)
            known = {port.host_port for port in (*others, *published)}
            forwarder = self._forwarder.ensure(known) if any(target.is_forwarded for target in targets) else 0
            self._nft(rules.ports_table(name, targets, forwarder=forwarder))
        return published

    def withdraw(self, container_id: str) -> None:
        """Remove a container's rules and those of containers that are gone. No error if there are none."""
        own = rules.ports_table_name(container_id)
        with locked(self._lock):
            tables = _our_tables()
            self._delete(tables, self._stale(tables) | ({own} & tables))

    def clear(self, known: Iterable[str]) -> None:
        """Remove the rules of containers that are gone; known are the tables as the caller found them.

        Without such tables, which is the usual case, nothing is looked at.
        """
        if not any(name.startswith(rules.PORTS_PREFIX) for name in known):
            return
        with locked(self._lock):
            tables = _our_tables()
            self._delete(tables, self._stale(tables))

    def _delete(self, tables: set[str], gone: set[str]) -> None:
        for name in gone:
            self._nft(f"delete table inet {name}")
        if gone == tables:
            self._forwarder.stop()

    def _stale(self, names: set[str]) -> set[str]:
        # The tables were read before the containers: one that starts meanwhile has its link first.
        connected = self._connected() if names else set()
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
    if not tables:
        return []
    listed = json.loads(programs.run(["nft", "-j", "list", "ruleset", "inet"]).output)["nftables"]
    found = [item["rule"] for item in listed if "rule" in item]
    return [rules.parse_comment(rule["comment"]) for rule in found if rule["table"] in tables and "comment" in rule]


def _choose(request: PortRequest, taken: Sequence[PublishedPort], address: str, address6: str) -> list[Target]:
    """The ports for one request: one, or two where every IPv4 and every IPv6 address of the host is meant."""
    can_be_forwarded = request.protocol == "tcp"
    has_six = bool(address6) or (can_be_forwarded and is_possible())
    hosts = [request.host_ip] if request.host_ip else ["0.0.0.0", *(["::"] if has_six else [])]
    aims = [(host, address6 if ":" in host and host != "::1" and address6 else address) for host in hosts]
    for host, aim in aims:
        if ":" in host and ":" not in aim and not can_be_forwarded:
            raise InvalidInput(
                f"cannot publish {request.container_port}/{request.protocol} on {host}: only TCP is led from IPv6 to "
                "IPv4",
                hint="publish it on an IPv4 address, or on a network with IPv6 (network create --ipv6) and not on ::1",
            )
    port = _free_port(request, hosts, taken)
    return [Target(_published(request, host, port), aim) for host, aim in aims]


def _published(request: PortRequest, host_ip: str, host_port: int) -> PublishedPort:
    return PublishedPort(
        host_ip=host_ip, host_port=host_port, container_port=request.container_port, protocol=request.protocol
    )


def _loopbacks(targets: Sequence[Target], address: str) -> list[Target]:
    """What `::` means besides, where nft leads it to an IPv6 address: ::1, which it cannot lead there."""
    everywhere = [target.port for target in targets if target.port.host_ip == "::" and not target.is_forwarded]
    return [Target(replace(port, host_ip="::1"), address) for port in everywhere if port.protocol == "tcp"]


def _free_port(request: PortRequest, hosts: Sequence[str], taken: Sequence[PublishedPort]) -> int:
    if request.host_ports is None:
        for _ in range(_ATTEMPTS):
            port = _listen(request.protocol, hosts[0], 0)
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
        hint="labctr ps and ss -ltnup tell who has it",
    )


def _is_free(protocol: str, host: str, port: int, taken: Iterable[PublishedPort]) -> bool:
    for other in taken:
        if (other.protocol, other.host_port) == (protocol, port) and _overlap(host, other.host_ip):
            return False
    try:
        _listen(protocol, host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    return True


def _overlap(one: str, other: str) -> bool:
    if ":" in one or ":" in other:
        return ":" in one and ":" in other  # any two: the forwarder goes by the port alone
    return one == other or "0.0.0.0" in (one, other)


def _listen(protocol: str, host: str, port: int) -> int:
    """Listen on a port for a moment; the port, which the kernel chooses for 0. Raises OSError for one that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, _KINDS[protocol]) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            # What is left of closed connections of a program that ended is no obstacle, as for Docker.
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
