"""From a container's record to a bundle, whose config.json runc reads.

Source: OCI Runtime Specification, config.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pylab_container.containers import devices, init_program, limits, namespaces, remap, rights, shared_memory
from pylab_container.containers.mounts import bundle_mounts
from pylab_container.containers.process import first_process
from pylab_container.errors import RuntimeFailed
from pylab_container.host import linux
from pylab_container.networks import links
from pylab_container.networks.links import LinkedContainer
from pylab_container.oci import bundle
from pylab_container.oci.bundle import Process
from pylab_container.runtime import Runtime
from pylab_container.runtime.runc import cgroup_path, cgroup_version
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot


def refuse_chroot() -> None:
    """Raise RuntimeFailed if the engine runs in a chroot(2)."""
    # `runc exec` joins the container's mount namespace with setns(2). The kernel then makes that namespace's root the
    # root of the process (fs/namespace.c, mntns_install), and it is outside of the chroot: a command meant for the
    # container would run on the host.
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
    """Write config.json for a container whose file system is mounted at root; return the bundle directory.

    joined  the containers whose namespaces it joins (namespaces.joined_containers)
    linked  the containers that it is linked to

    Raises InvalidInput, RuntimeFailed.
    """
    refuse_chroot()
    process = first_process(record, root, linked=links.environment(linked))
    # Mounted on the host first: config.json only binds it, and other containers may bind it too (--ipc shareable).
    shared_memory.mount(runtime, record)
    config = _container_config(data, runtime, record, root, process, joined=joined)
    # Last, because it replaces the root and the volumes' sources in the finished config by mounts with mapped owners.
    remap.apply(data, runtime, record, config)
    directory = runtime.bundle(record.id)
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def _container_config(
    data: DataRoot,
    runtime: Runtime,
    record: ContainerRecord,
    root: Path,
    process: Process,
    *,
    joined: Mapping[str, ContainerRecord],
) -> dict[str, Any]:
    """Collect the parts of config.json. Mounts the parts of volumes (mounts.bundle_mounts)."""
    host = record.host_config
    chosen = namespaces.bundle_namespaces(record, joined)
    return bundle.runtime_config(
        init_program.init_command(record, process),
        root=str(root),
        # The default is the short id, which `docker ps` shows too (moby, daemon/container.go, generateHostname).
        hostname=record.config.hostname or record.short_id,
        domainname=record.config.domainname,
        mounts=bundle_mounts(data, runtime, record, joined.get("ipc")),
        shared_memory=host.ipc_mode != "none",
        limits=limits.bundle_limits(host),
        devices=devices.bundle_devices(record),
        cgroups_path=cgroup_path(record.id, parent=host.cgroup_parent),
        seccomp=rights.seccomp_profile(record, process),
        network_namespace=chosen.network,
        pid_namespace=chosen.pid,
        ipc_namespace=chosen.ipc,
        uts_namespace=chosen.uts,
        # Docker's default is private on cgroup v2 and the host's on v1 (moby, daemon/daemon_unix.go,
        # adaptContainerSettings).
        cgroup_namespace=cgroup_version() == "2" or host.cgroupns_mode == "private",
        readonly_root=host.readonly_rootfs,
        privileged=host.privileged,
        masked_paths=host.masked_paths,
        readonly_paths=host.readonly_paths,
        sysctls=host.sysctls,
        device_rules=host.device_cgroup_rules,
        annotations=host.annotations,
    )
