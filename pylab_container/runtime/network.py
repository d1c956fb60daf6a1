"""The network that containers share: a bridge, a veth pair per container, and NAT.

        container                    host
    ┌──────────────┐
    │ eth0 ────────┼── veth1a2b3c4 ──┐
    └──────────────┘                 labctr0 ── NAT ── eth0 ── the world
    ┌──────────────┐                 │ 172.17.0.1
    │ eth0 ────────┼── veth5d6e7f8 ──┘
    └──────────────┘
      172.17.0.2

The kernel is the only database. The bridge's address says which subnet it serves; each
host-side veth says in its alias whose it is. A container that is gone took its veth along, so
its address is free again, whatever crashed. Sources: rtnetlink(7), veth(4), ip-link(8), nft(8).

The only module that imports pyroute2, which takes tens of milliseconds: import this one late.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import ipaddress
import os
import re
import secrets
import shlex
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pylab_container.errors import Conflict, InUse, InvalidInput, RuntimeFailed
from pylab_container.formats.events import Emit, NetworkChanged, ignore
from pylab_container.host import linux, programs
from pylab_container.host.files import locked

# Importing pyroute2 itself imports all of the library and doubles the time; we need two of
# its sockets. A package that was found but not executed still finds its own modules.
_package = importlib.util.find_spec("pyroute2")
_is_whole = _package is None or "pyroute2" in sys.modules
if _package is not None and not _is_whole:
    sys.modules["pyroute2"] = importlib.util.module_from_spec(_package)

from pyroute2.iproute.linux import IPRoute  # noqa: E402
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError  # noqa: E402
from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_GETTABLE, NFTSocket, nft_table_msg  # noqa: E402

if not _is_whole:
    del sys.modules["pyroute2"]  # whoever wants the whole library gets it

# Docker's own choice and order: 172.17.0.0/16 to 172.31.0.0/16, then pieces of 192.168.0.0/16.
_SUBNETS = tuple(ipaddress.IPv4Network(f"172.{second}.0.0/16") for second in range(17, 32)) + tuple(
    ipaddress.IPv4Network("192.168.0.0/16").subnets(new_prefix=20)
)
_DEFAULT_MTU = 1500

# What the kernel takes as an interface name (15 bytes) and nft as a table name.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,14}")

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a container is connected. `mac` is the container's side; `host_interface` the other end of its veth."""

    container_id: str
    address: str
    prefix_length: int
    gateway: str
    mac: str
    interface: str
    bridge: str
    host_interface: str


@dataclass(frozen=True, kw_only=True)
class _BridgeLink:
    """The bridge as the kernel has it. `own` is its address with its subnet."""

    index: int
    mtu: int
    own: ipaddress.IPv4Interface


