"""`docker update`: the new limits and restart policy of a container, from docker-py's keywords."""

from __future__ import annotations

import os

from pylab_container.containers import update as container_update
from pylab_container.docker import limits
from pylab_container.docker.hostconfig import complete_memory, resources, restart_policy
from pylab_container.docker.options import UpdateOptions
from pylab_container.errors import Conflict, InvalidInput
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.image import Json
from pylab_container.runtime import Runtime, cgroup
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot


def update(data: DataRoot, runtime: Runtime, container_id: ContainerId, options: UpdateOptions) -> list[str]:
    """Change a container's limits and restart policy; return warnings in Docker's words.

    Raises InvalidInput, Conflict, TypeError for an unknown keyword.
    """
    for name in options:
        if name not in UpdateOptions.__annotations__:
            raise TypeError(f"update() got an unexpected keyword argument {name!r}")
    warnings: list[str] = []

    def change(record: ContainerRecord) -> Json:
        changes, new_warnings = _supported_changes(options)
        warnings.extend(new_warnings)
        return _changed(record, changes, options)

    container_update.update(data, runtime, container_id, change)
    return warnings


def _supported_changes(options: UpdateOptions) -> tuple[Json, list[str]]:
    """The fields of HostConfig to change, without limits that the kernel lacks, and warnings about those."""
    requested = resources(options, processors=os.cpu_count() or 1, memory_nodes=cgroup.memory_nodes())
    if options.get("pids_limit") is not None and requested.get("PidsLimit") is None:
        requested["PidsLimit"] = 0  # no limit, as dockerd records it
    return limits.discard(requested, cgroup.unsupported_limits())


def _refuse_two_kinds_of_processor_time(record: ContainerRecord, changes: Json) -> None:
    """Raise InvalidInput for NanoCpus together with CpuPeriod or CpuQuota (moby 20.10, UpdateContainer)."""
    for name, words in (("CpuPeriod", "CPU Period"), ("CpuQuota", "CPU Quota")):
        conflict, old = "", record.host_config
        if changes.get("NanoCpus") and old.get(name):
            conflict = f"Nano CPUs cannot be updated as {words} has already been set"
        if changes.get(name) and old.get("NanoCpus"):
            conflict = f"{words} cannot be updated as NanoCPUs has already been set"
        if conflict:
            raise InvalidInput(
                f"Cannot update container {record.id}: Conflicting options: {conflict}", hint="make another container"
            )


def _changed(record: ContainerRecord, changes: Json, options: UpdateOptions) -> Json:
    old = record.host_config
    _refuse_two_kinds_of_processor_time(record, changes)
    memory, swap = changes.get("Memory"), old.get("MemorySwap") or 0
    if memory:
        complete_memory(changes)  # its errors come first, as in dockerd
    if memory and "MemorySwap" not in changes and swap < memory:  # also with swap 0 (moby, container_unix.go)
        raise Conflict(
            f"Cannot update container {record.id}: Memory limit should be smaller than already set memoryswap limit, "
            "update the memoryswap at the same time",
            hint="add --memory-swap",
        )
    if options.get("restart_policy"):
        if old.get("AutoRemove"):
            raise InvalidInput(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
                hint="it was created with --rm",
            )
        changes["RestartPolicy"] = restart_policy(options["restart_policy"] or {})
    return complete_memory({**old, **changes})
