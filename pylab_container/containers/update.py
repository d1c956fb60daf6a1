"""Container.update(): other limits and another restart policy, also for a container that runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pylab_container.containers import lifetime, sandbox
from pylab_container.docker import limits
from pylab_container.docker.hostconfig import complete_memory, resources, restart_policy
from pylab_container.docker.options import UpdateOptions
from pylab_container.errors import Conflict, InvalidInput
from pylab_container.oci import bundle
from pylab_container.oci.image import Json
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
        changes, warnings = _possible(options)
        host_config = _changed(record, changes, options)
        if record.state in ALIVE and host_config != record.host_config.document():
            unlimited = {"PidsLimit": host_config.get("PidsLimit") or -1}  # runc leaves as it is what it is not told
            engine.runtime.runc.update(container.id, bundle.cgroup_limits(sandbox.limits({**host_config, **unlimited})))
        updated = engine.data.records.update(record, host_config=host_config)
    lifetime.tell(engine, "updated", updated)
    return warnings


def _possible(options: UpdateOptions) -> tuple[Json, list[str]]:
    """The fields of HostConfig that are to change, as far as the kernel has such limits."""
    wanted = resources(options, processors=os.cpu_count() or 1, memory_nodes=cgroup.memory_nodes())
    if options.get("pids_limit") is not None and wanted.get("PidsLimit") is None:
        wanted["PidsLimit"] = 0  # none, as dockerd writes it down
    return limits.discard(wanted, cgroup.unsupported_limits())


def _refuse_two_kinds_of_processor_time(record: ContainerRecord, changes: Json) -> None:
    """moby container/container_unix.go, 20.10: UpdateContainer."""
    for name, words in (("CpuPeriod", "CPU Period"), ("CpuQuota", "CPU Quota")):
        told, old = "", record.host_config
        if changes.get("NanoCpus") and old.get(name):
            told = f"Nano CPUs cannot be updated as {words} has already been set"
        if changes.get(name) and old.get("NanoCpus"):
            told = f"{words} cannot be updated as NanoCPUs has already been set"
        if told:
            raise InvalidInput(
                f"Cannot update container {record.id}: Conflicting options: {told}", hint="make another container"
            )


def _changed(record: ContainerRecord, changes: Json, options: UpdateOptions) -> Json:
    old = record.host_config
    _refuse_two_kinds_of_processor_time(record, changes)
    memory, swap = changes.get("Memory"), old.get("MemorySwap") or 0
    if memory:
        complete_memory(changes)  # what makes no sense by itself is told first
    if memory and "MemorySwap" not in changes and swap < memory:  # also where there is none: moby container_unix.go
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
