"""hostconfig.json: what of the host a container may use, as a Struct.

Field names, order, units and types are those of Docker's HostConfig (moby api/types/container/hostconfig.go, 20.10;
Engine API 1.41, "ContainerCreate"). The attributes hold values as `docker inspect` shows them: sizes in bytes, CPU time
in microseconds, NanoCpus in 10⁻⁹ processors. Which values are allowed is decided in docker/hostconfig.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from msgspec import field

from pylab_container.oci.blockio import ThrottleDevice, WeightDevice
from pylab_container.oci.bundle import MASKED_PATHS, READONLY_PATHS
from pylab_container.oci.document import Document, field_names, list_of
from pylab_container.oci.image import Json

DEFAULT_SHM_SIZE = 64 << 20  # bytes of /dev/shm


class LogConfig(Document, frozen=True):
    """The log driver of a container and its options."""

    type: str = ""
    config: Mapping[str, str] = {}


class RestartPolicy(Document, frozen=True):
    """Whether the engine restarts the container after its exit.

    name                 "", "no", "always", "unless-stopped" or "on-failure"
    maximum_retry_count  of on-failure; 0: any number
    """

    name: str = ""
    maximum_retry_count: int = 0


class DeviceMapping(Document, frozen=True):
    """A device node of the host in the container; cgroup_permissions is some of "rwm"."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class Ulimit(Document, frozen=True):
    """A resource limit of getrlimit(2); -1 is unlimited."""

    name: str = ""
    hard: int = 0
    soft: int = 0


class HostConfig(Document, frozen=True):
    """What of the host a container may use.

    port_bindings  {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}; null for a port without a binding
    mounts         what --mount requested, as it was sent; the resulting mounts are ContainerRecord.mounts
    """

    PARTS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "LogConfig": LogConfig.parse,
        "RestartPolicy": RestartPolicy.parse,
        "Devices": list_of(DeviceMapping.parse),
        "Ulimits": list_of(Ulimit.parse),
        "BlkioWeightDevice": list_of(WeightDevice.parse),
        **dict.fromkeys(
            ("BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps"),
            list_of(ThrottleDevice.parse),
        ),
    }

    binds: tuple[str, ...] = ()
    container_id_file: str = field(default="", name="ContainerIDFile")
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: Mapping[str, list[dict[str, str]] | None] = {}
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: tuple[str, ...] = ()
    annotations: Mapping[str, str] = {}
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    cgroupns_mode: str = ""
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    ipc_mode: str = ""
    cgroup: str = ""
    links: tuple[str, ...] = ()
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: tuple[str, ...] = ()
    storage_opt: Mapping[str, str] = {}
    tmpfs: Mapping[str, str] = {}
    uts_mode: str = field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: Mapping[str, str] = {}
    runtime: str = ""
    console_size: tuple[int, int] = (0, 0)
    isolation: str = ""
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: tuple[WeightDevice, ...] = ()
    blkio_device_read_bps: tuple[ThrottleDevice, ...] = ()
    blkio_device_write_bps: tuple[ThrottleDevice, ...] = ()
    blkio_device_read_iops: tuple[ThrottleDevice, ...] = field(default=(), name="BlkioDeviceReadIOps")
    blkio_device_write_iops: tuple[ThrottleDevice, ...] = field(default=(), name="BlkioDeviceWriteIOps")
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: tuple[DeviceMapping, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    device_requests: tuple[Json, ...] = ()
    kernel_memory: int = 0
    kernel_memory_tcp: int = field(default=0, name="KernelMemoryTCP")
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: tuple[Ulimit, ...] = ()
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = field(default=0, name="IOMaximumBandwidth")
    mounts: tuple[Json, ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    init: bool | None = None

    @property
    def network(self) -> str:
        """The network that the container was created for: a network's name, or "container:ID"."""
        return "bridge" if self.network_mode in ("", "default") else self.network_mode

    nulls: frozenset[str] = field_names(
        "Binds VolumesFrom CapAdd CapDrop Dns DnsOptions DnsSearch ExtraHosts GroupAdd Links SecurityOpt PortBindings "
        "BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps "
        "Devices DeviceCgroupRules DeviceRequests MemorySwappiness OomKillDisable PidsLimit Ulimits MaskedPaths "
        "ReadonlyPaths"
    )
    missing: frozenset[str] = field_names("Annotations StorageOpt Tmpfs Sysctls Mounts Init")


DEFAULT = HostConfig(
    log_config=LogConfig(type="json-file"),
    network_mode="bridge",
    restart_policy=RestartPolicy(name="no"),
    cgroupns_mode="host",
    ipc_mode="private",
    shm_size=DEFAULT_SHM_SIZE,
    runtime="runc",
    oom_kill_disable=False,
    masked_paths=MASKED_PATHS,
    readonly_paths=READONLY_PATHS,
    # The docker command sends these as empty lists.
    nulls=HostConfig().nulls
    - field_names(
        "Dns DnsOptions DnsSearch PortBindings Devices BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps "
        "BlkioDeviceReadIOps BlkioDeviceWriteIOps"
    ),
)
"""The HostConfig of a container that was created without any option."""
