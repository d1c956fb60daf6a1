"""`docker update`: new limits and restart policy, from docker-py's keywords."""

from __future__ import annotations

import os

from msgspec.structs import asdict, replace

from pylab_container.containers import update as container_update
from pylab_container.docker import limits
from pylab_container.docker.hostconfig import complete_memory, resources, restart_policy
from pylab_container.docker.options import UpdateOptions
from pylab_container.errors import Conflict, InvalidInput
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.ids import ContainerId
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

    def change(record: ContainerRecord) -> HostConfig:
        requested, new_warnings = _requested(options)
        warnings.extend(new_warnings)
        return _updated(record, requested, options)

    container_update.update(data, runtime, container_id, change)
    return warnings


def _requested(options: UpdateOptions) -> tuple[HostConfig, list[str]]:
    """Return the requested limits that the kernel supports, and warnings. The other limits have their defaults."""
    fields = resources(options, processors=os.cpu_count() or 1, memory_nodes=cgroup.memory_nodes())
    if options.get("pids_limit") is not None and fields["pids_limit"] is None:
        fields["pids_limit"] = 0  # dockerd records "no limit" as 0 here
    return limits.discard(HostConfig(**fields), cgroup.unsupported_limits())


def _updated(record: ContainerRecord, requested: HostConfig, options: UpdateOptions) -> HostConfig:
    """Return the record's HostConfig with the requested limits. Raises InvalidInput, Conflict."""
    old = record.host_config
    _refuse_two_kinds_of_processor_time(record, requested)
    if requested.memory:
        complete_memory(requested)  # first the errors that do not depend on the old limits
    # An unset swap limit counts as 0 here, as in moby container/container_unix.go.
    if requested.memory and not requested.memory_swap and old.memory_swap < requested.memory:
        raise Conflict(
            f"Cannot update container {record.id}: Memory limit should be smaller than already set memoryswap limit, "
            "update the memoryswap at the same time",
            hint="add --memory-swap",
        )
    changes = {name: value for name, value in asdict(requested).items() if value != getattr(_NO_LIMITS, name)}
    if options.get("restart_policy"):
        if old.auto_remove:
            raise InvalidInput(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
                hint="leave --restart out: the container was created with --rm",
            )
        changes["restart_policy"] = restart_policy(options["restart_policy"] or {})
    return complete_memory(replace(old, **changes))


_NO_LIMITS = HostConfig()


def _refuse_two_kinds_of_processor_time(record: ContainerRecord, requested: HostConfig) -> None:
    """Raise InvalidInput as moby's UpdateContainer does (container/container_unix.go, 20.10)."""
    old = record.host_config
    for words, new_value, old_value in (
        ("CPU Period", requested.cpu_period, old.cpu_period),
        ("CPU Quota", requested.cpu_quota, old.cpu_quota),
    ):
        conflict = ""
        if requested.nano_cpus and old_value:
            conflict = f"Nano CPUs cannot be updated as {words} has already been set"
        if new_value and old.nano_cpus:
            conflict = f"{words} cannot be updated as NanoCPUs has already been set"
        if conflict:
            raise InvalidInput(
                f"Cannot update container {record.id}: Conflicting options: {conflict}", hint="make another container"
            )
