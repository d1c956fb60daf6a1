"""The config.json of an OCI bundle: process, root, mounts, namespaces, devices and cgroup limits.

    bundle/
    ├── config.json   input of `runc create`
    └── rootfs/       the merged file system; here it is elsewhere, and config.json has its absolute path

Sources: OCI Runtime Specification 1.0.2, config.md and config-linux.md. The defaults (capabilities, mounts, masked
paths, device rules) are those of Docker 20.10: moby, oci/defaults.go.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from pylab_container.errors import InvalidInput
from pylab_container.oci import blockio
from pylab_container.oci.capabilities import DEFAULT_CAPABILITIES
from pylab_container.oci.users import User

# runc 1.1 and crun 1.8 refuse a version newer than the specification that they implement.
OCI_VERSION = "1.0.2"

# The kernel has no namespaces for these files, which reveal or change the state of the whole machine. The runtime binds
# /dev/null over a file and an empty tmpfs over a directory.
MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
)
# Files that a program may read, but that change the whole machine when written. The runtime remounts them read-only.
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# (major, minor) of zero, null, urandom, random, tty and console (admin-guide/devices.txt). All others are denied, since
# root in a container has CAP_MKNOD and may create any device file. The runtime itself adds /dev/pts/* and ptmx, which
# terminals need.
_DEVICES = ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))

_CPU_PERIOD = 100_000  # microseconds; the kernel's default (scheduler/sched-bwc.rst) and Docker's

# Magic links (proc(5)): the kernel follows them to the open file itself, even outside the container's root.
_PROCESS_LINK = re.compile(r"/proc/(self|thread-self|[0-9]+)/(.+/)?(fd|cwd|root)(/|$)")


class Mount(Struct, frozen=True, kw_only=True):
    """An entry of the container's mount table. options: those of mount(8), "ro", "rbind", …"""

    source: str
    destination: str
    type: str
    options: tuple[str, ...] = ()


class Limits(Struct, frozen=True, kw_only=True):
    """Limits of the container's cgroup. None and "" set no limit.

    memory                    bytes
    memory_swap               bytes of memory and swap together, -1 for no limit
    memory_reservation        bytes to which the kernel reclaims memory if the machine is short of it
    swappiness                0 to 100; cgroup v1 only
    cpus                      number of processors; sets period and quota
    cpu_period, cpu_quota     microseconds of processor time per period, instead of cpus
    cpu_shares                weight relative to other cgroups, by default 1024
    cpuset_cpus, cpuset_mems  processors and memory nodes: "0-2,4"
    pids                      number of tasks, -1 for no limit
    kernel_memory, kernel_memory_tcp    bytes of kernel memory and of TCP buffers; cgroup v1 only
    realtime_period, realtime_runtime   microseconds, for SCHED_FIFO and SCHED_RR
    block_weight              weight for disk I/O relative to other cgroups, 10 to 1000
    throttles                 limits for single disks
    oom_kill_disabled         a process that exceeds memory blocks instead of being killed; cgroup v1 only

    Sources: admin-guide/cgroup-v1/ and admin-guide/cgroup-v2.rst of the kernel's documentation.
    """

    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    swappiness: int | None = None
    cpus: float | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int | None = None
    kernel_memory: int | None = None
    kernel_memory_tcp: int | None = None
    realtime_period: int | None = None
    realtime_runtime: int | None = None
    block_weight: int | None = None
    throttles: tuple[blockio.Throttle, ...] = ()
    oom_kill_disabled: bool = False


class Device(Struct, frozen=True, kw_only=True):
    """A device file in the container.

    kind    "c" or "b"
    access  any of "r" (read), "w" (write) and "m" (mknod), for the cgroup's device filter
    """

    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int = 0
    gid: int = 0
    access: str = "rwm"


class Process(Struct, frozen=True, kw_only=True):
    """A process to start in a container.

    environment   entries "NAME=value"
    console_size  (rows, columns) of its terminal at the start; None if unknown
    rlimits       (name, soft, hard): name of getrlimit(2) in lower case without RLIMIT_; -1 for RLIM_INFINITY
    """

    argv: tuple[str, ...]
    environment: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = User()
    terminal: bool = False
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    no_new_privileges: bool = False
    console_size: tuple[int, int] | None = None
    rlimits: tuple[tuple[str, int, int], ...] = ()
    oom_score_adj: int | None = None


