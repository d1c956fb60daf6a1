"""Create and remove the networks of users: subnets, record, bridge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from pylab_container.errors import Conflict, Forbidden, InvalidInput, NotFound
from pylab_container.events import NetworkAction
from pylab_container.host.random_ids import random_hex
from pylab_container.networks import orphans
from pylab_container.networks.bridge_options import bridge_options, check_bridge_options
from pylab_container.networks.bridges import connected_containers, open_bridge, refuse_bridge_name
from pylab_container.networks.lookup import all_networks
from pylab_container.networks.network_record import FREE_SUBNET, PREDEFINED, NetworkRecord, network_document
from pylab_container.oci.ids import NetworkId
from pylab_container.oci.image import Json
from pylab_container.runtime import Runtime, network
from pylab_container.store.data_root import DataRoot

_POOL_FIELDS = ("Subnet", "Gateway", "IPRange", "AuxiliaryAddresses")


class NetworkRequest(Struct, frozen=True, kw_only=True):
    """A network to create. The fields are those of NetworkCollection.create()."""

    name: str
    driver: str = "bridge"
    subnet: str | Sequence[str] = ()
    gateway: str | Sequence[str] = ()
    ip_range: str | Sequence[str] = ()
    aux_addresses: Mapping[str, str] | None = None
    ipam: Mapping[str, Any] | None = None
    check_duplicate: bool = True
    internal: bool = False
    attachable: bool = False
    enable_ipv6: bool = False
    labels: Mapping[str, str] | None = None
    options: Mapping[str, str] | None = None


def create(data: DataRoot, runtime: Runtime, request: NetworkRequest) -> NetworkRecord:
    """Choose the subnets → write the record → create the bridge.

    The record is written before the bridge is created. A crash in between therefore leaves a record without a bridge,
    which the next container completes, and never a bridge without a record (orphans.py). If the bridge cannot be
    created, both are removed. Raises InvalidInput, Conflict, Forbidden, NotFound, RuntimeFailed.
    """
    _check_request(request)
    orphans.clear()
    pools = _requested_pools(request)
    with data.networks.lock():
        record = _new_record(data, request, pools)
        bridge = open_bridge(data, runtime, record)
        bridge.refuse_foreign()
        data.networks.save(record.document)
        try:
            bridge.ensure()
        except BaseException:
            bridge.remove()
            data.networks.remove(record.id)
            bridge.remove_lock()
            raise
    emit_action(data, record, "create")
    return record


def emit_action(data: DataRoot, record: NetworkRecord, action: str, container_id: str = "") -> None:
    """Emit a network event: create, destroy, connect or disconnect."""
    data.emit(NetworkAction(action, record.id, record.name, record.driver, container_id))


def _check_request(request: NetworkRequest) -> None:
    name, driver = request.name, request.driver
    if name in (*PREDEFINED, "default"):
        raise Forbidden(f"operation is not permitted on predefined {name} network", hint="choose another name")
    if not name.strip() or not name.isprintable():
        raise InvalidInput(f"invalid name: {name}", hint="choose a name of visible characters")
    if driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed', hint="use --driver bridge")
    if driver != "bridge":
        raise NotFound(f'plugin "{driver}" not found', hint="use --driver bridge")
    check_bridge_options(request.options or {})


def _new_record(data: DataRoot, request: NetworkRequest, pools: Sequence[Json]) -> NetworkRecord:
    """Build the record of a new network. The caller holds the lock of all networks."""
    existing = all_networks(data)
    if request.check_duplicate and any(other.name == request.name for other in existing):
        raise Conflict(f"network with name {request.name} already exists", hint="labctr network ls")
    document = network_document(random_hex(32), request.name, "bridge", data.now())
    bridge_name = bridge_options(request.options or {}).name
    refuse_bridge_name(bridge_name, document["Id"], existing)
    document |= {
        "EnableIPv6": request.enable_ipv6,
        "Internal": request.internal,
        "Attachable": request.attachable,
        "Options": dict(request.options or {}),
        "Labels": dict(request.labels or {}),
    }
    document["IPAM"]["Options"] = {} if request.ipam is None else request.ipam.get("Options")
    document["IPAM"]["Config"] = _choose_pools(pools, existing, enable_ipv6=request.enable_ipv6, bridge=bridge_name)
    if not any(pool.get("Subnet") for pool in pools):
        document[FREE_SUBNET] = True
    return NetworkRecord(document)


def replacement_document(data: DataRoot, network_id: NetworkId, name: str) -> Json:
    """Build a record that replaces a damaged one. Its subnet is one that no other network has."""
    document = network_document(network_id, name, "bridge", data.now())
    document["IPAM"]["Config"] = _choose_pools([], all_networks(data), enable_ipv6=False)
    return document | {FREE_SUBNET: True}


def _requested_pools(request: NetworkRequest) -> list[Json]:
    """The pools of a request: those of ipam, and the other parameters, each put into the pool of its IP version."""
    ipam = request.ipam or {}
    if ipam.get("Driver") not in (None, "", "default"):
        raise NotFound(f'plugin "{ipam["Driver"]}" not found', hint="use the IPAM driver default")
    pools: list[Json] = [{str(key): value for key, value in pool.items() if value} for pool in ipam.get("Config") or ()]
    for pool in pools:
        if unknown := set(pool) - set(_POOL_FIELDS):
            hint = f"use one of {', '.join(_POOL_FIELDS)}"
            raise InvalidInput(f"unknown IPAM setting {sorted(unknown)[0]}", hint=hint)
    pools += [{"Subnet": subnet} for subnet in _as_list(request.subnet)]
    for field, texts in (("Gateway", _as_list(request.gateway)), ("IPRange", _as_list(request.ip_range))):
        for text in texts:
            pool = _pool_of(pools, field.lower(), text)
            if field in pool:
                raise InvalidInput(f"no matching subnet for {field.lower()} {text}", hint="add --subnet")
            pool[field] = text
    for name, address in (request.aux_addresses or {}).items():
        _pool_of(pools, "aux-address", address).setdefault("AuxiliaryAddresses", {})[name] = address
    return pools


def _pool_of(pools: Sequence[Json], kind: str, address: str) -> Json:
    """The pool whose subnet has an address's IP version. Raises InvalidInput if there is no such pool."""
    for pool in pools:
        if "Subnet" in pool and (":" in pool["Subnet"]) == (":" in address):
            return pool
    raise InvalidInput(f"no matching subnet for {kind} {address}", hint="add --subnet")


