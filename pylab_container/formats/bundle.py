"""What the OCI runtime is told: image config + run options + mounts → config.json.

A *bundle* is a directory with a config.json that says which process to start, on which
root, in which namespaces and with which limits. Source: the OCI Runtime Specification
1.0.2, config.md and config-linux.md. The defaults (capabilities, mounts, masked paths,
device rules) are those of Docker 20.10, as its own bundles show them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pylab_container.errors import InvalidInput

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


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One line of the container's mount table. Options as mount(8) spells them ("ro", "rbind", …)."""

    source: str
    destination: str
    type: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the cgroup allows: memory in bytes, cpus as a number of processors, pids as tasks."""

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None


@dataclass(frozen=True, kw_only=True)
class User:
    """Numbers only: names mean something inside the container's /etc/passwd alone."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process to start in a container. Each entry of environment is "NAME=value".

    console_size  (rows, columns) of its terminal from its first moment on; None: nobody knows yet
    """

    argv: tuple[str, ...]
    environment: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = User()
    terminal: bool = False
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    no_new_privileges: bool = False
    console_size: tuple[int, int] | None = None


def process_config(process: Process) -> dict[str, Any]:
    """The `process` object of config.json, which is also what `runc exec --process` reads.

    No rlimits and no oomScoreAdj: raising the one or lowering the other needs
    CAP_SYS_RESOURCE, which a lab machine may lack. No inheritable and no ambient
    capabilities either (CVE-2022-24769), so a user other than root has none after execve(2).
    """
    if not process.argv:
        raise InvalidInput("no command specified", hint="give a command, or use an image that has a CMD")
    if not process.cwd.startswith("/"):
        raise InvalidInput(f"the working directory {process.cwd!r} is not an absolute path")
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
    }


def runtime_config(
    process: Process,
    *,
    root: str,
    hostname: str,
    mounts: Sequence[Mount] = (),
    limits: Limits | None = None,
    cgroups_path: str,
    seccomp: dict[str, Any] | None = None,
    network_namespace: str | None = "",
    cgroup_namespace: bool = False,
    readonly_root: bool = False,
    privileged: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The whole config.json of one container.

    root               absolute path of the merged file system
    mounts             on top of Docker's default mounts; one with the same destination replaces the default
    cgroups_path       the container's cgroup, as an absolute path in each hierarchy: "/labctr/<id>"
    seccomp            a profile as seccomp_profile() makes it; None, and whenever privileged, no filter
    network_namespace  "" makes a new one, a path joins that one, None stays in the host's
    cgroup_namespace   Docker makes one exactly where the host uses cgroup v2 alone
    privileged         nothing hidden, nothing read-only, every device; the capabilities stay the process's own
    """
    linux: dict[str, Any] = {
        "cgroupsPath": cgroups_path,
        "namespaces": _namespaces(network_namespace, cgroup_namespace=cgroup_namespace),
        "resources": _resources(limits or Limits(), privileged=privileged),
        "maskedPaths": [] if privileged else list(MASKED_PATHS),
        "readonlyPaths": [] if privileged else list(READONLY_PATHS),
    }
    if network_namespace is not None:
        # Both are settings of a network namespace: nobody needs root for port 80 or ping in it.
        linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    if seccomp is not None and not privileged:
        linux["seccomp"] = seccomp
    return {
        "ociVersion": OCI_VERSION,
        "process": process_config(process),
        "root": {"path": root, "readonly": readonly_root},
        "hostname": hostname,
        "mounts": [_mount_config(mount) for mount in _all_mounts(mounts, privileged=privileged)],
        "annotations": dict(annotations or {}),
        "linux": linux,
    }


def _namespaces(network: str | None, *, cgroup_namespace: bool) -> list[dict[str, str]]:
    namespaces = [{"type": kind} for kind in ("mount", "uts", "pid", "ipc")]
    if network is not None:
        namespaces.append({"type": "network", "path": network} if network else {"type": "network"})
    if cgroup_namespace:
        namespaces.append({"type": "cgroup"})
    return namespaces


def _resources(limits: Limits, *, privileged: bool) -> dict[str, Any]:
    resources: dict[str, Any] = {"devices": _device_rules(privileged=privileged)}
    for name, value in (("memory", limits.memory), ("cpus", limits.cpus), ("pids", limits.pids)):
        if value is not None and value <= 0:
            raise InvalidInput(f"the {name} limit {value} is not a positive number")
    if limits.memory is not None:
        resources["memory"] = {"limit": limits.memory}
    if limits.cpus is not None:
        resources["cpu"] = {"quota": round(limits.cpus * _CPU_PERIOD), "period": _CPU_PERIOD}
    if limits.pids is not None:
        resources["pids"] = {"limit": limits.pids}
    return resources


