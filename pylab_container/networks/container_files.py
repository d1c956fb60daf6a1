"""The files of /etc that the engine keeps per container: hostname, hosts, resolv.conf.

They are bind-mounted into the container, which fixes their inodes: a running container sees a change only if the
file is rewritten in place. Concurrent changes of hosts files are serialized by data.networks.lock_hosts().
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
"""Their names, in the container's directory and in /etc."""


def write_network_files(
    data: DataRoot,
    record: ContainerRecord,
    addresses: Sequence[str] = (),
    *,
    gateway: str = "",
    linked: Iterable[tuple[str, str]] = (),
) -> None:
    """Write hostname, hosts and resolv.conf, in place.

    addresses  the container's own
    gateway    the address that host-gateway stands for
    linked     (names, address) of the containers that it is linked to
    """
    directory = data.records.directory(record.id)
    hostname = record.config.hostname or record.short_id
    (directory / "hostname").write_text(f"{hostname}\n")
    hosts = hosts_file(own_name(record), addresses, extra=[*_extra_hosts(record, gateway), *linked])
    if record.host_config.network_mode == "host":  # as in Docker, it gets the host's own file
        extra = "".join(hosts_line(number, name) for name, number in _extra_hosts(record, "127.0.0.1"))
        hosts = read_text_or_empty("/etc/hosts") + extra
    (directory / "hosts").write_text(hosts)
    (directory / "resolv.conf").write_text(resolv_conf(record))


def own_name(record: ContainerRecord) -> str:
    """Return a container's names for its own entry in its hosts file.

    They are the qualified name and, if that has a domain, its host part.

    The domain may be part of the host name or be given by --domainname.
    """
    hostname, domain = record.config.hostname or record.short_id, record.config.domainname
    qualified = f"{hostname}.{domain}" if domain else hostname
    return f"{qualified} {qualified.partition('.')[0]}" if "." in qualified else qualified


def _extra_hosts(record: ContainerRecord, gateway: str) -> list[tuple[str, str]]:
    """(name, address) of --add-host "name:address". An IPv6 address contains colons itself."""
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
    with contextlib.suppress(FileNotFoundError):
        _change_hosts(data, record, lambda text: with_address_of(text, alias, address))


def _change_hosts(data: DataRoot, record: ContainerRecord, change: Callable[[str], str]) -> None:
    with data.networks.lock_hosts():
        path = data.records.directory(record.id) / "hosts"
        rewrite(path, change(path.read_text(errors="replace")))
