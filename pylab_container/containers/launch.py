"""From a container's record to a bundle, whose config.json runc reads.

Source: OCI Runtime Specification, config.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pylab_container.containers import remap, sandbox, shared_memory
from pylab_container.containers.mounts import bundle_mounts
from pylab_container.containers.process import first_process
from pylab_container.errors import RuntimeFailed
from pylab_container.host import linux
from pylab_container.networks import links
from pylab_container.networks.links import LinkedContainer
from pylab_container.oci import bundle
from pylab_container.runtime import Runtime
from pylab_container.runtime.runc import cgroup_path, cgroup_version
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot


def refuse_chroot() -> None:
    """Raise RuntimeFailed in a chroot(2).

    runc's exec enters the container's mount namespace, whose root is outside of the chroot: a command meant for the
    container would run on the host itself.
    """
    if linux.is_chrooted():
        hint = "use a machine, a VM or pivot_root(8) instead of chroot(8)"
        raise RuntimeFailed("containers cannot be started from inside a chroot", hint=hint)


def write_bundle(
    data: DataRoot,
    runtime: Runtime,
    record: ContainerRecord,
    root: Path,
    *,
    joined: Mapping[str, ContainerRecord],
    linked: Sequence[LinkedContainer] = (),
) -> Path:
    """Write config.json for a container whose file system is mounted at root.

    Return the bundle directory.

    joined  the containers whose namespaces it joins (sandbox.joined_containers)
    linked  the containers that it is linked to

    Raises InvalidInput, RuntimeFailed.
    """
    refuse_chroot()
    host = record.host_config
    process = first_process(record, root, linked=links.environment(linked))
    spaces = sandbox.namespaces(record, joined)
    shared_memory.mount(runtime, record)
    config = bundle.runtime_config(
        sandbox.init_command(record, process),
        root=str(root),
        hostname=record.config.hostname or record.short_id,
        domainname=record.config.domainname,
        mounts=bundle_mounts(data, runtime, record, joined.get("ipc")),
        shared_memory=host.ipc_mode != "none",
        limits=sandbox.limits(host),
        devices=sandbox.devices(record),
        cgroups_path=cgroup_path(record.id, parent=host.cgroup_parent),
        seccomp=sandbox.seccomp_profile(record, process),
        network_namespace=spaces.network,
        pid_namespace=spaces.pid,
        ipc_namespace=spaces.ipc,
        uts_namespace=spaces.uts,
        cgroup_namespace=cgroup_version() == "2" or host.cgroupns_mode == "private",
        readonly_root=host.readonly_rootfs,
        privileged=sandbox.privileged(record),
        masked_paths=host.masked_paths,
        readonly_paths=host.readonly_paths,
        sysctls=host.sysctls,
        device_rules=host.device_cgroup_rules,
        annotations=host.annotations,
    )
    remap.apply(data, runtime, record, config)
    directory = runtime.bundle(record.id)
    (directory / "config.json").write_text(json.dumps(config))
    return directory
