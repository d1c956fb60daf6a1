"""One bridge of the host, and the veth pairs of the containers on it."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import re
import secrets
import shlex
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import Conflict, InUse, InvalidInput, RuntimeFailed
from pylab_container.formats.events import Emit, NetworkChanged, ignore
from pylab_container.host import programs
from pylab_container.host.files import locked
from pylab_container.runtime.network import addresses, netlink, rules
from pylab_container.runtime.network.netlink import Change, Link, Netlink, NoSuchDevice
from pylab_container.runtime.network.ports import PortPublisher

_DEFAULT_MTU = 1500

# How a bridge's alias begins, and the longest one (IFALIASZ in linux/if.h).
_OWNED = "network of "
_LONGEST_ALIAS = 256

# What the kernel takes as an interface name (15 bytes) and nft as a table name.
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]{0,14}")


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a container is connected. `mac` is the container's side; `host_interface` the other end of its veth.

    address6, gateway6  "" on a network without IPv6
    """

    container_id: str
    address: str
    prefix_length: int
    gateway: str
    mac: str
    interface: str
    bridge: str
    host_interface: str
    address6: str = ""
    prefix_length6: int = 0
    gateway6: str = ""


class _BridgeLink(Struct, frozen=True, kw_only=True):
    """The bridge as the kernel has it. `own` is its address with its subnet; own6 None without IPv6."""

    index: int
    mtu: int
    own: ipaddress.IPv4Interface
    own6: ipaddress.IPv6Interface | None = None


