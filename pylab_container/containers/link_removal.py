"""`docker rm --link`: removing a link of the default bridge (networks/links.py)."""

from __future__ import annotations

from msgspec.structs import replace

from pylab_container.containers.lookup import find, read
from pylab_container.containers.settle import settle
from pylab_container.errors import Conflict, ContainerNotFound
from pylab_container.networks import links
from pylab_container.networks.container_files import set_linked_address
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot


def remove_link(data: DataRoot, runtime: Runtime, name: str) -> None:
    """Remove the link "CONTAINER/ALIAS".

    Raises Conflict for a container's own name, ContainerNotFound.
    """
    parent, slash, alias = name.removeprefix("/").rpartition("/")
    if not slash:
        find(data.records, name)
        raise Conflict("Conflict, cannot remove the default link name of the container", hint="write CONTAINER/ALIAS")
    container_id = find(data.records, parent).id
    with data.records.lock(container_id):
        record = settle(data, runtime, read(data.records, container_id))
        if alias not in dict(links.linked(data.records, record)):
            raise ContainerNotFound(f"No such container: {name}", hint=f"labctr inspect {parent} shows its links")
        host = record.host_config
        kept = tuple(text for text in host.links if text.partition(":")[2] != alias)
        data.records.update(record, host_config=replace(host, links=kept, nulls=host.nulls | {"Links"}))
        set_linked_address(data, record, alias, "")
