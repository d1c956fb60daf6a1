"""What the OCI runtime is told: image config + run options + mounts → config.json.

A *bundle* is a directory with a config.json that says which process to start, on which
root, in which namespaces and with which limits. Source: the OCI Runtime Specification
1.0.2, config.md and config-linux.md. The defaults (capabilities, mounts, masked paths,
device rules) are those of Docker 20.10, as its own bundles show them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from pylab_container.errors import InvalidInput
from pylab_container.oci import blockio

# runc 1.1 refuses versions newer than the specification it was built for.
OCI_VERSION = "1.0.2"

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

# linux/capability.h; a capability's place in the list is its number.
# fmt: off
ALL_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER",
    "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
    "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
    "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
# fmt: on

# Files of the kernel that tell about the whole machine: an empty file hides them …
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
# … and those that change the whole machine when written.
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# (major, minor) of zero, null, urandom, random, tty and console; everything else is denied.
# The runtime itself adds /dev/pts/* and ptmx, without which no terminal would work.
_DEVICES = ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))

_CPU_PERIOD = 100_000  # microseconds; the kernel's default and Docker's
_MAXIMUM_ID = 2**31 - 1


# /proc/<pid>/fd/<n> and the like (proc(5)): links that lead out of every root.
_PROCESS_LINK = re.compile(r"/proc/(self|thread-self|[0-9]+)/(.+/)?(fd|cwd|root)(/|$)")


class Mount(Struct, frozen=True, kw_only=True):
    """One line of the container's mount table. Options as mount(8) spells them ("ro", "rbind", …)."""

    source: str
    destination: str
    type: str
    options: tuple[str, ...] = ()


class Limits(Struct, frozen=True, kw_only=True):
    """What the cgroup allows: memory in bytes, cpus as a number of processors, pids as tasks.

    memory_swap  memory and swap together, -1 for no limit; memory_reservation: aimed at when memory is short
    cpu_period, cpu_quota  microseconds, instead of cpus
    swappiness   0 to 100, cgroup v1 alone
    cpu_shares   weight against others, 1024 is usual; cpuset: which processors and memory nodes, "0-2,4"
    kernel_memory  of the kernel for it, and kernel_memory_tcp for its connections; cgroup v1 alone
    realtime_period, realtime_runtime  microseconds, for real-time scheduling
    block_weight  against others on all disks; throttles: of single disks
    oom_kill_disabled  what wants more memory than it may have waits instead of being killed; cgroup v1 alone
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
    """A device file in the container: kind "c" or "b", access of "r", "w" and "m"."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int = 0
    gid: int = 0
    access: str = "rwm"


class User(Struct, frozen=True, kw_only=True):
    """Numbers only: names mean something inside the container's /etc/passwd alone."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()


class Process(Struct, frozen=True, kw_only=True):
    """A process to start in a container. Each entry of environment is "NAME=value".

    console_size  (rows, columns) of its terminal from its first moment on; None: nobody knows yet
    rlimits       (name as getrlimit(2) has it, small and without RLIMIT_, soft, hard); -1 is no limit
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
    """The `process` object of config.json, which is also what `runc exec --process` reads.

    rlimits and oomScoreAdj only where asked for: raising the one or lowering the other needs
    CAP_SYS_RESOURCE, which a lab machine may lack. No inheritable and no ambient
    capabilities (CVE-2022-24769), so a user other than root has none after execve(2).
    """
    if not process.argv:
        raise InvalidInput("no command specified", hint="give a command, or use an image that has a CMD")
    if not process.cwd.startswith("/"):
        raise InvalidInput(f"the working directory {process.cwd!r} is not an absolute path")
    parts = process.cwd.split("/")
    if any(_PROCESS_LINK.match(posixpath.normpath("/".join(parts[:end]) or "/")) for end in range(1, len(parts) + 1)):
        # The runtime would change to it while it still holds descriptors of the host (CVE-2024-21626).
        raise InvalidInput(f"the working directory {process.cwd!r} is what a process has open", hint="name a directory")
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
    """The whole config.json of one container.

    root               absolute path of the merged file system
    mounts             on top of Docker's default mounts; one with the same destination replaces the default
    shared_memory      False: no /dev/shm by default
    devices            on top of the default ones
    cgroups_path       the container's cgroup, as an absolute path in each hierarchy: "/labctr/<id>"
    masked_paths       files of the kernel that are hidden; readonly_paths: those that can only be read
    seccomp            a profile as seccomp.resolve() makes it; None: no filter
    …_namespace        "" makes a new one, a path joins that one, None stays in the host's
    cgroup_namespace   Docker makes one exactly where the host uses cgroup v2 alone
    privileged         nothing hidden, nothing read-only, every device; the capabilities stay the process's own
    sysctls            settings of the container's own namespaces
    device_rules       kinds of devices that it may also use: "c 10:200 rwm", * for any number
    annotations        what the runtime, or a hook of it, is told beside
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
        # A name can be given to a new namespace alone: another one has a name already.
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
    """Put a config.json's container into a user namespace whose users 0 to size - 1 are uid … on the machine."""
    settings = config["linux"]
    settings["namespaces"].append({"type": "user"})
    settings["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": size}]
    settings["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": size}]
    # Its range has groups that the namespace does not; the kernel refuses to set it.
    settings.get("sysctl", {}).pop("net.ipv4.ping_group_range", None)


