"""Netlink: query and change the kernel's network configuration (netlink(7), rtnetlink(7)).

pyroute2 encodes and decodes the messages. Its sockets are not used: they import asyncio, which takes four times as long
as importing the messages, and run an event loop for each use. The socket here sends related requests in one packet and
reads the kernel's answers. No other module imports pyroute2.
"""

from __future__ import annotations

import errno
import importlib.util
import ipaddress
import os
import shlex
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from pylab_container.errors import RuntimeFailed
from pylab_container.events import Emit, NetworkChanged
from pylab_container.host import linux
from pylab_container.host.background import Background
from pylab_container.host.extras import extra

# Importing any module of pyroute2 executes the package's __init__, which imports the whole library. To avoid that, the
# package is registered without being executed. Submodules can still be imported: the spec has the package's path.
_package = importlib.util.find_spec("pyroute2")
_is_whole = _package is None or "pyroute2" in sys.modules
if _package is not None and not _is_whole:
    sys.modules["pyroute2"] = importlib.util.module_from_spec(_package)

with extra("run"):
    from pyroute2.netlink import nlmsg
    from pyroute2.netlink.nfnetlink import nfgen_msg
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

if not _is_whole:
    # A program that imports pyroute2 for itself must get the executed package.
    del sys.modules["pyroute2"]

# linux/netlink.h
_SOL_NETLINK = 270
_NETLINK_NETFILTER = 12
# Without strict checking the kernel ignores the interface index in a dump of addresses, and dumps all addresses
# (docs.kernel.org, userspace-api/netlink/intro; since Linux 4.20).
_NETLINK_GET_STRICT_CHK = 12
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP, _INTERRUPTED = 0x01, 0x04, 0x300, 0x10
_CREATE = 0x400 | 0x200  # NLM_F_CREATE | NLM_F_EXCL
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port

# linux/rtnetlink.h, linux/if.h, linux/if_addr.h
_NEW_LINK, _DELETE_LINK, _GET_LINK, _SET_LINK = 16, 17, 18, 19
_NEW_ADDRESS, _DELETE_ADDRESS, _GET_ADDRESS = 20, 21, 22
_NEW_ROUTE, _DELETE_ROUTE, _GET_ROUTE = 24, 25, 26
_UP = 1
_SKIP_STATISTICS = 8
_NO_DUPLICATE_DETECTION = 2
# The origin of a route, RTPROT_BOOT: what `ip route add` uses by default.
_BOOT = 3
_MAIN_TABLE = 254  # RT_TABLE_MAIN
_UNIVERSE, _NOWHERE = 0, 255  # RT_SCOPE_UNIVERSE; RT_SCOPE_NOWHERE matches any scope in a deletion
_UNICAST = 1  # RTN_UNICAST
_LARGEST_PACKET = 1 << 18  # bytes; the kernel sends dumps in packets of at most 32 KiB

ADDRESS_PROTOCOL = 108
"""IFA_PROTO of the addresses that the engine adds to bridges of other programs; up to 3 is reserved (if_addr.h)."""

# linux/netfilter/nfnetlink.h, nf_tables.h
_GET_TABLE = 10 << 8 | 1
_INET = 1

_Result = TypeVar("_Result")


class _Table(nfgen_msg):  # type: ignore[misc]
    """The message of NFT_MSG_GETTABLE. The class of pyroute2 is in a module that imports asyncio."""

    prefix = "NFTA_TABLE_"
    nla_map = (("NFTA_TABLE_UNSPEC", "none"), ("NFTA_TABLE_NAME", "asciiz"))


class NoSuchDevice(RuntimeFailed):
    """The interface does not exist."""


class NetlinkRequest(Struct, frozen=True):
    """One message that changes the configuration. command: the equivalent ip(8) command, for the event."""

    message: nlmsg
    command: str


class Link(Struct, frozen=True, kw_only=True):
    """An interface.

    kind    "bridge", "veth" …; "" for a physical interface
    mtu     in bytes
    alias   text that ip-link(8) sets, "" if not set
    master  the index of the bridge whose port it is, else 0
    """

    index: int
    name: str
    kind: str
    mtu: int
    alias: str
    master: int