class Bridge:
    """One bridge of the host and its NAT rules (an nft table with the bridge's name).

    All processes that use one bridge must give the same run_root: the lock for handing out
    addresses is there. Every change is told to emit as a NetworkChanged.
    """

    def __init__(
        self, name: str = "labctr0", *, run_root: Path, subnet: str | None = None, emit: Emit = ignore
    ) -> None:
        """Nothing is created yet.

        subnet  as "10.1.0.0/24"; None takes the first one of Docker's list that the host has no route into

        Raises InvalidInput for a name or a subnet that cannot be one.
        """
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"{name!r} cannot be a bridge's name", hint="use up to 15 lowercase letters, digits and _"
            )
        self.name = name
        self._subnet = None if subnet is None else _parse_subnet(subnet)
        self._lock = run_root / f"{name}.lock"
        self._emit = emit

    def connect(self, container_id: str, pid: int, *, interface: str = "eth0", address: str | None = None) -> Endpoint:
        """Give the network namespace of process pid an interface on the bridge, an address and a default route.

        The bridge and its NAT rules are made if they are missing. Without an address, the
        lowest free one is taken. Raises Conflict when the process is gone, the address is
        taken, or no subnet or address is free; InvalidInput when the address is not in the
        subnet; RuntimeFailed when the kernel refuses. A failed attempt leaves no veth.
        """
        with _network_namespace(pid) as namespace:
            endpoint = _netlink(
                lambda host: self._join(host, namespace, container_id, pid, interface=interface, address=address)
            )
            try:
                _netlink(lambda inner: self._configure(inner, endpoint, pid), namespace=namespace)
            except BaseException:
                _netlink(lambda host: self._delete_link(host, endpoint.host_interface))
                raise
        return endpoint

    def disconnect(self, container_id: str) -> None:
        """Take the container off the bridge; its addresses are free when this returns. No error if it is not on it."""
        _netlink(lambda host: self._leave(host, container_id))

    def endpoints(self) -> list[Endpoint]:
        """Who is connected now, lowest address first."""
        return _netlink(self._list)

    def remove(self) -> None:
        """Remove the bridge and its NAT rules, as far as they exist. Raises InUse while a container is connected."""
        with locked(self._lock):
            _netlink(self._remove)

    # The bridge

    def _ensure(self, netlink: IPRoute, links: Sequence[Any]) -> _BridgeLink:
        """The bridge with its address, up, with forwarding and NAT. Finishes what a crash left half done."""
        bridge = self._find(netlink, links)
        if bridge is None:
            bridge = self._create(netlink, links)
            self._add_rules(bridge)
        elif self._subnet is not None and bridge.own.network != self._subnet:
            raise Conflict(
                f"network {self.name} exists with the subnet {bridge.own.network}, not {self._subnet}",
                hint="remove it first, or use its subnet",
            )
        elif not self._has_rules():
            # Somebody flushed the host's rules: restarting the nftables service does.
            self._add_rules(bridge)
        self._ensure_forwarding()
        return bridge

    def _find(self, netlink: IPRoute, links: Sequence[Any]) -> _BridgeLink | None:
        """The bridge, or None if it is missing or lacks its address, which _create() gives it last."""
        link = _link_named(links, self.name)
        if link is None:
            return None
        if link.get(("linkinfo", "kind")) != "bridge":
            raise Conflict(
                f"the host has an interface {self.name} that is no bridge", hint="give the network another name"
            )
        addresses = _dump(lambda: netlink.get_addr(family=socket.AF_INET, index=link["index"]))
        if not addresses:
            return None
        own = ipaddress.IPv4Interface(f"{addresses[0].get('IFA_ADDRESS')}/{addresses[0]['prefixlen']}")
        return _BridgeLink(index=link["index"], mtu=link.get("IFLA_MTU"), own=own)

    def _create(self, netlink: IPRoute, links: Sequence[Any]) -> _BridgeLink:
        routes = _dump(lambda: netlink.get_routes(family=socket.AF_INET))
        subnet = _free_subnet(self._subnet, routes)
        own = ipaddress.IPv4Interface(f"{subnet.network_address + 1}/{subnet.prefixlen}")
        mtu = _default_mtu(routes, links)
        if _link_named(links, self.name) is None:
            # With a MAC of its own the bridge keeps it, else it would change with the first veth.
            mac = _mac(own.ip)
            with self._changing(f"ip link add {self.name} address {mac} type bridge"):
                netlink.link("add", ifname=self.name, kind="bridge", address=mac)
        index = _index(netlink, self.name)
        # An MTU that was *set* stays; one given at creation follows the ports, and is 1500 without any.
        with self._changing(f"ip link set {self.name} mtu {mtu} up"):
            netlink.link("set", index=index, mtu=mtu, state="up")
        with self._changing(f"ip addr add {own} dev {self.name}"):
            netlink.addr("add", index=index, address=str(own.ip), prefixlen=subnet.prefixlen)
        return _BridgeLink(index=index, mtu=mtu, own=own)

    def _has_rules(self) -> bool:
        """Ask the kernel, not nft: half a millisecond for each container."""
        with contextlib.closing(NFTSocket(nfgen_family=socket.AF_INET)) as netfilter:
            tables = _dump(lambda: netfilter.request_get(nft_table_msg(), NFT_MSG_GETTABLE))
        return any(table.get("NFTA_TABLE_NAME") == self.name for table in tables)

    def _add_rules(self, bridge: _BridgeLink) -> None:
        """What leaves the subnet for elsewhere gets the host's address. One nft transaction, from scratch."""
        chain = f"ip {self.name} postrouting"
        self._nft(
            f"add table ip {self.name}",
            f"delete table ip {self.name}",
            f"add table ip {self.name}",
            f"add chain {chain} {{ type nat hook postrouting priority srcnat; policy accept; }}",
            f'add rule {chain} ip saddr {bridge.own.network} oifname != "{self.name}" masquerade',
        )

    def _nft(self, *statements: str) -> None:
        command = ["nft", "; ".join(statements)]
        programs.run(command)
        self._emit(NetworkChanged(shlex.join(command)))

    def _ensure_forwarding(self) -> None:
        setting = Path("/proc/sys/net/ipv4/ip_forward")
        if setting.read_text().strip() == "0":
            with self._changing("sysctl -w net.ipv4.ip_forward=1"):
                setting.write_text("1")

    def _remove(self, netlink: IPRoute) -> None:
        links = _dump(netlink.get_links)
        if names := [owner[:12] for _, owner, _, _ in self._owned(links)]:
            raise InUse(f"network {self.name} has connected containers: {', '.join(names)}", hint="stop them first")
        if _link_named(links, self.name) is not None:
            self._delete_link(netlink, self.name)
        if self._has_rules():
            self._nft(f"delete table ip {self.name}")

    # Endpoints

    def _join(
        self, netlink: IPRoute, namespace: int, container_id: str, pid: int, *, interface: str, address: str | None
    ) -> Endpoint:
        with locked(self._lock):
            links = _dump(netlink.get_links)
            bridge = self._ensure(netlink, links)
            chosen = _choose(address, bridge, self._taken(links))
            host_interface = f"veth{secrets.token_hex(4)[:7]}"
            endpoint = self._endpoint(container_id, interface, str(chosen), bridge, host_interface)
            self._add_pair(netlink, namespace, endpoint, bridge, pid)
        return endpoint

    def _leave(self, netlink: IPRoute, container_id: str) -> None:
        for link, owner, _, _ in self._owned(_dump(netlink.get_links)):
            if owner == container_id:
                self._delete_link(netlink, link.get("IFLA_IFNAME"))

    def _list(self, netlink: IPRoute) -> list[Endpoint]:
        links = _dump(netlink.get_links)
        bridge = self._find(netlink, links)
        if bridge is None:
            return []
        found = [
            self._endpoint(owner, interface, address, bridge, link.get("IFLA_IFNAME"))
            for link, owner, address, interface in self._owned(links)
        ]
        return sorted(found, key=lambda endpoint: ipaddress.IPv4Address(endpoint.address))

    def _owned(self, links: Iterable[Any]) -> Iterator[tuple[Any, str, str, str]]:
        """(link, container id, address, interface) of the veths whose alias says that they are ours."""
        for link in links:
            words = (link.get("IFLA_IFALIAS") or "").split()
            if len(words) == 4 and words[0] == self.name:
                yield link, words[1], words[2], words[3]

    def _taken(self, links: Iterable[Any]) -> set[ipaddress.IPv4Address]:
        return {ipaddress.IPv4Address(address) for _, _, address, _ in self._owned(links)}

    def _endpoint(
        self, container_id: str, interface: str, address: str, bridge: _BridgeLink, host_interface: str
    ) -> Endpoint:
        return Endpoint(
            container_id=container_id,
            address=address,
            prefix_length=bridge.own.network.prefixlen,
            gateway=str(bridge.own.ip),
            mac=_mac(ipaddress.IPv4Address(address)),
            interface=interface,
            bridge=self.name,
            host_interface=host_interface,
        )

    def _add_pair(self, netlink: IPRoute, namespace: int, endpoint: Endpoint, bridge: _BridgeLink, pid: int) -> None:
        host, mac = endpoint.host_interface, endpoint.mac
        peer = {"ifname": endpoint.interface, "net_ns_fd": namespace, "address": mac, "mtu": bridge.mtu}
        with self._changing(
            f"ip link add {host} mtu {bridge.mtu} type veth"
            f" peer name {endpoint.interface} address {mac} mtu {bridge.mtu} netns {pid}"
        ):
            netlink.link("add", ifname=host, kind="veth", mtu=bridge.mtu, peer=peer)
        alias = f"{self.name} {endpoint.container_id} {endpoint.address} {endpoint.interface}"
        try:
            with self._changing(f"ip link set {host} alias {shlex.quote(alias)} master {self.name} up"):
                netlink.link("set", index=_index(netlink, host), IFLA_IFALIAS=alias, master=bridge.index, state="up")
        except BaseException:
            self._delete_link(netlink, host)
            raise

    def _configure(self, netlink: IPRoute, endpoint: Endpoint, pid: int) -> None:
        """Inside the container's network namespace: addresses, links up, the way out."""
        # Docker too has no IPv6 on a network without an IPv6 subnet. A kernel may lack it.
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        enter = f"nsenter --net=/proc/{pid}/ns/net ip"
        _loopback_up(netlink, self._emit, pid)
        index = _index(netlink, endpoint.interface)
        subnet = f"{endpoint.address}/{endpoint.prefix_length}"
        with self._changing(f"{enter} addr add {subnet} broadcast + dev {endpoint.interface}"):
            broadcast = str(ipaddress.IPv4Interface(subnet).network.broadcast_address)
            netlink.addr(
                "add", index=index, address=endpoint.address, prefixlen=endpoint.prefix_length, broadcast=broadcast
            )
        with self._changing(f"{enter} link set {endpoint.interface} up"):
            netlink.link("set", index=index, state="up")
        with self._changing(f"{enter} route add default via {endpoint.gateway}"):
            netlink.route("add", dst="default", gateway=endpoint.gateway, proto="boot")

    def _delete_link(self, netlink: IPRoute, name: str) -> None:
        """Remove an interface, a veth with its other end; one that is gone already is no error."""
        with contextlib.suppress(_NoSuchDevice), self._changing(f"ip link del {name}"):
            netlink.link("del", ifname=name)

    def _changing(self, command: str) -> contextlib.AbstractContextManager[None]:
        return _changing(command, self._emit)