def _device_rules(*, privileged: bool) -> list[dict[str, Any]]:
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    allowed = [
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for major, minor in _DEVICES
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
    added, dropped = _capability_names(add), _capability_names(drop)
    if "ALL" in added:
        chosen = set(available)
    elif "ALL" in dropped:
        chosen = added
    else:
        chosen = set(DEFAULT_CAPABILITIES) | added
    return tuple(name for name in ALL_CAPABILITIES if name in chosen - dropped and name in available)


def _capability_names(names: Iterable[str]) -> set[str]:
    found = set()
    for name in names:
        upper = name.upper()
        full = upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"
        if full != "ALL" and full not in ALL_CAPABILITIES:
            raise InvalidInput(f"unknown capability {name!r}", hint="man 7 capabilities lists them")
        found.add(full)
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
        gid, supplementary = _find_group(group_name, group), []
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


def _find_group(name: str, text: str) -> int:
    entry = _find_entry(name, text, columns=4)
    return int(entry[2]) if entry is not None else _number(name, kind="group", file="/etc/group")


def _groups_of(user_name: str, text: str) -> list[int]:
    return [int(entry[2]) for entry in _entries(text, columns=4) if user_name in entry[3].split(",")]


def _number(text: str, *, kind: str, file: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(
            f"unable to find {kind} {text}: no matching entries in the container's {file}",
            hint=f"create it in the image (RUN {kind}add {text}), or use a number",
        )
    if int(text) > _MAXIMUM_ID:
        raise InvalidInput(f"the {kind} id {text} is not in the range 0 to {_MAXIMUM_ID}")
    return int(text)


# uname(2)'s machine → Go's name, as the profile's conditions spell it, and libseccomp's.
_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "i686": ("386", "SCMP_ARCH_X86"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
}


def seccomp_profile(
    document: Mapping[str, Any], *, capabilities: Sequence[str], architecture: str, kernel: str
) -> dict[str, Any]:
    """A profile with conditions (containers-common's seccomp.json) → linux.seccomp of config.json.

    Docker, Podman and we share that format: each rule may *include* or *exclude* itself by
    capability, architecture and kernel version, and only the rules that hold here
    are handed to the runtime.

    architecture  uname -m;  kernel  uname -r

    Raises InvalidInput for an architecture that the profile format has no name for.
    """
    if architecture not in _ARCHITECTURES:
        raise InvalidInput(
            f"no seccomp architecture is known for {architecture!r}", hint="run without a seccomp profile"
        )
    go_name, scmp_name = _ARCHITECTURES[architecture]
    rules = [
        _seccomp_rule(rule)
        for rule in document.get("syscalls", ())
        if _rule_holds(rule, capabilities=capabilities, architecture=go_name, kernel=kernel)
    ]
    profile = {
        "defaultAction": document["defaultAction"],
        "architectures": _seccomp_architectures(document, scmp_name),
        "syscalls": rules,
    }
    if document.get("defaultErrnoRet") is not None:
        profile["defaultErrnoRet"] = document["defaultErrnoRet"]
    return profile


def _seccomp_architectures(document: Mapping[str, Any], name: str) -> list[str]:
    """The machine's own architecture and those whose programs it can run as well."""
    for entry in document.get("archMap") or ():
        if entry["architecture"] == name:
            return [name, *(entry.get("subArchitectures") or ())]
    return [name]


def _rule_holds(rule: Mapping[str, Any], *, capabilities: Sequence[str], architecture: str, kernel: str) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if architecture in (excludes.get("arches") or ()):
        return False
    if not set(includes.get("caps") or ()) <= set(capabilities):
        return False
    if set(excludes.get("caps") or ()) & set(capabilities):
        return False
    if includes.get("minKernel") and _version(kernel) < _version(includes["minKernel"]):
        return False
    return not (excludes.get("minKernel") and _version(kernel) >= _version(excludes["minKernel"]))


def _version(text: str) -> tuple[int, int]:
    """Major and minor of a kernel release: "6.1.0-18-amd64" is (6, 1)."""
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return int(major), int(minor or 0)


def _seccomp_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    names = rule.get("names") or [rule["name"]]
    converted: dict[str, Any] = {"names": list(names), "action": rule["action"]}
    if rule.get("args"):
        converted["args"] = [dict(argument) for argument in rule["args"]]
    if rule.get("errnoRet") is not None:
        converted["errnoRet"] = rule["errnoRet"]
    return converted
