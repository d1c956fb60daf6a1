"""Networks: bridges that containers share, apart from each other. Names and meanings are docker-py's.

    bridge   labctr0, where a container is that asks for nothing; no names are known on it, as in Docker
    host     the host's own network
    none     none
    others   made by users: a bridge each, where containers find each other by name

A name server of ours resolves the names (runtime/dns): one process for all containers of the data root, as Docker
has one in its daemon. It comes with the first container on a network of users and goes with the last.
"""

from __future__ import annotations

import builtins
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pylab_container.errors import Conflict, Forbidden, InvalidInput, LabError, NotFound
from pylab_container.events import NetworkAction
from pylab_container.maintenance.failures import explaining
from pylab_container.networks import endpoints, orphans
from pylab_container.networks.bridge_options import DEFAULT_BRIDGE, bridge_options, check_options
from pylab_container.oci.ids import NetworkId
from pylab_container.oci.image import Json

if TYPE_CHECKING:
    from pylab_container.docker.filters import Filters
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container
    from pylab_container.maintenance.pruning import Pruned
    from pylab_container.runtime.network import Bridge

PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}
"""The networks that are always there, and their drivers."""


_FREE_SUBNET = "FreeSubnet"
"""The field of a record that says that nobody chose the subnet; inspect does not show it."""


class Network:
    """One network of one engine. Its document is what was read when it was asked for; attrs is true now."""

    def __init__(self, engine: Engine, document: Json) -> None:
        self._engine = engine
        self.document = document
        self.id: str = document["Id"]
        self.name: str = document["Name"]

    @property
    def short_id(self) -> str:
        """The twelve digits that listings show."""
        return self.id[:12]

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
        """Whether somebody chose its subnet; of networks that were made before this was noted down, it is assumed."""
        return not self.document.get(_FREE_SUBNET)

    @property
    def internal(self) -> bool:
        """Whether nothing leaves it."""
        return bool(self.document["Internal"])

    @property
    def attrs(self) -> Json:
        """What `docker network inspect` shows, with the containers that are on it now."""
        document = {**self.document, "Containers": endpoints.containers_document(self._engine, self)}
        document.pop(_FREE_SUBNET, None)
        if self.name == "bridge" and (subnet := self.bridge.subnet()):
            gateway = subnet.rpartition("/")[0].rpartition(".")[0] + ".1"
            document["IPAM"] = {**document["IPAM"], "Config": [{"Subnet": subnet, "Gateway": gateway}]}
        return document

    @property
    def containers(self) -> builtins.list[Container]:
        """The running containers that are on it."""
        from pylab_container.engine.container import Container

        return [Container(self._engine, container_id) for container_id in self.attrs["Containers"]]

    @cached_property
    def bridge(self) -> Bridge:
        """Its bridge on the host. Only networks of the driver bridge have one."""
        if self.name == "bridge":
            return self._engine.runtime.bridge
        return open_bridge(self._engine, self.document)

    def connect(
        self,
        container: Container | str,
        *,
        aliases: Sequence[str] = (),
        links: Mapping[str, str] | Sequence[str] = (),
        ipv4_address: str = "",
        ipv6_address: str = "",
        link_local_ips: Sequence[str] = (),
        driver_opt: Mapping[str, str] | None = None,
        mac_address: str = "",
    ) -> None:
        """Put a container on it, a running one at once, another one from its next start on.

        aliases         names that the other containers know it by, besides its own
        links           {name: alias}, or "name:alias": names that it alone knows the others by
        ipv4_address    "" takes a free one
        link_local_ips  169.254.x.y and fe80::… that its interface has, too
        driver_opt      recorded: Docker's bridge driver knows none

        Raises Conflict, InvalidInput.
        """
        wishes = endpoints.wishes(
            aliases=aliases,
            links=links,
            ipv4_address=ipv4_address,
            ipv6_address=ipv6_address,
            link_local_ips=link_local_ips,
            driver_opt=driver_opt,
            mac_address=mac_address,
        )
        self.connect_as(container, wishes)

    def connect_as(self, container: Container | str, wishes: Json) -> None:
        """The same with an endpoint's document, as endpoints.wishes() makes it."""
        found = self._container(container)
        endpoints.connect(self._engine, self, found, wishes)
        self._tell("connect", found.id)

    def disconnect(self, container: Container | str, *, force: bool = False) -> None:
        """Take a container off it. force: no error where it is not on it. Raises Conflict."""
        found = self._container(container)
        endpoints.disconnect(self._engine, self, found, force=force)
        self._tell("disconnect", found.id)

    def remove(self) -> None:
        """Remove it, its bridge and its rules. Raises Forbidden while a container is on it, and for a built-in one."""
        if self.is_predefined:
            raise Forbidden(
                f"{self.name} is a pre-defined network and cannot be removed",
                hint="only those of users can: network ls",
            )
        store = self._engine.data.networks
        with store.lock():
            if members := endpoints.containers_document(self._engine, self):
                names = ", ".join(str(member["Name"]) for member in members.values())
                raise Forbidden(
                    f"error while removing network: network {self.name} id {self.id} has active endpoints",
                    hint=f"stop or disconnect first: {names}",
                )
            # A bridge without a record would be nobody's; a record without a bridge gets one with its next container.
            self.bridge.remove()
            store.remove(self.id)
            self.bridge.remove_lock()
        self._tell("destroy")

    def _container(self, container: Container | str) -> Container:
        return self._engine.containers.get(container) if isinstance(container, str) else container

    def _tell(self, action: str, container_id: str = "") -> None:
        self._engine.events.emit(NetworkAction(action, self.id, self.name, self.driver, container_id))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Network: {self.short_id}>"


