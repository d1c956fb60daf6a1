"""The NetworkSettings of a container: its networks, addresses and published ports, as Structs.

Field names and order are those of the Engine API 1.41 (moby api/types/types.go and api/types/network, 20.10).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from msgspec import field

from pylab_container.oci.document import Document, field_names, map_of
from pylab_container.oci.image import Json


class EndpointIpam(Document, frozen=True):
    """The addresses that the user chose for an endpoint."""

    ipv4_address: str = field(default="", name="IPv4Address")
    ipv6_address: str = field(default="", name="IPv6Address")
    link_local_ips: tuple[str, ...] = field(default=(), name="LinkLocalIPs")

    missing: frozenset[str] = field_names("IPv4Address IPv6Address LinkLocalIPs")


class EndpointSettings(Document, frozen=True):
    """A container's endpoint on one network: what was requested and, while it runs, the result.

    desired_mac_address  the hardware address that was requested; `inspect` does not show it
    """

    PARTS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"IPAMConfig": EndpointIpam.parse}

    ipam_config: EndpointIpam | None = field(default=None, name="IPAMConfig")
    links: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    network_id: str = field(default="", name="NetworkID")
    endpoint_id: str = field(default="", name="EndpointID")
    gateway: str = ""
    ip_address: str = field(default="", name="IPAddress")
    ip_prefix_len: int = field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = field(default="", name="IPv6Gateway")
    global_ipv6_address: str = field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = field(default=0, name="GlobalIPv6PrefixLen")
    mac_address: str = ""
    driver_opts: Mapping[str, str] = {}
    desired_mac_address: str = ""

    nulls: frozenset[str] = field_names("IPAMConfig Links Aliases DriverOpts")
    missing: frozenset[str] = field_names("DesiredMacAddress")

    def shown(self) -> Json:
        """Return the document that `inspect` shows, with every field of Docker's."""
        document = self.completed().document()
        document.pop("DesiredMacAddress", None)
        return document


class NetworkSettings(Document, frozen=True):
    """The networks of a container.

    networks  {network: endpoint}, in records of dockerd also null; endpoints has empty ones instead
    ports     the published ports while it runs: {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}] or null}

    endpoint_id and the fields after it repeat the endpoint on the default bridge: clients from before there were
    several networks read them.
    """

    PARTS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"Networks": map_of(EndpointSettings.parse)}

    bridge: str = ""
    sandbox_id: str = field(default="", name="SandboxID")
    hairpin_mode: bool = False
    link_local_ipv6_address: str = field(default="", name="LinkLocalIPv6Address")
    link_local_ipv6_prefix_len: int = field(default=0, name="LinkLocalIPv6PrefixLen")
    ports: Mapping[str, list[dict[str, str]] | None] = {}
    sandbox_key: str = ""
    secondary_ip_addresses: Any = field(default=None, name="SecondaryIPAddresses")
    secondary_ipv6_addresses: Any = field(default=None, name="SecondaryIPv6Addresses")
    endpoint_id: str = field(default="", name="EndpointID")
    gateway: str = ""
    global_ipv6_address: str = field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = field(default=0, name="GlobalIPv6PrefixLen")
    ip_address: str = field(default="", name="IPAddress")
    ip_prefix_len: int = field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = field(default="", name="IPv6Gateway")
    mac_address: str = ""
    networks: Mapping[str, EndpointSettings | None] = {}

    # The record of a container that does not run has only its networks.
    missing: frozenset[str] = field_names(
        "Bridge SandboxID HairpinMode LinkLocalIPv6Address LinkLocalIPv6PrefixLen Ports SandboxKey "
        "SecondaryIPAddresses SecondaryIPv6Addresses EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen "
        "IPAddress IPPrefixLen IPv6Gateway MacAddress Networks"
    )

    @property
    def endpoints(self) -> dict[str, EndpointSettings]:
        """{network: endpoint}."""
        return {name: endpoint or EndpointSettings() for name, endpoint in self.networks.items()}