def _namespaces(owned: Mapping[str, str | None], *, cgroup_namespace: bool) -> list[dict[str, str]]:
    namespaces = [{"type": "mount"}]
    chosen = ((kind, owned[kind]) for kind in ("uts", "pid", "ipc", "network"))
    namespaces += [{"type": kind, **({"path": path} if path else {})} for kind, path in chosen if path is not None]
    if cgroup_namespace:
        namespaces.append({"type": "cgroup"})
    return namespaces


def _sysctls(owned: Mapping[str, str | None], domainname: str, wanted: Mapping[str, str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    if owned["network"] is not None:
        # Both are settings of a network namespace: nobody needs root for port 80 or ping in it.
        settings = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    if domainname and owned["uts"] == "":
        settings["kernel.domainname"] = domainname
    for name in wanted:
        kind = "network" if name.startswith("net.") else "ipc"
        if owned[kind] is None:
            raise InvalidInput(
                f"sysctl {name!r} is not allowed in the host's {kind} namespace",
                hint="it would change the whole machine",
            )
    return {**settings, **wanted}


def _root_propagation(mounts: Iterable[Mount]) -> dict[str, str]:
    """How far later mounts travel: a bind that shares them needs a root that does, too (mount_namespaces(7))."""
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
        if value is not None and value <= 0 and (name, value) != ("pids", -1):  # -1: no limit any more
            raise InvalidInput(f"the {name} limit {value} is not a positive number")
    rules = [*_device_rules(devices, privileged=privileged), *map(_parsed_rule, device_rules)]
    return {"devices": rules, **cgroup_limits(limits)}


def cgroup_limits(limits: Limits) -> dict[str, Any]:
    """Limits as `linux.resources` has them, which is also what `runc update --resources` reads."""
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
    given = {
        kind: {name: value for name, value in part.items() if value is not None} for kind, part in resources.items()
    }
    return {kind: part for kind, part in given.items() if part}


def _parsed_rule(text: str) -> dict[str, Any]:
    kind, numbers, access = text.split(" ")
    major, minor = numbers.split(":")
    given = {name: int(number) for name, number in (("major", major), ("minor", minor)) if number != "*"}
    return {"allow": True, "type": kind, **given, "access": access}


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
    """The file systems of the kernel that every container has, in mounting order."""
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
        # gid 5 is tty on every distribution.
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


def _all_mounts(wanted: Sequence[Mount], *, privileged: bool) -> list[Mount]:
    for mount in wanted:
        if not mount.destination.startswith("/"):
            raise InvalidInput(f"the mount destination {mount.destination!r} is not an absolute path")
    replaced = {mount.destination for mount in wanted}
    kept = [mount for mount in default_mounts(privileged=privileged) if mount.destination not in replaced]
    # A mount would hide what was mounted below it before: parents first. The sort is
    # stable, so that mounts of one depth stay in the order given.
    return sorted([*kept, *wanted], key=lambda mount: len([part for part in mount.destination.split("/") if part]))


def _mount_config(mount: Mount) -> dict[str, Any]:
    return {
        "destination": mount.destination,
        "type": mount.type,
        "source": mount.source,
        "options": list(mount.options),
    }


def capabilities_of(mask: int) -> tuple[str, ...]:
    """The names behind a mask such as CapBnd of /proc/<pid>/status (capabilities(7)).

    A privileged container gets those of the engine itself: asking for one that the
    machine lacks would fail. Bits that are newer than our list are left out.
    """
    return tuple(name for number, name in enumerate(ALL_CAPABILITIES) if mask >> number & 1)


def choose_capabilities(
    *, add: Iterable[str] = (), drop: Iterable[str] = (), available: Sequence[str] = ALL_CAPABILITIES
) -> tuple[str, ...]:
    """Docker's default capabilities, changed as --cap-add and --cap-drop say.

    Names come with or without CAP_, in any case; ALL means all that are available.
    What is dropped by name wins over what is added. Raises InvalidInput for a name
    that is no capability.
    """
    added, dropped = set(capability_names(add)), set(capability_names(drop))
    if "ALL" in added:
        chosen = set(available)
    elif "ALL" in dropped:
        chosen = added
    else:
        chosen = set(DEFAULT_CAPABILITIES) | added
    return tuple(name for name in ALL_CAPABILITIES if name in chosen - dropped and name in available)


def capability_names(names: Iterable[str]) -> list[str]:
    """Names as the kernel has them, CAP_CHOWN, or ALL; a word may lack CAP_, in any case. Raises InvalidInput."""
    found = []
    for name in names:
        upper = name.upper()
        full = upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"
        if full != "ALL" and full not in ALL_CAPABILITIES:
            raise InvalidInput(f'unknown capability: "{full}"', hint="man 7 capabilities lists them")
        found.append(full)
    return found


def find_user(user: str, *, passwd: str, group: str) -> tuple[User, str]:
    """Who "name", "uid", "name:group" or "uid:gid" is in a container, and its home directory.

    passwd, group  the text of the container's own /etc/passwd and /etc/group (passwd(5),
                   group(5)); "" where the image has none

    Docker's rules: "" is uid 0; a number needs no entry and then has group 0 and home
    "/"; a user with an entry is also in every group that names it, unless a group is
    given. Raises InvalidInput for a name without an entry.
    """
    name, _, group_name = user.partition(":")
    entry = _find_entry(name or "0", passwd, columns=7)
    if entry is not None:
        uid, gid, home = int(entry[2]), int(entry[3]), entry[5] or "/"
    else:
        uid, gid, home = _number(name or "0", kind="user", file="/etc/passwd"), 0, "/"
    if group_name:
        gid, supplementary = find_group(group_name, group), []
    else:
        supplementary = _groups_of(entry[0], group) if entry is not None else []
    # Docker lists the group itself too: without it a process could shed a group that a
    # file's mode denies (CVE-2022-36109).
    additional = tuple(dict.fromkeys([gid, *supplementary]))
    return User(uid=uid, gid=gid, additional_gids=additional), home


def _find_entry(name: str, text: str, *, columns: int) -> list[str] | None:
    """The first line whose name or number (column 0 or 2) is name; broken lines do not count."""
    return next((entry for entry in _entries(text, columns=columns) if name in (entry[0], entry[2])), None)


def _entries(text: str, *, columns: int) -> list[list[str]]:
    lines = [line.strip().split(":") for line in text.splitlines()]
    numeric = slice(2, 4 if columns == 7 else 3)  # uid and gid, or gid alone
    return [
        entry
        for entry in lines
        if len(entry) >= columns and all(number.isascii() and number.isdigit() for number in entry[numeric])
    ]


def find_group(name: str, text: str) -> int:
    """The number of a group: its name or number in the text of a group(5) file. Raises InvalidInput."""
    entry = _find_entry(name, text, columns=4)
    return int(entry[2]) if entry is not None else _number(name, kind="group", file="/etc/group")


def _groups_of(user_name: str, text: str) -> list[int]:
    return [int(entry[2]) for entry in _entries(text, columns=4) if user_name in entry[3].split(",")]


def _number(text: str, *, kind: str, file: str) -> int:
    if re.fullmatch(r"-?\d+", text, re.ASCII) and not 0 <= int(text) <= _MAXIMUM_ID:
        raise InvalidInput(f"uids and gids must be in range 0-{_MAXIMUM_ID}", hint=f"choose another {kind}")
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(
            f"unable to find {kind} {text}: no matching entries in {file.rpartition('/')[2]} file",
            hint=f"create it in the image (RUN {kind}add {text}), or use a number",
        )
    return int(text)