class NetworkCollection:
    """All networks of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(
        self,
        name: str,
        driver: str = "bridge",
        *,
        subnet: str | Sequence[str] = (),
        gateway: str | Sequence[str] = (),
        ip_range: str | Sequence[str] = (),
        aux_addresses: Mapping[str, str] | None = None,
        ipam: Mapping[str, Any] | None = None,
        check_duplicate: bool = True,
        internal: bool = False,
        attachable: bool = False,
        enable_ipv6: bool = False,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Network:
        """Make a network, with its bridge on the host.

        subnet, gateway, ip_range  one of each, or with enable_ipv6 an IPv6 one more; by default the first
                                   subnet of Docker's list that neither the host nor a network uses
        aux_addresses              {name: address}: kept free for somebody else
        ipam                       the same as docker-py's IPAMConfig
        check_duplicate            False: a second network may have this name, and is found by its id
        options                    as in networks/bridge_options.py; others are recorded

        Raises InvalidInput, Conflict for a name or a subnet that is in use.
        """
        _check(name, driver, options or {})
        orphans.clear()
        pools = _pools(subnet, gateway, ip_range, aux_addresses or {}, ipam or {})
        with self._engine.data.networks.lock():
            existing = self._documents()
            if check_duplicate and any(other["Name"] == name for other in existing):
                raise Conflict(f"network with name {name} already exists", hint="labctr network ls")
            document = _document(secrets.token_hex(32), name, "bridge", self._engine.data.now())
            chosen = bridge_options(options or {}).name
            _refuse_bridge(chosen, document["Id"], existing)
            document |= {"EnableIPv6": enable_ipv6, "Internal": internal, "Attachable": attachable}
            document |= {"Options": dict(options or {}), "Labels": dict(labels or {})}
            document["IPAM"]["Options"] = {} if ipam is None else ipam.get("Options")
            document["IPAM"]["Config"] = _choose_pools(pools, existing, enable_ipv6=enable_ipv6, bridge=chosen)
            if not any(pool.get("Subnet") for pool in pools):
                document[_FREE_SUBNET] = True
            bridge = open_bridge(self._engine, document)
            bridge.refuse_foreign()
            self._engine.data.networks.save(document)  # first: a bridge in the kernel has its record always
            try:
                with explaining(self._engine.data.path):
                    bridge.ensure()
            except BaseException:
                bridge.remove()
                self._engine.data.networks.remove(document["Id"])
                bridge.remove_lock()
                raise
        network = Network(self._engine, document)
        network._tell("create")
        return network

    def get(self, name: str) -> Network:
        """The network with this name, id or beginning of an id. Raises NotFound; InvalidInput where two have it."""
        documents = self._documents()
        found = [one for one in documents if name == one["Id"]] or [one for one in documents if name == one["Name"]]
        if len(found) > 1:
            raise InvalidInput(f"network {name} is ambiguous ({len(found)} matches found on name)", hint="give its id")
        found = found or [one for one in documents if name and one["Id"].startswith(name)]
        if not found:
            raise self._not_found(name)
        if len(found) > 1:
            raise InvalidInput(f'"{name}" is the beginning of {len(found)} network ids', hint="write more digits")
        return Network(self._engine, found[0])

    def _not_found(self, name: str) -> LabError:
        """The error for a name that no readable network has: a damaged one may have it."""
        damaged = self._engine.data.networks.damaged()
        for network_id, error in damaged.items():
            if (name and network_id.startswith(name)) or self._engine.data.networks.mentions(network_id, name):
                return error
        hint = "; labctr system fsck says which of them are damaged" if damaged else ""
        return NotFound(f"network {name} not found", hint=f"labctr network ls lists what there is{hint}")

    def list(self, filters: Filters | None = None) -> builtins.list[Network]:
        """All networks, by name. A damaged one is left out and reported (StoreDamaged).

        filters  name and id (a part of it), driver, scope, type ("custom" or "builtin"), label ("name" or
                 "name=value"), dangling ("true": no container is on it)

        Raises InvalidInput for a filter that there is not.
        """
        found = [Network(self._engine, one) for one in sorted(self._documents(), key=lambda one: str(one["Name"]))]
        return [network for network in found if _matches(network, filters or {})]

    def prune(self, filters: Filters | None = None) -> Pruned:
        """Remove the users' networks that no container is on.

        filters  until ("24h", or a moment), label, label! ("name" or "name=value")

        Raises InvalidInput for a filter that there is not.
        """
        from pylab_container.maintenance import pruning

        return pruning.prune_networks(self._engine, filters or {})

    def down(self) -> None:
        """Take all bridges and rules off the host, while no container uses them; the next one brings them back.

        What engines left whose data root is gone goes, too. Raises InUse.
        """
        orphans.clear()
        with self._engine.data.networks.lock():
            for network in self.list():
                if network.driver == "bridge":
                    network.bridge.remove()

    def plain_document(self, network_id: NetworkId, name: str) -> Json:
        """The record of a network of which nothing is known: it has a subnet that no other one has."""
        document = _document(network_id, name, "bridge", self._engine.data.now())
        document["IPAM"]["Config"] = _choose_pools([], self._documents(), enable_ipv6=False)
        return document | {_FREE_SUBNET: True}

    def _documents(self) -> builtins.list[Json]:
        created = self._engine.data.networks.all()
        return [*(_predefined(self._engine, name) for name in PREDEFINED), *created]


def _matches(network: Network, filters: Filters) -> bool:
    """Several values of one filter are alternatives, except labels; several filters must all hold."""
    from pylab_container.docker.filters import check_network_filters, has_labels, text_test, values

    check_network_filters(filters)
    kind = "builtin" if network.is_predefined else "custom"
    tests = {
        "name": lambda wanted: text_test(wanted)(network.name),
        "id": lambda wanted: text_test(wanted)(network.id),
        "driver": lambda wanted: network.driver in wanted,
        "scope": lambda wanted: "local" in wanted,
        "type": lambda wanted: kind in wanted,
        "label": lambda wanted: has_labels(network.document["Labels"], wanted),
        "dangling": lambda wanted: _is_dangling(network) == (wanted[0] in ("true", "1")),
    }
    return all(tests[name](values(filters, name)) for name in filters)


def _is_dangling(network: Network) -> bool:
    return not network.is_predefined and not network.attrs["Containers"]


def open_bridge(engine: Engine, document: Json) -> Bridge:
    """The bridge of a user's network, which may be in the kernel or not."""
    from pylab_container.runtime import RUN_ROOT
    from pylab_container.runtime.network import Bridge

    pools: builtins.list[Json] = document["IPAM"]["Config"]
    four = next((pool for pool in pools if ":" not in pool["Subnet"]), {})
    six = next((pool for pool in pools if ":" in pool["Subnet"]), {}) if document["EnableIPv6"] else {}
    options = bridge_options(document["Options"])
    return Bridge(
        options.name or _generated_name(document),
        has_own_name=not options.name,
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
        owner=orphans.owner(engine, document["Id"]),
        emit=engine.data.emit,
    )


