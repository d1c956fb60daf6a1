"""DNS records of containers on user-defined networks: names, addresses and upstream servers.

The name server (runtime/dns) reads them. One process serves all containers of the data root. It is started with the
first container on a user-defined network, and it exits with the last. The default bridge has no name server, as in
Docker: a container that is only on that bridge queries the host's servers itself.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from msgspec.structs import replace

from pylab_container.errors import Conflict
from pylab_container.host.background import Background
from pylab_container.host.files import read_text_or_empty, rewrite
from pylab_container.networks.link_variables import parse_link
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.network_settings import EndpointSettings, NetworkSettings
from pylab_container.runtime import Runtime, etc
from pylab_container.runtime.dns.service import NameServer
from pylab_container.runtime.dns.zone import DnsClient, NetworkMembership, UpstreamServer
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot

_NETWORKS_WITHOUT_NAMES = ("bridge", "default", "host", "none")


def is_served(record: ContainerRecord) -> bool:
    """Whether the container is on a user-defined network, or will be when it runs."""
    names = record.network.networks or [record.host_config.network]
    return any(name not in _NETWORKS_WITHOUT_NAMES and not name.startswith("container:") for name in names)


def resolv_conf(record: ContainerRecord) -> str:
    """Return the container's /etc/resolv.conf.

    On a user-defined network it names our name server, otherwise the host's servers. With the host's network it is the
    host's file. --dns, --dns-search and --dns-opt change it.
    """
    host = record.host_config
    text = read_text_or_empty("/etc/resolv.conf")
    if is_served(record):
        return etc.served_resolv_conf(_with_options(text, host))
    # A container cannot reach a loopback address of the host, such as 127.0.0.53 of systemd-resolved. The other file
    # names the servers behind it (systemd-resolved.service(8)).
    if host.network_mode != "host":
        text = etc.container_resolv_conf(text, fallback=read_text_or_empty("/run/systemd/resolve/resolv.conf"))
    return _with_options(text, host)


def prepare(runtime: Runtime, record: ContainerRecord) -> None:
    """Start the name server if the container will need it: the server comes up while runc creates the container."""
    if is_served(record):
        _server(runtime).ensure()


def serve(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> Background[None] | None:
    """Open the name server's sockets in a container's namespace, in the background.

    Call update() with the record that has the networks, then result(), which waits and raises RuntimeFailed.
    None is returned for a container that is not served. Raises Conflict if its process has exited.
    """
    if not is_served(record):
        return None
    server = _server(runtime)
    # Without addresses at first: the name server needs only the namespace, and the interfaces are created concurrently.
    _write(data, server, replace(record, network=NetworkSettings()))
    return Background(lambda: server.serve(record.id))


def serve_running(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> None:
    """Serve a running container that was connected to another network. Raises Conflict, RuntimeFailed."""
    if is_served(record):
        # Until now the container may have been on the default bridge only and have queried the host's servers.
        rewrite(data.records.directory(record.id) / "resolv.conf", resolv_conf(record))
        server = _server(runtime)
        _write(data, server, record)
        server.serve(record.id)


def update(data: DataRoot, runtime: Runtime, record: ContainerRecord) -> None:
    """Update the records of a served container whose networks or name have changed."""
    if _has_records(runtime, record.id):
        with contextlib.suppress(Conflict):  # the process has exited, and the release will remove the records
            _write(data, _server(runtime), record)


def remove(runtime: Runtime, container_id: str) -> None:
    """Remove a container's DNS records. Idempotent; also cleans up after a process that crashed half-way."""
    if _directory(runtime).exists():
        _server(runtime).forget(container_id)


def ensure_server(runtime: Runtime, record: ContainerRecord) -> None:
    """Restart the name server if it was killed while the container needs it."""
    if _has_records(runtime, record.id):
        _server(runtime).ensure()


def clear(runtime: Runtime) -> None:
    """Remove the files of a killed name server that no container needs."""
    if (_directory(runtime) / "lock").exists():
        _server(runtime).clear()


def _directory(runtime: Runtime) -> Path:
    return runtime.path / "names"


def _has_records(runtime: Runtime, container_id: str) -> bool:
    return (_directory(runtime) / container_id).exists()


def _server(runtime: Runtime) -> NameServer:
    return NameServer(_directory(runtime))


def _write(data: DataRoot, server: NameServer, record: ContainerRecord) -> None:
    """Write a container's DNS records. Raises Conflict if its process has exited."""
    # The inode identifies the namespace (namespaces(7)). The name server compares it, because the pid may be reused.
    try:
        namespace = os.stat(f"/proc/{record.pid}/ns/net").st_ino
    except OSError as error:
        raise Conflict(f"process {record.pid} does not exist: the container has exited") from error
    text = _with_options(read_text_or_empty("/etc/resolv.conf"), record.host_config)
    client = DnsClient(
        pid=record.pid,
        namespace=namespace,
        memberships=_memberships(record),
        servers=_upstream_servers(data, record, text),
        single_labels=etc.ndots(text) == 0,
    )
    server.write(record.id, client)


def _memberships(record: ContainerRecord) -> dict[str, NetworkMembership]:
    return {
        endpoint.network_id: NetworkMembership(
            network=name,
            names=(record.name, *endpoint.aliases),
            addresses=tuple(filter(None, (endpoint.ip_address, endpoint.global_ipv6_address))),
            links={alias.lower(): other for other, alias in map(parse_link, endpoint.links)},
        )
        for name, endpoint in record.network.endpoints.items()
        if name not in _NETWORKS_WITHOUT_NAMES and endpoint.ip_address
    }


def _upstream_servers(data: DataRoot, record: ContainerRecord, text: str) -> tuple[UpstreamServer, ...]:
    """The servers to forward queries to.

    A server on a loopback address of the host is queried from the host's network namespace.
    """
    has_own_servers = bool(record.host_config.dns)  # --dns: addresses as the container reaches them
    servers = [
        UpstreamServer(address, on_host=not has_own_servers and etc.is_loopback(address))
        for address in etc.nameservers(text)
    ]
    endpoints = list(record.network.endpoints.values())
    # From internal networks only servers in their own subnets are used. Queries that the host forwarded for such a
    # container would carry data out of the network (moby, CVE-2024-29018).
    if all(_is_internal(data, endpoint) for endpoint in endpoints):
        servers = [
            server
            for server in servers
            if not server.on_host and any(_is_in_subnet(server.address, endpoint) for endpoint in endpoints)
        ]
    return tuple(servers)


def _is_internal(data: DataRoot, endpoint: EndpointSettings) -> bool:
    network = data.networks.load(endpoint.network_id)
    return bool(network and network["Internal"])  # predefined networks are not in the store


def _is_in_subnet(address: str, endpoint: EndpointSettings) -> bool:
    """Whether an address is in a subnet of the network that an endpoint is on."""
    import ipaddress  # importing it takes milliseconds that most containers do not need

    addresses = (
        (endpoint.ip_address, endpoint.ip_prefix_len),
        (endpoint.global_ipv6_address, endpoint.global_ipv6_prefix_len),
    )
    subnets = [f"{own}/{length}" for own, length in addresses if own]
    with contextlib.suppress(ValueError):
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(subnet, strict=False) for subnet in subnets)
    return False


def _with_options(text: str, host_config: HostConfig) -> str:
    """Put the servers, search domains and options of --dns… into a resolv.conf."""
    return etc.with_dns(text, servers=host_config.dns, search=host_config.dns_search, options=host_config.dns_options)
