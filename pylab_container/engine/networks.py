"""Networks: bridges that containers share, apart from each other. Names and meanings are docker-py's.

    bridge   labctr0, where a container is that asks for nothing; no names are known on it, as in Docker
    host     the host's own network
    none     none
    others   made by users: a bridge each, where containers find each other by name

Names are resolved by the containers' own /etc/hosts, which are rewritten for all members of a network
whenever one comes or goes. Docker runs a name server in its daemon; we have no daemon, and a server
per network would be one more process that can be killed. A file cannot: what a crash leaves in it is
a name of an address where nobody answers, and the next change of the network takes it away, since
the members are read from the kernel each time. The price: programs that ask a name server
themselves (dig, nslookup) see nothing of it.
"""

from __future__ import annotations

import builtins
import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pylab_container.engine import endpoints
from pylab_container.errors import Conflict, InUse, InvalidInput, NotFound
from pylab_container.formats.events import NetworkAction
from pylab_container.formats.image import Json

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container
    from pylab_container.engine.pruning import Filters, Pruned
    from pylab_container.runtime.network import Bridge

PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}
"""The networks that are always there, and their drivers."""

BRIDGE_NAME = "com.docker.network.bridge.name"
MTU = "com.docker.network.driver.mtu"
_OPTIONS = (BRIDGE_NAME, MTU)
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


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
    def internal(self) -> bool:
        """Whether nothing leaves it."""
        return bool(self.document["Internal"])

    @property
    def attrs(self) -> Json:
        """What `docker network inspect` shows, with the containers that are on it now."""
        document = {**self.document, "Containers": endpoints.containers_document(self._engine, self)}
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
            return self._engine.bridge
        return open_bridge(self._engine, self.document)

    def connect(
        self,
        container: Container | str,
        *,
        aliases: Sequence[str] = (),
        ipv4_address: str = "",
        ipv6_address: str = "",
    ) -> None:
        """Put a container on it, a running one at once, another one from its next start on.

        aliases       names that the other containers know it by, besides its own
        ipv4_address  "" takes a free one

        Raises Conflict, InvalidInput.
        """
        wishes = endpoints.wishes(aliases=aliases, ipv4_address=ipv4_address, ipv6_address=ipv6_address)
        found = self._container(container)
        endpoints.connect(self._engine, self, found, wishes)
        self._tell("connect", found.id)

    def disconnect(self, container: Container | str, *, force: bool = False) -> None:
        """Take a container off it. force: no error where it is not on it. Raises Conflict."""
        found = self._container(container)
        endpoints.disconnect(self._engine, self, found, force=force)
        self._tell("disconnect", found.id)

    def remove(self) -> None:
        """Remove it, its bridge and its rules. Raises InUse while a container is on it, Conflict for a built-in one."""
        if self.is_predefined:
            raise Conflict(f"{self.name} is a pre-defined network and cannot be removed")
        store = self._engine.network_store
        with store.lock():
            if members := endpoints.containers_document(self._engine, self):
                names = ", ".join(str(member["Name"]) for member in members.values())
                raise InUse(
                    f"error while removing network: network {self.name} id {self.id} has active endpoints",
                    hint=f"stop or disconnect first: {names}",
                )
            self.bridge.remove()
            store.remove(self.id)
            self.bridge.forget()
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
        ipam: Mapping[str, Any] | None = None,
        internal: bool = False,
        attachable: bool = False,
        enable_ipv6: bool = False,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Network:
        """Make a network, with its bridge on the host.

        subnet, gateway, ip_range  one of each, or with enable_ipv6 an IPv6 one more; by default the first
                                   subnet of Docker's list that neither the host nor a network uses
        ipam                       the same as docker-py's IPAMConfig
        options                    com.docker.network.bridge.name and com.docker.network.driver.mtu

        Raises InvalidInput, Conflict for a name or a subnet that is in use.
        """
        _check(name, driver, options or {})
        pools = _pools(subnet, gateway, ip_range, ipam or {})
        with self._engine.network_store.lock():
            existing = self._documents()
            if any(other["Name"] == name for other in existing):
                raise Conflict(f"network with name {name} already exists", hint="labctr network ls")
            document = _document(secrets.token_hex(32), name, "bridge", self._engine.now())
            document |= {"EnableIPv6": enable_ipv6, "Internal": internal, "Attachable": attachable}
            document |= {"Options": dict(options or {}), "Labels": dict(labels or {})}
            document["IPAM"]["Config"] = _choose_pools(pools, existing, enable_ipv6=enable_ipv6)
            bridge = open_bridge(self._engine, document)
            try:
                bridge.ensure()
                self._engine.network_store.save(document)
            except BaseException:
                bridge.remove()
                bridge.forget()
                raise
        network = Network(self._engine, document)
        network._tell("create")
        return network

    def get(self, name: str) -> Network:
        """The network with this name, id or beginning of an id. Raises NotFound."""
        documents = self._documents()
        found = [one for one in documents if name == one["Name"]] or [one for one in documents if name == one["Id"]]
        found = found or [one for one in documents if name and one["Id"].startswith(name)]
        if not found:
            raise NotFound(f"network {name} not found", hint="labctr network ls lists what there is")
        if len(found) > 1:
            raise InvalidInput(f'"{name}" is the beginning of {len(found)} network ids', hint="write more digits")
        return Network(self._engine, found[0])

    def list(self, filters: Filters | None = None) -> builtins.list[Network]:
        """All networks, by name.

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
        from pylab_container.engine import pruning

        return pruning.prune_networks(self._engine, filters or {})

    def down(self) -> None:
        """Take all bridges and rules off the host, while no container uses them; the next one brings them back."""
        with self._engine.network_store.lock():
            for network in self.list():
                if network.driver == "bridge":
                    network.bridge.remove()

    def _documents(self) -> builtins.list[Json]:
        created = self._engine.network_store.all()
        return [*(_predefined(self._engine, name) for name in PREDEFINED), *created]


def _matches(network: Network, filters: Filters) -> bool:
    """Several values of one filter are alternatives, except labels; several filters must all hold."""
    from pylab_container.engine.filters import has_labels, matches_text, refuse_unknown, values

    refuse_unknown(filters, ("name", "id", "driver", "scope", "type", "label", "dangling"))
    kind = "builtin" if network.is_predefined else "custom"
    tests = {
        "name": lambda wanted: matches_text(network.name, wanted),
        "id": lambda wanted: matches_text(network.id, wanted),
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
    from pylab_container.engine import RUN_ROOT
    from pylab_container.runtime.network import Bridge

    pools: builtins.list[dict[str, str]] = document["IPAM"]["Config"]
    four = next((pool for pool in pools if ":" not in pool["Subnet"]), {})
    six = next((pool for pool in pools if ":" in pool["Subnet"]), {})
    mtu = document["Options"].get(MTU)
    return Bridge(
        document["Options"].get(BRIDGE_NAME) or f"labctr{document['Id'][:9]}",
        run_root=RUN_ROOT,
        subnet=four.get("Subnet"),
        gateway=four.get("Gateway", ""),
        ip_range=four.get("IPRange", ""),
        subnet6=six.get("Subnet", "") if document["EnableIPv6"] else "",
        gateway6=six.get("Gateway", "") if document["EnableIPv6"] else "",
        internal=document["Internal"],
        mtu=int(mtu) if mtu else None,
        emit=engine.events.emit,
    )


def _predefined(engine: Engine, name: str) -> Json:
    """A network that is always there. Its id is made of the data root, so that it need not be kept."""
    network_id = hashlib.sha256(f"{name} {engine.data_root}".encode()).hexdigest()
    created = engine.data_root.stat().st_ctime_ns
    from pylab_container.formats.timestamps import rfc3339

    document = _document(network_id, name, PREDEFINED[name], rfc3339(created))
    if name == "bridge":
        document["Options"] = {BRIDGE_NAME: "labctr0"}
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
        "IPAM": {"Driver": "default", "Options": {}, "Config": []},
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
    if name in PREDEFINED:
        raise Conflict(f"operation is not permitted on predefined {name} network", hint="choose another name")
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"invalid network name {name!r}", hint="use letters, digits, _ . and -")
    if driver in ("host", "null"):
        raise Conflict(f'only one instance of "{driver}" network is allowed', hint="use --driver bridge")
    if driver != "bridge":
        raise InvalidInput(f"could not find plugin {driver} in v1 plugin registry: plugin not found", hint="use bridge")
    for option in options:
        if option not in _OPTIONS:
            raise InvalidInput(f"unknown network option {option}", hint=f"there are {', '.join(_OPTIONS)}")
    if (mtu := options.get(MTU)) and not (mtu.isascii() and mtu.isdigit() and 68 <= int(mtu) <= 65535):
        raise InvalidInput(f"{mtu!r} is not an MTU", hint="it is a number of bytes from 68 to 65535")


def _pools(
    subnet: str | Sequence[str], gateway: str | Sequence[str], ip_range: str | Sequence[str], ipam: Mapping[str, Any]
) -> builtins.list[dict[str, str]]:
    """The IPAM configuration asked for: each gateway and each range with the subnet that it is in."""
    if ipam.get("Driver") not in (None, "", "default"):
        raise InvalidInput(f"unknown IPAM driver {ipam['Driver']}", hint="there is default")
    pools = [{str(key): str(value) for key, value in pool.items() if value} for pool in ipam.get("Config") or ()]
    for pool in pools:
        if unknown := set(pool) - {"Subnet", "Gateway", "IPRange"}:
            raise InvalidInput(f"unknown IPAM setting {sorted(unknown)[0]}", hint="there are Subnet, Gateway, IPRange")
    pools += [{"Subnet": one} for one in _several(subnet)]
    for what, texts in (("Gateway", _several(gateway)), ("IPRange", _several(ip_range))):
        for text in texts:
            fitting = [pool for pool in pools if "Subnet" in pool and (":" in pool["Subnet"]) == (":" in text)]
            if not fitting or what in fitting[0]:
                raise InvalidInput(f"no matching subnet for {what.lower()} {text}", hint="give --subnet, too")
            fitting[0][what] = text
    return pools


def _several(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def _choose_pools(
    pools: Sequence[Mapping[str, str]], existing: Sequence[Json], *, enable_ipv6: bool
) -> builtins.list[dict[str, str]]:
    """The pools of a new network, each with its gateway; an IPv4 subnet is chosen where none is given."""
    from pylab_container.runtime.network import plan_pools

    used = [pool["Subnet"] for other in existing for pool in other["IPAM"]["Config"]]
    return plan_pools(pools, used, enable_ipv6=enable_ipv6)
