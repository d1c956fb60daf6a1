"""Container.update(): other limits and another restart policy, also for a container that runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec.structs import asdict, replace

from pylab_container.containers import lifetime, sandbox
from pylab_container.docker import limits
from pylab_container.docker.hostconfig import complete_memory, resources, restart_policy
from pylab_container.docker.options import UpdateOptions
from pylab_container.errors import Conflict, InvalidInput
from pylab_container.oci import bundle
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.lifecycle import ALIVE, Transition, after
from pylab_container.runtime import cgroup
from pylab_container.store.container_store import ContainerRecord

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container


def apply(engine: Engine, container: Container, options: UpdateOptions) -> list[str]:
    """Write other limits down, and give them to the cgroup of a container that runs; what is to be said of them.

    Raises InvalidInput, Conflict.
    """
    for name in options:
        if name not in UpdateOptions.__annotations__:
            raise TypeError(f"update() got an unexpected keyword argument {name!r}")
    with engine.data.records.lock(container.id):
        record = lifetime.settle(engine, lifetime.read(engine, container.id))
        after(record.state, Transition.UPDATE, container=record.name, container_id=record.id)
        requested, warnings = _requested(options)
        host_config = _updated(record, requested, options)
        if record.state in ALIVE and host_config != record.host_config:
            # runc does not change a limit that is missing, so "no limit" is passed as -1.
            limited = replace(host_config, pids_limit=host_config.pids_limit or -1)
            engine.runtime.runc.update(container.id, bundle.cgroup_limits(sandbox.limits(limited)))
        updated = engine.data.records.update(record, host_config=host_config)
    lifetime.tell(engine, "updated", updated)
    return warnings


def _requested(options: UpdateOptions) -> tuple[HostConfig, list[str]]:
    """The requested limits that the kernel supports, the others with their defaults; and warnings."""
    fields = resources(options, processors=os.cpu_count() or 1, memory_nodes=cgroup.memory_nodes())
    if options.get("pids_limit") is not None and fields["pids_limit"] is None:
        fields["pids_limit"] = 0  # dockerd records "no limit" as 0 here
    return limits.discard(HostConfig(**fields), cgroup.unsupported_limits())


def _updated(record: ContainerRecord, requested: HostConfig, options: UpdateOptions) -> HostConfig:
    """The record's HostConfig with the requested limits. Raises InvalidInput, Conflict."""
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
                hint="it was created with --rm",
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
