"""The namespaces of a container: new ones, the host's, or those of another container.

Source: namespaces(7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import Conflict, ContainerNotFound
from pylab_container.oci.host_config import HostConfig
from pylab_container.store.container_store import ContainerRecord


class Namespaces(Struct, frozen=True, kw_only=True):
    """Namespaces, as bundle.runtime_config() takes them: "" for a new one, a path to join one, None for the host's."""

    network: str | None = ""
    pid: str | None = ""
    ipc: str | None = ""
    uts: str | None = ""


def joined_containers(record: ContainerRecord, find: Callable[[str], ContainerRecord]) -> dict[str, ContainerRecord]:
    """Return the running containers whose namespaces a container joins, by kind: "network", "pid" or "ipc".

    find  returns the settled record of the container with a name or id

    Raises Conflict if one does not run, ContainerNotFound.
    """
    host = record.host_config
    modes = {"network": host.network_mode, "pid": host.pid_mode, "ipc": host.ipc_mode}
    return {
        kind: _joined(kind, find(mode.removeprefix("container:")), record.id)
        for kind, mode in modes.items()
        if mode.startswith("container:")
    }


def _joined(kind: str, record: ContainerRecord, own_id: str) -> ContainerRecord:
    if record.id == own_id:
        raise Conflict("cannot join own network", hint="choose another container, or another network")
    # A namespace lives as long as a process is in it (namespaces(7)), so an exited container has none to join.
    if not record.pid:
        raise Conflict(_not_running(kind, record.id), hint=f"labctr start {record.name}")
    # A container with a private IPC namespace has its /dev/shm there too, where no other container can mount it.
    if kind == "ipc" and record.host_config.ipc_mode not in ("shareable", "host"):
        raise Conflict(
            f"can't join IPC of container {record.id}: non-shareable IPC "
            "(hint: use IpcMode:shareable for the donor container)",
            hint="create that container with --ipc shareable",
        )
    return record


def bundle_namespaces(record: ContainerRecord, joined: Mapping[str, ContainerRecord]) -> Namespaces:
    """Return the namespaces of a container, as its modes request them.

    joined  from joined_containers()
    """
    host = record.host_config
    return Namespaces(
        network=_namespace(host.network_mode, joined.get("network"), "net"),
        pid=_namespace(host.pid_mode, joined.get("pid"), "pid"),
        ipc=_namespace(host.ipc_mode, joined.get("ipc"), "ipc"),
        uts=None if host.uts_mode == "host" else "",
    )


def _namespace(mode: str, joined: ContainerRecord | None, file: str) -> str | None:
    if mode == "host":
        return None
    return f"/proc/{joined.pid}/ns/{file}" if joined else ""


def _not_running(kind: str, container_id: str) -> str:
    stopped = f"container {container_id} is not running"
    network = f"cannot join network of a non running container: {container_id}"
    return {"network": network, "ipc": f"can't join IPC of container {container_id}: {stopped}"}.get(kind, stopped)


def resolve_modes(host_config: HostConfig, find: Callable[[str], ContainerRecord]) -> HostConfig:
    """Replace "container:NAME" by "container:ID" in the modes of a HostConfig.

    find  returns the record of the container with a name or id

    Raises ContainerNotFound for the PID and IPC modes. The container whose network is joined may be created later:
    its name is then kept, and the start looks for it again.
    """
    # An id, because the other container may be renamed before this one starts.
    changes = {}
    for attribute, name in (("network_mode", "NetworkMode"), ("pid_mode", "PidMode"), ("ipc_mode", "IpcMode")):
        mode = getattr(host_config, attribute)
        if mode.startswith("container:"):
            try:
                changes[attribute] = f"container:{find(mode.removeprefix('container:')).id}"
            except ContainerNotFound as error:
                if attribute != "network_mode":
                    raise ContainerNotFound(error.message, hint=f"{name} names it") from None
    return replace(host_config, **changes)
