"""The networks that containers share: one bridge per network, one veth pair per container, and nft rules.

        container                    host
    ┌──────────────┐
    │ eth0 ────────┼── veth1a2b3c4 ──┐
    └──────────────┘                 labctr0 ── NAT ── eth0 ── the world
    ┌──────────────┐                 │ 172.17.0.1
    │ eth0 ────────┼── veth5d6e7f8 ──┘
    └──────────────┘
      172.17.0.2

    bridge.py     the bridge of a network            endpoint.py    a container's connection to it
    ports.py      published ports                    rules.py       the nft rules of bridges and ports, as text
    addresses.py  choice of subnets and addresses    pools.py       the address pools of a new network
    netlink.py    requests to the kernel             sysctl.py      network settings of the kernel
    forwarder.py  TCP from IPv6 to IPv4              forwarding.py  starts and stops the forwarder
    foreign.py    rules of other programs that drop the containers' packets

The kernel's configuration is the only database, so a crash never leaves stale records. The bridge's address records the
subnet, the alias of each veth on the host records an endpoint, and the comment of each nft rule records a published
port. When a container's network namespace ends, the kernel removes the veth pair, and the container's address is free.
The rules of a container without a veth are orphans: the next process that starts or stops a container removes them.

The names below are imported on first use (PEP 562): loading pyroute2 takes tens of milliseconds, which a container
without a network does not need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylab_container.runtime.network.bridge import Bridge, check_bridge_name, owned_bridges
    from pylab_container.runtime.network.endpoint import Endpoint
    from pylab_container.runtime.network.pools import plan_pools
    from pylab_container.runtime.network.ports import PortPublisher

__all__ = ["Bridge", "Endpoint", "PortPublisher", "check_bridge_name", "owned_bridges", "plan_pools"]

_MODULES = {
    "Bridge": "bridge",
    "Endpoint": "endpoint",
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
