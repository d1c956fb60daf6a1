"""Find networks by name or id."""

from __future__ import annotations

import hashlib

from pylab_container.errors import InvalidInput, LabError, NotFound
from pylab_container.networks.bridge_options import DEFAULT_BRIDGE
from pylab_container.networks.network_record import PREDEFINED, NetworkRecord, network_document
from pylab_container.oci.image import Json
from pylab_container.oci.network_settings import EndpointSettings
from pylab_container.store.data_root import DataRoot
from pylab_container.text.timestamps import rfc3339


def all_networks(data: DataRoot) -> list[NetworkRecord]:
    """Return the predefined networks, then those of users. A damaged record is skipped and emitted (StoreDamaged)."""
    return [NetworkRecord(document) for document in _documents(data)]


def _documents(data: DataRoot) -> list[Json]:
    return [*(_predefined(data, name) for name in PREDEFINED), *data.networks.all()]


def _predefined(data: DataRoot, name: str) -> Json:
    """The document of a predefined network. Its id is derived from the data root's path and is not stored."""
    network_id = hashlib.sha256(f"{name} {data.path}".encode()).hexdigest()
    document = network_document(network_id, name, PREDEFINED[name], rfc3339(data.path.stat().st_ctime_ns))
    if name == "bridge":
        document["Options"] = dict(DEFAULT_BRIDGE)
    return document


def find_network(data: DataRoot, name: str) -> NetworkRecord:
    """Return the network with this id, name or prefix of an id.

    Raises NotFound; InvalidInput if two networks match.
    """
    documents = _documents(data)
    matches = [each for each in documents if name == each["Id"]] or [each for each in documents if name == each["Name"]]
    if len(matches) > 1:
        raise InvalidInput(f"network {name} is ambiguous ({len(matches)} matches found on name)", hint="give its id")
    matches = matches or [each for each in documents if name and each["Id"].startswith(name)]
    if not matches:
        raise _not_found(data, name)
    if len(matches) > 1:
        raise InvalidInput(f'"{name}" is the beginning of {len(matches)} network ids', hint="write more digits")
    return NetworkRecord(matches[0])


def _not_found(data: DataRoot, name: str) -> LabError:
    """Build the error for an unknown name: the damage of a record that seems to have this name, else NotFound."""
    damaged = data.networks.damaged()
    for network_id, error in damaged.items():
        if (name and network_id.startswith(name)) or data.networks.mentions(network_id, name):
            return error
    hint = "; labctr system fsck says which of them are damaged" if damaged else ""
    return NotFound(f"network {name} not found", hint=f"labctr network ls lists the networks{hint}")


def network_of_endpoint(data: DataRoot, name: str, endpoint: EndpointSettings) -> NetworkRecord:
    """Return the network of an endpoint in a container's record. Raises NotFound.

    A user's network is found by the recorded id, because its name may belong to another network by now. A predefined
    one is found by name: its id follows from the data root's path, which may have changed, and dockerd uses other ids.
    """
    network_id = "" if name in PREDEFINED else endpoint.network_id
    try:
        return find_network(data, str(network_id or name))
    except NotFound as error:
        hint = f"labctr network create {name}, and labctr network connect {name} CONTAINER"
        raise NotFound(f"network {network_id or name} not found", hint=hint) from error