class Netlink:
    """A socket to the network namespace that the calling thread is in now. Use it in a with statement."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        if protocol == socket.NETLINK_ROUTE:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def apply(self, requests: Sequence[NetlinkRequest], emit: Emit) -> None:
        """Send all requests in one packet. The kernel processes them in order, and continues after a failure.

        Raises RuntimeFailed for the first request that the kernel refused, NoSuchDevice if the error is ENODEV. Each
        request before it is emitted as NetworkChanged.
        """
        if not requests:
            return
        first = self._sequence + 1
        packet = b"".join(
            self._encoded(request.message, request.message["header"]["flags"] | _ACK) for request in requests
        )
        self._socket.send(packet)
        # The kernel acknowledges each request by an NLMSG_ERROR, with error 0 for success (netlink(7)). All of them are
        # read, so that the next request finds no stale answer in the socket.
        error_codes: dict[int, int] = {}
        while len(error_codes) < len(requests):
            for kind, _, sequence, body in self._receive():
                if kind == _NLMSG_ERROR and sequence >= first:
                    error_codes[sequence - first] = _error_code(body)
        for number, request in enumerate(requests):
            if code := error_codes[number]:
                raise _refused(request.command, code)
            emit(NetworkChanged(request.command))

    def get(self, message: nlmsg) -> nlmsg | None:
        """Query one object; None if it does not exist. Raises RuntimeFailed."""
        self._socket.send(self._encoded(message, _REQUEST))
        for kind, _, _, body in self._receive():
            if kind == _NLMSG_ERROR:
                code = _error_code(body)
                if code in (errno.ENODEV, errno.ENOENT):
                    return None
                raise _refused("netlink query", code)
            return _decoded(message, body)
        return None

    def dump(self, message: nlmsg) -> list[nlmsg]:
        """List all objects that match a message's attributes. Raises RuntimeFailed."""
        # A dump takes several packets and is not atomic. If the list changes between two packets, the kernel sets
        # NLM_F_DUMP_INTR: entries may be missing, and the dump is repeated (docs.kernel.org,
        # userspace-api/netlink/intro, "Dump consistency").
        while True:
            self._socket.send(self._encoded(message, _REQUEST | _DUMP))
            objects, is_consistent = self._read_dump(message)
            if is_consistent:
                return objects

    def _read_dump(self, message: nlmsg) -> tuple[list[nlmsg], bool]:
        objects: list[nlmsg] = []
        interrupted = False
        # An interrupted dump is also read to its end: its rest would otherwise be read as the next answer.
        while True:
            for kind, flags, _, body in self._receive():
                interrupted = interrupted or bool(flags & _INTERRUPTED)
                if kind == _NLMSG_DONE:
                    return objects, not interrupted
                if kind == _NLMSG_ERROR:
                    raise _refused("netlink query", _error_code(body))
                objects.append(_decoded(message, body))

    def _encoded(self, message: nlmsg, flags: int) -> bytes:
        self._sequence += 1
        message["header"]["flags"] = flags
        message["header"]["sequence_number"] = self._sequence
        # dump() may encode a message a second time; reset() discards the bytes of the first time.
        message.reset()
        message.encode()
        return bytes(message.data)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Receive one packet and yield (type, flags, sequence number, whole message) of each message in it."""
        packet = self._socket.recv(_LARGEST_PACKET)
        offset = 0
        while offset < len(packet):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(packet, offset)
            yield kind, flags, sequence, packet[offset : offset + length]
            offset += (length + 3) & ~3  # messages are aligned to four bytes: NLMSG_ALIGN

    # Queries

    def link(self, name: str) -> Link | None:
        """The interface of this name, None if it does not exist."""
        answer = self.get(_message(ifinfmsg(), _GET_LINK, {"IFLA_IFNAME": name, "IFLA_EXT_MASK": _SKIP_STATISTICS}))
        return None if answer is None else _link(answer)

    def links(self, *, master: int = 0) -> list[Link]:
        """All interfaces, or the ports of the bridge with the index master."""
        attributes = {"IFLA_EXT_MASK": _SKIP_STATISTICS, **({"IFLA_MASTER": master} if master else {})}
        return [_link(answer) for answer in self.dump(_message(ifinfmsg(), _GET_LINK, attributes))]

    def addresses(self, index: int, family: socket.AddressFamily) -> list[str]:
        """An interface's addresses with their prefix lengths, such as "172.17.0.1/16"."""
        message = _message(ifaddrmsg(), _GET_ADDRESS)
        message["family"], message["index"] = family, index
        return [_address(answer) for answer in self.dump(message)]

    def marked_addresses(self, index: int) -> list[str]:
        """An interface's addresses that have ADDRESS_PROTOCOL. Empty before Linux 5.18, which added IFA_PROTO."""
        message = _message(ifaddrmsg(), _GET_ADDRESS)
        message["family"], message["index"] = socket.AF_UNSPEC, index
        return [_address(answer) for answer in self.dump(message) if answer.get_attr("IFA_PROTO") == ADDRESS_PROTOCOL]

    def routes(self, family: socket.AddressFamily) -> list[tuple[str, int]]:
        """(destination, interface index) of each route. The destination of a default route is ""."""
        message = _message(rtmsg(), _GET_ROUTE)
        message["family"] = family
        return [
            (f"{route.get_attr('RTA_DST')}/{route['dst_len']}" if route["dst_len"] else "", route.get_attr("RTA_OIF"))
            for route in self.dump(message)
        ]


