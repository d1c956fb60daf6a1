"""Linux capabilities: the privileges of root, divided into units that can be granted one by one.

Source: capabilities(7); the numbers are those of the kernel's include/uapi/linux/capability.h.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pylab_container.errors import InvalidInput

# Docker 20.10's default set. It lacks what would let root in a container act on the machine: CAP_SYS_ADMIN (mounts,
# namespaces), CAP_NET_ADMIN, CAP_SYS_MODULE, CAP_SYS_TIME and others. Source: moby, oci/caps/defaults.go.
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

# A capability's index in the list is its number.
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


def capabilities_of(mask: int) -> tuple[str, ...]:
    """Return the names for a mask such as CapBnd of /proc/<pid>/status.

    Bits of newer kernels are ignored.
    """
    return tuple(name for number, name in enumerate(ALL_CAPABILITIES) if mask >> number & 1)


def choose_capabilities(
    *, add: Iterable[str] = (), drop: Iterable[str] = (), available: Sequence[str] = ALL_CAPABILITIES
) -> tuple[str, ...]:
    """Return Docker's default capabilities, changed by --cap-add and --cap-drop.

    add, drop  names in any case, with or without CAP_; ALL stands for all available ones. A name in drop overrides
               the same name in add
    available  capabilities of the engine's own process: runc fails if it has to grant one that it lacks

    Raises InvalidInput.
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
    """Normalize names to the kernel's spelling, CAP_CHOWN, or ALL.

    Raises InvalidInput for an unknown name.
    """
    normalized = []
    for name in names:
        upper = name.upper()
        full = upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"
        if full != "ALL" and full not in ALL_CAPABILITIES:
            raise InvalidInput(f'unknown capability: "{full}"', hint="man 7 capabilities lists them")
        normalized.append(full)
    return normalized