def process_config(process: Process) -> dict[str, Any]:
    """Return the `process` object of config.json, which `runc exec --process` reads too.

    rlimits and oomScoreAdj are present only if requested: raising a limit and lowering the score need
    CAP_SYS_RESOURCE, which a lab machine may lack.

    Raises InvalidInput.
    """
    if not process.argv:
        raise InvalidInput("no command specified", hint="give a command, or use an image that has a CMD")
    if not process.cwd.startswith("/"):
        raise InvalidInput(f"the working directory {process.cwd!r} is not an absolute path")
    parts = process.cwd.split("/")
    if any(_PROCESS_LINK.match(posixpath.normpath("/".join(parts[:end]) or "/")) for end in range(1, len(parts) + 1)):
        # The runtime changes to it while it still has descriptors of the host open: the process would start outside
        # its root (CVE-2024-21626).
        raise InvalidInput(
            f"the working directory {process.cwd!r} is a link to an open file of a process", hint="name a directory"
        )
    capabilities = list(process.capabilities)
    size = process.console_size if process.terminal else None
    return {
        "terminal": process.terminal,
        **({"consoleSize": {"height": size[0], "width": size[1]}} if size else {}),
        "user": {
            "uid": process.user.uid,
            "gid": process.user.gid,
            "additionalGids": list(process.user.additional_gids),
        },
        "args": list(process.argv),
        "env": list(process.environment),
        "cwd": process.cwd,
        # Neither inheritable nor ambient: with them a user other than root would gain capabilities from execve(2) of a
        # file that has inheritable ones (CVE-2022-24769).
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "noNewPrivileges": process.no_new_privileges,
        **({"rlimits": [_rlimit(*limit) for limit in process.rlimits]} if process.rlimits else {}),
        **({"oomScoreAdj": process.oom_score_adj} if process.oom_score_adj is not None else {}),
    }


def _rlimit(name: str, soft: int, hard: int) -> dict[str, Any]:
    unlimited = 2**64 - 1  # RLIM_INFINITY
    return {
        "type": f"RLIMIT_{name.upper()}",
        "soft": unlimited if soft == -1 else soft,
        "hard": unlimited if hard == -1 else hard,
    }