def tables() -> set[str]:
    """The names of the nft tables of family inet."""
    # Each start of a container does this, and a netlink query takes a tenth of the time of `nft list tables`.
    with Netlink(_NETLINK_NETFILTER) as netfilter:
        message = _message(_Table(), _GET_TABLE)
        message["nfgen_family"] = _INET
        return {table.get_attr("NFTA_TABLE_NAME") for table in netfilter.dump(message)}


# Requests


def add_bridge(name: str, *, mac: str) -> NetlinkRequest:
    """Create a bridge."""
    info = {"attrs": [("IFLA_INFO_KIND", "bridge")]}
    message = _message(
        ifinfmsg(), _NEW_LINK, {"IFLA_IFNAME": name, "IFLA_ADDRESS": mac, "IFLA_LINKINFO": info}, create=True
    )
    return NetlinkRequest(message, f"ip link add {name} address {mac} type bridge")


def add_pair(name: str, *, mtu: int, peer: str, mac: str, namespace: int, pid: int) -> NetlinkRequest:
    """Create a veth pair: name in this network namespace, peer in that of a container.

    mac        of peer
    namespace  a descriptor of the container's network namespace
    pid        a process in it, for the event
    """
    # The peer is created directly in its namespace. If it were created here and moved, its name eth0 could clash with
    # an interface of the host, and a crash in between would leave it on the host.
    inner = [("IFLA_IFNAME", peer), ("IFLA_ADDRESS", mac), ("IFLA_MTU", mtu), ("IFLA_NET_NS_FD", namespace)]
    data = {"attrs": [("VETH_INFO_PEER", {"attrs": inner})]}
    info = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}
    message = _message(
        ifinfmsg(), _NEW_LINK, {"IFLA_IFNAME": name, "IFLA_MTU": mtu, "IFLA_LINKINFO": info}, create=True
    )
    command = f"ip link add {name} mtu {mtu} type veth peer name {peer} address {mac} mtu {mtu} netns {pid}"
    return NetlinkRequest(message, command)


def join_bridge(name: str, *, alias: str, bridge: str, bridge_index: int) -> NetlinkRequest:
    """Give an interface an alias, make it a port of a bridge and bring it up."""
    # One message, because the alias records the endpoint: no port of a bridge may ever lack it.
    message = _message(ifinfmsg(), _SET_LINK, {"IFLA_IFNAME": name, "IFLA_IFALIAS": alias, "IFLA_MASTER": bridge_index})
    message["flags"] = message["change"] = _UP
    return NetlinkRequest(message, f"ip link set {name} alias {shlex.quote(alias)} master {bridge} up")