class _NoSuchDevice(RuntimeFailed):
    """The interface does not exist."""


@contextlib.contextmanager
def _changing(command: str, emit: Emit) -> Iterator[None]:
    """Tell that the network was changed as command would, or turn the kernel's refusal into RuntimeFailed."""
    try:
        yield
    except NetlinkError as error:
        kind = _NoSuchDevice if error.code == errno.ENODEV else RuntimeFailed
        raise kind(f"{command}: {os.strerror(error.code)}") from error
    emit(NetworkChanged(command))


@contextlib.contextmanager
def _network_namespace(pid: int) -> Iterator[int]:
    """An open file of process pid's network namespace: it stays the right one even when the pid is recycled."""
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Conflict(f"process {pid} is gone: the container has ended") from error
    try:
        yield namespace
    finally:
        os.close(namespace)


def _netlink(work: Callable[[IPRoute], _Result], *, namespace: int | None = None) -> _Result:
    """Run work with a netlink socket, of the host or of a network namespace, and return its result.

    In a thread of its own, for two reasons: setns(2) moves one thread, and for good; and pyroute2
    runs an event loop, of which a thread can have only one: in a notebook it has Jupyter's.
    """

    def talk() -> _Result:
        if namespace is not None:
            linux.setns(namespace, linux.CLONE_NEWNET)
        with IPRoute() as netlink:
            return work(netlink)

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(talk).result()


