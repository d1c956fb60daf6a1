"""Messages to the kernel's networking, several in one packet (netlink(7), rtnetlink(7)).

pyroute2 knows how each message looks. Its sockets bring asyncio along, and with it four times the
import time of the messages and an event loop for every use, so the socket here is a plain one: it
sends what belongs together at once and reads the kernel's answers. Nothing else imports pyroute2.
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

# Importing pyroute2 itself imports all of the library; we need three of its message classes.
# A package that was found but not executed still finds its own modules.
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
    del sys.modules["pyroute2"]  # whoever wants the whole library gets it

# linux/netlink.h
_SOL_NETLINK = 270
_NETLINK_NETFILTER = 12
_NETLINK_GET_STRICT_CHK = 12  # a list is filtered by the kernel, not by whoever asked
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
_BOOT = 3  # who made the route, as ip(8) says it

ADDRESS_PROTOCOL = 108
"""IFA_PROTO of the addresses that we add to bridges of others; the numbers up to 3 are the kernel's (if_addr.h)."""

# linux/netfilter/nfnetlink.h, nf_tables.h
_GET_TABLE = 10 << 8 | 1
_INET = 1

_Result = TypeVar("_Result")


class _Table(nfgen_msg):  # type: ignore[misc]
    """pyroute2 has this message, too, but in a module that brings asyncio."""

    prefix = "NFTA_TABLE_"
    nla_map = (("NFTA_TABLE_UNSPEC", "none"), ("NFTA_TABLE_NAME", "asciiz"))


class NoSuchDevice(RuntimeFailed):
    """The interface does not exist."""


class NetlinkRequest(Struct, frozen=True):
    """One message that changes something, and the ip(8) command that would do the same."""

    message: nlmsg
    command: str


class Link(Struct, frozen=True, kw_only=True):
    """An interface. alias: what ip link shows as such; master: the index of the bridge that it is a port of, or 0."""

    index: int
    name: str
    kind: str
    mtu: int
    alias: str
    master: int


class Netlink:
    """A socket to one network namespace. Use it in a with statement."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        if protocol == socket.NETLINK_ROUTE:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def apply(self, changes: Sequence[NetlinkRequest], emit: Emit) -> None:
        """Send all changes at once. The kernel does them in order, and does not stop at one that fails.

        Raises RuntimeFailed for the first that the kernel refused (NoSuchDevice for ENODEV).
        """
        if not changes:
            return
        first = self._sequence + 1
        packet = b"".join(self._encoded(change.message, change.message["header"]["flags"] | _ACK) for change in changes)
        self._socket.send(packet)
        failed: dict[int, int] = {}
        open_answers = len(changes)
        while open_answers:
            for kind, _, sequence, body in self._receive():
                if kind == _NLMSG_ERROR and sequence >= first:
                    open_answers -= 1
                    failed[sequence - first] = -struct.unpack_from("=i", body, _HEADER.size)[0]
        for number, change in enumerate(changes):
            if code := failed[number]:
                raise _refused(change.command, code)
            emit(NetworkChanged(change.command))

    def get(self, message: nlmsg) -> nlmsg | None:
        """The kernel's answer to a question about one thing; None where there is no such thing."""
        self._socket.send(self._encoded(message, _REQUEST))
        for kind, _, _, body in self._receive():
            if kind == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", body, _HEADER.size)[0]
                if code in (errno.ENODEV, errno.ENOENT):
                    return None
                raise _refused("a question to the kernel's networking", code)
            return _decoded(message, body)
        return None

    def dump(self, message: nlmsg) -> list[nlmsg]:
        """The kernel's list of all that match. It marks a list that changed while it was read: it is read again."""
        while True:
            self._socket.send(self._encoded(message, _REQUEST | _DUMP))
            found, complete = self._read_dump(message)
            if complete:
                return found

    def _read_dump(self, message: nlmsg) -> tuple[list[nlmsg], bool]:
        found: list[nlmsg] = []
        interrupted = False
        while True:
            for kind, flags, _, body in self._receive():
                interrupted = interrupted or bool(flags & _INTERRUPTED)
                if kind == _NLMSG_DONE:
                    return found, not interrupted
                if kind == _NLMSG_ERROR:
                    raise _refused("a question to the kernel's networking", -struct.unpack_from("=i", body, 16)[0])
                found.append(_decoded(message, body))

    def _encoded(self, message: nlmsg, flags: int) -> bytes:
        self._sequence += 1
        message["header"]["flags"] = flags
        message["header"]["sequence_number"] = self._sequence
        message.reset()
        message.encode()
        return bytes(message.data)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(type, flags, sequence number, whole message) of each message in the next packet."""
        packet = self._socket.recv(1 << 18)
        offset = 0
        while offset < len(packet):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(packet, offset)
            yield kind, flags, sequence, packet[offset : offset + length]
            offset += (length + 3) & ~3

    # What there is

    def link(self, name: str) -> Link | None:
        """The interface of this name."""
        found = self.get(_message(ifinfmsg(), _GET_LINK, {"IFLA_IFNAME": name, "IFLA_EXT_MASK": _SKIP_STATISTICS}))
        return None if found is None else _link(found)

    def links(self, *, master: int = 0) -> list[Link]:
        """All interfaces, or the ports of one bridge."""
        attributes = {"IFLA_EXT_MASK": _SKIP_STATISTICS, **({"IFLA_MASTER": master} if master else {})}
        return [_link(found) for found in self.dump(_message(ifinfmsg(), _GET_LINK, attributes))]

    def addresses(self, index: int, family: socket.AddressFamily) -> list[str]:
        """An interface's addresses, as "172.17.0.1/16"."""
        message = _message(ifaddrmsg(), _GET_ADDRESS)
        message["family"], message["index"] = family, index
        return [f"{found.get_attr('IFA_ADDRESS')}/{found['prefixlen']}" for found in self.dump(message)]

    def marked_addresses(self, index: int) -> list[str]:
        """Those of them that bear ADDRESS_PROTOCOL. Before Linux 5.18, none."""
        message = _message(ifaddrmsg(), _GET_ADDRESS)
        message["family"], message["index"] = socket.AF_UNSPEC, index
        found = [one for one in self.dump(message) if one.get_attr("IFA_PROTO") == ADDRESS_PROTOCOL]
        return [f"{one.get_attr('IFA_ADDRESS')}/{one['prefixlen']}" for one in found]

    def routes(self, family: socket.AddressFamily) -> list[tuple[str, int]]:
        """(destination, interface index) of each route; the destination of the way out is ""."""
        message = _message(rtmsg(), _GET_ROUTE)
        message["family"] = family
        return [
            (f"{found.get_attr('RTA_DST')}/{found['dst_len']}" if found["dst_len"] else "", found.get_attr("RTA_OIF"))
            for found in self.dump(message)
        ]


