"""Links on the default bridge (`--link`), which knows no names otherwise.

A container that is linked to another one has a name for it in its /etc/hosts, and variables about it. What is
written down, in HostConfig.Links, is "<id of the other one>:<alias>", so that both may be renamed; who is linked
is read from the records each time, and one that is gone takes its links along. On a network of users, where
everybody has a name, links are those of an endpoint (endpoints.py): no variables, and the other one need not be
there yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pylab_container.errors import Conflict, ContainerNotFound, InvalidInput, RuntimeFailed
from pylab_container.host.files import rewrite
from pylab_container.networks.link_variables import link_environment, parse_link
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import ALIVE
from pylab_container.runtime.etc import with_address_of

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.store.container_store import ContainerRecord


def resolve(engine: Engine, texts: Sequence[str]) -> list[str]:
    """HostConfig.Links as they are written down, out of "NAME[:ALIAS]". Raises InvalidInput."""
    resolved: dict[str, str] = {}
    for name, alias in map(parse_link, texts):
        other = _named(engine, name)
        if str(other.host_config.get("NetworkMode")) == "host":
            raise InvalidInput(
                "conflicting options: host type networking can't be used with links. This would result in undefined "
                "behavior",
                hint=f"{name} has the network of the host: reach it there",
            )
        resolved.setdefault(alias, f"{other.id}:{alias}")  # as in Docker, a second one of that name is ignored
    return list(resolved.values())


def _named(engine: Engine, name: str) -> ContainerRecord:
    """The container that a link means: with another one's network, that one. Raises InvalidInput."""
    try:
        record = engine.containers.get(name).record
        while (mode := str(record.host_config.get("NetworkMode") or "")).startswith("container:"):
            name = mode.removeprefix("container:")
            record = engine.containers.get(name).record
    except ContainerNotFound as error:
        raise InvalidInput(f"could not get container for {name}: {error.message}", hint=error.hint) from None
    return record


def linked(engine: Engine, record: ContainerRecord) -> Iterator[tuple[str, ContainerRecord]]:
    """(alias, container) of those that a container is linked to, as far as they are there."""
    for text in record.host_config.get("Links") or ():
        container_id, _, alias = text.partition(":")
        if other := engine.data.records.load(container_id):
            yield alias, other


def shown(engine: Engine, record: ContainerRecord) -> list[str] | None:
    """HostConfig.Links as inspect shows them: "/name:/container/alias"."""
    return [f"/{other.name}:/{record.name}/{alias}" for alias, other in linked(engine, record)] or None


def names(records: Iterable[ContainerRecord]) -> Mapping[str, list[str]]:
    """What containers are called by those that are linked to them: {id: ["/container/alias"]}."""
    found: dict[str, list[str]] = {}
    for record in records:
        for text in record.host_config.get("Links") or ():
            container_id, _, alias = text.partition(":")
            found.setdefault(container_id, []).append(f"/{record.name}/{alias}")
    return found


def remove(engine: Engine, name: str) -> None:
    """Take the link "container/alias" away. Raises Conflict, ContainerNotFound where there is no such."""
    parent, slash, alias = name.removeprefix("/").rpartition("/")
    if not slash:
        engine.containers.get(name)
        raise Conflict("Conflict, cannot remove the default link name of the container", hint="write CONTAINER/ALIAS")
    container = engine.containers.get(parent)
    with engine.data.records.lock(container.id):
        record = container.record
        own = dict(linked(engine, record))
        if alias not in own:
            raise ContainerNotFound(f"No such container: {name}", hint=f"labctr inspect {parent} shows its links")
        kept = [text for text in record.host_config["Links"] if text.partition(":")[2] != alias]
        engine.data.records.update(record, host_config={**record.host_config, "Links": kept or None})
        _update_hosts(engine, record, alias, "")


# ---- what a container sees of them -----------------------------------------------------------


def environment(engine: Engine, record: ContainerRecord) -> list[str]:
    """Variables about those that it is linked to. Raises RuntimeFailed where one of them does not run."""
    variables: list[str] = []
    for alias, other, endpoint in _reachable(engine, record):
        variables += link_environment(
            f"/{record.name}/{alias}",
            str(endpoint["IPAddress"]),
            environment=other.config.get("Env") or (),
            exposed=other.config.get("ExposedPorts") or (),
        )
    return variables


def host_lines(engine: Engine, record: ContainerRecord) -> list[tuple[str, str]]:
    """(names, address) for its hosts file."""
    lines = []
    for alias, other, endpoint in _reachable(engine, record):
        called = [alias, str(other.config.get("Hostname") or other.short_id), other.name]
        words = " ".join(called[:2] if alias == other.name else called)
        addresses = (endpoint["IPAddress"], endpoint.get("GlobalIPv6Address"))
        lines += [(words, str(address)) for address in addresses if address]
    return lines


def _reachable(engine: Engine, record: ContainerRecord) -> Iterator[tuple[str, ContainerRecord, Mapping[str, Any]]]:
    """(alias, container, its endpoint on the default bridge) of those that it is linked to."""
    if not record.host_config.get("Links") or not _is_on_bridge(record):
        return
    from pylab_container.containers import lifetime

    for alias, known in linked(engine, record):
        with contextlib.suppress(ContainerNotFound):  # it has just gone
            other = lifetime.settled(engine, known)
            name = f"/{record.name}/{alias}"
            if other.state not in ALIVE:
                raise RuntimeFailed(
                    f"Cannot link to a non running container: /{other.name} AS {name}",
                    hint=f"labctr start {other.name}",
                )
            endpoint: Json = (other.network.get("Networks") or {}).get("bridge") or {}
            if not endpoint.get("IPAddress"):
                raise RuntimeFailed(
                    f"Cannot link to /{other.name}, as it does not belong to the default network",
                    hint="put both on a network of your own",
                )
            yield alias, other, endpoint


def _is_on_bridge(record: ContainerRecord) -> bool:
    return "bridge" in (record.network.get("Networks") or {"bridge": {}})


def tell_parents(engine: Engine, record: ContainerRecord, address: str) -> None:
    """A container is on the default bridge, with this address: those that are linked to it learn that."""
    for other in engine.data.records.all():
        if other.state in ALIVE and other.host_config.get("Links"):
            for alias, one in linked(engine, other):
                if one.id == record.id:
                    _update_hosts(engine, other, alias, address)


def _update_hosts(engine: Engine, record: ContainerRecord, alias: str, address: str) -> None:
    """Give a name another address in a container's hosts file, "" none any more."""
    with engine.data.networks.lock_hosts(), contextlib.suppress(FileNotFoundError):
        path = engine.data.records.directory(record.id) / "hosts"
        rewrite(path, with_address_of(path.read_text(errors="replace"), alias, address))
