"""One network as it is recorded: Docker's Network object without its containers.

Source: Engine API 1.41, NetworkInspect.

bridge   labctr0, the default network of a container; it has no name server, as in Docker
host     the host's own network
none     no network
others   created by users: one bridge each, on which containers find each other by name
"""

from __future__ import annotations

from pylab_container.oci.image import Json

PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}
"""The networks that always exist, and their drivers."""

FREE_SUBNET = "FreeSubnet"
"""The field that marks a record whose subnet the engine chose; inspect does not show it."""


class NetworkRecord:
    """A network's document, and the properties that the engine's decisions depend on."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self.id: str = document["Id"]
        self.name: str = document["Name"]

    @property
    def driver(self) -> str:
        """bridge, host or null."""
        return str(self.document["Driver"])

    @property
    def is_predefined(self) -> bool:
        """Whether it is one of bridge, host and none."""
        return self.name in PREDEFINED

    @property
    def has_chosen_subnet(self) -> bool:
        """Whether a user chose its subnet. Records from before FreeSubnet count as chosen."""
        return not self.document.get(FREE_SUBNET)

    @property
    def internal(self) -> bool:
        """Whether it has no route to other networks."""
        return bool(self.document["Internal"])


def network_document(network_id: str, name: str, driver: str, created: str) -> Json:
    """Build the document of a network that has no pools, options and labels yet."""
    return {
        "Name": name,
        "Id": network_id,
        "Created": created,
        "Scope": "local",
        "Driver": driver,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": []},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {},
        "Labels": {},
    }