class Bridge:
    """One bridge of the host and its rules (an nft table with the bridge's name).

    All processes that use one bridge must give the same run_root: the lock for handing out
    addresses is there. Every change is told to emit as a NetworkChanged.
    """

    def __init__(
        self,
        name: str = "labctr0",
        *,
        run_root: Path,
        subnet: str | None = None,
        gateway: str = "",
        ip_range: str = "",
        subnet6: str = "",
        gateway6: str = "",
        ip_range6: str = "",
        reserved: Sequence[str] = (),
        internal: bool = False,
        connectivity: bool = True,
        masquerade: bool = True,
        mtu: int | None = None,
        owner: str = "",
        emit: Emit = ignore,
    ) -> None:
        """Nothing is created yet.

        subnet    as "10.1.0.0/24"; None takes the first one of Docker's list that the host has no route into
        gateway   the bridge's own address, "" the first of the subnet; gateway6 the same for subnet6
        ip_range  the part of the subnet from which addresses are given, "" all of it; ip_range6 the same of subnet6
        subnet6   "" without IPv6
        reserved  addresses that no container gets
        internal  no way out of it
        connectivity  whether the containers on it reach each other
        masquerade    whether what leaves it gets the host's address
        mtu       None takes that of the host's way out
        owner     the path of a file that is there as long as the bridge is wanted: its alias in the kernel, see
                  owned_bridges(); "" for a bridge that is everybody's

        Raises InvalidInput for a name, a subnet or an address that cannot be one.
        """
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"{name!r} cannot be a bridge's name", hint="use up to 15 letters, digits, _ . and -")
        self.name = name
        self.internal = internal
        self._subnet = None if subnet is None else addresses.parse_subnet(subnet)
        self._subnet6 = addresses.parse_subnet6(subnet6) if subnet6 else None
        self._pool = addresses.parse_range(ip_range, self._subnet) if ip_range and self._subnet else None
        self._gateway = (
            gateway and str(addresses.parse_member(gateway, self._subnet, what="gateway")) if self._subnet else ""
        )
        self._gateway6 = gateway6
        self._pool6 = addresses.parse_range(ip_range6, self._subnet6) if ip_range6 and self._subnet6 else None
        self._reserved = tuple(reserved)
        self._connectivity = connectivity
        self._masquerade = masquerade
        self._mtu = mtu
        # A longer one is no use: the kernel would refuse it, and half a path is the path of something else.
        self._alias = f"{_OWNED}{owner}" if owner and len(_OWNED + owner) < _LONGEST_ALIAS else ""
        self._lock = run_root / f"{name}.lock"
        self._emit = emit
        self.ports = PortPublisher(run_root, emit=emit, is_connected=connected_containers)

    def ensure(self) -> ipaddress.IPv4Network:
        """Make the bridge and its rules, as far as they are missing; returns its subnet. Raises Conflict."""
        with locked(self._lock), Netlink() as kernel:
            return self._ensure(kernel, netlink.tables()).own.network

    def subnet(self) -> str:
        """The subnet that the bridge has in the kernel, "" while there is none."""
        with Netlink() as kernel:
            bridge = self._find(kernel)
        return str(bridge.own.network) if bridge else ""

    def connect(
        self,
        container_id: str,
        pid: int,
        *,
        interface: str = "eth0",
        address: str | None = None,
        address6: str | None = None,
        mac: str = "",
        link_local: Sequence[str] = (),
        default_route: bool = True,
    ) -> Endpoint:
        """Give the network namespace of process pid an interface on the bridge, an address and a default route.

        The bridge and its rules are made if they are missing. Without an address, the lowest
        free one is taken. link_local: addresses that the interface has besides.

        Raises Conflict when the process is gone, the address is taken, or no subnet or address is free;
        InvalidInput when the address is not in the subnet; RuntimeFailed when the kernel refuses. A failed
        attempt leaves no veth.
        """
        with network_namespace(pid) as namespace, Netlink() as kernel:
            with locked(self._lock):
                tables = netlink.tables()
                bridge = self._ensure(kernel, tables)
                self.ports.clear(tables)
                endpoint = self._choose(kernel, bridge, container_id, interface, address, address6)
                endpoint = replace(endpoint, mac=mac or endpoint.mac)
                self._add_pair(kernel, endpoint, bridge, namespace, pid)
            try:
                netlink.in_namespace(
                    namespace, lambda: self._configure(endpoint, pid, link_local, leads_out=default_route)
                )
            except BaseException:
                self._delete_link(kernel, endpoint.host_interface)
                raise
        return endpoint

    def disconnect(self, container_id: str) -> None:
        """Take the container off the bridge; its addresses are free when this returns. No error if it is not on it."""
        with Netlink() as kernel:
            for link in self._ports_of(kernel):
                if _words(link)[1] == container_id:
                    self._delete_link(kernel, link.name)

    def endpoints(self) -> list[Endpoint]:
        """Who is connected now, lowest address first."""
        with Netlink() as kernel:
            bridge = self._find(kernel)
            found = [self._endpoint(link, bridge) for link in self._ports_of(kernel)] if bridge else []
        return sorted(found, key=lambda endpoint: ipaddress.IPv4Address(endpoint.address))

    def lead_out(self, endpoint: Endpoint, pid: int) -> None:
        """Make this endpoint's gateway the way out of process pid's network namespace, in place of another one."""
        enter = f"nsenter --net=/proc/{pid}/ns/net "

        def work() -> None:
            with Netlink() as kernel:
                interface, index = endpoint.interface, socket.if_nametoindex(endpoint.interface)
                for gateway in filter(None, (endpoint.gateway, endpoint.gateway6)):
                    route = functools.partial(netlink.default_route, gateway, interface, index, inside=enter)
                    with contextlib.suppress(RuntimeFailed):  # there was none
                        kernel.apply([route(delete=True)], self._emit)
                    kernel.apply([route()], self._emit)

        with network_namespace(pid) as namespace:
            netlink.in_namespace(namespace, work)

    def let_reach_itself(self, endpoint: Endpoint) -> None:
        """Let a container reach its own published ports.

        With br_netfilter the bridge itself sends the packet to where DNAT leads it, and a bridge sends nothing
        back through the port that it came from, unless the port is in hairpin mode (bridge(8)).
        """
        with contextlib.suppress(RuntimeFailed), Netlink() as kernel:  # it has ended
            kernel.apply([netlink.set_port(endpoint.host_interface, "hairpin")], self._emit)

    def remove(self) -> None:
        """Remove the bridge and its rules, as far as they exist. Raises InUse while a container is connected."""
        with locked(self._lock), Netlink() as kernel:
            if names := [_words(link)[1][:12] for link in self._ports_of(kernel)]:
                raise InUse(f"network {self.name} has connected containers: {', '.join(names)}", hint="stop them first")
            link = kernel.link(self.name)
            if link is not None and self._is_anothers(link):
                return
            # The link goes last: as long as it is there, whoever comes after a crash finds what is left.
            tables = netlink.tables()
            if self.name in tables:
                self._nft(f"delete table inet {self.name}")
            self.ports.clear(tables)
            if link is not None:
                self._delete_link(kernel, self.name)

    def forget(self) -> None:
        """Delete the lock file. Only whoever knows that nobody will ever use this bridge again may do so."""
        self._lock.unlink(missing_ok=True)

    # The bridge

    def _ensure(self, kernel: Netlink, tables: set[str]) -> _BridgeLink:
        """The bridge with its address, up, with forwarding and rules. Finishes what a crash left half done."""
        bridge = self._find(kernel)
        if bridge is None:
            bridge = self._create(kernel)
        elif self._subnet is not None and bridge.own.network != self._subnet:
            raise Conflict(
                f"network {self.name} exists with the subnet {bridge.own.network}, not {self._subnet}",
                hint="remove it first, or use its subnet",
            )
        if self.name not in tables:
            # Also where somebody flushed the host's rules: restarting the nftables service does.
            self._add_rules(bridge)
        if not self.internal:
            self._ensure_forwarding()
        return bridge

    def _find(self, kernel: Netlink) -> _BridgeLink | None:
        """The bridge, or None if it is missing or lacks its address, which _create() gives it last."""
        link = kernel.link(self.name)
        if link is None:
            return None
        if link.kind != "bridge":
            raise Conflict(
                f"the host has an interface {self.name} that is no bridge", hint="give the network another name"
            )
        if self._is_anothers(link):
            raise Conflict(
                f"the bridge {self.name} is another network's", hint=f"its record is {link.alias.removeprefix(_OWNED)}"
            )
        found = kernel.addresses(link.index, socket.AF_INET)
        found6 = self._subnet6 and [
            address
            for address in map(ipaddress.IPv6Interface, kernel.addresses(link.index, socket.AF_INET6))
            if address.network == self._subnet6
        ]
        if not found or (self._subnet6 and not found6):
            return None
        own = ipaddress.IPv4Interface(found[0])
        return _BridgeLink(index=link.index, mtu=link.mtu, own=own, own6=found6[0] if found6 else None)

    def _create(self, kernel: Netlink) -> _BridgeLink:
        """A new bridge, or the rest of one."""
        routes = kernel.routes(socket.AF_INET)
        link = kernel.link(self.name)
        elsewhere = [network for network, index in routes if network and (link is None or index != link.index)]
        subnet = addresses.free_subnet(self._subnet, elsewhere)
        own = ipaddress.IPv4Interface(f"{self._gateway or subnet.network_address + 1}/{subnet.prefixlen}")
        mtu = self._mtu or _default_mtu(kernel, routes)
        if link is None:
            # With a MAC of its own the bridge keeps it, else it would change with the first veth.
            # Made and named in one packet, which the kernel works through even if the sender dies.
            made = netlink.add_bridge(self.name, mac=addresses.mac(str(own.ip)))
            named = [netlink.set_alias(self.name, self._alias)] if self._alias else []
            kernel.apply([made, *named], self._emit)
            link = kernel.link(self.name)
            assert link is not None
        # As Docker does. A machine may have IPv6 switched off for new interfaces; then a bridge gets no IPv6 address.
        self._set(f"ipv6/conf/{self.name}/disable_ipv6", "1" if self._subnet6 is None else "0")
        # An MTU that was *set* stays; one given at creation follows the ports, and is 1500 without any.
        kernel.apply([netlink.set_up(self.name, mtu=mtu)], self._emit)
        # What 127.0.0.1:PORT on the host needs; rules.py tells what keeps it harmless.
        self._set(f"ipv4/conf/{self.name}/route_localnet", "1")
        own6 = self._own6()
        added = [own6] if own6 and str(own6) not in kernel.addresses(link.index, socket.AF_INET6) else []
        changes = [self._own_address(link.index, interface) for interface in added]
        if str(own) not in kernel.addresses(link.index, socket.AF_INET):
            changes.append(self._own_address(link.index, own))
        kernel.apply(changes, self._emit)
        return _BridgeLink(index=link.index, mtu=mtu, own=own, own6=own6)

    def _is_anothers(self, link: Link) -> bool:
        """Whether an interface says that it was made for another network than this one, and that one is wanted yet."""
        other = link.alias.startswith(_OWNED) and link.alias != self._alias
        return other and Path(link.alias.removeprefix(_OWNED)).exists()

    def _own6(self) -> ipaddress.IPv6Interface | None:
        if self._subnet6 is None:
            return None
        return ipaddress.IPv6Interface(
            f"{self._gateway6 or self._subnet6.network_address + 1}/{self._subnet6.prefixlen}"
        )

    def _own_address(self, index: int, own: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> Change:
        return netlink.add_address(index, self.name, str(own.ip), own.network.prefixlen)

    def _add_rules(self, bridge: _BridgeLink) -> None:
        subnet6 = str(self._subnet6 or "")
        subnet = str(bridge.own.network)
        self._nft(rules.bridge_table(self.name, subnet, subnet6, internal=self.internal, masquerade=self._masquerade))

    def _nft(self, statements: str) -> None:
        programs.run(["nft", statements])
        self._emit(NetworkChanged(shlex.join(["nft", statements])))

    def _ensure_forwarding(self) -> None:
        self._set("ipv4/ip_forward", "1")
        if self._subnet6 is not None and not _is_set("ipv6/conf/all/forwarding", "1"):
            # A host that forwards listens to no router any more, unless it is told to (2): it would lose its way out.
            for interface in os.listdir("/proc/sys/net/ipv6/conf"):
                setting = f"ipv6/conf/{interface}/accept_ra"
                with contextlib.suppress(FileNotFoundError):  # it has just gone
                    if _is_set(setting, "1"):
                        self._set(setting, "2")
            self._set("ipv6/conf/all/forwarding", "1")

    def _set(self, setting: str, value: str, *, inside: str = "") -> None:
        """Set a sysctl(8) of the network that this thread is in, unless it is so.

        A kernel without IPv6 has none of its settings.
        """
        with contextlib.suppress(FileNotFoundError):
            if not _is_set(setting, value):
                Path("/proc/sys/net", setting).write_text(value)
                self._emit(NetworkChanged(f"{inside}sysctl -w net/{setting}={value}"))

    # Endpoints

    def _choose(
        self,
        kernel: Netlink,
        bridge: _BridgeLink,
        container_id: str,
        interface: str,
        address: str | None,
        address6: str | None,
    ) -> Endpoint:
        """Addresses and names for a new endpoint, none of which another one has."""
        words = [_words(link) for link in self._ports_of(kernel)]
        taken = [str(bridge.own.ip), *self._reserved, *(one[2] for one in words)]
        chosen = addresses.choose(address, bridge.own.network, self._pool or bridge.own.network, taken)
        chosen6 = ""
        if bridge.own6 is not None:
            subnet6 = bridge.own6.network
            taken6 = [str(bridge.own6.ip), *self._reserved, *(one[4] for one in words if len(one) > 4)]
            chosen6 = addresses.choose(address6, subnet6, self._pool6 or subnet6, taken6)
        elif address6:
            raise InvalidInput(
                f"network {self.name} has no IPv6 subnet", hint="labctr network create --ipv6 --subnet …"
            )
        alias = _port_alias(self.name, container_id, chosen, interface, chosen6)
        link = Link(index=0, name=_free_name(kernel), kind="veth", mtu=bridge.mtu, alias=alias, master=bridge.index)
        return self._endpoint(link, bridge)

    def _ports_of(self, kernel: Netlink) -> list[Link]:
        """The bridge's ports whose alias says that they are ours."""
        link = kernel.link(self.name)
        ports = kernel.links(master=link.index) if link is not None else []
        return [port for port in ports if _words(port)[:1] == [self.name]]

    def _endpoint(self, link: Link, bridge: _BridgeLink) -> Endpoint:
        name, container_id, address, interface, *rest = _words(link)
        six = bridge.own6 if rest else None
        return Endpoint(
            container_id=container_id,
            address=address,
            prefix_length=bridge.own.network.prefixlen,
            gateway=str(bridge.own.ip),
            mac=addresses.mac(address),
            interface=interface,
            bridge=name,
            host_interface=link.name,
            address6=rest[0] if rest else "",
            prefix_length6=six.network.prefixlen if six else 0,
            gateway6=str(six.ip) if six else "",
        )

    def _add_pair(self, kernel: Netlink, endpoint: Endpoint, bridge: _BridgeLink, namespace: int, pid: int) -> None:
        host = endpoint.host_interface
        alias = _port_alias(self.name, endpoint.container_id, endpoint.address, endpoint.interface, endpoint.address6)
        told = f"alias {shlex.quote(alias)} master {self.name}"
        pair = netlink.add_pair(
            host, mtu=bridge.mtu, peer=endpoint.interface, mac=endpoint.mac, namespace=namespace, pid=pid
        )
        try:
            joined = netlink.join_bridge(host, alias=alias, bridge=bridge.index, told=told)
            # Frames between two isolated ports of a bridge are dropped by it; netfilter never sees them.
            alone = [] if self._connectivity else [netlink.set_port(host, "isolated")]
            kernel.apply([pair, joined, *alone], self._emit)
        except BaseException:
            self._delete_link(kernel, host)
            raise

    def _configure(self, endpoint: Endpoint, pid: int, link_local: Sequence[str], *, leads_out: bool) -> None:
        """Inside the container's network namespace: addresses, links up, the way out."""
        interface = endpoint.interface
        # Docker too has no IPv6 on a network without an IPv6 subnet, nor ::1 in a container without a network
        # that has one.
        enter = f"nsenter --net=/proc/{pid}/ns/net "
        has_six = bool(endpoint.address6) or any(":" in address for address in link_local)
        for name in (interface, "lo") if has_six or interface == "eth0" else (interface,):
            self._set(f"ipv6/conf/{name}/disable_ipv6", "0" if has_six else "1", inside=enter)
        subnet = ipaddress.IPv4Interface(f"{endpoint.address}/{endpoint.prefix_length}").network
        index = socket.if_nametoindex(interface)
        changes = [
            netlink.set_up("lo", inside=enter),
            netlink.add_address(
                index,
                interface,
                endpoint.address,
                endpoint.prefix_length,
                broadcast=str(subnet.broadcast_address),
                inside=enter,
            ),
            netlink.set_up(interface, inside=enter),
        ]
        if endpoint.address6:
            changes.append(
                netlink.add_address(index, interface, endpoint.address6, endpoint.prefix_length6, inside=enter)
            )
        for address in link_local:
            length = 64 if ":" in address else 16  # RFC 4291, 2.5.6; RFC 3927, 2.1
            changes.append(netlink.add_address(index, interface, address, length, inside=enter))
        if leads_out:
            gateways = filter(None, (endpoint.gateway, endpoint.gateway6))
            changes += [netlink.default_route(gateway, interface, index, inside=enter) for gateway in gateways]
        with Netlink() as kernel:
            kernel.apply(changes, self._emit)

    def _delete_link(self, kernel: Netlink, name: str) -> None:
        """Remove an interface, a veth with its other end; one that is gone already is no error."""
        with contextlib.suppress(NoSuchDevice):
            kernel.apply([netlink.delete_link(name)], self._emit)


def owned_bridges() -> list[tuple[str, str]]:
    """(name, owner) of each bridge on the host that was made for one, of whatever data root."""
    with Netlink() as kernel:
        bridges = [link for link in kernel.links() if link.kind == "bridge" and link.alias.startswith(_OWNED)]
    return [(link.name, link.alias.removeprefix(_OWNED)) for link in bridges]


def connected_containers() -> set[str]:
    """The first twelve digits of the ids of all containers that are on any of our bridges."""
    with Netlink() as kernel:
        words = [_words(link) for link in kernel.links() if link.kind == "veth" and link.alias]
    return {one[1][:12] for one in words if len(one) > 3}


@contextlib.contextmanager
def network_namespace(pid: int) -> Iterator[int]:
    """An open file of process pid's network namespace: it stays the right one even when the pid is recycled."""
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Conflict(f"process {pid} is gone: the container has ended") from error
    try:
        yield namespace
    finally:
        os.close(namespace)


def _port_alias(bridge: str, container_id: str, address: str, interface: str, address6: str) -> str:
    """What the host's end of a veth says of itself in the kernel: all that is known of an endpoint."""
    return " ".join(filter(None, (bridge, container_id, address, interface, address6)))


def _free_name(kernel: Netlink) -> str:
    """A name for the host's end of a veth that no interface has: by its name it is deleted where a step fails."""
    while kernel.link(name := f"veth{secrets.token_hex(4)[:7]}") is not None:
        pass
    return name


def _words(link: Link) -> list[str]:
    """The words of such an alias, the last one only with IPv6."""
    return link.alias.split()


def _default_mtu(kernel: Netlink, routes: Sequence[tuple[str, int]]) -> int:
    """The MTU of the way out: larger packets of a container would be lost there."""
    ways_out = {index for network, index in routes if not network}
    return min((link.mtu for link in kernel.links() if link.index in ways_out), default=_DEFAULT_MTU)


def _is_set(setting: str, value: str) -> bool:
    return Path("/proc/sys/net", setting).read_text().strip() == value
