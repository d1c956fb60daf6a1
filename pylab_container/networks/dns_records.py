"""What containers are called on users' networks, and whom they ask: what the name server (runtime/dns) is told.

The default bridge knows no names: a container on that alone asks the host's servers itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pylab_container.errors import Conflict
from pylab_container.host.background import Background
from pylab_container.host.files import rewrite
from pylab_container.networks.link_variables import parse_link
from pylab_container.oci.host_config import HostConfig
from pylab_container.runtime import etc

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.runtime.dns.service import NameServer
    from pylab_container.runtime.dns.zone import NetworkMembership, UpstreamServer
    from pylab_container.store.container_store import ContainerRecord

_WITHOUT = ("bridge", "default", "host", "none")  # networks where nobody has a name


def is_served(record: ContainerRecord) -> bool:
    """Whether the container is on a network of users, or will be when it runs."""
    names = record.network.get("Networks") or [str(record.host_config.get("NetworkMode") or "bridge")]
    return any(name not in _WITHOUT and not name.startswith("container:") for name in names)


def resolv_conf(record: ContainerRecord) -> str:
    """The container's /etc/resolv.conf: its servers' names or ours, with the host's network all that the host has."""
    host = record.host_config
    text = _text("/etc/resolv.conf")
    if is_served(record):
        return etc.served_resolv_conf(_as_wished(text, host))
    if host.get("NetworkMode") != "host":
        text = etc.container_resolv_conf(text, fallback=_text("/run/systemd/resolve/resolv.conf"))
    return _as_wished(text, host)


def prepare(engine: Engine, record: ContainerRecord) -> None:
    """The name server comes up while the runtime makes the container."""
    if is_served(record):
        _server(engine).ensure()


def serve(engine: Engine, record: ContainerRecord) -> Background[None] | None:
    """Open the name server's sockets in a container that has a process, in the background: its result() waits for that.

    What it is called is to be told when it has its networks. Raises Conflict where the process is gone; result()
    raises RuntimeFailed.
    """
    if not is_served(record):
        return None
    server = _server(engine)
    _write(engine, replace(record, network={}))
    return Background(lambda: server.serve(record.id))


def begin(engine: Engine, record: ContainerRecord) -> None:
    """A running container is on one network more, and may have asked others until now. Raises as serve() does."""
    if is_served(record):
        rewrite(engine.data.records.directory(record.id) / "resolv.conf", resolv_conf(record))
        _write(engine, record)
        _server(engine).serve(record.id)


def tell(engine: Engine, record: ContainerRecord) -> None:
    """A container that is served has other networks or another name; it is served as long as it runs."""
    if _is_known(engine, record.id):
        with contextlib.suppress(Conflict):
            _write(engine, record)


def forget(engine: Engine, container_id: str) -> None:
    """A container is off its networks, or is none any more; who was to tell of it may have been killed at that."""
    if _directory(engine).exists():
        _server(engine).forget(container_id)


def keep(engine: Engine, record: ContainerRecord) -> None:
    """The name server of a running container runs: if it was killed, another one does."""
    if _is_known(engine, record.id):
        _server(engine).ensure()


def clear(engine: Engine) -> None:
    """Take away what a killed name server left, where no container needs it."""
    if (_directory(engine) / "lock").exists():
        _server(engine).clear()


def _directory(engine: Engine) -> Path:
    return engine.runtime.path / "names"


def _is_known(engine: Engine, container_id: str) -> bool:
    return (_directory(engine) / container_id).exists()


def _server(engine: Engine) -> NameServer:
    from pylab_container.runtime.dns.service import NameServer

    return NameServer(_directory(engine))


def _write(engine: Engine, record: ContainerRecord) -> None:
    from pylab_container.runtime.dns.zone import DnsClient

    try:
        namespace = os.stat(f"/proc/{record.pid}/ns/net").st_ino
    except OSError as error:
        raise Conflict(f"process {record.pid} is gone: the container has ended") from error
    text = _as_wished(_text("/etc/resolv.conf"), record.host_config)
    resident = DnsClient(
        pid=record.pid,
        namespace=namespace,
        memberships=_memberships(record),
        servers=_servers(engine, record, text),
        single_labels=etc.dots(text) == 0,
    )
    _server(engine).write(record.id, resident)


def _memberships(record: ContainerRecord) -> dict[str, NetworkMembership]:
    from pylab_container.runtime.dns.zone import NetworkMembership

    return {
        document["NetworkID"]: NetworkMembership(
            network=name,
            names=(record.name, *(document.get("Aliases") or ())),
            addresses=tuple(filter(None, (document["IPAddress"], document["GlobalIPv6Address"]))),
            links={alias.lower(): other for other, alias in map(parse_link, document.get("Links") or ())},
        )
        for name, document in (record.network.get("Networks") or {}).items()
        if name not in _WITHOUT and document.get("IPAddress")
    }


def _servers(engine: Engine, record: ContainerRecord, text: str) -> tuple[UpstreamServer, ...]:
    """Whom the name server asks: from internal networks, where nobody outside would answer, only who is on them."""
    from pylab_container.runtime.dns.zone import UpstreamServer

    own = bool(record.host_config.get("Dns"))
    found = [UpstreamServer(one, on_host=not own and etc.is_loopback(one)) for one in etc.nameservers(text)]
    documents = list((record.network.get("Networks") or {}).values())
    if all(_is_internal(engine, document) for document in documents):
        found = [one for one in found if not one.on_host and any(_is_near(one.address, each) for each in documents)]
    return tuple(found)


def _is_internal(engine: Engine, document: Mapping[str, Any]) -> bool:
    network = engine.data.networks.load(str(document.get("NetworkID") or ""))
    return bool(network and network["Internal"])  # those that are always there are not in the store


def _is_near(address: str, document: Mapping[str, Any]) -> bool:
    """Whether an address is in a subnet of a network that a container is on."""
    import ipaddress  # slow to import, and seldom needed

    subnets = (("IPAddress", "IPPrefixLen"), ("GlobalIPv6Address", "GlobalIPv6PrefixLen"))
    own = [f"{document[name]}/{document[length]}" for name, length in subnets if document.get(name)]
    with contextlib.suppress(ValueError):
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(one, strict=False) for one in own)
    return False


def _as_wished(text: str, host_config: HostConfig) -> str:
    """Put the servers, search domains and options of --dns, --dns-search and --dns-opt into a resolv.conf."""
    return etc.with_dns(text, servers=host_config.dns, search=host_config.dns_search, options=host_config.dns_options)


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
