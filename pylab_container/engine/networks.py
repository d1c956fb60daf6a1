"""Networks, as a caller sees them: names and meanings are docker-py's.

The work is done in networks/.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pylab_container.containers.lookup import find
from pylab_container.engine.container import Container
from pylab_container.engine.explaining import explaining
from pylab_container.engine.parts import Parts
from pylab_container.networks.lookup import find_network
from pylab_container.networks.network_record import NetworkRecord
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.image import Json
from pylab_container.oci.network_settings import EndpointSettings

if TYPE_CHECKING:
    from pylab_container.docker.filters import Filters
    from pylab_container.maintenance.pruning import Pruned
    from pylab_container.runtime.network import Bridge


class Network:
    """One network of one engine. document is a snapshot of its record; attrs is read on each access."""

    def __init__(self, parts: Parts, record: NetworkRecord) -> None:
        self._parts, self._data, self._runtime = parts, parts.data, parts.runtime
        self._record = record
        self.document = record.document
        self.id = record.id
        self.name = record.name

    @property
    def short_id(self) -> str:
        """The twelve digits that listings show."""
        return self.id[:12]

    @property
    def driver(self) -> str:
        """bridge, host or null."""
        return self._record.driver

    @property
    def is_predefined(self) -> bool:
        """Whether it is one of bridge, host and none."""
        return self._record.is_predefined

    @property
    def internal(self) -> bool:
        """Whether it has no route to other networks."""
        return self._record.internal

    @property
    def attrs(self) -> Json:
        """Docker's Network object with the containers connected now, as `docker network inspect` shows it."""
        from pylab_container.networks import bridges

        return bridges.network_attributes(self._data, self._runtime, self._record)

    @property
    def containers(self) -> builtins.list[Container]:
        """The running containers that are connected to it."""
        return [Container(self._parts, ContainerId(container_id)) for container_id in self.attrs["Containers"]]

    @cached_property
    def bridge(self) -> Bridge:
        """Its bridge on the host. Only networks with the driver bridge have one."""
        from pylab_container.networks import bridges

        return bridges.open_bridge(self._data, self._runtime, self._record)

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
        """Connect a container to it: a running one at once, another one at its next start.

        aliases         further names under which the other containers of the network find it
        links           {name: alias}, or "name:alias": names under which only this container finds other containers
        ipv4_address    default: the lowest free address
        link_local_ips  further addresses of its interface: 169.254.x.y and fe80::…
        driver_opt      recorded, without effect: Docker's bridge driver has no options of an endpoint

        Raises Conflict, InvalidInput.
        """
        from pylab_container.networks.endpoint_documents import endpoint_request

        request = endpoint_request(
            aliases=aliases,
            links=links,
            ipv4_address=ipv4_address,
            ipv6_address=ipv6_address,
            link_local_ips=link_local_ips,
            driver_opt=driver_opt,
            mac_address=mac_address,
        )
        self.connect_as(container, request)

    def connect_as(self, container: Container | str, request: EndpointSettings) -> None:
        """As connect(), with an endpoint request (networks/endpoint_documents.py)."""
        from pylab_container.containers import network_changes

        parts = self._data, self._runtime, self._record
        network_changes.connect(*parts, self._container_id(container), request)

    def disconnect(self, container: Container | str, *, force: bool = False) -> None:
        """Disconnect a container from it. force: no error if it is not connected. Raises Conflict."""
        from pylab_container.containers import network_changes

        parts = self._data, self._runtime, self._record
        network_changes.disconnect(*parts, self._container_id(container), force=force)

    def _container_id(self, container: Container | str) -> ContainerId:
        return (find(self._data.records, container) if isinstance(container, str) else container).id

    def remove(self) -> None:
        """Remove it, its bridge and its rules.

        Raises Forbidden while it has containers, and if it is predefined.
        """
        from pylab_container.networks import creation

        creation.remove(self._data, self._runtime, self._record)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Network: {self.short_id}>"


class NetworkCollection:
    """All networks of one engine."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._data, self._runtime = parts, parts.data, parts.runtime

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
        """Create a network, with its bridge on the host.

        subnet, gateway, ip_range  one for IPv4, and with enable_ipv6 another for IPv6; default: the first subnet of
                                   Docker's list that neither the host nor a network uses
        aux_addresses              {name: address}: addresses that no container gets
        ipam                       the same as docker-py's IPAMConfig
        check_duplicate            False: a second network may have this name; it can then only be named by its id
        options                    those of networks/bridge_options.py; others are recorded without effect

        Raises InvalidInput, Conflict for a name or a subnet that is in use.
        """
        from pylab_container.networks import creation

        request = creation.NetworkRequest(
            name=name,
            driver=driver,
            subnet=subnet,
            gateway=gateway,
            ip_range=ip_range,
            aux_addresses=aux_addresses,
            ipam=ipam,
            check_duplicate=check_duplicate,
            internal=internal,
            attachable=attachable,
            enable_ipv6=enable_ipv6,
            labels=labels,
            options=options,
        )
        with explaining(self._data.path):
            return Network(self._parts, creation.create(self._data, self._runtime, request))

    def get(self, name: str) -> Network:
        """Return the network with this name, id or prefix of an id.

        Raises NotFound; InvalidInput if two match.
        """
        return Network(self._parts, find_network(self._data, name))

    def list(self, filters: Filters | None = None) -> builtins.list[Network]:
        """Return all networks, by name. A damaged one is left out and reported (StoreDamaged).

        filters  name and id (a part of it), driver, scope, type ("custom" or "builtin"), label ("name" or
                 "name=value"), dangling ("true": no container is connected to it)

        Raises InvalidInput for an unknown filter.
        """
        from pylab_container.docker.network_filters import filtered_networks

        records = filtered_networks(self._data, self._runtime, filters or {})
        return [Network(self._parts, record) for record in records]

    def prune(self, filters: Filters | None = None) -> Pruned:
        """Remove the users' networks that no container is connected to.

        filters  until ("24h", or a moment), label, label! ("name" or "name=value")

        Raises InvalidInput for an unknown filter.
        """
        from pylab_container.maintenance import pruning

        return pruning.prune_networks(self._data, self._runtime, filters or {})

    def down(self) -> None:
        """Remove all bridges and rules from the host; the next container recreates them.

        Orphaned bridges of deleted data roots are removed too. Raises InUse while a container is connected to one.
        """
        from pylab_container.networks import creation

        creation.take_down(self._data, self._runtime)
