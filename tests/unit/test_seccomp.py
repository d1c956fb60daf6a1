"""oci/seccomp.py: which system calls a container may make."""

from __future__ import annotations

from typing import Any

import pytest

from pylab_container.errors import InvalidInput
from pylab_container.oci.capabilities import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from pylab_container.oci.seccomp import default_profile, resolve

DOCUMENT: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
        {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.10"}},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
    ],
}


def rules(**changed: Any) -> dict[str, str]:
    options = {"capabilities": DEFAULT_CAPABILITIES, "architecture": "x86_64", "kernel": "6.1.0-18-amd64"} | changed
    made = resolve(DOCUMENT, **options)
    return {rule["names"][0]: rule["action"] for rule in made["syscalls"]}


def test_rules_hold_for_the_capabilities_that_the_container_has() -> None:
    assert rules()["mount"] == "SCMP_ACT_ERRNO"
    assert rules(capabilities=("CAP_SYS_ADMIN",))["mount"] == "SCMP_ACT_ALLOW"


def test_rules_hold_for_the_architecture_and_kernel() -> None:
    assert {"arch_prctl", "new"} <= set(rules())
    assert "arch_prctl" not in rules(architecture="aarch64")
    assert "new" not in rules(kernel="5.9.16")
    assert "new" in rules(kernel="5.10-rc1")


def test_a_profile_has_only_what_the_runtime_specification_knows() -> None:
    made = resolve(DOCUMENT, capabilities=(), architecture="x86_64", kernel="6.1")
    assert made["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert made["defaultErrnoRet"] == 38
    assert {key for rule in made["syscalls"] for key in rule} == {"names", "action", "args", "errnoRet"}


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(InvalidInput):
        rules(architecture="pdp11")


# -- the default -------------------------------------------------------------------------------


def allowed(*capabilities: str, architecture: str = "x86_64", kernel: str = "6.1.0") -> set[str]:
    """The system calls that are allowed whatever their arguments."""
    made = resolve(default_profile(), capabilities=capabilities, architecture=architecture, kernel=kernel)
    rules = [rule for rule in made["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule]
    return {name for rule in rules for name in rule["names"]}


def test_the_default_allows_what_programs_do() -> None:
    assert {"read", "execve", "chroot", "socket", "ptrace", "openat2"} <= allowed(*DEFAULT_CAPABILITIES)


def test_the_default_allows_no_namespaces_and_no_mounts() -> None:
    namespaces = {"unshare", "setns", "mount", "umount2", "move_mount", "open_tree", "clone", "clone3", "pivot_root"}
    assert not namespaces & allowed(*DEFAULT_CAPABILITIES)


def test_no_capability_allows_what_changes_the_kernel_for_good() -> None:
    assert not {"kexec_load", "swapon", "add_key", "keyctl", "userfaultfd", "pivot_root"} & allowed(*ALL_CAPABILITIES)


def test_a_capability_brings_the_system_calls_that_check_it() -> None:
    assert allowed("CAP_SYS_ADMIN") - allowed() >= {"mount", "unshare", "setns", "clone", "clone3", "bpf"}
    assert allowed("CAP_SYS_TIME") - allowed() == {"clock_settime", "settimeofday", "stime"}


def test_without_sys_admin_clone_makes_no_namespace_and_clone3_is_unknown() -> None:
    made = resolve(default_profile(), capabilities=(), architecture="x86_64", kernel="6.1.0")
    clone = {name: rule for rule in made["syscalls"] for name in rule["names"] if name.startswith("clone")}
    assert clone["clone"]["args"] == [{"index": 0, "value": 0x7E020000, "op": "SCMP_CMP_MASKED_EQ"}]
    assert (clone["clone3"]["action"], clone["clone3"]["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)


def test_old_kernels_get_no_ptrace_unless_a_capability_says_so() -> None:
    assert "ptrace" not in allowed(kernel="4.7.9")
    assert "ptrace" in allowed("CAP_SYS_PTRACE", kernel="4.7.9")


def test_the_second_argument_of_clone_holds_the_flags_on_s390() -> None:
    made = resolve(default_profile(), capabilities=(), architecture="s390x", kernel="6.1.0")
    assert [rule["args"][0]["index"] for rule in made["syscalls"] if rule["names"] == ["clone"]] == [1]
