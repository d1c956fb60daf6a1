"""The networks that containers share: a bridge each, a veth pair per container, rules for the way out and in.

        container                    host
    ┌──────────────┐
    │ eth0 ────────┼── veth1a2b3c4 ──┐
    └──────────────┘                 labctr0 ── NAT ── eth0 ── the world
    ┌──────────────┐                 │ 172.17.0.1
    │ eth0 ────────┼── veth5d6e7f8 ──┘
    └──────────────┘
      172.17.0.2

    bridge.py     the bridge and who is on it      addresses.py  choices of subnets and addresses
    ports.py      published ports                  rules.py      the nft rules of both, as text
    pools.py      the subnets of a new network     netlink.py    messages to the kernel
    forwarder.py  from IPv6 to IPv4                forwarding.py starts and stops that
    foreign.py    rules of others that are in the way

The kernel is the only database. The bridge's address says which subnet it serves; each
host-side veth says in its alias whose it is, and each published port is a rule that says so. A
container that is gone took its veth along, so its address is free again, whatever crashed; its
rules are known by that and removed. Sources: rtnetlink(7), veth(4), ip-link(8), nft(8).

The names below are imported on first use (PEP 562): loading pyroute2 takes tens of milliseconds, which a container
without a network does not need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylab_container.runtime.network.bridge import Bridge, Endpoint, check_bridge_name, owned_bridges
    from pylab_container.runtime.network.pools import plan_pools
    from pylab_container.runtime.network.ports import PortPublisher

__all__ = ["Bridge", "Endpoint", "PortPublisher", "check_bridge_name", "owned_bridges", "plan_pools"]

_MODULES = {
    "Bridge": "bridge",
    "Endpoint": "bridge",
    "check_bridge_name": "bridge",
    "owned_bridges": "bridge",
    "plan_pools": "pools",
    "PortPublisher": "ports",
}


def __getattr__(name: str) -> object:
    """Import the module of a public name. Raises MissingExtra without the libraries for networks."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
