"""The restrictions of a container, seen from inside: equal in a container of ours and of dockerd."""

from __future__ import annotations

import json
import platform
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pylab_container import Engine
from pylab_container.oci import seccomp
from pylab_container.oci.capabilities import DEFAULT_CAPABILITIES
from tests.support.commands import Labctr
from tests.support.dockerd import Docker
from tests.support.fixtures import engine_on

PROBE = Path(__file__).with_name("security_probe.sh").read_text()

# System calls by number, since glibc wraps few of them: (x86-64, everywhere else), asm/unistd.h. The arguments
# make each fail, if not by the filter then by the kernel: no flags that exist, no address that does.
SYSTEM_CALLS = {
    "acct": (163, 89), "add_key": (248, 217), "bpf": (321, 280), "chroot": (161, 51), "clone3": (435, 435),
    "delete_module": (176, 106), "fsopen": (430, 430), "get_mempolicy": (239, 236), "init_module": (175, 105),
    "io_uring_setup": (425, 425), "kcmp": (312, 272), "kexec_load": (246, 104), "keyctl": (250, 219),
    "landlock_create_ruleset": (444, 444), "mbind": (237, 235), "mount": (165, 40), "mount_setattr": (442, 442),
    "move_mount": (429, 429), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "open_tree": (428, 428), "openat2": (437, 437), "perf_event_open": (298, 241), "personality": (135, 92),
    "pidfd_getfd": (438, 438), "pidfd_open": (434, 434), "pivot_root": (155, 41), "process_vm_readv": (310, 270),
    "ptrace": (101, 117), "quotactl": (179, 60), "reboot": (169, 142), "request_key": (249, 218),
    "setdomainname": (171, 162), "sethostname": (170, 161), "setns": (308, 268), "settimeofday": (164, 170),
    "statx": (332, 291), "swapoff": (168, 225), "swapon": (167, 224), "syslog": (103, 116), "umount2": (166, 39),
    "unshare": (272, 97), "userfaultfd": (323, 282), "vmsplice": (278, 75),
}  # fmt: skip
CALLER = f"""
import ctypes, json, platform
libc = ctypes.CDLL(None, use_errno=True)
column = 0 if platform.machine() == "x86_64" else 1
found = {{}}
for name, numbers in {SYSTEM_CALLS!r}.items():
    result = libc.syscall(numbers[column], *[ctypes.c_long(-2)] * 6)
    found[name] = ctypes.get_errno() if result < 0 else 0
for name, flag in dict(user=0x10000000, mount=0x20000, net=0x40000000, pid=0x20000000, uts=0x4000000).items():
    found[f"unshare {{name}}"] = ctypes.get_errno() if libc.unshare(flag) < 0 else 0
print(json.dumps(found))
"""


class Peers(NamedTuple):
    """Two engines with one image."""

    docker: Docker
    cli: Labctr

    def run(self, *options: str, command: Sequence[str]) -> tuple[str, str]:
        """Return what a command prints in a container of dockerd and in one of ours."""
        arguments = ["run", "--rm", "--network", "none", "--hostname", "box", *options, "box:1", *command]
        return self.docker.run(*arguments).decode(), self.cli(*arguments).stdout


