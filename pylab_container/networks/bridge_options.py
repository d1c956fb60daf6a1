"""The options of `network create -o` for Docker's bridge driver.

Source: libnetwork, drivers/bridge/labels.go.

An unknown option is recorded and has no effect, as with dockerd: several drivers share the field, and clients may
store labels of their own in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from pylab_container.errors import InvalidInput
from pylab_container.text.golang import truth

BRIDGE_NAME = "com.docker.network.bridge.name"
_CONNECTIVITY = "com.docker.network.bridge.enable_icc"
_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
_BINDING = "com.docker.network.bridge.host_binding_ipv4"
_MTU = "com.docker.network.driver.mtu"
_DEFAULT_BRIDGE = "com.docker.network.bridge.default_bridge"
_REFUSED = (_DEFAULT_BRIDGE, "com.docker.network.container_iface_prefix")

DEFAULT_BRIDGE: Mapping[str, str] = {
    _DEFAULT_BRIDGE: "true",
    _CONNECTIVITY: "true",
    _MASQUERADE: "true",
    _BINDING: "0.0.0.0",
    BRIDGE_NAME: "labctr0",
}
"""The options of the network "bridge", as inspect shows them. Its MTU is that of the host's default route."""


class BridgeOptions(Struct, frozen=True, kw_only=True):
    """The options of a network's bridge.

    name          the bridge's interface on the host; "" derives the name from the network's id
    connectivity  whether the containers on it reach each other
    masquerade    whether packets to other networks get the host's address (source NAT)
    binding       host address of published ports that name no address; "" for all addresses
    mtu           in bytes; None takes that of the host's default route
    """

    name: str = ""
    connectivity: bool = True
    masquerade: bool = True
    binding: str = ""
    mtu: int | None = None


def bridge_options(options: Mapping[str, str]) -> BridgeOptions:
    """Parse Network.Options. Raises InvalidInput for an invalid value."""
    return BridgeOptions(
        name=options.get(BRIDGE_NAME, ""),
        connectivity=_truth(options, _CONNECTIVITY),
        masquerade=_truth(options, _MASQUERADE),
        binding=_address(options, _BINDING),
        mtu=_mtu(options.get(_MTU, "")),
    )


def check_bridge_options(options: Mapping[str, str]) -> None:
    """Raise InvalidInput for an invalid value, or an option that a user cannot set."""
    for name in _REFUSED:
        if name in options:
            raise InvalidInput(f"the network option {name} is not supported", hint="leave it out")
    bridge_options(options)


def _truth(options: Mapping[str, str], name: str) -> bool:
    value = truth(options.get(name, "true"))
    if value is None:
        raise _invalid(name, options[name], "invalid syntax", hint="write true or false")
    return value


def _address(options: Mapping[str, str], name: str) -> str:
    text = options.get(name, "")
    if text in ("", "0.0.0.0"):  # Docker's default: all addresses of the host, IPv6 included
        return ""
    import ipaddress  # imported here: it is slow to import and seldom needed

    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise _invalid(name, text, "nil ip", hint="write an IPv4 address of the host") from None


def _mtu(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 68 <= int(text) <= 65535):
        raise _invalid(_MTU, text, "invalid syntax", hint="write a number of bytes from 68 to 65535")
    return int(text)


def _invalid(name: str, text: str, problem: str, *, hint: str) -> InvalidInput:
    return InvalidInput(f"failed to parse {name} value: {text} ({problem})", hint=hint)