def set_port(name: str, option: str) -> NetlinkRequest:
    """Enable an option of a bridge's port: hairpin or isolated (bridge(8))."""
    # /sys/class/net has these options, too. But a sysfs mount shows the network namespace in which it was mounted, and
    # that may not be this thread's.
    attribute = {"hairpin": "IFLA_BRPORT_MODE", "isolated": "IFLA_BRPORT_ISOLATED"}[option]
    data = {"attrs": [(attribute, 1)]}
    info = {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", data)]}
    message = _message(ifinfmsg(), _NEW_LINK, {"IFLA_IFNAME": name, "IFLA_LINKINFO": info})
    return NetlinkRequest(message, f"bridge link set dev {name} {option} on")


def set_alias(name: str, alias: str) -> NetlinkRequest:
    """Set an interface's alias, a text that the kernel stores and does not interpret."""
    message = _message(ifinfmsg(), _SET_LINK, {"IFLA_IFNAME": name, "IFLA_IFALIAS": alias})
    return NetlinkRequest(message, f"ip link set {name} alias {shlex.quote(alias)}")


def set_up(name: str, *, mtu: int | None = None, inside: str = "") -> NetlinkRequest:
    """Bring an interface up. inside: the nsenter command that the event shows before ip, "" for this namespace."""
    attributes = {"IFLA_IFNAME": name, **({"IFLA_MTU": mtu} if mtu else {})}
    message = _message(ifinfmsg(), _SET_LINK, attributes)
    message["flags"] = message["change"] = _UP
    return NetlinkRequest(message, f"{inside}ip link set {name} {f'mtu {mtu} ' if mtu else ''}up")


def delete_link(name: str) -> NetlinkRequest:
    """Remove an interface; the other end of a veth pair is removed with it."""
    return NetlinkRequest(_message(ifinfmsg(), _DELETE_LINK, {"IFLA_IFNAME": name}), f"ip link del {name}")


def add_address(
    index: int,
    interface: str,
    address: str,
    prefix_length: int,
    *,
    broadcast: str = "",
    inside: str = "",
    marked: bool = False,
) -> NetlinkRequest:
    """Add an IPv4 or IPv6 address to an interface.

    inside  the nsenter command that the event shows before ip, "" for this namespace
    marked  whether to mark the address with ADDRESS_PROTOCOL
    """
    attributes: dict[str, Any] = {"IFA_ADDRESS": address, "IFA_LOCAL": address}
    if marked:
        attributes["IFA_PROTO"] = ADDRESS_PROTOCOL
    if broadcast:
        attributes["IFA_BROADCAST"] = broadcast
    message = _message(ifaddrmsg(), _NEW_ADDRESS, attributes, create=True)
    is_six = ":" in address
    message["family"] = socket.AF_INET6 if is_six else socket.AF_INET
    message["index"], message["prefixlen"] = index, prefix_length
    # Duplicate address detection takes a second, during which the address cannot be used (RFC 4862, 5.4). It is not
    # needed: only the engine assigns addresses of the subnet.
    message["flags"] = _NO_DUPLICATE_DETECTION if is_six else 0
    words = f"addr add {address}/{prefix_length}{' broadcast +' if broadcast else ''} dev {interface}"
    return NetlinkRequest(message, f"{inside}ip {words}{' nodad' if is_six else ''}")


def delete_address(index: int, interface: str, address: str) -> NetlinkRequest:
    """Remove an address, such as "172.17.0.1/16", from an interface."""
    own = ipaddress.ip_interface(address)
    message = _message(ifaddrmsg(), _DELETE_ADDRESS, {"IFA_ADDRESS": str(own.ip), "IFA_LOCAL": str(own.ip)})
    message["family"] = socket.AF_INET6 if own.version == 6 else socket.AF_INET
    message["index"], message["prefixlen"] = index, own.network.prefixlen
    return NetlinkRequest(message, f"ip addr del {address} dev {interface}")


def default_route(
    gateway: str, interface: str, index: int, *, inside: str = "", delete: bool = False
) -> NetlinkRequest:
    """Add or delete the default route of the gateway's address family. inside: as in set_up()."""
    is_six = ":" in gateway
    attributes: dict[str, Any] = {} if delete else {"RTA_GATEWAY": gateway}
    # A link-local address such as fe80::1 may exist on every link, so the route must name the interface (RFC 4007, 6).
    on_link = not delete and ipaddress.ip_address(gateway).is_link_local
    if on_link:
        attributes["RTA_OIF"] = index
    message = _message(rtmsg(), _DELETE_ROUTE if delete else _NEW_ROUTE, attributes, create=not delete)
    message["family"] = socket.AF_INET6 if is_six else socket.AF_INET
    message["table"] = _MAIN_TABLE
    message["scope"] = _NOWHERE if delete else _UNIVERSE
    if not delete:
        message["proto"], message["type"] = _BOOT, _UNICAST
    words = "del default" if delete else f"add default via {gateway}{f' dev {interface}' if on_link else ''}"
    return NetlinkRequest(message, f"{inside}ip {'-6 ' if is_six else ''}route {words}")


def in_namespace(namespace: int, work: Callable[[], _Result]) -> _Result:
    """Run work in a network namespace and return its result."""
    # setns(2) moves only the calling thread. If a thread could not return to its namespace, it would handle later
    # requests in the wrong one. So each call gets a new thread, which ends with the work.

    def enter() -> _Result:
        linux.setns(namespace, linux.CLONE_NEWNET)
        return work()

    return Background(enter).result()


def _message(message: nlmsg, kind: int, attributes: Mapping[str, Any] | None = None, *, create: bool = False) -> nlmsg:
    message["header"]["type"] = kind
    message["header"]["flags"] = _REQUEST | (_CREATE if create else 0)
    message["attrs"] = list((attributes or {}).items())
    return message


def _decoded(like: nlmsg, body: bytes) -> nlmsg:
    message = type(like)(body)
    message.decode()
    return message


def _link(message: Any) -> Link:
    # A physical interface has no IFLA_LINKINFO, because no rtnetlink driver created it.
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
        mtu=message.get_attr("IFLA_MTU"),
        alias=message.get_attr("IFLA_IFALIAS") or "",
        master=message.get_attr("IFLA_MASTER") or 0,
    )


def _address(message: Any) -> str:
    return f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}"


def _error_code(answer: bytes) -> int:
    """The errno of an NLMSG_ERROR, 0 for an acknowledgement (struct nlmsgerr in linux/netlink.h)."""
    code: int = struct.unpack_from("=i", answer, _HEADER.size)[0]
    return -code


def _refused(command: str, code: int) -> RuntimeFailed:
    kind = NoSuchDevice if code == errno.ENODEV else RuntimeFailed
    return kind(f"{command}: {os.strerror(code)}")