@pytest.fixture(scope="module")
def box_tar(busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The busybox image with links through which a /usr of the host can be used."""
    path = tmp_path_factory.mktemp("box") / "box.tar"
    shutil.copy(busybox_tar, path)
    with tarfile.open(path, "a") as archive:
        for name in ("lib", "lib64"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            archive.addfile(entry)
    return path


@pytest.fixture(scope="module")
def running_docker(dockerd: Docker, box_tar: Path) -> Docker:
    dockerd.run("import", box_tar, "box:1")
    return dockerd


@pytest.fixture(scope="module")
def engine(nothing_left_behind: None, box_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with the image, for all tests."""
    with engine_on(tmp_path_factory.mktemp("engine") / "root") as engine:
        engine.images.import_(box_tar, "box:1")
        yield engine


@pytest.fixture
def peers(running_docker: Docker, cli: Labctr) -> Peers:
    return Peers(running_docker, cli)


def plain(text: str) -> list[str]:
    """The lines of the probe without what must differ: ids, places on the host, counts, order of mounts."""
    text = re.sub(r"[0-9a-f]{64}", "ID", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "SHORT", text)
    text = re.sub(r"/\S*/containers/ID", "/ENGINE/containers/ID", text)
    text = re.sub(r"/(docker|labctr)/ID", "/PARENT/ID", text)
    text = re.sub(r"^mount: / / .*", lambda found: " ".join(found[0].split()[:4]), text, flags=re.MULTILINE)
    return sorted(text.splitlines())


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--user", "student"],
        ["--user", "1000:0"],
        ["--security-opt", "no-new-privileges"],
        ["--cap-drop", "ALL"],
        ["--cap-drop", "ALL", "--cap-add", "CHOWN"],
        ["--cap-add", "SYS_ADMIN", "--cap-drop", "mknod"],
        ["--cap-add", "NET_ADMIN", "--user", "student"],
        ["--read-only"],
        ["--read-only", "--tmpfs", "/tmp"],
        ["--security-opt", "seccomp=unconfined"],
        ["--ulimit", "nofile=100:200"],
        ["--device", "/dev/null:/dev/nothing:r"],
        ["--domainname", "lab"],
        ["--oom-score-adj", "500"],
        ["--ipc", "private"],
        ["--shm-size", "1m"],
        ["--pid", "host"],
        ["--uts", "host"],
        ["--sysctl", "net.ipv4.ip_forward=1"],
        ["--group-add", "5", "--user", "student"],
    ],
    ids=" ".join,
)
def test_a_container_is_kept_from_the_same_things_as_dockers(peers: Peers, options: list[str]) -> None:
    if options[0:2] == ["--uts", "host"]:
        options = [*options, "--hostname", ""]
    theirs, ours = peers.run(*options, command=["sh", "-c", PROBE])
    assert "probe complete" in ours
    assert plain(ours) == plain(theirs)


@pytest.mark.parametrize(
    "options", [[], ["--cap-add", "SYS_ADMIN"], ["--cap-add", "SYS_PTRACE"], ["--user", "student"]], ids=" ".join
)
def test_system_calls_end_as_in_dockers(peers: Peers, options: list[str]) -> None:
    theirs, ours = peers.run(*options, "-v", "/usr:/usr:ro", command=["/usr/bin/python3", "-c", CALLER])
    assert json.loads(ours) == json.loads(theirs)


def test_a_program_can_make_no_user_namespace(peers: Peers) -> None:
    options = ["-v", "/usr:/usr:ro"]
    theirs, ours = peers.run(*options, command=["sh", "-c", "/usr/bin/unshare --map-root-user true 2>&1; echo $?"])
    assert ours == theirs
    assert ours.endswith("1\n")


@pytest.mark.parametrize("capability", ["", "CAP_CHOWN", *seccomp.BY_CAPABILITY])
def test_the_profile_is_dockers_rule_by_rule(running_docker: Docker, capability: str) -> None:
    options = ["--cap-drop=ALL", f"--cap-add={capability[4:]}"] if capability else []
    theirs = docker_bundle(running_docker, *options)["linux"]["seccomp"]
    ours = seccomp.resolve(
        seccomp.default_profile(),
        capabilities=[capability] if capability else DEFAULT_CAPABILITIES,
        architecture=platform.machine(),
        kernel=platform.release(),
    )
    assert by_call(ours.pop("syscalls")) == by_call(theirs.pop("syscalls"))
    assert ours == theirs


def docker_bundle(docker: Docker, *options: str) -> Any:
    """The config.json that dockerd gives its runtime."""
    container = docker.run("run", "--detach", "--network=none", *options, "box:1", "sleep", "1000").decode().strip()
    try:
        return docker.bundle(container)
    finally:
        docker.run("rm", "--force", container)


def by_call(rules: Any) -> dict[str, list[str]]:
    """For each system call all that the rules say of it."""
    found: dict[str, list[str]] = {}
    for rule in rules:
        rest = json.dumps({key: value for key, value in rule.items() if key != "names"}, sort_keys=True)
        for name in rule["names"]:
            found.setdefault(name, []).append(rest)
    return {name: sorted(set(said)) for name, said in found.items()}
