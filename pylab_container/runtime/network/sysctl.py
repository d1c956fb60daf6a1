"""Network settings of the kernel: files below /proc/sys/net, written as sysctl(8) does.

They belong to the network namespace of the thread that opens them. Source: docs.kernel.org, networking/ip-sysctl.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from pylab_container.events import Emit, NetworkChanged
from pylab_container.runtime.network.netlink import Netlink

_ROOT = Path("/proc/sys/net")
_FORWARDING6 = "ipv6/conf/all/forwarding"


def set_value(setting: str, value: str, emit: Emit, *, inside: str = "") -> None:
    """Set a setting such as "ipv4/ip_forward", unless it has the value already.

    inside  the nsenter command that the event shows, "" for this network namespace
    """
    # With ipv6.disable=1 the kernel has no settings of IPv6, and does nothing that they would prevent.
    with contextlib.suppress(FileNotFoundError):
        if not _has_value(setting, value):
            (_ROOT / setting).write_text(value)
            emit(NetworkChanged(f"{inside}sysctl -w net/{setting}={value}"))


def ignore_routers(interface: str, emit: Emit) -> None:
    """Ignore router advertisements and redirects that containers send to a bridge (CVE-2020-13401).

    Otherwise the host would accept an address, a default route and DNS servers from a container.
    """
    set_value(f"ipv6/conf/{interface}/accept_ra", "0", emit)
    for family in ("ipv4", "ipv6"):
        set_value(f"{family}/conf/{interface}/accept_redirects", "0", emit)


def enable_forwarding6(emit: Emit) -> None:
    """Let the host forward IPv6 packets; each interface keeps its own setting of forwarding."""
    if _has_value(_FORWARDING6, "1"):
        return
    # Only the setting of `all` decides whether the kernel forwards, but the kernel copies a write to every interface.
    # An interface with forwarding=1 is a router and ignores router advertisements, so the host would lose its own
    # default route when that expires (ip-sysctl, accept_ra). Hence the values of all interfaces are restored.
    before = _values6("forwarding")
    # The write also removes the default routes that the host has learned from router advertisements, except on
    # interfaces with accept_ra=2 (rt6_purge_dflt_routers() in net/ipv6/route.c). So the interfaces with a default route
    # have this value during the write.
    listening = [setting for setting in _default_route_settings("accept_ra") if _has_value(setting, "1")]
    for setting in listening:
        set_value(setting, "2", emit)
    try:
        set_value(_FORWARDING6, "1", emit)
        for setting, value in before.items():
            set_value(setting, value, emit)
    finally:
        for setting in listening:
            set_value(setting, "1", emit)


def _default_route_settings(name: str) -> list[str]:
    """The path of an IPv6 setting, for each interface that has an IPv6 default route."""
    with Netlink() as kernel:
        indexes = {index for network, index in kernel.routes(socket.AF_INET6) if not network}
        return [f"ipv6/conf/{link.name}/{name}" for link in kernel.links() if link.index in indexes]


def _values6(name: str) -> dict[str, str]:
    """{setting: value} of an IPv6 setting for each interface, and for interfaces that will be created ("default")."""
    values = {}
    for interface in os.listdir(_ROOT / "ipv6/conf"):
        # An interface may be removed after the listing, with a container that exits.
        with contextlib.suppress(FileNotFoundError):
            if interface != "all":
                values[f"ipv6/conf/{interface}/{name}"] = _value(f"ipv6/conf/{interface}/{name}")
    return values


def _value(setting: str) -> str:
    return (_ROOT / setting).read_text().strip()


def _has_value(setting: str, value: str) -> bool:
    return _value(setting) == value
