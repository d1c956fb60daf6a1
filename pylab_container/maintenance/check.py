"""`labctr system check`: the features that the engine needs, with a remedy for each.

look() examines the machine, judge() compares the result with the requirements. The machine is left unchanged: mounts
are tried in a scratch directory, and network interfaces in a network namespace that is discarded.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from msgspec import Struct, field

from pylab_container.errors import LabError
from pylab_container.host import idmap, linux, programs
from pylab_container.host.files import read_text_or_empty
from pylab_container.host.random_ids import random_hex
from pylab_container.oci.capabilities import ALL_CAPABILITIES, capabilities_of
from pylab_container.runtime.network.foreign import chains_that_drop
from pylab_container.runtime.runc import cgroup_version
from pylab_container.store import overlayfs

OLDEST_KERNEL = "5.6"  # has openat2(2), which resolves every path of an image

# Program → (oldest version that works, whether the engine needs the program).
OLDEST_PROGRAMS = {
    "runc": ("1.1", True),
    "conmon": ("2.0.26", True),
    "nft": ("0.9.6", True),
    "mmdebstrap": ("0.7", False),
}

# CVE-2024-21626 is fixed in 1.1.12, and in Debian's security updates of older versions: "1.1.5+ds1-1+deb12u1".
FIXED_RUNC, DEBIAN_SECURITY_UPDATE = "1.1.12", re.compile(r"\+deb\d+u\d+")

CONTROLLERS = ("cpu", "cpuset", "devices", "freezer", "memory", "pids")
NAMESPACES = ("ipc", "mnt", "net", "pid", "uts")
NEEDED_CAPABILITIES = (
    "CAP_SYS_ADMIN",
    "CAP_NET_ADMIN",
    "CAP_MKNOD",
    "CAP_SYS_CHROOT",
    "CAP_SETFCAP",
    "CAP_DAC_OVERRIDE",
)


class Check(Struct, frozen=True):
    """One line of the report.

    found   the state of the feature: a version, a list, or the kernel's error message
    needed  False for a feature that only some operations use
    remedy  the command to type, or the setting to change; "" if ok
    """

    name: str
    ok: bool
    found: str
    needed: bool = True
    remedy: str = ""


class Machine(Struct, frozen=True):
    """The features of a machine.

    overlay, idmapping  the error of a trial mount; "" if it succeeded
    network             kind of interface or table → the error of its creation; "" if it succeeded
    programs            name → the output of `--version`; an uninstalled program has no entry
    dropping            other programs' nft chains that drop forwarded packets, such as Docker's
    """

    kernel: str
    overlay: str
    idmapping: str
    network: Mapping[str, str]
    namespaces: frozenset[str]
    user_namespaces: bool
    cgroup: str
    controllers: frozenset[str]
    seccomp: bool
    capabilities: frozenset[str]
    forwarding: bool
    programs: Mapping[str, str] = field(default_factory=dict)
    dropping: tuple[str, ...] = ()


def check(data_root: Path) -> list[Check]:
    """Run all checks for an engine with this data root, which must exist."""
    return judge(look(data_root))


# -- requirements --------------------------------------------------------------------------------


def judge(machine: Machine) -> list[Check]:
    """Return the report on a machine."""
    return [*_kernel(machine), *_cgroups(machine), *_network(machine), *_programs(machine)]


def _kernel(machine: Machine) -> Iterator[Check]:
    is_recent = _version(machine.kernel) >= _version(OLDEST_KERNEL)
    remedy = f"the engine needs Linux {OLDEST_KERNEL}: apt-get install linux-image-amd64"
    yield _line("kernel", machine.kernel, is_recent, remedy)
    remedy = "modprobe overlay, or another --root, on ext4, xfs or btrfs"
    yield _line("overlay", machine.overlay, not machine.overlay, remedy)
    missing = sorted(set(NAMESPACES) - machine.namespaces)
    yield _line("namespaces", ", ".join(sorted(machine.namespaces)), not missing, f"a kernel with {', '.join(missing)}")
    yield _line("seccomp", "filters" if machine.seccomp else "", machine.seccomp, "a kernel with CONFIG_SECCOMP_FILTER")
    missing = [name for name in NEEDED_CAPABILITIES if name not in machine.capabilities]
    found = f"{len(machine.capabilities)} of {len(ALL_CAPABILITIES)}"
    yield _line("capabilities", found, not missing, f"sudo, on a machine that gives {', '.join(missing)}")
    found = "allowed" if machine.user_namespaces else ""
    remedy = "sysctl -w user.max_user_namespaces=10000, for --userns=remap"
    yield _line("user namespaces", found, machine.user_namespaces, remedy, needed=False)
    remedy = "Linux 5.19 and a data root on ext4, xfs or btrfs, for --userns=remap"
    yield _line("id-mapped mounts", machine.idmapping, not machine.idmapping, remedy, needed=False)


def _cgroups(machine: Machine) -> Iterator[Check]:
    found = f"version {machine.cgroup}: {', '.join(sorted(machine.controllers))}" if machine.controllers else ""
    # In cgroup version 2 a BPF program filters devices, and every cgroup can be frozen.
    needed = set(CONTROLLERS) - ({"devices", "freezer"} if machine.cgroup == "2" else set())
    missing = sorted(needed - machine.controllers)
    remedy = "apt-get install cgroupfs-mount"
    if machine.controllers:
        remedy = f"the kernel's command line: cgroup_enable={','.join(missing)}"
    yield _line("cgroups", found, not missing, remedy)


def _network(machine: Machine) -> Iterator[Check]:
    modules = {"bridge": "bridge", "veth": "veth", "nf_tables": "nf_tables nft_chain_nat"}
    for name, module in modules.items():
        reason = machine.network.get(name, "")
        yield _line(name, reason, not reason, f"modprobe {module}")
    # The engine enables it itself when the first container needs it.
    found = "on" if machine.forwarding else "off"
    yield _line("forwarding", found, machine.forwarding, "sysctl -w net.ipv4.ip_forward=1", needed=False)
    others = f"policy drop: {', '.join(machine.dropping)}" if machine.dropping else "open"
    allow = "iptables -I DOCKER-USER -i labctr+ -j ACCEPT; iptables -I DOCKER-USER -o labctr+ -j ACCEPT"
    yield _line("firewall", others, not machine.dropping, allow, needed=False)


def _programs(machine: Machine) -> Iterator[Check]:
    for name, (oldest, needed) in OLDEST_PROGRAMS.items():
        output = machine.programs.get(name, "")
        is_recent = bool(output) and _version(output) >= _version(oldest)
        remedy = f"apt-get install {programs.PACKAGES.get(name, name)}" + (f" ({oldest} or newer)" if output else "")
        yield _line(name, _first_number(output), is_recent, remedy, needed=needed)
    if output := machine.programs.get("runc", ""):
        is_fixed = _version(output) >= _version(FIXED_RUNC) or bool(DEBIAN_SECURITY_UPDATE.search(output))
        remedy = f"apt-get install --only-upgrade runc ({FIXED_RUNC}, or your distribution's security update)"
        yield _line("runc CVE-2024-21626", "fixed" if is_fixed else "", is_fixed, remedy, needed=False)


def _line(name: str, found: str, ok: bool, remedy: str, *, needed: bool = True) -> Check:  # noqa: FBT001
    return Check(name, ok, found or ("yes" if ok else "missing"), needed, "" if ok else remedy)


def _first_number(text: str) -> str:
    match = re.search(r"\d+(\.\d+)+", text)
    return match[0] if match else ""


def _version(text: str) -> tuple[int, ...]:
    """Parse the first version number in a text: (1, 0, 6) in "nftables v1.0.6 (…)", () if it has none."""
    number = _first_number(text)
    return tuple(map(int, number.split("."))) if number else ()


# -- the machine ---------------------------------------------------------------------------------


def look(data_root: Path) -> Machine:
    """Examine the machine. This takes about 0.1 s."""
    return Machine(
        kernel=os.uname().release,
        overlay=_failure(lambda: _try_overlay(data_root)),
        idmapping=_failure(lambda: _try_idmapping(data_root)),
        network=_try_network(),
        namespaces=frozenset(name for name in NAMESPACES if Path(f"/proc/self/ns/{name}").exists()),
        user_namespaces=read_text_or_empty("/proc/sys/user/max_user_namespaces").strip() not in ("", "0"),
        cgroup=cgroup_version(),
        controllers=frozenset(_controllers()),
        seccomp="errno" in read_text_or_empty("/proc/sys/kernel/seccomp/actions_avail").split(),
        capabilities=frozenset(_own_capabilities()),
        forwarding=read_text_or_empty("/proc/sys/net/ipv4/ip_forward").strip() == "1",
        programs=dict(_versions()),
        dropping=_dropping(),
    )


def _dropping() -> tuple[str, ...]:
    try:
        return tuple(chains_that_drop())
    except LabError:  # without nft: the line "nft" reports it
        return ()


def _failure(trial: Callable[[], None]) -> str:
    """Run a trial and return its error message; "" if it succeeds."""
    try:
        trial()
    except (LabError, OSError) as error:
        return error.message if isinstance(error, LabError) else str(error)
    return ""


@contextlib.contextmanager
def _scratch(data_root: Path) -> Iterator[Path]:
    directory = data_root / f"check-{random_hex(8)}"
    directory.mkdir(mode=0o700)
    try:
        for name in ("lower", "upper", "work", "merged"):
            (directory / name).mkdir()
        yield directory
    finally:
        with contextlib.suppress(OSError):
            (directory / "work/work").rmdir()
        for name in ("lower", "upper", "work", "merged"):
            (directory / name).rmdir()
        directory.rmdir()


def _try_overlay(data_root: Path) -> None:
    with _scratch(data_root) as directory:
        overlayfs.mount(directory, "merged", lowers=["lower"], upper="upper", work="work")
        try:
            (directory / "merged/file").touch()
            (directory / "merged/file").unlink()
        finally:
            overlayfs.unmount(directory / "merged")


def _try_idmapping(data_root: Path) -> None:
    with idmap.mapped_tree(data_root, idmap.subordinate_ids()):
        pass


def _try_network() -> dict[str, str]:
    """Create a bridge, a veth pair and an nf_tables table in a new network namespace; return the errors."""
    commands = {
        "bridge": ["ip", "link", "add", "name", "check0", "type", "bridge"],
        "veth": ["ip", "link", "add", "name", "check1", "type", "veth", "peer", "name", "check2"],
        "nf_tables": [
            "nft",
            "add table inet check; add chain inet check nat { type nat hook postrouting priority 0; }",
        ],
    }
    reasons: dict[str, str] = {}

    def work() -> None:
        with contextlib.suppress(OSError):  # without network namespaces: the line "namespaces" reports it
            linux.unshare(linux.CLONE_NEWNET)
            reasons.update({name: _failure(partial(_run, command)) for name, command in commands.items()})

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return {name: reasons.get(name, "no network namespace") for name in commands}


def _run(command: list[str]) -> None:
    programs.run(command)


def _controllers() -> list[str]:
    root = Path("/sys/fs/cgroup")
    if cgroup_version() == "2":
        return read_text_or_empty(root / "cgroup.controllers").split()
    return [name for name in CONTROLLERS if (root / name / "cgroup.procs").exists()]


def _own_capabilities() -> tuple[str, ...]:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return capabilities_of(int(lines["CapEff"], 16))


def _versions() -> Iterator[tuple[str, str]]:
    for name in OLDEST_PROGRAMS:
        with contextlib.suppress(LabError):
            yield name, programs.run([name, "--version"]).output.strip()