def _loopback_up(netlink: IPRoute, emit: Emit, pid: int) -> None:
    with _changing(f"nsenter --net=/proc/{pid}/ns/net ip link set lo up", emit):
        netlink.link("set", index=1, state="up")  # lo is the first of every namespace


def _dump(ask: Callable[[], Iterable[Any]]) -> list[Any]:
    """What the kernel lists. It marks a list that changed while it was read: read it again."""
    while True:
        try:
            return list(ask())
        except NetlinkDumpInterrupted:
            continue


def _index(netlink: IPRoute, name: str) -> int:
    """An interface's index. The kernel has just made it, so it is there."""
    return int(next(iter(netlink.link("get", ifname=name)))["index"])


def _link_named(links: Iterable[Any], name: str) -> Any | None:
    return next((link for link in links if link.get("IFLA_IFNAME") == name), None)


def _parse_subnet(text: str) -> ipaddress.IPv4Network:
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not an IPv4 subnet: {error}", hint="write it as 172.20.0.0/16") from error
    if subnet.num_addresses < 4:
        raise InvalidInput(f"the subnet {text} has no room for a gateway and a container", hint="use /30 or larger")
    return subnet


def _free_subnet(wanted: ipaddress.IPv4Network | None, routes: Iterable[Any]) -> ipaddress.IPv4Network:
    """The wanted subnet, or else the first of Docker's list, that overlaps with no route of the host."""
    used = [ipaddress.IPv4Network(f"{route.get('RTA_DST')}/{route['dst_len']}") for route in routes if route["dst_len"]]
    for subnet in _SUBNETS if wanted is None else (wanted,):
        if not any(subnet.overlaps(other) for other in used):
            return subnet
    if wanted is not None:
        raise Conflict(
            f"the host already has a route into {wanted}", hint="choose another subnet (ip route lists them)"
        )
    raise Conflict("every private subnet overlaps with a route of the host", hint="give the network a subnet")


def _default_mtu(routes: Iterable[Any], links: Iterable[Any]) -> int:
    """The MTU of the way out: larger packets of a container would be lost there."""
    ways_out = {route.get("RTA_OIF") for route in routes if not route["dst_len"]}
    return min((int(link.get("IFLA_MTU")) for link in links if link["index"] in ways_out), default=_DEFAULT_MTU)


def _choose(wanted: str | None, bridge: _BridgeLink, taken: set[ipaddress.IPv4Address]) -> ipaddress.IPv4Address:
    unavailable = taken | {bridge.own.ip}
    if wanted is None:
        for candidate in bridge.own.network.hosts():
            if candidate not in unavailable:
                return candidate
        raise Conflict(f"no address is free in {bridge.own.network}", hint="remove containers that you do not need")
    try:
        address = ipaddress.IPv4Address(wanted)
    except ValueError as error:
        raise InvalidInput(f"{wanted!r} is not an IPv4 address") from error
    edges = (bridge.own.network.network_address, bridge.own.network.broadcast_address)
    if address not in bridge.own.network or address in edges:
        raise InvalidInput(f"{address} is not the address of a host in {bridge.own.network}")
    if address in unavailable:
        raise Conflict(f"the address {address} is taken", hint="leave the choice to the network, or choose another")
    return address


def _mac(address: ipaddress.IPv4Address) -> str:
    """Docker's rule: 02:42 (locally administered), then the four bytes of the address."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in address.packed)
