"""Addresses as users write them. An IPv6 address has no zone here.

Python's ipaddress takes any text behind a % as the zone (RFC 4007, 11), spaces, newlines and semicolons included:
"fd00::%; flush ruleset" would go on into rules for nft(8) and into /etc/hosts as an address. The interfaces of a
container have names that the engine chooses, so no zone is ever needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network


def parse_ip(text: str) -> IPv4Address | IPv6Address:
    """An IPv4 or IPv6 address. Raises ValueError."""
    import ipaddress  # slow to import, and seldom needed

    return ipaddress.ip_address(_without_zone(text))


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """The network of "10.1.2.3/24" or "fd00:1::/64". Raises ValueError."""
    import ipaddress

    return ipaddress.ip_network(_without_zone(text), strict=False)


def _without_zone(text: str) -> str:
    if "%" in text:
        raise ValueError("an address has no zone here")
    return text