def tables() -> set[str]:
    """The names of the nft tables of family inet. Asking the kernel itself takes a tenth of the time of nft(8)."""
    with Netlink(_NETLINK_NETFILTER) as netfilter:
        message = _message(_Table(), _GET_TABLE)
        message["nfgen_family"] = _INET
        return {found.get_attr("NFTA_TABLE_NAME") for found in netfilter.dump(message)}


# Changes


def add_bridge(name: str, *, mac: str) -> NetlinkRequest:
    """A new bridge."""
    info = {"attrs": [("IFLA_INFO_KIND", "bridge")]}
    message = _message(
        ifinfmsg(), _NEW_LINK, {"IFLA_IFNAME": name, "IFLA_ADDRESS": mac, "IFLA_LINKINFO": info}, create=True
    )
    return NetlinkRequest(message, f"ip link add {name} address {mac} type bridge")


def add_pair(name: str, *, mtu: int, peer: str, mac: str, namespace: int, pid: int) -> NetlinkRequest:
    """A veth pair, one end here, the other in the network namespace behind a file descriptor, which is pid's."""
    inner = [("IFLA_IFNAME", peer), ("IFLA_ADDRESS", mac), ("IFLA_MTU", mtu), ("IFLA_NET_NS_FD", namespace)]
    data = {"attrs": [("VETH_INFO_PEER", {"attrs": inner})]}
    info = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}
    message = _message(
        ifinfmsg(), _NEW_LINK, {"IFLA_IFNAME": name, "IFLA_MTU": mtu, "IFLA_LINKINFO": info}, create=True
    )
    command = f"ip link add {name} mtu {mtu} type veth peer name {peer} address {mac} mtu {mtu} netns {pid}"
    return NetlinkRequest(message, command)


def join_bridge(name: str, *, alias: str, bridge: int, told: str) -> NetlinkRequest:
    """Make an interface a port of a bridge, with an alias, and up; `told` is how the command ends."""
    message = _message(ifinfmsg(), _SET_LINK, {"IFLA_IFNAME": name, "IFLA_IFALIAS": alias, "IFLA_MASTER": bridge})
    message["flags"] = message["change"] = _UP
    return NetlinkRequest(message, f"ip link set {name} {told} up")


