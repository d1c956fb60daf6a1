"""IP addresses as users write them, without zone identifiers.

Python's ipaddress accepts any text after a % as the zone (RFC 4007, section 11), including spaces, newlines and
semicolons. "fd00::%; flush ruleset" would be injected into the rules for nft(8), and into /etc/hosts as an address.
A container's interfaces have names that the engine chooses, so no option needs a zone.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network


def parse_ip(text: str) -> IPv4Address | IPv6Address:
    """Return an IPv4 or IPv6 address. Raises ValueError."""
    return ip_address(_without_zone(text))


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """Return the network of "10.1.2.3/24" or "fd00:1::/64"; host bits are cleared.

    Raises ValueError.
    """
    return ip_network(_without_zone(text), strict=False)


def _without_zone(text: str) -> str:
    if "%" in text:
        raise ValueError("an address has no zone here")
    return text