def _generated_name(document: Json) -> str:
    return f"labctr{document['Id'][:9]}"


def _refuse_bridge(name: str, network_id: str, existing: Sequence[Json]) -> None:
    """Raise InvalidInput for a bridge name that cannot be, Forbidden for the bridge of another network."""
    from pylab_container.runtime.network import check_bridge_name

    if not name:
        return
    check_bridge_name(name)
    for other in existing:
        if other["Driver"] == "bridge" and name == (bridge_options(other["Options"]).name or _generated_name(other)):
            raise Forbidden(
                f"cannot create network {network_id} ({name}): conflicts with network {other['Id']} ({name}): networks "
                "have same bridge name",
                hint="choose another bridge, or connect containers to that network",
            )


def _predefined(engine: Engine, name: str) -> Json:
    """A network that is always there. Its id is made of the data root, so that it need not be kept."""
    network_id = hashlib.sha256(f"{name} {engine.data.path}".encode()).hexdigest()
    created = engine.data.path.stat().st_ctime_ns
    from pylab_container.text.timestamps import rfc3339

    document = _document(network_id, name, PREDEFINED[name], rfc3339(created))
    if name == "bridge":
        document["Options"] = dict(DEFAULT_BRIDGE)
    return document


def _document(network_id: str, name: str, driver: str, created: str) -> Json:
    """Docker's Network object (Engine API 1.41, NetworkInspect)."""
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


