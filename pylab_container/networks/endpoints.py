"""Containers on networks: their addresses, names and published ports, and Docker's documents about them.

NetworkSettings.Networks holds one endpoint for each network: before the start what was asked for
(IPAMConfig, Aliases), while it runs also what it got. connect_all() and disconnect_all() go with
start and end; connect() and disconnect() are for one network more or less.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.containers import launch
from pylab_container.docker.hostconfig import parse_address, parse_mac, refuse_wishes
from pylab_container.errors import Conflict, Forbidden, InvalidInput, NotFound
from pylab_container.host.files import rewrite
from pylab_container.networks import dns_records, links
from pylab_container.networks.bridge_options import bridge_options
from pylab_container.networks.link_variables import link_pairs
from pylab_container.oci import ports
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import ALIVE
from pylab_container.runtime.etc import with_address, without_address
from pylab_container.store.container_store import ContainerRecord
from pylab_container.text.visible import check_line

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container
    from pylab_container.engine.networks import Network
    from pylab_container.runtime.network import Endpoint

_LEGACY = (
    "EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen IPAddress IPPrefixLen IPv6Gateway MacAddress".split()
)


DESIRED = "DesiredMacAddress"
"""The field of an endpoint's document with the hardware address that was asked for; inspect does not show it."""

# NetworkSettings without a network.
_AT_REST: Json = {
    "Bridge": "",
    "SandboxID": "",
    "HairpinMode": False,
    "LinkLocalIPv6Address": "",
    "LinkLocalIPv6PrefixLen": 0,
    "Ports": {},
    "SandboxKey": "",
    "SecondaryIPAddresses": None,
    "SecondaryIPv6Addresses": None,
}


class _Joined(Struct, frozen=True):
    """One network that a container is on, with its endpoint's document."""

    network: Network
    endpoint: Endpoint
    document: Json


# ---- with the container's start and end -------------------------------------------------------


def has_bridges(record: ContainerRecord) -> bool:
    """Whether the container has a network of its own with interfaces: neither host, none nor another container's."""
    mode = network_mode(record)
    return mode not in ("host", "none") and not mode.startswith("container:")


def network_mode(record: ContainerRecord) -> str:
    """The network that it was made for."""
    mode = str(record.host_config.get("NetworkMode") or "bridge")
    return "bridge" if mode == "default" else mode


def connect_all(engine: Engine, record: ContainerRecord, pid: int) -> Json:
    """Give the container whose first process is pid its networks, names and ports; returns NetworkSettings.

    Raises NotFound for a network that is gone, Conflict for an address or a port that is taken, InvalidInput;
    then it is on none.
    """
    if not has_bridges(record):
        return _settings(pid, _without_bridge(engine, record), {})
    serving = dns_records.serve(engine, replace(record, pid=pid))
    joined: list[_Joined] = []
    try:
        with engine.data.networks.lock(shared=True):
            wanted = list(_wanted(engine, record))
            first = min((network for network, _ in wanted), key=_rank)
            for network, wish in wanted:
                _refuse_wish(network, wish)
                joined.append(_join(network, record, wish, pid, f"eth{len(joined)}", leads_out=network == first))
            published = _publish(engine, record, joined)
    except BaseException:
        disconnect_all(engine, record)
        raise
    own = [address for one in joined for address in _addresses(one.endpoint)]
    linked = links.host_lines(engine, record)
    launch.write_network_files(engine, record, own, gateway=joined[0].endpoint.gateway, linked=linked)
    for one in joined:
        if one.network.name == "bridge":
            links.tell_parents(engine, record, one.endpoint.address)
    documents = {one.network.name: one.document for one in joined}
    settings = _settings(pid, documents, ports.ports_document(record.config.get("ExposedPorts") or (), published))
    if serving is not None:
        dns_records.tell(engine, replace(record, pid=pid, network=settings))
        serving.result()
    return settings