def _as_list(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def _choose_pools(
    pools: Sequence[Mapping[str, Any]], existing: Sequence[NetworkRecord], *, enable_ipv6: bool, bridge: str = ""
) -> list[Json]:
    """The pools of a new network, each with its gateway. Without a requested IPv4 subnet, a free one is chosen."""
    used = [pool["Subnet"] for other in existing for pool in other.document["IPAM"]["Config"]]
    return network.plan_pools(pools, used, enable_ipv6=enable_ipv6, bridge=bridge)


def remove(data: DataRoot, runtime: Runtime, record: NetworkRecord) -> None:
    """Remove a network, its bridge and its rules.

    Raises Forbidden for a predefined one, or if it has containers.
    """
    if record.is_predefined:
        raise Forbidden(
            f"{record.name} is a pre-defined network and cannot be removed",
            hint="labctr network ls --filter type=custom lists those that can be removed",
        )
    with data.networks.lock():
        if members := connected_containers(data, runtime, record):
            names = ", ".join(str(member["Name"]) for member in members.values())
            raise Forbidden(
                f"error while removing network: network {record.name} id {record.id} has active endpoints",
                hint=f"stop or disconnect first: {names}",
            )
        # The bridge is removed first. A crash in between leaves a record without a bridge, which is a valid network:
        # the next container creates the bridge. In the other order it would leave an orphan.
        bridge = open_bridge(data, runtime, record)
        bridge.remove()
        data.networks.remove(record.id)
        bridge.remove_lock()
    emit_action(data, record, "destroy")


def take_down(data: DataRoot, runtime: Runtime) -> None:
    """Remove all bridges and rules from the host; the next container recreates them.

    Raises InUse while a container is connected to one.
    """
    orphans.clear()
    with data.networks.lock():
        for record in all_networks(data):
            if record.driver == "bridge":
                open_bridge(data, runtime, record).remove()
