"""`labctr system check`: what this machine can do, and what to do about what it cannot.

look() asks the machine, judge() compares that with what the engine needs. Nothing stays changed: what
has to be tried is tried in a scratch directory, or in a network namespace that goes at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from msgspec import Struct, field

from pylab_container.errors import LabError
from pylab_container.host import idmap, linux, programs
from pylab_container.oci.capabilities import ALL_CAPABILITIES, capabilities_of
from pylab_container.runtime.runc import cgroup_version
from pylab_container.store import overlayfs

# openat2(2), with which every path of an image is resolved.
OLDEST_KERNEL = "5.6"

# Program → (oldest version that does, whether the engine cannot do without).
OLDEST_PROGRAMS = {
    "runc": ("1.1", True),
    "conmon": ("2.0.26", True),
    "nft": ("0.9.6", True),
    "mmdebstrap": ("0.7", False),
}

# 1.1.12 mended CVE-2024-21626. Debian mended older versions too, and says so in the package's own version.
_MENDED_RUNC, _MENDED_BY_DEBIAN = "1.1.12", re.compile(r"\+deb\d+u\d+")

CONTROLLERS = ("cpu", "cpuset", "devices", "freezer", "memory", "pids")
_NAMESPACES = ("ipc", "mnt", "net", "pid", "uts")
_CAPABILITIES = ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_SYS_CHROOT", "CAP_SETFCAP", "CAP_DAC_OVERRIDE")


class Check(Struct, frozen=True):
    """One line of the report.

    found   what is there: a version, a list, the kernel's own words
    needed  False: only something that can be done without depends on it
    remedy  what to type, or where to look; "" where all is well
    """

    name: str
    ok: bool
    found: str
    needed: bool = True
    remedy: str = ""


class Machine(Struct, frozen=True):
    """What look() found. An empty text means that there was nothing, or that a trial went well.

    overlay, idmapping, network  the reason why one could not be made
    programs                     name → what `--version` says; no entry where it is not installed
    dropping                     the nft chains of others that let nothing through, as Docker's
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
    """Every check, for an engine with this data root, which must exist."""
    return judge(look(data_root))


# ---- what is needed --------------------------------------------------------------------------


def judge(machine: Machine) -> list[Check]:
    """The report on a machine."""
    return [*_kernel(machine), *_cgroups(machine), *_network(machine), *_programs(machine)]


def _kernel(machine: Machine) -> Iterator[Check]:
    recent = _version(machine.kernel) >= _version(OLDEST_KERNEL)
    yield _line(
        "kernel", machine.kernel, recent, f"the engine needs Linux {OLDEST_KERNEL}: apt-get install linux-image-amd64"
    )
    yield _line(
        "overlay", machine.overlay, not machine.overlay, "modprobe overlay, or another --root, on ext4, xfs or btrfs"
    )
    missing = sorted(set(_NAMESPACES) - machine.namespaces)
    yield _line("namespaces", ", ".join(sorted(machine.namespaces)), not missing, f"a kernel with {', '.join(missing)}")
    yield _line("seccomp", "filters" if machine.seccomp else "", machine.seccomp, "a kernel with CONFIG_SECCOMP_FILTER")
    lacking = [name for name in _CAPABILITIES if name not in machine.capabilities]
    found = f"{len(machine.capabilities)} of {len(ALL_CAPABILITIES)}"
    yield _line("capabilities", found, not lacking, f"sudo, on a machine that gives {', '.join(lacking)}")
    yield _line(
        "user namespaces", "allowed" if machine.user_namespaces else "", machine.user_namespaces,
        "sysctl -w user.max_user_namespaces=10000, for --userns=remap", needed=False,
    )  # fmt: skip
    yield _line(
        "id-mapped mounts", machine.idmapping, not machine.idmapping,
        "Linux 5.19 and a data root on ext4, xfs or btrfs, for --userns=remap", needed=False,
    )  # fmt: skip


def _cgroups(machine: Machine) -> Iterator[Check]:
    found = f"version {machine.cgroup}: {', '.join(sorted(machine.controllers))}" if machine.controllers else ""
    # In version 2 a device's filter is a program (BPF), and freezing is part of every cgroup.
    wanted = set(CONTROLLERS) - ({"devices", "freezer"} if machine.cgroup == "2" else set())
    missing = sorted(wanted - machine.controllers)
    remedy = "apt-get install cgroupfs-mount"
    if machine.controllers:
        remedy = f"the kernel's command line: cgroup_enable={','.join(missing)}"
    yield _line("cgroups", found, not missing, remedy)