def _without_bridge(engine: Engine, record: ContainerRecord) -> Json:
    """The documents of a container with none, the host's or another one's network. Raises InvalidInput."""
    mode = network_mode(record)
    if mode.startswith("container:"):
        return {}
    _refuse_wish(engine.networks.get(mode), (record.network.get("Networks") or {}).get(mode) or {})
    return {mode: endpoint_document({})}


def disconnect_all(engine: Engine, record: ContainerRecord) -> None:
    """Take a container off its networks, whatever of them it is on, and its ports off the host."""
    if not has_bridges(record):
        return
    dns_records.forget(engine, record.id)
    if _requests(record):
        engine.runtime.bridge.ports.withdraw(record.id)
    for name, document in {network_mode(record): None, **(record.network.get("Networks") or {})}.items():
        with contextlib.suppress(NotFound, InvalidInput):  # it was removed since
            network = _find(engine, name, document)
            network.bridge.disconnect(record.id)


def _find(engine: Engine, name: str, document: Json | None) -> Network:
    """The network that a container has in its record: by its id where there is one, for names are given again.

    The id of a network that is always there follows from the data root's path, which may have changed, and dockerd
    gives it another one. A network of a user is dockerd's own: NotFound.
    """
    from pylab_container.engine.networks import PREDEFINED

    network_id = "" if name in PREDEFINED else (document or {}).get("NetworkID")
    try:
        return engine.networks.get(str(network_id or name))
    except NotFound as error:
        hint = f"labctr network create {name}, and labctr network connect {name} CONTAINER"
        raise NotFound(f"network {network_id or name} not found", hint=hint) from error


def disconnect_unknown(engine: Engine, container_id: str) -> None:
    """Take what is left of a container without a record off all networks."""
    dns_records.forget(engine, container_id)
    engine.runtime.bridge.ports.withdraw(container_id)
    for network in engine.networks.list():
        if network.driver == "bridge":
            network.bridge.disconnect(container_id)


def wishes(
    *,
    aliases: Sequence[str] = (),
    links: Mapping[str, str] | Sequence[str] = (),
    ipv4_address: str = "",
    ipv6_address: str = "",
    link_local_ips: Sequence[str] = (),
    driver_opt: Mapping[str, str] | None = None,
    mac_address: str = "",
) -> Json:
    """An endpoint's document before the start, as Docker's NetworkingConfig has it. Raises InvalidInput."""
    chosen = {"IPv4Address": ipv4_address, "IPv6Address": ipv6_address, "LinkLocalIPs": list(link_local_ips)}
    for text, version in ((ipv4_address, 4), (ipv6_address, 6), *((one, None) for one in link_local_ips)):
        if text:
            parse_address(text, version)
    return {
        "IPAMConfig": {name: value for name, value in chosen.items() if value} or None,
        "Links": [":".join(pair) for pair in link_pairs(links)] or None,
        "Aliases": [check_line(alias, "network alias") for alias in aliases] or None,
        "DriverOpts": dict(driver_opt) if driver_opt else None,
        **({DESIRED: parse_mac(mac_address), "MacAddress": mac_address} if mac_address else {}),
    }


# ---- one network more or less -----------------------------------------------------------------


def connect(engine: Engine, network: Network, container: Container, wish: Json) -> None:
    """Put a container on one network more; see Network.connect."""
    from pylab_container.containers import lifetime

    with engine.data.records.lock(container.id):
        record = lifetime.settle(engine, lifetime.read(engine, container.id))
        _refuse_connection(network, record, wish)
        settings = dict(record.network)
        documents = dict(settings.get("Networks") or {})
        if record.state in ALIVE:
            with engine.data.networks.lock(shared=True):
                engine.networks.get(network.id)  # it may have been removed meanwhile
                present = _joined(engine, record)
                interface = _next_interface(present)
                new = _join(network, record, wish, record.pid, interface, leads_out=False)
            _add_to_hosts(engine, record, new.endpoint)
            if network.name == "bridge":
                links.tell_parents(engine, record, new.endpoint.address)
            documents[network.name] = new.document
            if _exit([*present, new]) == new:
                settings["Ports"] = _use_another_exit(engine, record, [*present, new])
        else:
            documents[network.name] = endpoint_document(wish)
        changed = engine.data.records.update(record, network=_with_networks(settings, documents))
        if record.state in ALIVE:
            dns_records.begin(engine, changed)


