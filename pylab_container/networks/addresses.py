"""Check the addresses that a user chooses for a container."""

from __future__ import annotations

import re

from pylab_container.errors import InvalidInput
from pylab_container.text.address import parse_ip
from pylab_container.text.visible import visible


def parse_address(text: str, version: int | None = None) -> str:
    """Parse an IP address; version (4 or 6) allows only that one. Raises InvalidInput."""
    try:
        address = parse_ip(text)
    except ValueError:
        address = None
    # Go's To4() accepts an IPv4-mapped address, so dockerd refuses ::ffff:10.0.0.1 where it needs an IPv6 address.
    is_mapped = version == 6 and getattr(address, "ipv4_mapped", None) is not None
    if address is None or is_mapped or version not in (None, address.version):
        kind = f"IPv{version}" if version else "IP"
        raise InvalidInput(
            f"invalid {kind} address: {visible(text)}", hint="write an address such as 10.0.0.1 or fd00::1"
        ) from None
    return str(address)


def parse_mac(text: str) -> str:
    """Check a hardware address of six bytes, and return it. Raises InvalidInput."""
    if not re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", text):
        raise InvalidInput(f"{text} is not a valid mac address", hint="write it as 02:42:ac:11:00:02")
    return text


def refuse_on_predefined(*, addresses: object, aliases: object) -> None:
    """Raise InvalidInput for addresses or aliases on a predefined network, which supports neither."""
    if addresses:
        raise InvalidInput(
            "user specified IP address is supported on user defined networks only",
            hint="create a network first: labctr network create --subnet 10.9.0.0/24 NAME",
        )
    if aliases:
        raise InvalidInput(
            "network-scoped alias is supported only for containers in user defined networks",
            hint="create a network first: labctr network create NAME",
        )
