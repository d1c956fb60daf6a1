"""One bridge of the host, and the veth pairs of the containers on it.

A bridge is the engine's if its alias says so, and is then configured and removed by the engine. A bridge of another
program that a network uses by its name (com.docker.network.bridge.name) gets an address if it lacks one, and
ports; its settings and the bridge itself stay as they are.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
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
from pylab_container.events import Emit, NetworkChanged, ignore
from pylab_container.host import programs
from pylab_container.host.files import locked
from pylab_container.runtime.network import addresses, netlink, rules
from pylab_container.runtime.network.netlink import Link, Netlink, NetlinkRequest, NoSuchDevice
from pylab_container.runtime.network.ports import PortPublisher

_DEFAULT_MTU = 1500
_FORWARDING6 = "ipv6/conf/all/forwarding"

# How the alias of the engine's bridges begins, and the longest one (IFALIASZ in linux/if.h).
_OWNED = "network of "
_LONGEST_ALIAS = 256
_SHARED = "every data root"  # the owner of the bridge that belongs to no single record

# What the kernel takes as an interface name (15 bytes) and nft as a table name.
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]{0,14}")

# Below /proc/sys/net/…/conf these are not interfaces: settings written there would be those of the host.
_NOT_INTERFACES = ("all", "default")


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
    """The bridge as the kernel has it. `own` is its address with its subnet; own6 None without IPv6.

    is_foreign  whether another program made it
    """

    index: int
    mtu: int
    is_foreign: bool
    own: ipaddress.IPv4Interface
    own6: ipaddress.IPv6Interface | None = None


class Bridge:
    """One bridge of the host and its rules (an nft table: rules.table_name()).

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
        has_own_name: bool = False,
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
        owner     the path of a file that exists as long as the bridge is needed: its alias in the kernel, see
                  owned_bridges(); "" for a bridge that all data roots share
        has_own_name  whether the name was drawn at random, so that no other program can have made such a bridge

        Raises InvalidInput for a name, a subnet or an address that cannot be one.
        """
        check_bridge_name(name)
        self.name = name
        self.internal = internal
        self._table = rules.table_name(name)
        self._has_own_name = has_own_name
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
        self._alias = _alias(owner)
        self._lock = run_root / f"{name}.lock"
        self._emit = emit
        self.ports = PortPublisher(run_root, emit=emit, is_connected=connected_containers)

    def ensure(self) -> ipaddress.IPv4Network:
        """Make the bridge and its rules, as far as they are missing; returns its subnet. Raises Conflict."""
        with locked(self._lock), Netlink() as kernel:
            return self._ensure(kernel, netlink.tables()).own.network

    def refuse_foreign(self) -> None:
        """Raise Conflict if the host has an interface of this name that cannot be this bridge."""
        with Netlink() as kernel:
            link = kernel.link(self.name)
            if link is not None:
                self._refuse_link(link)

    def subnet(self) -> str:
        """The subnet that the bridge has in the kernel, "" while there is none."""
        with Netlink() as kernel:
            bridge = self._find(kernel) if self._is_there(kernel) else None
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

        An internal bridge never gives a default route: packets for elsewhere fail at once instead of being dropped.
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
                    namespace,
                    lambda: self._configure(endpoint, pid, link_local, leads_out=default_route and not self.internal),
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
            bridge = self._find(kernel) if self._is_there(kernel) else None
            found = [self._endpoint(link, bridge) for link in self._ports_of(kernel)] if bridge else []
        return sorted(found, key=lambda endpoint: ipaddress.IPv4Address(endpoint.address))

    def lead_out(self, endpoint: Endpoint, pid: int) -> None:
        """Make this endpoint's gateway the way out of process pid's network namespace, in place of another one.

        An internal bridge leads nowhere: nothing changes.
        """
        if self.internal:
            return
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
        """Remove the bridge and its rules, as far as they exist. Raises InUse while a container is connected.

        From a bridge that another program made, only the addresses that the engine added are removed.
        """
        with locked(self._lock), Netlink() as kernel:
            if names := [_words(link)[1][:12] for link in self._ports_of(kernel)]:
                raise InUse(f"network {self.name} has connected containers: {', '.join(names)}", hint="stop them first")
            link = kernel.link(self.name)
            if link is not None and self._is_anothers(link):
                return
            # The link goes last: as long as it is there, whoever comes after a crash finds what is left.
            tables = netlink.tables()
            if self._table in tables:
                self._nft(f"delete table inet {self._table}")
            self.ports.clear(tables)
            if link is not None and self._is_own(link):
                self._delete_link(kernel, self.name)
            elif link is not None:
                marked = kernel.marked_addresses(link.index)
                kernel.apply([netlink.delete_address(link.index, self.name, one) for one in marked], self._emit)

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
            # A bridge of the engine has one subnet; _own_of() found no other.
            raise Conflict(
                f"network {self.name} exists with the subnet {bridge.own.network}, not {self._subnet}",
                hint="remove it first, or use its subnet",
            )
        if bridge.is_foreign:
            kernel.apply([netlink.set_up(self.name)], self._emit)
        else:
            self._refuse_routers()
        if self._table not in tables:
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
        self._refuse_link(link)
        found = kernel.addresses(link.index, socket.AF_INET)
        own = self._own_of(found) if self._is_foreign(link) else next(map(ipaddress.IPv4Interface, found), None)
        found6 = self._subnet6 and [
            address
            for address in map(ipaddress.IPv6Interface, kernel.addresses(link.index, socket.AF_INET6))
            if address.network == self._subnet6
        ]
        if own is None or (self._subnet6 and not found6):
            return None
        own6 = found6[0] if found6 else None
        return _BridgeLink(index=link.index, mtu=link.mtu, own=own, own6=own6, is_foreign=self._is_foreign(link))

    def _is_there(self, kernel: Netlink) -> bool:
        """Whether the host has this bridge, and not another interface under its name."""
        link = kernel.link(self.name)
        return link is not None and link.kind == "bridge" and not self._is_anothers(link)

    def _refuse_link(self, link: Link) -> None:
        """Raise Conflict for an interface that is not a bridge, or the bridge of a network that exists."""
        if link.kind != "bridge":
            raise Conflict(f"existing interface {self.name} is not a bridge", hint="give the network another name")
        if self._is_anothers(link):
            raise Conflict(
                f"the bridge {self.name} is another network's", hint=f"its record is {link.alias.removeprefix(_OWNED)}"
            )

    def _own_of(self, found: Sequence[str]) -> ipaddress.IPv4Interface | None:
        """The address of a bridge of others that is this network's gateway: of several, exactly that one."""
        wanted = self._own4()
        return next((one for one in map(ipaddress.IPv4Interface, found) if wanted in (None, one)), None)

    def _own4(self) -> ipaddress.IPv4Interface | None:
        """The bridge's own address as the record has it."""
        if self._subnet is None:
            return None
        return ipaddress.IPv4Interface(f"{self._gateway or self._subnet.network_address + 1}/{self._subnet.prefixlen}")

    def _create(self, kernel: Netlink) -> _BridgeLink:
        """A new bridge, or the rest of one."""
        routes = kernel.routes(socket.AF_INET)
        link = kernel.link(self.name)
        elsewhere = [network for network, index in routes if network and (link is None or index != link.index)]
        subnet = addresses.free_subnet(self._subnet, elsewhere)
        own = ipaddress.IPv4Interface(f"{self._gateway or subnet.network_address + 1}/{subnet.prefixlen}")
        mtu = self._mtu or _default_mtu(kernel, routes)
        if link is None:
            link = self._add_link(kernel, addresses.mac(str(own.ip)))
        is_foreign = self._is_foreign(link)
        if not is_foreign:
            self._configure_link(kernel, mtu)
        own6 = self._own6()
        added = [own6] if own6 and str(own6) not in kernel.addresses(link.index, socket.AF_INET6) else []
        changes = [self._own_address(link, interface) for interface in added]
        if str(own) not in kernel.addresses(link.index, socket.AF_INET):
            changes.append(self._own_address(link, own))
        kernel.apply(changes, self._emit)
        return _BridgeLink(
            index=link.index, mtu=link.mtu if is_foreign else mtu, own=own, own6=own6, is_foreign=is_foreign
        )

    def _add_link(self, kernel: Netlink, mac: str) -> Link:
        """A new bridge, with its alias. With a MAC of its own it keeps it, else it would change with the first veth."""
        made, named = netlink.add_bridge(self.name, mac=mac), netlink.set_alias(self.name, self._alias)
        if self._has_own_name:
            # In one packet, which the kernel works through even if the sender dies.
            kernel.apply([made, named], self._emit)
        else:
            # The kernel would go on after a failure, and another program may have made this bridge just now.
            kernel.apply([made], self._emit)
            kernel.apply([named], self._emit)
        link = kernel.link(self.name)
        assert link is not None
        return link

    def _configure_link(self, kernel: Netlink, mtu: int) -> None:
        """The settings of a bridge of the engine, before it is up."""
        self._refuse_routers()
        # A machine may have IPv6 switched off for new interfaces; then a bridge gets no IPv6 address.
        self._set(f"ipv6/conf/{self.name}/disable_ipv6", "1" if self._subnet6 is None else "0")
        # An MTU that was *set* stays; one given at creation follows the ports, and is 1500 without any.
        kernel.apply([netlink.set_up(self.name, mtu=mtu)], self._emit)
        # What 127.0.0.1:PORT on the host needs; rules.py explains what keeps it harmless.
        self._set(f"ipv4/conf/{self.name}/route_localnet", "1")

    def _refuse_routers(self) -> None:
        """Ignore a container that claims to be a router, or to know a better one (CVE-2020-13401).

        The host would take an address, a default route and DNS servers from it.
        """
        self._set(f"ipv6/conf/{self.name}/accept_ra", "0")
        for family in ("ipv4", "ipv6"):
            self._set(f"{family}/conf/{self.name}/accept_redirects", "0")

    def _is_own(self, link: Link) -> bool:
        """Whether the engine made an interface. Only such a one may be configured and removed."""
        if link.kind != "bridge" or self._is_anothers(link):
            return False
        return link.alias.startswith(_OWNED) or (self._has_own_name and not link.alias)

    def _is_foreign(self, link: Link) -> bool:
        return not self._is_own(link)

    def _is_anothers(self, link: Link) -> bool:
        """Whether an interface says that it was made for another network than this one, and that one is wanted yet."""
        if not link.alias.startswith(_OWNED) or link.alias == self._alias:
            return False
        owner = link.alias.removeprefix(_OWNED)
        return not owner.startswith("/") or Path(owner).exists()

    def _own6(self) -> ipaddress.IPv6Interface | None:
        if self._subnet6 is None:
            return None
        return ipaddress.IPv6Interface(
            f"{self._gateway6 or self._subnet6.network_address + 1}/{self._subnet6.prefixlen}"
        )

    def _own_address(self, link: Link, own: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> NetlinkRequest:
        marked = self._is_foreign(link)
        return netlink.add_address(link.index, self.name, str(own.ip), own.network.prefixlen, marked=marked)

    def _add_rules(self, bridge: _BridgeLink) -> None:
        subnet6 = str(self._subnet6 or "")
        subnet = str(bridge.own.network)
        self._nft(rules.bridge_table(self.name, subnet, subnet6, internal=self.internal, masquerade=self._masquerade))

    def _nft(self, statements: str) -> None:
        programs.run(["nft", statements])
        self._emit(NetworkChanged(shlex.join(["nft", statements])))

    def _ensure_forwarding(self) -> None:
        self._set("ipv4/ip_forward", "1")
        if self._subnet6 is not None and not _is_set(_FORWARDING6, "1"):
            self._forward6()

    def _forward6(self) -> None:
        """Let the host forward IPv6 while each interface keeps its own settings.

        The kernel decides by `all` alone whether it forwards, but a write to `all` is copied to every interface. One
        that forwards is a router: it listens to no other router, and has lost its default route at the next
        advertisement (Linux, ip-sysctl, accept_ra). So each interface gets its own value back. The write also
        removes the default routes that the host has from routers at this moment, except for interfaces with
        accept_ra=2: so those with such a route have it for the length of the write.
        """
        before = _settings6("forwarding")
        with Netlink() as kernel:
            leading = {index for network, index in kernel.routes(socket.AF_INET6) if not network}
            names = [link.name for link in kernel.links() if link.index in leading]
        listening = [setting for setting in (f"ipv6/conf/{name}/accept_ra" for name in names) if _is_set(setting, "1")]
        for setting in listening:
            self._set(setting, "2")
        try:
            self._set(_FORWARDING6, "1")
            for setting, value in before.items():
                self._set(setting, value)
        finally:
            for setting in listening:
                self._set(setting, "1")

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
            # The bridge takes what comes in here as long as the veth is its port, and no longer.
            self._set(f"ipv6/conf/{host}/accept_ra", "0")
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


def check_bridge_name(name: str) -> None:
    """Raise InvalidInput for a name that no bridge of ours can have."""
    if not _NAME.fullmatch(name) or name in _NOT_INTERFACES or not rules.is_free_name(name):
        raise InvalidInput(f"{name!r} cannot be a bridge's name", hint="use up to 15 letters, digits, _ . and -")


def owned_bridges() -> list[tuple[str, str]]:
    """(name, the path of its record) of each bridge on the host that was made for a network, of any data root."""
    with Netlink() as kernel:
        bridges = [link for link in kernel.links() if link.kind == "bridge" and link.alias.startswith(f"{_OWNED}/")]
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


def _alias(owner: str) -> str:
    """The alias of a bridge. The kernel takes a limited length, and half a path is the path of something else."""
    alias = f"{_OWNED}{owner or _SHARED}"
    if len(os.fsencode(alias)) < _LONGEST_ALIAS:
        return alias
    return f"{_OWNED}sha256:{hashlib.sha256(os.fsencode(owner)).hexdigest()}"


def _settings6(name: str) -> dict[str, str]:
    """One IPv6 setting of each interface, and of those to come ("default")."""
    found = {}
    for one in os.listdir("/proc/sys/net/ipv6/conf"):
        with contextlib.suppress(FileNotFoundError):  # the interface has just been removed
            if one != "all":
                found[f"ipv6/conf/{one}/{name}"] = _value(f"ipv6/conf/{one}/{name}")
    return found


def _value(setting: str) -> str:
    return Path("/proc/sys/net", setting).read_text().strip()


def _is_set(setting: str, value: str) -> bool:
    return _value(setting) == value