def disconnect(engine: Engine, network: Network, container: Container, *, force: bool) -> None:
    """Take a container off one network; see Network.disconnect."""
    from pylab_container.containers import lifetime

    with engine.data.records.lock(container.id):
        record = lifetime.settle(engine, lifetime.read(engine, container.id))
        settings = dict(record.network)
        documents = dict(settings.get("Networks") or {})
        if network.name not in documents:
            if force:
                return
            raise Conflict(f"container {record.id} is not connected to network {network.name}", hint="labctr inspect")
        if network.name == "host":
            raise InvalidInput(
                "container cannot be disconnected from host network or connected to host network",
                hint="make another container",
            )
        gone = documents.pop(network.name)
        if record.state in ALIVE and network.driver == "bridge":
            before = _joined(engine, record)
            network.bridge.disconnect(record.id)
            _remove_from_hosts(engine, record, gone)
            remaining = [one for one in before if one.network != network]
            if (was := _exit(before)) and was.network == network:
                settings["Ports"] = _use_another_exit(engine, record, remaining)
        dns_records.tell(engine, engine.data.records.update(record, network=_with_networks(settings, documents)))


def _refuse_connection(network: Network, record: ContainerRecord, wish: Json) -> None:
    mode = network_mode(record)
    networks = record.network.get("Networks") or {}
    _refuse_wish(network, wish)
    if network.name in networks and record.state in ALIVE:
        raise Forbidden(
            f"endpoint with name {record.name} already exists in network {network.name}",
            hint=f"labctr network disconnect {network.name} {record.name}, to connect it in another way",
        )
    if network.name == "host" and mode != "host" and not mode.startswith("container:"):
        raise InvalidInput(
            "container cannot be disconnected from host network or connected to host network",
            hint="make another container, with --network host",
        )
    if mode.startswith("container:") or mode == "host":
        raise InvalidInput(
            "container sharing network namespace with another container or host cannot be connected to any other "
            "network",
            hint="make another container",
        )
    if network.name == "none" or "none" in networks or (mode == "none" and not networks):
        raise InvalidInput(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            hint=f"labctr network disconnect none {record.name}",
        )


def _refuse_wish(network: Network, wish: Json) -> None:
    """Raises InvalidInput where addresses are chosen for the user: on the default bridge, and in a subnet that nobody
    chose; and for a link's address that is none."""
    chosen = wish.get("IPAMConfig") or {}
    addresses = chosen.get("IPv4Address") or chosen.get("IPv6Address")
    if network.is_predefined:
        refuse_wishes(addresses=addresses, aliases=wish.get("Aliases"))
    if addresses and not network.has_chosen_subnet:
        raise InvalidInput(
            "user specified IP address is supported only when connecting to networks with user configured subnets",
            hint="labctr network create --subnet",
        )
    for text in chosen.get("LinkLocalIPs") or ():
        import ipaddress  # slow to import, and seldom needed

        if not ipaddress.ip_address(text).is_link_local:
            raise InvalidInput(f"invalid link local IP address: {text}", hint="write 169.254.x.y, or fe80::…")


def _use_another_exit(engine: Engine, record: ContainerRecord, joined: Sequence[_Joined]) -> Json:
    """The way out has gone with its network, or another one comes before it: take that, ports and all."""
    if chosen := _exit(joined):
        chosen.network.bridge.set_default_route(chosen.endpoint, record.pid)
    return _publish_again(engine, record, joined)


def _publish_again(engine: Engine, record: ContainerRecord, joined: Sequence[_Joined]) -> Json:
    """Ports of a running container whose way out is another one now."""
    published: list[ports.PublishedPort] = []
    if _requests(record):
        engine.runtime.bridge.ports.withdraw(record.id)
        published = _publish(engine, record, joined)
    return ports.ports_document(record.config.get("ExposedPorts") or (), published)


