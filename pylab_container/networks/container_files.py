"""Each container's files in /etc that the engine writes: hostname, hosts, resolv.conf.

They are bind-mounted into the container. A bind mount holds the inode, so a running container sees a change only if the
file is rewritten in place. data.networks.lock_hosts() serializes the changes of hosts files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from pylab_container.host.files import read_text_or_empty, rewrite
from pylab_container.networks.dns_records import resolv_conf
from pylab_container.runtime.etc import hosts_file, hosts_line, with_address, with_address_of, without_address
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot

NETWORK_FILES = ("resolv.conf", "hostname", "hosts")
"""The names of the files, both in the container's directory and in /etc."""


def write_network_files(
    data: DataRoot,
    record: ContainerRecord,
    addresses: Sequence[str] = (),
    *,
    gateway: str = "",
    linked: Iterable[tuple[str, str]] = (),
) -> None:
    """Write hostname, hosts and resolv.conf, in place.

    addresses  of the container
    gateway    the address that replaces "host-gateway" in --add-host
    linked     (names, address) of each container that it is linked to
    """
    directory = data.records.directory(record.id)
    hostname = record.config.hostname or record.short_id
    (directory / "hostname").write_text(f"{hostname}\n")
    hosts = hosts_file(own_name(record), addresses, extra=[*_extra_hosts(record, gateway), *linked])
    if record.host_config.network_mode == "host":
        # As in Docker, the container gets a copy of the host's file.
        extra = "".join(hosts_line(number, name) for name, number in _extra_hosts(record, "127.0.0.1"))
        hosts = read_text_or_empty("/etc/hosts") + extra
    (directory / "hosts").write_text(hosts)
    (directory / "resolv.conf").write_text(resolv_conf(record))


def own_name(record: ContainerRecord) -> str:
    """Return a container's names in its own hosts file: "web.example.org web", or "web" without a domain.

    The domain is that of --domainname, or a part of the host name.
    """
    hostname, domain = record.config.hostname or record.short_id, record.config.domainname
    qualified = f"{hostname}.{domain}" if domain else hostname
    return f"{qualified} {qualified.partition('.')[0]}" if "." in qualified else qualified


def _extra_hosts(record: ContainerRecord, gateway: str) -> list[tuple[str, str]]:
    """(name, address) of each --add-host "name:address". Only the first colon separates: IPv6 addresses have more."""
    entries = record.host_config.extra_hosts
    pairs = [(name, address.strip("[]")) for name, _, address in (entry.partition(":") for entry in entries)]
    resolved = [(name, gateway if address == "host-gateway" else address) for name, address in pairs]
    return [(name, address) for name, address in resolved if address]


def add_addresses(data: DataRoot, record: ContainerRecord, addresses: Iterable[str]) -> None:
    """Add addresses of a running container to its hosts file."""
    for address in addresses:
        _change_hosts(data, record, partial(with_address, address=address, hostname=own_name(record)))


def remove_addresses(data: DataRoot, record: ContainerRecord, addresses: Iterable[str]) -> None:
    """Remove addresses of a running container from its hosts file."""
    for address in addresses:
        _change_hosts(data, record, partial(without_address, address=address))


def set_linked_address(data: DataRoot, record: ContainerRecord, alias: str, address: str) -> None:
    """Give a linked container's alias another address in the hosts file; "" removes the alias."""
    # A container that has not started, or that is removed concurrently, has no hosts file.
    with contextlib.suppress(FileNotFoundError):
        _change_hosts(data, record, lambda text: with_address_of(text, alias, address))


def _change_hosts(data: DataRoot, record: ContainerRecord, change: Callable[[str], str]) -> None:
    with data.networks.lock_hosts():
        path = data.records.directory(record.id) / "hosts"
        rewrite(path, change(path.read_text(errors="replace")))