def runtime_config(
    process: Process,
    *,
    root: str,
    hostname: str,
    domainname: str = "",
    mounts: Sequence[Mount] = (),
    shared_memory: bool = True,
    limits: Limits | None = None,
    devices: Sequence[Device] = (),
    cgroups_path: str,
    seccomp: dict[str, Any] | None = None,
    network_namespace: str | None = "",
    pid_namespace: str | None = "",
    ipc_namespace: str | None = "",
    uts_namespace: str | None = "",
    cgroup_namespace: bool = False,
    readonly_root: bool = False,
    privileged: bool = False,
    masked_paths: Sequence[str] = MASKED_PATHS,
    readonly_paths: Sequence[str] = READONLY_PATHS,
    sysctls: Mapping[str, str] | None = None,
    device_rules: Sequence[str] = (),
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the config.json of a container. Raises InvalidInput.

    root               absolute path of the merged file system
    mounts             in addition to default_mounts(); one with the same destination replaces the default
    shared_memory      False omits the default /dev/shm
    devices            in addition to the default ones
    cgroups_path       absolute path of the container's cgroup in each hierarchy: "/labctr/<id>"
    seccomp            result of seccomp.resolve(); None for no filter
    …_namespace        "" creates a namespace, a path joins an existing one, None stays in the host's
    cgroup_namespace   creates one; Docker does so if the host uses cgroup v2 only
    privileged         no masked or read-only paths, access to all devices; process.capabilities still apply
    sysctls            settings of the container's own namespaces
    device_rules       further devices that it may access: "c 10:200 rwm"; * for any number
    annotations        key-value pairs for the runtime and its hooks
    """
    owned = {"network": network_namespace, "pid": pid_namespace, "ipc": ipc_namespace, "uts": uts_namespace}
    settings = _sysctls(owned, domainname, sysctls or {})
    linux: dict[str, Any] = {
        "cgroupsPath": cgroups_path,
        "namespaces": _namespaces(owned, cgroup_namespace=cgroup_namespace),
        "resources": _resources(limits or Limits(), devices, device_rules, privileged=privileged),
        "maskedPaths": [] if privileged else list(masked_paths),
        "readonlyPaths": [] if privileged else list(readonly_paths),
        **({"sysctl": settings} if settings else {}),
        **({"devices": [_device_config(device) for device in devices]} if devices else {}),
        **_root_propagation(mounts),
    }
    if seccomp is not None:
        linux["seccomp"] = seccomp
    return {
        "ociVersion": OCI_VERSION,
        "process": process_config(process),
        "root": {"path": root, "readonly": readonly_root},
        # A joined UTS namespace already has a name, and the runtime must not change it for the others in it.
        **({"hostname": hostname} if uts_namespace == "" else {}),
        "mounts": [
            _mount_config(mount)
            for mount in _all_mounts(mounts, privileged=privileged)
            if shared_memory or mount in mounts or mount.destination != "/dev/shm"
        ],
        "annotations": dict(annotations or {}),
        "linux": linux,
    }


def map_users(config: dict[str, Any], *, uid: int, gid: int, size: int) -> None:
    """Add a user namespace to a config.json.

    Its ids 0 to size - 1 are mapped to size ids of the host that begin with uid and gid (user_namespaces(7)).
    """
    settings = config["linux"]
    settings["namespaces"].append({"type": "user"})
    settings["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": size}]
    settings["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": size}]
    # The range contains gids that are not mapped in the namespace, and the kernel refuses those with EINVAL
    # (net/ipv4/sysctl_net_ipv4.c, ipv4_ping_group_range).
    settings.get("sysctl", {}).pop("net.ipv4.ping_group_range", None)


def _namespaces(owned: Mapping[str, str | None], *, cgroup_namespace: bool) -> list[dict[str, str]]:
    namespaces = [{"type": "mount"}]
    chosen = ((kind, owned[kind]) for kind in ("uts", "pid", "ipc", "network"))
    namespaces += [{"type": kind, **({"path": path} if path else {})} for kind, path in chosen if path is not None]
    if cgroup_namespace:
        namespaces.append({"type": "cgroup"})
    return namespaces


def _sysctls(owned: Mapping[str, str | None], domainname: str, requested: Mapping[str, str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    if owned["network"] is not None:
        # Both settings belong to the network namespace. In it a user other than root may bind port 80 and use ping
        # without CAP_NET_RAW (networking/ip-sysctl.rst).
        settings = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    # Version 1.0 of the specification has no field for the NIS domain name, but the sysctl of the UTS namespace has the
    # effect of setdomainname(2) (moby, daemon/oci_utils.go, setLinuxDomainname).
    if domainname and owned["uts"] == "":
        settings["kernel.domainname"] = domainname
    for name in requested:
        kind = "network" if name.startswith("net.") else "ipc"
        if owned[kind] is None:
            raise InvalidInput(
                f"sysctl {name!r} is not allowed in the host's {kind} namespace",
                hint="it would change the whole machine: run without the host's namespace",
            )
    return {**settings, **requested}


def _root_propagation(mounts: Iterable[Mount]) -> dict[str, str]:
    """Return the propagation type of the root mount: a shared or slave bind needs a root of at least that type."""
    # By default runc makes all mounts of the new namespace slaves (libcontainer/rootfs_linux.go, prepareRoot). Mounts
    # below a shared bind would then not propagate to the host (mount_namespaces(7), "SHARED SUBTREES").
    words = {word.removeprefix("r") for mount in mounts if mount.type == "bind" for word in mount.options}
    for kind in ("shared", "slave"):
        if kind in words:
            return {"rootfsPropagation": kind}
    return {}


def _device_config(device: Device) -> dict[str, Any]:
    return {
        "path": device.path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": device.uid,
        "gid": device.gid,
    }


def _resources(
    limits: Limits, devices: Sequence[Device], device_rules: Sequence[str], *, privileged: bool
) -> dict[str, Any]:
    for name, value in (("memory", limits.memory), ("cpus", limits.cpus), ("pids", limits.pids)):
        if value is not None and value <= 0 and (name, value) != ("pids", -1):
            raise InvalidInput(f"the {name} limit {value} is not a positive number")
    rules = [*_device_rules(devices, privileged=privileged), *map(_parsed_rule, device_rules)]
    return {"devices": rules, **cgroup_limits(limits)}


def cgroup_limits(limits: Limits) -> dict[str, Any]:
    """Return limits as the `linux.resources` object, which `runc update --resources` reads too."""
    quota, period = limits.cpu_quota, limits.cpu_period
    if limits.cpus is not None:
        quota, period = int(limits.cpus * _CPU_PERIOD), _CPU_PERIOD
    resources: dict[str, dict[str, Any]] = {
        "memory": {
            "limit": limits.memory,
            "swap": limits.memory_swap,
            "reservation": limits.memory_reservation,
            "swappiness": limits.swappiness,
            "kernel": limits.kernel_memory,
            "kernelTCP": limits.kernel_memory_tcp,
            "disableOOMKiller": limits.oom_kill_disabled or None,
        },
        "cpu": {
            "quota": quota,
            "period": period,
            "shares": limits.cpu_shares,
            "realtimePeriod": limits.realtime_period,
            "realtimeRuntime": limits.realtime_runtime,
            "cpus": limits.cpuset_cpus or None,
            "mems": limits.cpuset_mems or None,
        },
        "pids": {"limit": limits.pids},
        "blockIO": {"weight": limits.block_weight, **blockio.resources(limits.throttles)},
    }
    # An absent key leaves the kernel's setting unchanged, which matters for `runc update` (runc-update(8)).
    limited = {
        controller: {name: value for name, value in settings.items() if value is not None}
        for controller, settings in resources.items()
    }
    return {controller: settings for controller, settings in limited.items() if settings}


def _parsed_rule(text: str) -> dict[str, Any]:
    kind, numbers, access = text.split(" ")
    major, minor = numbers.split(":")
    device = {name: int(number) for name, number in (("major", major), ("minor", minor)) if number != "*"}
    return {"allow": True, "type": kind, **device, "access": access}


def _device_rules(devices: Sequence[Device], *, privileged: bool) -> list[dict[str, Any]]:
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    allowed = [
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for major, minor in _DEVICES
    ]
    allowed += [
        {"allow": True, "type": device.kind, "major": device.major, "minor": device.minor, "access": device.access}
        for device in devices
    ]
    return [{"allow": False, "access": "rwm"}, *allowed]


def default_mounts(*, privileged: bool = False) -> tuple[Mount, ...]:
    """Return the mounts of every container, the kernel's file systems and /dev, parents first."""
    access = "rw" if privileged else "ro"
    safe = ("nosuid", "noexec", "nodev")
    return (
        Mount(source="proc", destination="/proc", type="proc", options=safe),
        Mount(
            source="tmpfs",
            destination="/dev",
            type="tmpfs",
            options=("nosuid", "strictatime", "mode=755", "size=65536k"),
        ),
        # newinstance: terminals of the container only, so that /dev/pts/0 is not the host's (filesystems/devpts.rst).
        # gid 5 is the group tty on all common distributions, and grantpt(3) expects terminals to have it.
        Mount(
            source="devpts",
            destination="/dev/pts",
            type="devpts",
            options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
        Mount(source="sysfs", destination="/sys", type="sysfs", options=(*safe, access)),
        Mount(source="cgroup", destination="/sys/fs/cgroup", type="cgroup", options=(access, *safe)),
        Mount(source="mqueue", destination="/dev/mqueue", type="mqueue", options=safe),
        Mount(source="shm", destination="/dev/shm", type="tmpfs", options=(*safe, "mode=1777", "size=67108864")),
    )


def _all_mounts(mounts: Sequence[Mount], *, privileged: bool) -> list[Mount]:
    for mount in mounts:
        if not mount.destination.startswith("/"):
            raise InvalidInput(f"the mount destination {mount.destination!r} is not an absolute path")
    replaced = {mount.destination for mount in mounts}
    kept = [mount for mount in default_mounts(privileged=privileged) if mount.destination not in replaced]
    # A mount hides earlier mounts below its destination, so parents come first. The sort is stable: mounts of the same
    # depth keep their order.
    return sorted([*kept, *mounts], key=lambda mount: len([part for part in mount.destination.split("/") if part]))


def _mount_config(mount: Mount) -> dict[str, Any]:
    return {
        "destination": mount.destination,
        "type": mount.type,
        "source": mount.source,
        "options": list(mount.options),
    }
