"""Build a network's bridge from its record, and list the containers that are connected to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pylab_container.errors import Forbidden
from pylab_container.networks.bridge_options import bridge_options
from pylab_container.networks.network_record import FREE_SUBNET, NetworkRecord
from pylab_container.oci.image import Json
from pylab_container.oci.network_settings import EndpointSettings
from pylab_container.runtime import RUN_ROOT, Runtime, network
from pylab_container.store.data_root import DataRoot

if TYPE_CHECKING:
    from pylab_container.runtime.network import Bridge


def open_bridge(data: DataRoot, runtime: Runtime, record: NetworkRecord) -> Bridge:
    """Build the Bridge of a network whose driver is bridge. The kernel may not have the bridge yet."""
    if record.name == "bridge":
        return runtime.bridge
    document = record.document
    pools: list[Json] = document["IPAM"]["Config"]
    four = next((pool for pool in pools if ":" not in pool["Subnet"]), {})
    six = next((pool for pool in pools if ":" in pool["Subnet"]), {}) if document["EnableIPv6"] else {}
    options = bridge_options(document["Options"])
    return network.Bridge(
        options.name or _generated_name(document),
        has_generated_name=not options.name,
        run_root=RUN_ROOT,
        subnet=four.get("Subnet"),
        gateway=four.get("Gateway", ""),
        ip_range=four.get("IPRange", ""),
        subnet6=six.get("Subnet", ""),
        gateway6=six.get("Gateway", ""),
        ip_range6=six.get("IPRange", ""),
        reserved=[*four.get("AuxiliaryAddresses", {}).values(), *six.get("AuxiliaryAddresses", {}).values()],
        internal=document["Internal"],
        connectivity=options.connectivity,
        masquerade=options.masquerade,
        mtu=options.mtu,
        owner=str(data.networks.path(record.id)),
        emit=data.emit,
    )


def _generated_name(document: Json) -> str:
    return f"labctr{document['Id'][:9]}"


def refuse_bridge_name(name: str, network_id: str, existing: Sequence[NetworkRecord]) -> None:
    """Raise InvalidInput for an invalid bridge name, Forbidden for the name of another network's bridge.

    name  "" lets the engine generate one, and is always accepted
    """
    if not name:
        return
    network.check_bridge_name(name)
    for other in existing:
        chosen = bridge_options(other.document["Options"]).name if other.driver == "bridge" else ""
        if other.driver == "bridge" and name == (chosen or _generated_name(other.document)):
            raise Forbidden(
                f"cannot create network {network_id} ({name}): conflicts with network {other.id} ({name}): networks "
                "have same bridge name",
                hint="choose another bridge, or connect containers to that network",
            )


def connected_containers(data: DataRoot, runtime: Runtime, record: NetworkRecord) -> Json:
    """Return Network.Containers: {container id: its addresses} of this data root's connected containers."""
    members: Json = {}
    if record.driver != "bridge":
        return members
    for endpoint in open_bridge(data, runtime, record).endpoints():
        if container := data.records.load(endpoint.container_id):
            settings = container.network.endpoints.get(record.name, EndpointSettings())
            six = f"{endpoint.address6}/{endpoint.prefix_length6}" if endpoint.address6 else ""
            members[container.id] = {
                "Name": container.name,
                "EndpointID": settings.endpoint_id,
                "MacAddress": settings.mac_address or endpoint.mac,
                "IPv4Address": f"{endpoint.address}/{endpoint.prefix_length}",
                "IPv6Address": six,
            }
    return members


def network_attributes(data: DataRoot, runtime: Runtime, record: NetworkRecord) -> Json:
    """Return Docker's Network object, as `docker network inspect` shows it."""
    # The subnet of labctr0 is chosen at its creation, which any data root may have done: only the kernel has it.
    document = {**record.document, "Containers": connected_containers(data, runtime, record)}
    document.pop(FREE_SUBNET, None)
    if record.name == "bridge" and (subnet := runtime.bridge.subnet()):
        gateway = subnet.rpartition("/")[0].rpartition(".")[0] + ".1"
        document["IPAM"] = {**document["IPAM"], "Config": [{"Subnet": subnet, "Gateway": gateway}]}
    return document