def _check(name: str, driver: str, options: Mapping[str, str]) -> None:
    if name in (*PREDEFINED, "default"):
        raise Forbidden(f"operation is not permitted on predefined {name} network", hint="choose another name")
    if not name.strip() or not name.isprintable():
        raise InvalidInput(f"invalid name: {name}", hint="choose a name that can be seen")
    if driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed', hint="use --driver bridge")
    if driver != "bridge":
        raise NotFound(f'plugin "{driver}" not found', hint="there is one driver for networks of users: bridge")
    check_options(options)


def _pools(
    subnet: str | Sequence[str],
    gateway: str | Sequence[str],
    ip_range: str | Sequence[str],
    aux_addresses: Mapping[str, str],
    ipam: Mapping[str, Any],
) -> builtins.list[Json]:
    """The IPAM configuration asked for: each gateway and each range with the subnet that it is in."""
    if ipam.get("Driver") not in (None, "", "default"):
        raise NotFound(f'plugin "{ipam["Driver"]}" not found', hint="there is one IPAM driver: default")
    pools: builtins.list[Json] = [
        {str(key): value for key, value in pool.items() if value} for pool in ipam.get("Config") or ()
    ]
    for pool in pools:
        if unknown := set(pool) - set(_POOL):
            raise InvalidInput(f"unknown IPAM setting {sorted(unknown)[0]}", hint=f"there are {', '.join(_POOL)}")
    pools += [{"Subnet": one} for one in _several(subnet)]
    for what, texts in (("Gateway", _several(gateway)), ("IPRange", _several(ip_range))):
        for text in texts:
            pool = _fitting(pools, what.lower(), text)
            if what in pool:
                raise InvalidInput(f"no matching subnet for {what.lower()} {text}", hint="give --subnet, too")
            pool[what] = text
    for name, address in aux_addresses.items():
        _fitting(pools, "aux-address", address).setdefault("AuxiliaryAddresses", {})[name] = address
    return pools


_POOL = ("Subnet", "Gateway", "IPRange", "AuxiliaryAddresses")


def _fitting(pools: Sequence[Json], what: str, text: str) -> Json:
    """The subnet of an address's family. Raises InvalidInput where there is none."""
    for pool in pools:
        if "Subnet" in pool and (":" in pool["Subnet"]) == (":" in text):
            return pool
    raise InvalidInput(f"no matching subnet for {what} {text}", hint="give --subnet, too")


def _several(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def _choose_pools(
    pools: Sequence[Mapping[str, Any]], existing: Sequence[Json], *, enable_ipv6: bool, bridge: str = ""
) -> builtins.list[Json]:
    """The pools of a new network, each with its gateway; an IPv4 subnet is chosen where none is given."""
    from pylab_container.runtime.network import plan_pools

    used = [pool["Subnet"] for other in existing for pool in other["IPAM"]["Config"]]
    return plan_pools(pools, used, enable_ipv6=enable_ipv6, bridge=bridge)