# ---- how --------------------------------------------------------------------------------------


def _wanted(engine: Engine, record: ContainerRecord) -> list[tuple[Network, Json]]:
    """The networks that a container is to be on, the one that it was made for first, with its wishes."""
    documents = record.network.get("Networks") or {network_mode(record): {}}
    first = network_mode(record)
    names = sorted(documents, key=lambda name: name != first)
    return [(_find(engine, name, documents[name]), documents[name] or {}) for name in names]


def _join(
    network: Network, record: ContainerRecord, wish: Json, pid: int, interface: str, *, leads_out: bool
) -> _Joined:
    chosen = wish.get("IPAMConfig") or {}
    endpoint = network.bridge.connect(
        record.id,
        pid,
        interface=interface,
        address=chosen.get("IPv4Address") or None,
        address6=chosen.get("IPv6Address") if network.document["EnableIPv6"] else None,
        mac=wish.get(DESIRED) or (str(record.config.get("MacAddress") or "") if interface == "eth0" else ""),
        link_local=chosen.get("LinkLocalIPs") or (),
        default_route=leads_out,
    )
    own = (record.short_id, str(record.config.get("Hostname") or record.short_id))
    document = endpoint_document(wish, network=network, endpoint=endpoint, own=own)
    return _Joined(network, endpoint, document)


def _joined(engine: Engine, record: ContainerRecord) -> list[_Joined]:
    """The networks that a running container is on, by its interfaces."""
    found = []
    for name, document in (record.network.get("Networks") or {}).items():
        with contextlib.suppress(NotFound):
            network = _find(engine, name, document)
            if network.driver == "bridge":
                own = [one for one in network.bridge.endpoints() if one.container_id == record.id]
                found += [_Joined(network, one, document) for one in own]
    return sorted(found, key=lambda one: one.endpoint.interface)


def _exit(joined: Sequence[_Joined]) -> _Joined | None:
    """The network that leads out."""
    return min(joined, key=lambda one: _rank(one.network), default=None)


def _rank(network: Network) -> tuple[bool, str]:
    """Which of several networks leads out: the least, as in libnetwork. From an internal one nothing goes further."""
    return network.internal, network.name


def _next_interface(joined: Sequence[_Joined]) -> str:
    names = {one.endpoint.interface for one in joined}
    return next(name for name in map("eth{}".format, range(len(names) + 1)) if name not in names)


def _requests(record: ContainerRecord, binding: str = "") -> list[ports.PortRequest]:
    """What is to be published, on the address `binding` of the host where it names none."""
    host = record.host_config
    exposed = record.config.get("ExposedPorts") or {}
    found = ports.requests(exposed, host.get("PortBindings") or {}, publish_all=bool(host.get("PublishAllPorts")))
    return [replace(one, host_ip=one.host_ip or binding) for one in found]


def _publish(engine: Engine, record: ContainerRecord, joined: Sequence[_Joined]) -> list[ports.PublishedPort]:
    leading = _exit(joined)
    if leading is None or leading.network.internal:
        return []
    wanted = _requests(record, bridge_options(leading.network.document["Options"]).binding)
    if not wanted:
        return []
    endpoint = leading.endpoint
    leading.network.bridge.enable_hairpin(endpoint)
    try:
        return engine.runtime.bridge.ports.publish(
            record.id, wanted, address=endpoint.address, address6=endpoint.address6
        )
    except Conflict as error:
        place = f"endpoint {record.name} ({leading.document['EndpointID']})"
        message = f"driver failed programming external connectivity on {place}: {error.message}"
        raise Conflict(message, hint=error.hint) from error


# ---- hosts ------------------------------------------------------------------------------------


def _add_to_hosts(engine: Engine, record: ContainerRecord, endpoint: Endpoint) -> None:
    own = launch.own_name(record)
    for address in _addresses(endpoint):
        _change_hosts(engine, record, partial(with_address, address=address, hostname=own))


