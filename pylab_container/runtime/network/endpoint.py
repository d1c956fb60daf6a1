"""Endpoints: containers' connections to bridges, recorded in the kernel only.

An endpoint is a veth pair. The host's end is a port of the bridge. Its alias records the container that has the other
end, and the addresses of that end:

    labctr0 <container id> 172.17.0.2 eth0 [fd00::2]
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence

from msgspec import Struct

from pylab_container.errors import Conflict, RuntimeFailed
from pylab_container.events import Emit
from pylab_container.runtime.network import netlink, sysctl
from pylab_container.runtime.network.netlink import Link, Netlink


class Endpoint(Struct, frozen=True, kw_only=True):
    """A container's connection to a bridge.

    interface, mac      the container's end of the veth pair
    host_interface      the host's end
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


class EndpointAlias(Struct, frozen=True):
    """The alias of the host's end of a veth pair, as drawn above."""

    bridge: str
    container_id: str
    address: str
    interface: str
    address6: str = ""

    @property
    def text(self) -> str:
        return " ".join(filter(None, (self.bridge, self.container_id, self.address, self.interface, self.address6)))


def parse_alias(link: Link) -> EndpointAlias | None:
    """Parse an interface's alias, None if it is not one of the engine's endpoints."""
    # Other programs set aliases, too. All five words fit into the 255 bytes that the kernel allows (IFALIASZ in
    # linux/if.h).
    words = link.alias.split()
    return EndpointAlias(*words) if len(words) in (4, 5) else None


def connected_short_ids() -> set[str]:
    """The first twelve digits of the ids of all containers that are on any bridge."""
    # The names of the tables of published ports have twelve digits of the id, too (rules.ports_table_name()).
    with Netlink() as kernel:
        aliases = [parse_alias(link) for link in kernel.links() if link.kind == "veth"]
    return {alias.container_id[:12] for alias in aliases if alias is not None}


@contextlib.contextmanager
def open_network_namespace(pid: int) -> Iterator[int]:
    """Hold the network namespace of process pid by a file descriptor. Raises Conflict if the process has exited."""
    # The descriptor refers to this namespace even after the process has exited and its pid has been reused.
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Conflict(f"process {pid} has exited: the container has ended") from error
    try:
        yield namespace
    finally:
        os.close(namespace)


def configure_interface(
    endpoint: Endpoint, pid: int, link_local: Sequence[str], emit: Emit, *, has_default_route: bool
) -> None:
    """Configure an endpoint's interface: sysctls, addresses, routes.

    The calling thread must be in the network namespace of process pid (netlink.in_namespace()).

    link_local         further addresses of the interface
    has_default_route  whether the endpoint's gateways become the namespace's default routes
    """
    inside = _nsenter(pid)
    interface = endpoint.interface
    has_ipv6 = bool(endpoint.address6) or any(":" in address for address in link_local)
    # As in Docker, an interface has IPv6 only on a network with an IPv6 subnet, and the loopback interface has ::1 if
    # one of the container's networks has such a subnet. eth0 is first; later interfaces can only enable IPv6 there.
    for name in (interface, "lo") if has_ipv6 or interface == "eth0" else (interface,):
        sysctl.set_value(f"ipv6/conf/{name}/disable_ipv6", "0" if has_ipv6 else "1", emit, inside=inside)
    index = socket.if_nametoindex(interface)
    add_address = functools.partial(netlink.add_address, index, interface, inside=inside)
    subnet = ipaddress.IPv4Interface(f"{endpoint.address}/{endpoint.prefix_length}").network
    requests = [
        netlink.set_up("lo", inside=inside),
        add_address(endpoint.address, endpoint.prefix_length, broadcast=str(subnet.broadcast_address)),
        netlink.set_up(interface, inside=inside),
    ]
    if endpoint.address6:
        requests.append(add_address(endpoint.address6, endpoint.prefix_length6))
    # Prefix lengths of link-local addresses: RFC 4291, 2.5.6; RFC 3927, 2.1.
    requests += [add_address(address, 64 if ":" in address else 16) for address in link_local]
    # Routes come last: the kernel refuses a gateway that is not reachable through an address (ENETUNREACH).
    if has_default_route:
        gateways = filter(None, (endpoint.gateway, endpoint.gateway6))
        requests += [netlink.default_route(gateway, interface, index, inside=inside) for gateway in gateways]
    with Netlink() as kernel:
        kernel.apply(requests, emit)


def replace_default_route(endpoint: Endpoint, pid: int, emit: Emit) -> None:
    """Make an endpoint's gateways the default routes of process pid's network namespace."""
    inside = _nsenter(pid)

    def replace() -> None:
        index = socket.if_nametoindex(endpoint.interface)
        with Netlink() as kernel:
            for gateway in filter(None, (endpoint.gateway, endpoint.gateway6)):
                route = functools.partial(netlink.default_route, gateway, endpoint.interface, index, inside=inside)
                # The namespace may have no default route yet.
                with contextlib.suppress(RuntimeFailed):
                    kernel.apply([route(delete=True)], emit)
                kernel.apply([route()], emit)

    with open_network_namespace(pid) as namespace:
        netlink.in_namespace(namespace, replace)


def _nsenter(pid: int) -> str:
    """The command that events show before a command that runs in process pid's network namespace (nsenter(1))."""
    return f"nsenter --net=/proc/{pid}/ns/net "
