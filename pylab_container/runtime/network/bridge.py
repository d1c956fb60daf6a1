"""One bridge of the host, its rules, and the veth pairs that connect containers to it (veth(4)).

The alias of each bridge of the engine names its owner; the engine configures and removes such a bridge. A user may also
name a foreign bridge, made by another program (com.docker.network.bridge.name). The engine adds ports to it, and an
address if it lacks one, but does not change its settings and does not remove it.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import re
import shlex
import socket
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import Conflict, InUse, InvalidInput, RuntimeFailed
from pylab_container.events import Emit, NetworkChanged, ignore
from pylab_container.host import programs
from pylab_container.host.files import locked
from pylab_container.host.random_ids import random_hex
from pylab_container.runtime.network import addresses, netlink, rules, sysctl
from pylab_container.runtime.network.endpoint import (
    Endpoint,
    EndpointAlias,
    configure_interface,
    connected_short_ids,
    open_network_namespace,
    parse_alias,
    replace_default_route,
)
from pylab_container.runtime.network.netlink import Link, Netlink, NetlinkRequest, NoSuchDevice
from pylab_container.runtime.network.ports import PortPublisher

_DEFAULT_MTU = 1500  # bytes

_OWNED = "network of "  # prefix of the alias of the engine's bridges; the owner follows
_ALIAS_SIZE = 256  # bytes with the final zero: IFALIASZ in linux/if.h
_SHARED = "every data root"  # the owner of labctr0, which has no record

# Valid both as an interface name (15 bytes: IFNAMSIZ in linux/if.h) and as the name of an nft table.
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]{0,14}")

# Below /proc/sys/net/…/conf these two are not interfaces: the settings of a bridge of such a name would be the host's.
_RESERVED_NAMES = ("all", "default")


class _BridgeLink(Struct, frozen=True, kw_only=True):
    """The bridge's present state in the kernel.

    own, own6   its addresses with their subnets; own6 is None without IPv6
    is_foreign  whether another program made it
    """

    index: int
    mtu: int
    is_foreign: bool
    own: ipaddress.IPv4Interface
    own6: ipaddress.IPv6Interface | None = None


class Bridge:
    """One bridge of the host and its rules, an nft table (rules.table_name()). Created by ensure() or connect().

    name          the interface's name
    run_root      directory of the lock that serializes the choice of addresses; must be the same in all processes
                  that use the bridge
    subnet        such as "10.1.0.0/24"; None takes the first of Docker's list that the host has no route into
    gateway       the bridge's own address, "" for the first of the subnet; gateway6 likewise
    ip_range      the part of the subnet from which containers get addresses, "" for all of it; ip_range6 likewise
    subnet6       "" without IPv6
    reserved      addresses that no container gets
    internal      whether the network is isolated from all others
    connectivity  whether the containers on the bridge reach each other
    masquerade    whether packets to other networks get the host's address
    mtu           in bytes; None takes that of the host's default route
    owner         path of a file that exists as long as the bridge is needed; recorded in the bridge's alias, see
                  owned_bridges(). "" for a bridge that all data roots share
    has_generated_name
                  whether the name is derived from a random id, so that no other program can have made such a bridge
    emit          receives each change as a NetworkChanged

    Raises InvalidInput for a name, a subnet or an address that is not valid.
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
        has_generated_name: bool = False,
        emit: Emit = ignore,
    ) -> None:
        check_bridge_name(name)
        self.name = name
        self.internal = internal
        self.ports = PortPublisher(run_root, emit=emit, connected_short_ids=connected_short_ids)
        self._subnet = None if subnet is None else addresses.parse_subnet(subnet)
        self._subnet6 = addresses.parse_subnet6(subnet6) if subnet6 else None
        self._gateway = _parse_gateway(gateway, self._subnet)
        self._gateway6 = gateway6
        self._pool = addresses.parse_range(ip_range, self._subnet) if ip_range and self._subnet else None
        self._pool6 = addresses.parse_range(ip_range6, self._subnet6) if ip_range6 and self._subnet6 else None
        self._reserved = tuple(reserved)
        self._connectivity = connectivity
        self._masquerade = masquerade
        self._mtu = mtu
        self._table = rules.table_name(name)
        self._alias = _alias(owner)
        self._has_generated_name = has_generated_name
        self._lock = run_root / f"{name}.lock"
        self._emit = emit

    def ensure(self) -> ipaddress.IPv4Network:
        """Create the bridge and its rules, or their missing parts; return the subnet. Idempotent. Raises Conflict."""
        with locked(self._lock), Netlink() as kernel:
            return self._ensure(kernel, netlink.tables()).own.network

    def refuse_foreign(self) -> None:
        """Raise Conflict if the host has an interface of this name that cannot be this bridge."""
        with Netlink() as kernel:
            link = kernel.link(self.name)
            if link is not None:
                self._refuse_link(link)

    def subnet(self) -> str:
        """The subnet of the bridge in the kernel, "" if the bridge does not exist."""
        with Netlink() as kernel:
            bridge = self._find(kernel) if self._exists(kernel) else None
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
        """Give the network namespace of process pid an interface on the bridge, with addresses and a default route.

        address        None takes the lowest free address; address6 likewise
        mac            "" derives it from the address
        link_local     further addresses of the interface
        default_route  ignored on an internal bridge: without a route, packets to other networks fail at once

        Raises Conflict when the process has exited, the address is taken, or no subnet or address is free;
        InvalidInput when the address is not in the subnet; RuntimeFailed when the kernel refuses. A failed attempt
        leaves no veth pair.
        """
        with open_network_namespace(pid) as namespace, Netlink() as kernel:
            with locked(self._lock):
                tables = netlink.tables()
                bridge = self._ensure(kernel, tables)
                self.ports.clear(tables)
                endpoint = self._choose_endpoint(kernel, bridge, container_id, interface, address, address6)
                endpoint = replace(endpoint, mac=mac or endpoint.mac)
                # The alias of the veth pair reserves the address: other processes read it. So the lock can be released
                # here, and containers configure their interfaces concurrently.
                self._add_pair(kernel, endpoint, bridge, namespace, pid)
            has_default_route = default_route and not self.internal
            try:
                netlink.in_namespace(
                    namespace,
                    lambda: configure_interface(
                        endpoint, pid, link_local, self._emit, has_default_route=has_default_route
                    ),
                )
            except BaseException:
                self._delete_link(kernel, endpoint.host_interface)
                raise
        return endpoint

    def disconnect(self, container_id: str) -> None:
        """Remove a container's veth pair, which frees its addresses. Idempotent."""
        with Netlink() as kernel:
            for link, alias in self._ports(kernel):
                if alias.container_id == container_id:
                    self._delete_link(kernel, link.name)

    def endpoints(self) -> list[Endpoint]:
        """The containers that are connected now, lowest address first."""
        with Netlink() as kernel:
            bridge = self._find(kernel) if self._exists(kernel) else None
            connected = [_endpoint(link, alias, bridge) for link, alias in self._ports(kernel)] if bridge else []
        return sorted(connected, key=lambda endpoint: ipaddress.IPv4Address(endpoint.address))

    def set_default_route(self, endpoint: Endpoint, pid: int) -> None:
        """Replace the default routes of process pid by routes through this endpoint. Ignored on an internal bridge."""
        if not self.internal:
            replace_default_route(endpoint, pid, self._emit)

    def enable_hairpin(self, endpoint: Endpoint) -> None:
        """Let a container reach its own published ports."""
        # With the module br_netfilter, DNAT takes place in the bridge, which must send the packet back through the port
        # from which it came. A bridge does that only for ports in hairpin mode (bridge(8)). The error is suppressed
        # because the container may have exited, and its port with it.
        with contextlib.suppress(RuntimeFailed), Netlink() as kernel:
            kernel.apply([netlink.set_port(endpoint.host_interface, "hairpin")], self._emit)

    def remove(self) -> None:
        """Remove the bridge and its rules. Idempotent. Raises InUse while a container is connected.

        From a foreign bridge, only the addresses that the engine added are removed.
        """
        with locked(self._lock), Netlink() as kernel:
            if names := [alias.container_id[:12] for _, alias in self._ports(kernel)]:
                raise InUse(f"network {self.name} has connected containers: {', '.join(names)}", hint="stop them first")
            link = kernel.link(self.name)
            if link is not None and self._belongs_to_another_network(link):
                return
            # The link is removed last. If this process crashes before, the link's alias still lets another process find
            # and remove the rest (owned_bridges()).
            tables = netlink.tables()
            if self._table in tables:
                self._nft(f"delete table inet {self._table}")
            self.ports.clear(tables)
            if link is not None and self._is_own(link):
                self._delete_link(kernel, self.name)
            elif link is not None:
                marked = kernel.marked_addresses(link.index)
                kernel.apply([netlink.delete_address(link.index, self.name, address) for address in marked], self._emit)

    def remove_lock(self) -> None:
        """Delete the lock file. Call it only for a bridge that no process will use again."""
        # A process that waits for the lock would get it on the deleted file, while another process locks a new file.
        self._lock.unlink(missing_ok=True)

    # The bridge in the kernel

    def _ensure(self, kernel: Netlink, tables: set[str]) -> _BridgeLink:
        """Create or complete the bridge, its address, its state, its rules, and the host's forwarding."""
        bridge = self._find(kernel)
        if bridge is None:
            bridge = self._create(kernel)
        elif self._subnet is not None and bridge.own.network != self._subnet:
            # This is never a foreign bridge: on one, _find() accepts only the recorded address.
            raise Conflict(
                f"network {self.name} exists with the subnet {bridge.own.network}, not {self._subnet}",
                hint="remove it first, or use its subnet",
            )
        if bridge.is_foreign:
            kernel.apply([netlink.set_up(self.name)], self._emit)
        else:
            sysctl.ignore_routers(self.name, self._emit)
        if self._table not in tables:
            # Also for a bridge that already exists: a restart of the nftables service flushes all tables of the host.
            self._add_rules(bridge)
        if not self.internal:
            sysctl.set_value("ipv4/ip_forward", "1", self._emit)
            if self._subnet6 is not None:
                sysctl.enable_forwarding6(self._emit)
        return bridge

    def _find(self, kernel: Netlink) -> _BridgeLink | None:
        """The bridge's state; None if it does not exist or is incomplete. _create() adds the IPv4 address last."""
        link = kernel.link(self.name)
        if link is None:
            return None
        self._refuse_link(link)
        present = [ipaddress.IPv4Interface(address) for address in kernel.addresses(link.index, socket.AF_INET)]
        is_foreign = not self._is_own(link)
        # A foreign bridge may have several addresses. Only the recorded gateway belongs to this network.
        candidates = [address for address in present if not is_foreign or self._recorded_address() in (None, address)]
        own, own6 = next(iter(candidates), None), self._find_address6(kernel, link)
        if own is None or (self._subnet6 and own6 is None):
            return None
        return _BridgeLink(index=link.index, mtu=link.mtu, own=own, own6=own6, is_foreign=is_foreign)

    def _find_address6(self, kernel: Netlink, link: Link) -> ipaddress.IPv6Interface | None:
        if self._subnet6 is None:
            return None
        present = map(ipaddress.IPv6Interface, kernel.addresses(link.index, socket.AF_INET6))
        return next((address for address in present if address.network == self._subnet6), None)

    def _exists(self, kernel: Netlink) -> bool:
        """Whether the host has this bridge; False if an interface of this name is not this bridge."""
        link = kernel.link(self.name)
        return link is not None and link.kind == "bridge" and not self._belongs_to_another_network(link)

    def _refuse_link(self, link: Link) -> None:
        """Raise Conflict for an interface that is not a bridge, or is the bridge of another network."""
        if link.kind != "bridge":
            raise Conflict(f"existing interface {self.name} is not a bridge", hint="give the network another name")
        if self._belongs_to_another_network(link):
            raise Conflict(
                f"the bridge {self.name} is another network's", hint=f"its record is {link.alias.removeprefix(_OWNED)}"
            )

    def _is_own(self, link: Link) -> bool:
        """Whether the engine made this bridge. Only such a bridge may be configured and removed."""
        if link.kind != "bridge" or self._belongs_to_another_network(link):
            return False
        # A bridge with a generated name is the engine's also without an alias: setting the alias may have failed.
        return link.alias.startswith(_OWNED) or (self._has_generated_name and not link.alias)

    def _belongs_to_another_network(self, link: Link) -> bool:
        """Whether an interface's alias names another owner than this bridge's, and that owner's record exists."""
        if not link.alias.startswith(_OWNED) or link.alias == self._alias:
            return False
        owner = link.alias.removeprefix(_OWNED)
        return not owner.startswith("/") or Path(owner).exists()

    def _recorded_address(self) -> ipaddress.IPv4Interface | None:
        """The bridge's own address by the network's record; None if the record has no subnet (labctr0)."""
        return None if self._subnet is None else self._own_address(self._subnet)

    def _own_address(self, subnet: ipaddress.IPv4Network) -> ipaddress.IPv4Interface:
        return ipaddress.IPv4Interface(f"{self._gateway or subnet.network_address + 1}/{subnet.prefixlen}")

    def _own_address6(self) -> ipaddress.IPv6Interface | None:
        if self._subnet6 is None:
            return None
        gateway = self._gateway6 or self._subnet6.network_address + 1
        return ipaddress.IPv6Interface(f"{gateway}/{self._subnet6.prefixlen}")

    # Creating the bridge

    def _create(self, kernel: Netlink) -> _BridgeLink:
        """Create the bridge, or complete one that a crash left without its address."""
        routes = kernel.routes(socket.AF_INET)
        link = kernel.link(self.name)
        elsewhere = [network for network, index in routes if network and (link is None or index != link.index)]
        own = self._own_address(addresses.free_subnet(self._subnet, elsewhere))
        mtu = self._mtu or _default_mtu(kernel, routes)
        if link is None:
            link = self._add_link(kernel, addresses.mac(str(own.ip)))
        is_foreign = not self._is_own(link)
        if not is_foreign:
            self._configure_link(kernel, mtu)
        own6 = self._own_address6()
        requests = []
        if own6 and str(own6) not in kernel.addresses(link.index, socket.AF_INET6):
            requests.append(self._add_address(link, own6))
        if str(own) not in kernel.addresses(link.index, socket.AF_INET):
            requests.append(self._add_address(link, own))
        kernel.apply(requests, self._emit)
        return _BridgeLink(
            index=link.index, mtu=link.mtu if is_foreign else mtu, own=own, own6=own6, is_foreign=is_foreign
        )

    def _add_link(self, kernel: Netlink, mac: str) -> Link:
        """Create the bridge with its alias."""
        # Without an explicit MAC address a bridge takes the lowest address of its ports, so it changes when ports are
        # added (br_stp_recalculate_bridge_id() in net/bridge/br_stp_if.c). Containers would lose their gateway.
        create, name = netlink.add_bridge(self.name, mac=mac), netlink.set_alias(self.name, self._alias)
        if self._has_generated_name:
            # One packet: the kernel processes all of it even if this process is killed, so no bridge lacks its alias.
            kernel.apply([create, name], self._emit)
        else:
            # Two packets: the kernel continues a packet after a failed request. If the creation failed because another
            # program has just created a bridge of this name, that bridge would get the alias.
            kernel.apply([create], self._emit)
            kernel.apply([name], self._emit)
        link = kernel.link(self.name)
        assert link is not None
        return link

    def _configure_link(self, kernel: Netlink, mtu: int) -> None:
        """Set the sysctls that must precede the bridge's first use, its MTU, and bring it up."""
        sysctl.ignore_routers(self.name, self._emit)
        # The host may disable IPv6 for new interfaces, and then the bridge could not get an IPv6 address.
        self._set_sysctl(f"ipv6/conf/{self.name}/disable_ipv6", "1" if self._subnet6 is None else "0")
        # An MTU that is set after the creation is fixed. An MTU that is part of the creation is later adjusted to the
        # MTUs of the ports (br_mtu_auto_adjust() in net/bridge/br_if.c).
        kernel.apply([netlink.set_up(self.name, mtu=mtu)], self._emit)
        # Lets connections of the host to 127.0.0.1:PORT reach a container. The rules of rules.py keep this safe.
        self._set_sysctl(f"ipv4/conf/{self.name}/route_localnet", "1")

    def _add_address(self, link: Link, own: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> NetlinkRequest:
        # On a foreign bridge the engine's addresses are marked, so that remove() finds them.
        marked = not self._is_own(link)
        return netlink.add_address(link.index, self.name, str(own.ip), own.network.prefixlen, marked=marked)

    def _add_rules(self, bridge: _BridgeLink) -> None:
        subnet, subnet6 = str(bridge.own.network), str(self._subnet6 or "")
        self._nft(rules.bridge_table(self.name, subnet, subnet6, internal=self.internal, masquerade=self._masquerade))

    def _nft(self, statements: str) -> None:
        programs.run(["nft", statements])
        self._emit(NetworkChanged(shlex.join(["nft", statements])))

    def _set_sysctl(self, setting: str, value: str) -> None:
        sysctl.set_value(setting, value, self._emit)

    # Ports of the bridge

    def _choose_endpoint(
        self,
        kernel: Netlink,
        bridge: _BridgeLink,
        container_id: str,
        interface: str,
        address: str | None,
        address6: str | None,
    ) -> Endpoint:
        """Choose addresses and a host interface that no other endpoint has. The caller holds the lock."""
        aliases = [alias for _, alias in self._ports(kernel)]
        taken = [str(bridge.own.ip), *self._reserved, *(alias.address for alias in aliases)]
        chosen = addresses.choose(address, bridge.own.network, self._pool or bridge.own.network, taken)
        chosen6 = ""
        if bridge.own6 is not None:
            subnet6 = bridge.own6.network
            taken6 = [str(bridge.own6.ip), *self._reserved, *(alias.address6 for alias in aliases if alias.address6)]
            chosen6 = addresses.choose(address6, subnet6, self._pool6 or subnet6, taken6)
        elif address6:
            raise InvalidInput(
                f"network {self.name} has no IPv6 subnet", hint="labctr network create --ipv6 --subnet …"
            )
        alias = EndpointAlias(self.name, container_id, chosen, interface, chosen6)
        link = Link(
            index=0, name=_unused_veth_name(kernel), kind="veth", mtu=bridge.mtu, alias=alias.text, master=bridge.index
        )
        return _endpoint(link, alias, bridge)

    def _ports(self, kernel: Netlink) -> list[tuple[Link, EndpointAlias]]:
        """The bridge's ports that are endpoints of this network; a foreign bridge may have other ports."""
        bridge = kernel.link(self.name)
        ports = kernel.links(master=bridge.index) if bridge is not None else []
        return [(port, alias) for port in ports if (alias := parse_alias(port)) and alias.bridge == self.name]

    def _add_pair(self, kernel: Netlink, endpoint: Endpoint, bridge: _BridgeLink, namespace: int, pid: int) -> None:
        host = endpoint.host_interface
        alias = EndpointAlias(
            self.name, endpoint.container_id, endpoint.address, endpoint.interface, endpoint.address6
        ).text
        pair = netlink.add_pair(
            host, mtu=bridge.mtu, peer=endpoint.interface, mac=endpoint.mac, namespace=namespace, pid=pid
        )
        joined = netlink.join_bridge(host, alias=alias, bridge=self.name, bridge_index=bridge.index)
        # The bridge drops frames between two isolated ports. nft rules of family inet could not do that: they see only
        # routed packets, and frames between two ports of one bridge are not routed.
        isolated = [] if self._connectivity else [netlink.set_port(host, "isolated")]
        try:
            kernel.apply([pair, joined, *isolated], self._emit)
            # While the veth is a port, the bridge receives the container's frames. Once it is taken off the bridge, the
            # host receives them, and without this setting it would accept router advertisements from the container.
            self._set_sysctl(f"ipv6/conf/{host}/accept_ra", "0")
        except BaseException:
            self._delete_link(kernel, host)
            raise

    def _delete_link(self, kernel: Netlink, name: str) -> None:
        """Remove an interface; the other end of a veth pair is removed with it. Idempotent."""
        # The kernel removes a veth pair itself when the container's network namespace ends.
        with contextlib.suppress(NoSuchDevice):
            kernel.apply([netlink.delete_link(name)], self._emit)


def check_bridge_name(name: str) -> None:
    """Raise InvalidInput for a name that a network's bridge cannot have."""
    if not _NAME.fullmatch(name) or name in _RESERVED_NAMES or not rules.is_free_name(name):
        raise InvalidInput(f"{name!r} cannot be a bridge's name", hint="use up to 15 letters, digits, _ . and -")


def owned_bridges() -> list[tuple[str, str]]:
    """(name, path of the owner's record) of each bridge of a user's network, of any data root."""
    with Netlink() as kernel:
        bridges = [link for link in kernel.links() if link.kind == "bridge" and link.alias.startswith(f"{_OWNED}/")]
    return [(link.name, link.alias.removeprefix(_OWNED)) for link in bridges]


def _parse_gateway(gateway: str, subnet: ipaddress.IPv4Network | None) -> str:
    return str(addresses.parse_member(gateway, subnet, what="gateway")) if gateway and subnet else ""


def _endpoint(link: Link, alias: EndpointAlias, bridge: _BridgeLink) -> Endpoint:
    own6 = bridge.own6 if alias.address6 else None
    return Endpoint(
        container_id=alias.container_id,
        address=alias.address,
        prefix_length=bridge.own.network.prefixlen,
        gateway=str(bridge.own.ip),
        mac=addresses.mac(alias.address),
        interface=alias.interface,
        bridge=alias.bridge,
        host_interface=link.name,
        address6=alias.address6,
        prefix_length6=own6.network.prefixlen if own6 else 0,
        gateway6=str(own6.ip) if own6 else "",
    )


def _unused_veth_name(kernel: Netlink) -> str:
    """Generate a name for the host's end of a veth pair that no interface has."""
    # After an error the interface is deleted by its name, so the name must not belong to another container's interface.
    while kernel.link(name := f"veth{random_hex(4)[:7]}") is not None:
        pass
    return name


def _default_mtu(kernel: Netlink, routes: Sequence[tuple[str, int]]) -> int:
    """The MTU of the host's default route, in bytes."""
    # That interface would drop larger packets. If a firewall filters the ICMP messages that report it, the container's
    # connections hang (RFC 2923).
    default_interfaces = {index for network, index in routes if not network}
    return min((link.mtu for link in kernel.links() if link.index in default_interfaces), default=_DEFAULT_MTU)


def _alias(owner: str) -> str:
    """The alias of a bridge with this owner."""
    alias = f"{_OWNED}{owner or _SHARED}"
    if len(os.fsencode(alias)) < _ALIAS_SIZE:
        return alias
    # A truncated path could be the path of another file, whose existence would then decide whether the bridge is kept.
    return f"{_OWNED}sha256:{hashlib.sha256(os.fsencode(owner)).hexdigest()}"