def set_port(name: str, option: str) -> NetlinkRequest:
    """Switch an option of a bridge's port on: hairpin or isolated (bridge(8)).

    By netlink, as everything here: /sys may show another network namespace's interfaces.
    """
    attribute = {"hairpin": "IFLA_BRPORT_MODE", "isolated": "IFLA_BRPORT_ISOLATED"}[option]
    data = {"attrs": [(attribute, 1)]}
    info = {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", data)]}
    message = _message(ifinfmsg(), _NEW_LINK, {"IFLA_IFNAME": name, "IFLA_LINKINFO": info})
    return NetlinkRequest(message, f"bridge link set dev {name} {option} on")


def set_alias(name: str, alias: str) -> NetlinkRequest:
    """Write down what an interface is for; the kernel makes nothing of it."""
    message = _message(ifinfmsg(), _SET_LINK, {"IFLA_IFNAME": name, "IFLA_IFALIAS": alias})
    return NetlinkRequest(message, f"ip link set {name} alias {shlex.quote(alias)}")


def set_up(name: str, *, mtu: int | None = None, inside: str = "") -> NetlinkRequest:
    """Bring an interface up; `inside` is what to type before ip for another network namespace."""
    attributes = {"IFLA_IFNAME": name, **({"IFLA_MTU": mtu} if mtu else {})}
    message = _message(ifinfmsg(), _SET_LINK, attributes)
    message["flags"] = message["change"] = _UP
    return NetlinkRequest(message, f"{inside}ip link set {name} {f'mtu {mtu} ' if mtu else ''}up")


def delete_link(name: str) -> NetlinkRequest:
    """Remove an interface, a veth with its other end."""
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
    """Give an interface an address, IPv4 or IPv6. The latter is not looked for in the network first: it is ours.

    marked  with ADDRESS_PROTOCOL
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
    message["flags"] = _NO_DUPLICATE_DETECTION if is_six else 0
    words = f"addr add {address}/{prefix_length}{' broadcast +' if broadcast else ''} dev {interface}"
    return NetlinkRequest(message, f"{inside}ip {words}{' nodad' if is_six else ''}")


def delete_address(index: int, interface: str, address: str) -> NetlinkRequest:
    """Take an address, as "172.17.0.1/16", from an interface."""
    own = ipaddress.ip_interface(address)
    message = _message(ifaddrmsg(), _DELETE_ADDRESS, {"IFA_ADDRESS": str(own.ip), "IFA_LOCAL": str(own.ip)})
    message["family"] = socket.AF_INET6 if own.version == 6 else socket.AF_INET
    message["index"], message["prefixlen"] = index, own.network.prefixlen
    return NetlinkRequest(message, f"ip addr del {address} dev {interface}")


def default_route(
    gateway: str, interface: str, index: int, *, inside: str = "", delete: bool = False
) -> NetlinkRequest:
    """Add the way out, or take it away. Of fe80::… there is one on each link, so that it needs the interface's name."""
    is_six = ":" in gateway
    attributes: dict[str, Any] = {} if delete else {"RTA_GATEWAY": gateway}
    on_link = not delete and ipaddress.ip_address(gateway).is_link_local
    if on_link:
        attributes["RTA_OIF"] = index
    message = _message(rtmsg(), _DELETE_ROUTE if delete else _NEW_ROUTE, attributes, create=not delete)
    message["family"] = socket.AF_INET6 if is_six else socket.AF_INET
    message["table"] = 254  # main
    message["scope"] = 255 if delete else 0  # RT_SCOPE_NOWHERE matches any
    if not delete:
        message["proto"], message["type"] = _BOOT, 1
    words = "del default" if delete else f"add default via {gateway}{f' dev {interface}' if on_link else ''}"
    return NetlinkRequest(message, f"{inside}ip {'-6 ' if is_six else ''}route {words}")


def in_namespace(namespace: int, work: Callable[[], _Result]) -> _Result:
    """Run work in a network namespace, in a thread of its own: setns(2) moves one thread, and for good."""

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


def _link(found: Any) -> Link:
    info = found.get_attr("IFLA_LINKINFO")
    return Link(
        index=found["index"],
        name=found.get_attr("IFLA_IFNAME"),
        kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
        mtu=found.get_attr("IFLA_MTU"),
        alias=found.get_attr("IFLA_IFALIAS") or "",
        master=found.get_attr("IFLA_MASTER") or 0,
    )


def _refused(command: str, code: int) -> RuntimeFailed:
    kind = NoSuchDevice if code == errno.ENODEV else RuntimeFailed
    return kind(f"{command}: {os.strerror(code)}")
