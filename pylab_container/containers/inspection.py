"""Docker's document about a container, as `docker inspect` shows it.

Source: Engine API 1.41, ContainerInspect.
"""

from __future__ import annotations

from collections.abc import Sequence

from pylab_container.containers.logfiles import log_path
from pylab_container.networks import links
from pylab_container.networks.endpoint_documents import complete_settings
from pylab_container.oci.image import Json
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot


def inspect(data: DataRoot, record: ContainerRecord, execution_ids: Sequence[str]) -> Json:
    """Build the document of a settled record.

    execution_ids  of the commands that have not exited
    """
    directory = data.records.directory(record.id)
    writable = data.layers.writable(record.id)
    return {
        "Id": record.id,
        "Created": record.created,
        "Path": record.path,
        "Args": list(record.args),
        "State": record.state_document(),
        "Image": record.image,
        "ResolvConfPath": str(directory / "resolv.conf"),
        "HostnamePath": str(directory / "hostname"),
        "HostsPath": str(directory / "hosts"),
        "LogPath": log_path(data.records, record),
        "Name": f"/{record.name}",
        "ExecIDs": list(execution_ids) or None,
        "RestartCount": record.restart_count,
        "Driver": record.driver,
        "Platform": "linux",
        "HostConfig": {**record.host_config.document(), "Links": links.inspected(data.records, record)},
        "GraphDriver": {"Data": data.driver.graph_data(writable.mount_id), "Name": data.driver.name},
        "Mounts": mount_points(record),
        "Config": record.config.document(),
        "NetworkSettings": complete_settings(record.network),
    }


def mount_points(record: ContainerRecord) -> list[Json]:
    """Return Docker's Mounts: binds and volumes, and a tmpfs of --mount.

    Mounts of the engine itself are left out.
    """
    return [mount.shown() for mount in record.mounts if not mount.hidden]
