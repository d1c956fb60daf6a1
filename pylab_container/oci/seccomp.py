"""Seccomp profiles: the system calls that a container may make (seccomp(2)).

A profile is a list of rules: system calls, an action (allow, or fail with an errno) and conditions on the container's
capabilities, the machine's architecture and the kernel's version. Docker and Podman share this format, which
`--security-opt seccomp=FILE` reads. The OCI runtime takes a profile without conditions; resolve() evaluates them.
Sources: moby profiles/seccomp; docs.docker.com, "Seccomp security profiles for Docker"; OCI Runtime Specification
1.0.2, config-linux.md, "Seccomp".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pylab_container.errors import InvalidInput

# A system call that no rule allows fails with EPERM, runc's default errno. Debian's profile
# (golang-github-containers-common) is not used here, because it is Podman's: it allows every container to unshare(2) a
# user namespace and to mount(2) in it, which exposes much of the kernel to untrusted code.

_ALWAYS = """
accept accept4 access adjtimex alarm bind brk capget capset chdir chmod chown chown32 clock_adjtime clock_adjtime64
clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close
close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat
faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchown fchown32 fchownat fcntl
fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64
fsync ftruncate ftruncate64 futex futex_time64 futex_waitv futimesat get_robust_list get_thread_area getcpu getcwd
getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername
getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage
getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr inotify_add_watch inotify_init
inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup
io_submit io_uring_enter io_uring_register io_uring_setup ioctl ioprio_get ioprio_set ipc kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr llistxattr
_llseek lremovexattr lseek lsetxattr lstat lstat64 madvise membarrier memfd_create memfd_secret mincore mkdir
mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock
munlockall munmap nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64
pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg
sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid
setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr shmat shmctl shmdt shmget
shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socket socketcall socketpair splice stat stat64 statfs
statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink
unlinkat utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
""".split()

# The kernel checks a capability in these system calls. A container that has the capability may make them.
BY_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr
        move_mount name_to_handle_at open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns
        syslog umount umount2 unshare""",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy",
    "CAP_SYSLOG": "syslog",
}

_BY_ARCHITECTURE = {
    "amd64 x32": "arch_prctl",
    "amd64 x32 x86": "modify_ldt",
    "arm arm64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "ppc64le": "sync_file_range2",
    "riscv64": "riscv_flush_icache",
    "s390 s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
}

# Arguments of personality(2): PER_LINUX, PER_LINUX32, UNAME26, both, and 0xffffffff, which only queries it.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# Flags of clone(2) that create a namespace (include/uapi/linux/sched.h): CLONE_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC,
# _NEWUSER, _NEWPID, _NEWNET.
_NAMESPACE_FLAGS = 0x7E020000
_ENOSYS = 38


def default_profile() -> dict[str, Any]:
    """Return Docker 20.10's default profile, with its conditions."""
    allowed = [
        _allow(_ALWAYS),
        # Before Linux 4.8 a tracer could change the system call after the filter had checked it (seccomp(2), NOTES).
        _allow(["ptrace"], includes={"minKernel": "4.8"}),
        *(_allow(["personality"], args=[_argument(0, value, "SCMP_CMP_EQ")]) for value in _PERSONALITIES),
        *(_allow(calls.split(), includes={"arches": names.split()}) for names, calls in _BY_ARCHITECTURE.items()),
        *(_allow(calls.split(), includes={"caps": [name]}) for name, calls in BY_CAPABILITY.items()),
    ]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]},
        ],
        "syscalls": [*allowed, *_cloning()],
    }


def _cloning() -> list[dict[str, Any]]:
    """Return rules that allow new processes, but no new namespaces, without CAP_SYS_ADMIN."""
    s390, administrator = ["s390", "s390x"], {"caps": ["CAP_SYS_ADMIN"]}
    # s390 has the first two arguments of clone(2) in reverse order (clone(2), "C library/kernel differences").
    flags = [_argument(index, _NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ") for index in (0, 1)]
    return [
        _allow(["clone"], args=flags[:1], excludes={**administrator, "arches": s390}),
        _allow(["clone"], args=flags[1:], includes={"arches": s390}, excludes=administrator),
        # The flags of clone3(2) are in memory, which a filter cannot read. glibc falls back to clone(2) after ENOSYS,
        # but not after EPERM.
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS, "excludes": administrator},
    ]


def _allow(
    names: Sequence[str],
    *,
    args: Sequence[Mapping[str, Any]] = (),
    includes: Mapping[str, Any] | None = None,
    excludes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    rule = {"names": list(names), "action": "SCMP_ACT_ALLOW", "args": list(args)}
    return {**rule, "includes": dict(includes or {}), "excludes": dict(excludes or {})}


def _argument(index: int, value: int, comparison: str) -> dict[str, Any]:
    return {"index": index, "value": value, "op": comparison}


# Machine of uname(2) → (GOARCH, which the conditions of a profile use; libseccomp's name).
_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "i686": ("386", "SCMP_ARCH_X86"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
}


def resolve(
    document: Mapping[str, Any], *, capabilities: Sequence[str], architecture: str, kernel: str
) -> dict[str, Any]:
    """Evaluate the conditions of a profile.

    Returns linux.seccomp of config.json, with the rules that apply.

    capabilities  those of the container
    architecture  machine of uname(2): x86_64
    kernel        release of uname(2): 6.1.0-18-amd64

    Raises InvalidInput for an architecture without a name in libseccomp.
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
    """Return the machine's architecture and those whose programs its kernel also runs, such as 32-bit ones."""
    # Without a filter for them, a program could escape the filter through the other system call table.
    for entry in document.get("archMap") or ():
        if entry["architecture"] == name:
            return [name, *(entry.get("subArchitectures") or ())]
    return [name]


def _rule_holds(rule: Mapping[str, Any], *, capabilities: Sequence[str], architecture: str, kernel: str) -> bool:
    """Report whether all conditions in `includes` hold and none in `excludes`."""
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
    """Return major and minor version of a kernel release: (6, 1) for "6.1.0-18-amd64"."""
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