def _remove_from_hosts(engine: Engine, record: ContainerRecord, document: Json) -> None:
    for address in filter(None, (document.get("IPAddress"), document.get("GlobalIPv6Address"))):
        _change_hosts(engine, record, partial(without_address, address=address))


def _change_hosts(engine: Engine, record: ContainerRecord, change: Callable[[str], str]) -> None:
    with engine.data.networks.lock_hosts():
        path = engine.data.records.directory(record.id) / "hosts"
        rewrite(path, change(path.read_text(errors="replace")))


def _addresses(endpoint: Endpoint) -> list[str]:
    return [address for address in (endpoint.address, endpoint.address6) if address]


# ---- documents --------------------------------------------------------------------------------


def endpoint_document(
    wish: Json, *, network: Network | None = None, endpoint: Endpoint | None = None, own: Sequence[str] = ()
) -> Json:
    """Docker's EndpointSettings: what was asked for and, with an endpoint, what it became.

    own  names that it has on every network of users, besides its own
    """
    aliases = [name for name in wish.get("Aliases") or () if name not in own]
    if network is not None and not network.is_predefined:
        aliases += dict.fromkeys(own)
    six = endpoint.address6 if endpoint else ""
    return {
        "IPAMConfig": wish.get("IPAMConfig"),
        "Links": wish.get("Links"),
        "Aliases": aliases or None,
        "NetworkID": network.id if network else str(wish.get("NetworkID") or ""),
        "EndpointID": secrets.token_hex(32) if endpoint else "",
        "Gateway": endpoint.gateway if endpoint else "",
        "IPAddress": endpoint.address if endpoint else "",
        "IPPrefixLen": endpoint.prefix_length if endpoint else 0,
        "IPv6Gateway": endpoint.gateway6 if endpoint else "",
        "GlobalIPv6Address": six,
        "GlobalIPv6PrefixLen": endpoint.prefix_length6 if endpoint else 0,
        "MacAddress": endpoint.mac if endpoint else str(wish.get(DESIRED) or ""),
        "DriverOpts": wish.get("DriverOpts"),
        **({DESIRED: wish[DESIRED]} if wish.get(DESIRED) else {}),
    }


def containers_document(engine: Engine, network: Network) -> Json:
    """Network.Containers: who is on it now, of this engine's."""
    members: Json = {}
    if network.driver != "bridge":
        return members
    for endpoint in network.bridge.endpoints():
        if record := engine.data.records.load(endpoint.container_id):
            document = (record.network.get("Networks") or {}).get(network.name) or {}
            six = f"{endpoint.address6}/{endpoint.prefix_length6}" if endpoint.address6 else ""
            members[record.id] = {
                "Name": record.name,
                "EndpointID": document.get("EndpointID") or "",
                "MacAddress": document.get("MacAddress") or endpoint.mac,
                "IPv4Address": f"{endpoint.address}/{endpoint.prefix_length}",
                "IPv6Address": six,
            }
    return members


def _settings(pid: int, documents: Json, published: Json) -> Json:
    """Docker's NetworkSettings of a running container."""
    own = {"SandboxID": secrets.token_hex(32), "Ports": published, "SandboxKey": f"/proc/{pid}/ns/net"}
    return _with_networks({**_AT_REST, **own}, documents)


def shown(network: Json) -> Json:
    """NetworkSettings with every field that Docker has, also of a container that does not run."""
    documents = {
        name: {**endpoint_document({}), **(one or {})} for name, one in (network.get("Networks") or {}).items()
    }
    for document in documents.values():
        document.pop(DESIRED, None)
    return _with_networks({**_AT_REST, **network}, documents)


def _with_networks(settings: Json, documents: Json) -> Json:
    """Settings with other Networks; the fields from before there were several are the default bridge's."""
    first = documents.get("bridge") or endpoint_document({})
    return {**settings, **{field: first[field] for field in _LEGACY if field in first}, "Networks": documents}