def _network(machine: Machine) -> Iterator[Check]:
    modules = {"bridge": "bridge", "veth": "veth", "nf_tables": "nf_tables nft_chain_nat"}
    for name, module in modules.items():
        reason = machine.network.get(name, "")
        yield _line(name, reason, not reason, f"modprobe {module}")
    # The engine switches it on itself, when the first container needs it.
    found = "on" if machine.forwarding else "off"
    yield _line("forwarding", found, machine.forwarding, "sysctl -w net.ipv4.ip_forward=1", needed=False)
    others = f"policy drop: {', '.join(machine.dropping)}" if machine.dropping else "open"
    allow = "iptables -I DOCKER-USER -i labctr+ -j ACCEPT; iptables -I DOCKER-USER -o labctr+ -j ACCEPT"
    yield _line("firewall", others, not machine.dropping, allow, needed=False)


def _programs(machine: Machine) -> Iterator[Check]:
    for name, (oldest, needed) in OLDEST_PROGRAMS.items():
        said = machine.programs.get(name, "")
        recent = bool(said) and _version(said) >= _version(oldest)
        remedy = f"apt-get install {programs.PACKAGES.get(name, name)}" + (f" ({oldest} or newer)" if said else "")
        yield _line(name, _first_number(said), recent, remedy, needed=needed)
    if said := machine.programs.get("runc", ""):
        mended = _version(said) >= _version(_MENDED_RUNC) or bool(_MENDED_BY_DEBIAN.search(said))
        remedy = f"apt-get install --only-upgrade runc ({_MENDED_RUNC}, or your distribution's security update)"
        yield _line("runc CVE-2024-21626", "mended" if mended else "", mended, remedy, needed=False)


def _line(name: str, found: str, ok: bool, remedy: str, *, needed: bool = True) -> Check:  # noqa: FBT001
    return Check(name, ok, found or ("yes" if ok else "missing"), needed, "" if ok else remedy)


def _first_number(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else ""


def _version(text: str) -> tuple[int, ...]:
    """The first version number in a text: "nftables v1.0.6 (…)" is (1, 0, 6), a text without one ()."""
    number = _first_number(text)
    return tuple(map(int, number.split("."))) if number else ()


# ---- what is there ---------------------------------------------------------------------------


def look(data_root: Path) -> Machine:
    """Ask the machine. Takes about a tenth of a second."""
    return Machine(
        kernel=os.uname().release,
        overlay=_reason(lambda: _try_overlay(data_root)),
        idmapping=_reason(lambda: _try_idmapping(data_root)),
        network=_try_network(),
        namespaces=frozenset(name for name in _NAMESPACES if Path(f"/proc/self/ns/{name}").exists()),
        user_namespaces=_text("/proc/sys/user/max_user_namespaces") not in ("", "0"),
        cgroup=cgroup_version(),
        controllers=frozenset(_controllers()),
        seccomp="errno" in _text("/proc/sys/kernel/seccomp/actions_avail").split(),
        capabilities=frozenset(_own_capabilities()),
        forwarding=_text("/proc/sys/net/ipv4/ip_forward") == "1",
        programs=dict(_versions()),
        dropping=_dropping(),
    )


def _dropping() -> tuple[str, ...]:
    try:
        from pylab_container.runtime.network.foreign import chains_that_drop

        return tuple(chains_that_drop())
    except LabError:  # no nft, which has a line of its own, or no container of this engine has a network
        return ()


def _reason(trial: Callable[[], None]) -> str:
    try:
        trial()
    except (LabError, OSError) as error:
        return error.message if isinstance(error, LabError) else str(error)
    return ""


@contextlib.contextmanager
def _scratch(data_root: Path) -> Iterator[Path]:
    directory = data_root / f"check-{secrets.token_hex(8)}"
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
    """Why a bridge, a veth pair and an nf_tables table cannot be made, in a network namespace for this alone."""
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
        with contextlib.suppress(OSError):  # no network namespaces: another line of the report says that
            linux.unshare(linux.CLONE_NEWNET)
            reasons.update({name: _reason(partial(_run, command)) for name, command in commands.items()})

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return {name: reasons.get(name, "no network namespace") for name in commands}


def _run(command: list[str]) -> None:
    programs.run(command)


def _controllers() -> list[str]:
    root = Path("/sys/fs/cgroup")
    if cgroup_version() == "2":
        return _text(str(root / "cgroup.controllers")).split()
    return [name for name in CONTROLLERS if (root / name / "cgroup.procs").exists()]


def _own_capabilities() -> tuple[str, ...]:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return capabilities_of(int(lines["CapEff"], 16))


def _versions() -> Iterator[tuple[str, str]]:
    for name in OLDEST_PROGRAMS:
        with contextlib.suppress(LabError):
            yield name, programs.run([name, "--version"]).output.strip()


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
