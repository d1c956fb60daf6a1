"""Every option of `run`: recorded under Docker's field names, and in effect inside the container.

All tests use one engine, which after each of them has the image busybox:1 and nothing else.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.containers import rights
from pylab_container.engine.container import Container
from pylab_container.errors import Conflict, ContainerNotFound, InvalidInput, LabError, NotFound, RuntimeFailed
from pylab_container.images.image import Image
from pylab_container.oci.capabilities import ALL_CAPABILITIES
from pylab_container.oci.host_config import HostConfig
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.shared_engine

FOREVER = ["sleep", "1000"]
MIB = 1 << 20


def output(engine: Engine, image: Image, script: str, **options: Any) -> str:
    options = {"network_mode": "none", **options}
    return engine.containers.run(image, ["sh", "-c", script], remove=True, **options).decode()


def start(engine: Engine, image: Image, **options: Any) -> Container:
    options = {"network_mode": "none", **options}
    return engine.containers.run_detached(image, FOREVER, **options)


def host_config(engine: Engine, image: Image, **options: Any) -> dict[str, Any]:
    options = {"network_mode": "none", **options}
    document: dict[str, Any] = engine.containers.create(image, FOREVER, **options).attrs["HostConfig"]
    return document


# -- what is refused ---------------------------------------------------------------------------


def test_commit_does_not_store_the_terminal_and_streams_in_the_image(engine: Engine, image: Image) -> None:
    first = engine.containers.create(image, "true", tty=True, stdin_open=True, attach=["stdout"], domainname="d.test")
    made = engine.containers.create(first.commit(), "true").attrs["Config"]
    assert [made[name] for name in ("Tty", "OpenStdin", "StdinOnce", "AttachStdout")] == [False] * 4
    assert made["Domainname"] == ""


def test_an_unknown_keyword_is_a_type_error(engine: Engine, image: Image) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        engine.containers.create(image, FOREVER, colour="red")  # type: ignore[call-arg]
    assert engine.containers.list(all=True) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mem_limit": "1m"}, "Minimum memory limit allowed is 6MB"),
        ({"mem_limit": "lots"}, "invalid size"),
        ({"memswap_limit": "64m"}, "You should always set the Memory limit"),
        ({"mem_limit": "64m", "memswap_limit": "32m"}, "should be larger than memory limit"),
        ({"mem_limit": "64m", "mem_reservation": "65m"}, "can not be less than memory reservation"),
        ({"nano_cpus": 10**12}, "Range of CPUs is from 0.01 to"),
        ({"nano_cpus": -1}, "Range of CPUs is from 0.01 to"),
        ({"cpuset_cpus": "0-999"}, "Requested CPUs are not available"),
        ({"cpuset_cpus": "a"}, "Invalid value a for cpuset cpus: invalid format: a"),
        ({"cpu_shares": -1}, r"invalid CPU shares \(-1\): value must be a positive integer"),
        ({"oom_score_adj": 1001}, r"range for oom score adj is \[-1000, 1000\]"),
        ({"ulimits": ["nofile"]}, "invalid ulimit argument: nofile"),
        ({"ulimits": ["colour=1"]}, "invalid ulimit type: colour"),
        ({"ulimits": ["nofile=2:1"]}, "soft limit must be less than or equal to hard limit: 2 > 1"),
        ({"devices": [""]}, "invalid device specification"),
        ({"devices": ["/dev/null:/dev/x:w0"]}, "invalid device mode: w0"),
        ({"devices": ["null"]}, "not an absolute path"),
        ({"ipc_mode": "moon"}, "invalid IPC mode: moon"),
        ({"pid_mode": "private"}, "invalid PID mode: private"),
        ({"uts_mode": "container:x"}, "invalid UTS mode"),
        ({"sysctls": {"vm.swappiness": "1"}}, "sysctl 'vm.swappiness' is not allowed"),
        ({"dns": ["nine"]}, "nine is not an ip address"),
        ({"extra_hosts": ["x"]}, "bad format for add-host"),
        ({"extra_hosts": {"x": "y"}}, "invalid an IP address in add-host"),
        ({"security_opt": ["colour=red"]}, "invalid --security-opt 1"),
        ({"security_opt": ["apparmor=mine"]}, "AppArmor is not used by this engine"),
        ({"security_opt": ["label=type:x"]}, "SELinux is not used by this engine"),
        ({"security_opt": ["seccomp=/no/such/file"]}, "opening seccomp profile"),
        ({"security_opt": ["seccomp={}"]}, "it has no defaultAction"),
        ({"restart_policy": {"Name": "often"}}, "invalid restart policy 'often'"),
        ({"restart_policy": {"Name": "always", "MaximumRetryCount": 3}}, "maximum retry count cannot be used"),
        ({"log_config": {"Type": "moon"}}, "no log driver named 'moon'"),
        ({"log_config": {"Type": "k8s-file", "Config": {"colour": "red"}}}, "unknown log opt 'colour'"),
        ({"log_config": {"Type": "k8s-file", "Config": {"max-file": "0"}}}, "max-file cannot be less than 1"),
        ({"tmpfs": {"/x": "colour=red"}}, r'invalid tmpfs option \["colour" "red"\]'),
        ({"working_dir": "here"}, "needs to be an absolute path"),
        ({"hostname": "-x-"}, "invalid hostname format"),
        ({"stop_signal": "SIGNOTHING"}, "Invalid signal"),
        ({"uts_mode": "host", "hostname": "x"}, "conflicting options: hostname and the UTS mode"),
        ({"ipv4_address": "10.0.0.2"}, "user specified IP address is supported on user defined networks only"),
        ({"network_aliases": ["x"]}, "network-scoped alias is supported only for containers in user defined networks"),
        ({"network_mode": "host", "mac_address": "92:d0:c6:0a:29:33"}, "mac-address and the network mode"),
        ({"network_mode": "container"}, "Invalid network mode: invalid container format container:<name"),
        ({"volumes": ["name:/there:shared"]}, "field BindOptions must not be specified"),
        ({"working_dir": "/bin/busybox"}, "Cannot mkdir: /bin/busybox is not a directory"),
        ({"network_aliases": ["x"]}, "supported only for containers in user defined networks"),
        ({"ports": {"80/carrier-pigeon": 1}}, "Invalid proto"),
        ({"ports": {"80": 70000}}, "Invalid hostPort"),
        ({"mounts": [{"Type": "bind", "Source": "/no/such", "Target": "/x"}]}, "bind source path does not exist"),
        ({"mounts": [{"Type": "npipe", "Target": "/x"}]}, "mount type unknown"),
        ({"mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/x", "Colour": 1}]}, "unknown field Colour"),
        ({"volumes": ["/tmp:/x", "/etc:/x"]}, "Duplicate mount point: /x"),
    ],
)
def test_an_invalid_value_is_refused_with_a_hint(
    engine: Engine, image: Image, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        engine.containers.create(image, FOREVER, **options)
    assert caught.value.hint
    assert engine.containers.list(all=True) == []


def test_a_mode_with_an_unknown_container_or_network_is_not_found(engine: Engine, image: Image) -> None:
    for options in ({"network_mode": "container:x"}, {"pid_mode": "container:x"}, {"volumes_from": ["x"]}):
        with pytest.raises(ContainerNotFound):
            engine.containers.create(image, FOREVER, **options)
    with pytest.raises(NotFound, match="network moon not found"):
        engine.containers.create(image, FOREVER, network="moon")


# -- the default -------------------------------------------------------------------------------


def test_inspect_has_dockers_fields_without_any_option(engine: Engine, image: Image) -> None:
    host = engine.containers.create(image, FOREVER).attrs["HostConfig"]
    assert (host["Privileged"], host["ReadonlyRootfs"], host["IpcMode"]) == (False, False, "private")
    assert (host["CapAdd"], host["SecurityOpt"], host["Binds"], host["Devices"]) == (None, None, None, [])
    assert (host["ShmSize"], host["Memory"], host["PidsLimit"]) == (64 * MIB, 0, None)
    assert host["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert "Tmpfs" not in host
    assert "Mounts" not in host


# -- rights ------------------------------------------------------------------------------------

CAPABILITIES = "grep CapEff /proc/self/status"
CAP_NET_ADMIN, CAP_CHOWN, CAP_SYS_ADMIN = 1 << 12, 1 << 0, 1 << 21


def effective(text: str) -> int:
    return int(text.split()[1], 16)


def test_capabilities_are_added_and_dropped(engine: Engine, image: Image) -> None:
    plain = effective(output(engine, image, CAPABILITIES))
    assert plain == 0xA80425FB  # Docker's fourteen
    assert effective(output(engine, image, CAPABILITIES, cap_add=["net_admin"])) == plain | CAP_NET_ADMIN
    assert effective(output(engine, image, CAPABILITIES, cap_drop=["CAP_CHOWN"])) == plain & ~CAP_CHOWN
    assert effective(output(engine, image, CAPABILITIES, cap_drop=["all"])) == 0
    assert effective(output(engine, image, CAPABILITIES, cap_drop=["ALL"], cap_add=["CHOWN"])) == CAP_CHOWN
    host = host_config(engine, image, cap_add=["NET_ADMIN"], cap_drop=["MKNOD"])
    assert (host["CapAdd"], host["CapDrop"]) == (["CAP_NET_ADMIN"], ["CAP_MKNOD"])
    with pytest.raises(InvalidInput, match="capability"):
        engine.containers.create(image, FOREVER, cap_add=["FLY"])


def test_a_capability_that_the_machine_lacks_is_an_error(engine: Engine, image: Image) -> None:
    missing = [name for name in ALL_CAPABILITIES if name not in rights._available_capabilities()]
    for name in missing[:1]:
        with pytest.raises(RuntimeFailed, match=name):
            output(engine, image, "true", cap_add=[name])
    assert effective(output(engine, image, CAPABILITIES, cap_add=["ALL"])) & CAP_SYS_ADMIN


def test_an_exec_has_the_rights_of_its_container(engine: Engine, image: Image) -> None:
    container = start(engine, image, cap_drop=["ALL"], security_opt=["no-new-privileges"], ulimits=["nofile=77"])
    status = container.exec_run(["sh", "-c", "grep -E 'CapEff|NoNewPrivs' /proc/self/status; ulimit -n"]).output
    assert status.split() == [b"CapEff:", b"0000000000000000", b"NoNewPrivs:", b"1", b"77"]
    privileged = container.exec_run(["grep", "CapEff", "/proc/self/status"], privileged=True).output
    assert effective(privileged.decode()) & CAP_SYS_ADMIN


def test_no_new_privileges_and_seccomp_can_be_chosen(engine: Engine, image: Image, tmp_path: Path) -> None:
    status = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status"
    assert output(engine, image, status).split() == ["NoNewPrivs:", "0", "Seccomp:", "2"]
    assert output(engine, image, status, security_opt=["no-new-privileges"]).split()[1] == "1"
    assert output(engine, image, status, security_opt=["no-new-privileges:false"]).split()[1] == "0"
    assert output(engine, image, status, security_opt=["seccomp=unconfined"]).split()[3] == "0"
    assert output(engine, image, "id -u", security_opt=["apparmor=unconfined", "label=disable"]) == "0\n"
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(profile))
    assert output(engine, image, "mkdir /x 2>/dev/null; echo $?", security_opt=[f"seccomp={file}"]) == "1\n"
    recorded = host_config(engine, image, security_opt=[f"seccomp={file}"])["SecurityOpt"][0]
    assert json.loads(recorded.removeprefix("seccomp=")) == profile
    file.write_text("nonsense")
    with pytest.raises(InvalidInput, match="Decoding seccomp profile failed"):
        engine.containers.create(image, FOREVER, security_opt=[f"seccomp={file}"])


def test_a_privileged_container_keeps_a_profile_of_its_own(engine: Engine, image: Image, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    script = "mkdir /d 2> /dev/null || echo refused; grep Seccomp: /proc/self/status"
    for option, expected in ((f"seccomp={profile}", ["refused", "2"]), ("seccomp=unconfined", ["0"])):
        printed = output(engine, image, script, privileged=True, security_opt=[option]).split()
        assert [word for word in printed if word != "Seccomp:"] == expected
    assert output(engine, image, script, privileged=True).split()[-1] == "0"


def test_privileged_hides_nothing_and_allows_all(engine: Engine, image: Image) -> None:
    script = f"""{CAPABILITIES}; grep ^Seccomp: /proc/self/status; ls /dev | wc -l
                 touch /proc/sys/kernel/domainname && echo writable
                 mount -t tmpfs none /tmp && echo mounted; grep ' /sys ' /proc/mounts | cut -d' ' -f4"""
    words = output(engine, image, script, privileged=True).split()
    assert effective(" ".join(words[:2])) & CAP_SYS_ADMIN
    assert words[3] == "0"
    assert int(words[4]) > 20
    assert words[5:7] == ["writable", "mounted"]
    assert words[7].startswith("rw,")
    assert host_config(engine, image, privileged=True)["Privileged"] is True
    assert "mounted" not in output(engine, image, "mount -t tmpfs none /tmp && echo mounted; true")


def test_a_device_of_the_host_has_the_requested_permissions(engine: Engine, image: Image) -> None:
    node = engine.data_root / "node"
    os.mknod(node, 0o660 | stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
    script = "(: < /dev/mine) && echo open; (: > /dev/mine) 2>/dev/null || echo denied"
    assert output(engine, image, script, devices=[f"{node}:/dev/mine:r"]) == "open\ndenied\n"
    assert host_config(engine, image, devices=[f"{node}:/dev/mine:r"])["Devices"] == [
        {"PathOnHost": str(node), "PathInContainer": "/dev/mine", "CgroupPermissions": "r"}
    ]
    with pytest.raises(InvalidInput, match="error gathering device information"):
        output(engine, image, "true", devices=["/dev/no-such-device"])
    with pytest.raises(InvalidInput, match="not a device node"):
        output(engine, image, "true", devices=["/etc/passwd:/dev/mine"])


# -- limits ------------------------------------------------------------------------------------


def test_limits_are_set_in_the_cgroup(engine: Engine, image: Image) -> None:
    container = start(
        engine,
        image,
        mem_limit="64m",
        mem_reservation="32m",
        nano_cpus=250_000_000,
        cpu_shares=300,
        cpuset_cpus="0",
        pids_limit=25,
    )
    host = container.attrs["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["MemoryReservation"]) == (64 * MIB, 128 * MIB, 32 * MIB)
    assert (host["NanoCpus"], host["CpuShares"], host["CpusetCpus"], host["PidsLimit"]) == (250_000_000, 300, "0", 25)
    found = {
        name: Path(f"/sys/fs/cgroup/{controller}/labctr/{container.id}/{name}").read_text().strip()
        for controller, name in (
            ("memory", "memory.limit_in_bytes"),
            ("memory", "memory.memsw.limit_in_bytes"),
            ("memory", "memory.soft_limit_in_bytes"),
            ("cpu", "cpu.cfs_quota_us"),
            ("cpu", "cpu.shares"),
            ("cpuset", "cpuset.cpus"),
            ("pids", "pids.max"),
        )
    }
    assert list(found.values()) == [str(64 * MIB), str(128 * MIB), str(32 * MIB), "25000", "300", "0", "25"]


def test_block_io_limits_are_set_in_the_cgroup(engine: Engine, image: Image) -> None:
    disk = next(str(path) for path in Path("/dev").iterdir() if path.is_block_device())
    container = start(
        engine,
        image,
        device_read_bps=[{"Path": disk, "Rate": MIB}],
        device_write_iops=[{"Path": disk, "Rate": 100}],
    )
    number = os.stat(disk).st_rdev
    cgroup = Path(f"/sys/fs/cgroup/blkio/labctr/{container.id}")
    numbers = f"{os.major(number)}:{os.minor(number)}"
    assert (cgroup / "blkio.throttle.read_bps_device").read_text() == f"{numbers} {MIB}\n"
    assert (cgroup / "blkio.throttle.write_iops_device").read_text() == f"{numbers} 100\n"
    assert container.attrs["HostConfig"]["BlkioDeviceReadBps"] == [{"Path": disk, "Rate": MIB}]
    for path, words in (("/dev/null", "/dev/null is not a disk"), ("/dev/no-such", "stat /dev/no-such: No such file")):
        with pytest.raises(InvalidInput, match=words):
            output(engine, image, "true", device_read_bps=[{"Path": path, "Rate": 1}])


def test_a_cgroup_parent_holds_the_containers_cgroup_until_its_removal(engine: Engine, image: Image) -> None:
    parent = Path(f"/sys/fs/cgroup/memory/labctr-class-{os.getpid()}")
    container = start(engine, image, cgroup_parent=parent.name, mem_limit="64m", oom_kill_disable=True)
    try:
        own = parent / container.id
        assert (own / "memory.limit_in_bytes").read_text() == f"{64 * MIB}\n"
        assert "oom_kill_disable 1" in (own / "memory.oom_control").read_text()
        assert container.stats_snapshot()["memory_stats"]["limit"] == 64 * MIB
        container.remove(force=True)
        assert not own.exists()
    finally:
        for directory in Path("/sys/fs/cgroup").glob(f"*/{parent.name}"):
            directory.rmdir()


def test_masked_and_readonly_paths_can_be_chosen(engine: Engine, image: Image) -> None:
    script = "cat /proc/version; (: > /proc/sys/kernel/domainname) 2>/dev/null && echo writable"
    assert output(engine, image, script, masked_paths=["/proc/version"], readonly_paths=[]) == "writable\n"
    assert "Linux" in output(engine, image, f"{script}; true", masked_paths=[])


def test_a_container_that_exceeds_its_memory_limit_is_killed_and_inspect_reports_it(
    engine: Engine, image: Image
) -> None:
    container = engine.containers.create(image, ["sh", "-c", "tail /dev/zero"], mem_limit="16m", network_mode="none")
    container.start()
    assert container.wait(PATIENCE) == 137
    assert container.attrs["State"]["OOMKilled"] is True


def test_ulimits_hold_and_raising_them_needs_a_capability(engine: Engine, image: Image) -> None:
    assert output(engine, image, "ulimit -Sn; ulimit -Hn", ulimits=["nofile=100:200"]) == "100\n200\n"
    assert host_config(engine, image, ulimits=[{"Name": "core", "Soft": 0, "Hard": 0}])["Ulimits"] == [
        {"Name": "core", "Hard": 0, "Soft": 0}
    ]
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if not rights._may_raise_limits():
        with pytest.raises(RuntimeFailed, match="CAP_SYS_RESOURCE"):
            output(engine, image, "true", ulimits=[f"nofile={own + 1}"])


def test_the_oom_score_is_written(engine: Engine, image: Image) -> None:
    assert output(engine, image, "cat /proc/self/oom_score_adj", oom_score_adj=500) == "500\n"
    assert host_config(engine, image, oom_score_adj=500)["OomScoreAdj"] == 500


# -- namespaces --------------------------------------------------------------------------------


def namespace(container: Container, kind: str) -> str:
    return os.readlink(f"/proc/{container.pid}/ns/{kind}")


@pytest.mark.parametrize(
    ("option", "kind", "field"),
    [("pid_mode", "pid", "PidMode"), ("ipc_mode", "ipc", "IpcMode"), ("network", "net", "NetworkMode")],
)
def test_a_namespace_is_the_hosts_or_another_containers(
    engine: Engine, image: Image, option: str, kind: str, field: str
) -> None:
    first = start(engine, image, name="first", **({"ipc_mode": "shareable"} if kind == "ipc" else {}))
    plain: dict[str, Any] = {"network_mode": ""} if option == "network" else {}
    joined = start(engine, image, **{**plain, option: "container:first"})
    assert namespace(joined, kind) == namespace(first, kind)
    assert joined.attrs["HostConfig"][field] == f"container:{first.id}"
    on_the_host = start(engine, image, **{**plain, option: "host"})
    assert namespace(on_the_host, kind) == os.readlink(f"/proc/self/ns/{kind}")
    assert on_the_host.attrs["HostConfig"][field] == "host"
    first.stop(timeout=0)
    last = engine.containers.create(image, FOREVER, **{**plain, option: "container:first"})
    with pytest.raises(Conflict, match=r"non running container|is not running"):
        last.start()


def test_processes_of_another_container_are_seen_and_killed_with_it(engine: Engine, image: Image) -> None:
    start(engine, image, name="first")
    joined = start(engine, image, pid_mode="container:first", name="second")
    eventually(lambda: joined.exec_run(["ps"]).output.count(b"sleep 1000") == 2)
    joined.kill()
    assert engine.containers.get("first").status == "running"


def test_ipc_is_shared_only_if_the_container_is_shareable(engine: Engine, image: Image) -> None:
    start(engine, image, name="closed")
    with pytest.raises(Conflict, match="non-shareable IPC"):
        start(engine, image, ipc_mode="container:closed")
    start(engine, image, name="open", ipc_mode="shareable").exec_run(["sh", "-c", "echo hi > /dev/shm/x"])
    assert output(engine, image, "cat /dev/shm/x", ipc_mode="container:open") == "hi\n"
    assert output(engine, image, "grep -c /dev/shm /proc/mounts || true", ipc_mode="none") == "0\n"


def test_the_hosts_uts_namespace_has_the_hosts_name(engine: Engine, image: Image) -> None:
    assert output(engine, image, "hostname", uts_mode="host").strip() == os.uname().nodename
    text = output(engine, image, "hostname; cat /proc/sys/kernel/domainname", hostname="web", domainname="lab.example")
    assert text.split() == ["web", "lab.example"]


def test_a_container_in_another_ones_network_has_its_hostname_and_hosts_file(engine: Engine, image: Image) -> None:
    start(engine, image, name="first", network_mode="bridge", extra_hosts={"db": "10.9.9.9"})
    text = output(engine, image, "hostname; cat /etc/hosts", network_mode="container:first")
    assert "10.9.9.9\tdb" in text
    with pytest.raises(InvalidInput, match="conflicting options: port publishing"):
        engine.containers.create(image, FOREVER, network_mode="container:first", ports={"80": 80})
    with pytest.raises(InvalidInput, match="conflicting options: hostname and the network mode"):
        engine.containers.create(image, FOREVER, network_mode="container:first", hostname="x")


def test_sysctls_are_the_containers_own(engine: Engine, image: Image) -> None:
    settings = {"net.ipv4.ip_forward": "0", "kernel.msgmax": "4096"}
    text = output(engine, image, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", sysctls=settings)
    assert text.split() == ["0", "4096"]
    assert host_config(engine, image, sysctls=settings)["Sysctls"] == settings
    with pytest.raises(InvalidInput, match="host's network namespace"):
        output(engine, image, "true", network_mode="host", sysctls={"net.ipv4.ip_forward": "1"})


# -- process -----------------------------------------------------------------------------------


def test_init_is_the_first_process_and_reaps(engine: Engine, image: Image) -> None:
    container = start(engine, image, init=True)
    eventually(lambda: container.exec_run(["cat", "/proc/1/cmdline"]).output.startswith(b"/sbin/docker-init\0"))
    container.exec_run(["sh", "-c", "sh -c 'sleep 0.1 & ' "])
    # The orphan exits and is reaped: process 1, its child, and ps itself remain.
    eventually(lambda: container.exec_run(["ps", "-o", "pid"]).output.count(b"\n") == 1 + 3)
    assert container.attrs["HostConfig"]["Init"] is True
    container.stop(
        timeout=PATIENCE
    )  # the init program passes SIGTERM on, and sleep does not handle it as pid 1 would have to
    assert container.wait() == 128 + signal.SIGTERM


def test_more_groups_are_added_by_name_or_number(engine: Engine, image: Image) -> None:
    assert output(engine, image, "id -G", user="7:8", group_add=["student", 99]).split() == ["8", "99", "1000"]
    with pytest.raises(InvalidInput, match="unable to find group nothing"):
        output(engine, image, "true", group_add=["nothing"])


def test_resolv_conf_and_hosts_hold_the_requested_entries(engine: Engine, image: Image) -> None:
    text = output(
        engine,
        image,
        "cat /etc/resolv.conf /etc/hosts",
        network_mode="bridge",
        dns=["9.9.9.9"],
        dns_search=["lab.example"],
        dns_opt=["ndots:2"],
        extra_hosts={"db": "10.1.2.3", "gate": "host-gateway"},
    )
    assert "nameserver 9.9.9.9" in text
    assert "search lab.example" in text
    assert "options ndots:2" in text
    assert "10.1.2.3\tdb" in text
    gateway = next(line for line in text.splitlines() if line.endswith("\tgate"))
    assert gateway.startswith("172.")


# -- files -------------------------------------------------------------------------------------


def test_a_read_only_root_is_writable_only_below_mounts(engine: Engine, image: Image) -> None:
    script = "touch /x 2>/dev/null || echo no; touch /scratch/x && echo yes; touch /dev/shm/x && echo yes"
    assert output(engine, image, script, read_only=True, tmpfs={"/scratch": ""}).split() == ["no", "yes", "yes"]
    assert host_config(engine, image, read_only=True)["ReadonlyRootfs"] is True


def test_a_tmpfs_has_the_given_options_and_dockers_defaults(engine: Engine, image: Image) -> None:
    text = output(engine, image, "grep -E ' /(a|b) ' /proc/mounts", tmpfs={"/a": "", "/b": "size=64k,mode=700,exec"})
    plain, own = text.splitlines()
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(plain.split()[3].split(","))
    options = own.split()[3].split(",")
    assert "size=64k" in options
    assert "mode=700" in options
    assert "noexec" not in options
    container = engine.containers.create(image, FOREVER, tmpfs={"/a": "size=1m"})
    assert container.attrs["HostConfig"]["Tmpfs"] == {"/a": "size=1m"}
    assert container.attrs["Mounts"] == []


def test_shared_memory_has_the_requested_size(engine: Engine, image: Image) -> None:
    size = "df -k /dev/shm | tail -1"
    assert output(engine, image, size).split()[1] == "65536"
    assert output(engine, image, size, shm_size="8m").split()[1] == "8192"
    assert host_config(engine, image, shm_size="8m")["ShmSize"] == 8 * MIB


# -- the log -----------------------------------------------------------------------------------


def test_a_log_stays_below_its_maximum_size(engine: Engine, image: Image) -> None:
    config = {"Type": "k8s-file", "Config": {"max-size": "20k"}}
    container = engine.containers.create(image, ["seq", "20000"], log_config=config, network_mode="none")
    container.start()
    container.wait(PATIENCE)
    assert Path(container.attrs["LogPath"]).stat().st_size <= 20 * 1024
    assert container.logs().endswith(b"20000\n")
    assert container.attrs["HostConfig"]["LogConfig"] == config


def test_a_container_without_a_log_runs(engine: Engine, image: Image) -> None:
    assert output(engine, image, "echo hi", log_config={"Type": "none"}) == "hi\n"


# -- records and errors --------------------------------------------------------------------------


def test_ports_are_recorded_as_docker_does(engine: Engine, image: Image) -> None:
    ports = {"80/tcp": 8080, "53/udp": ("127.0.0.1", 5353), "9000": None}
    attrs = engine.containers.create(image, FOREVER, ports=ports, exposed_ports=["7"]).attrs
    assert attrs["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}],
        "9000/tcp": [{"HostIp": "", "HostPort": ""}],
    }
    assert set(attrs["Config"]["ExposedPorts"]) == {"80/tcp", "53/udp", "9000/tcp", "7/tcp"}


def test_a_failed_start_leaves_the_error_and_nothing_else(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, FOREVER, devices=["/dev/no-such-device"], ipc_mode="shareable")
    with pytest.raises(LabError):
        container.start()
    assert container.status == "created"
    assert "no such file" in container.attrs["State"]["Error"]


def test_another_engine_reads_the_same_attributes_from_disk(engine: Engine, image: Image) -> None:
    container = start(
        engine, image, cap_add=["NET_ADMIN"], init=True, shm_size="8m", tmpfs={"/a": ""}, labels={"a": "b"}
    )
    again = Engine(engine.data_root).containers.get(container.id)
    assert again.attrs == container.attrs
    assert again.labels == {"a": "b"}
    os.kill(container.pid, signal.SIGKILL)


def test_the_working_directory_exists_before_the_start(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, ["pwd"], working_dir="/srv/deep/er", network_mode="none")
    assert [change.path for change in container.diff()] == ["/srv", "/srv/deep", "/srv/deep/er"]
    assert stat.S_ISDIR(container.get_archive("/srv/deep/er")[1].mode)
    container.start()
    container.wait()
    assert container.logs() == b"/srv/deep/er\n"


def test_a_name_of_several_parts_has_its_first_one_in_the_hosts_file(engine: Engine, image: Image) -> None:
    text = output(engine, image, "cat /etc/hosts", network_mode="bridge", hostname="box.example.com")
    assert text.splitlines()[-1].split()[1:] == ["box.example.com", "box"]


def test_a_tmpfs_may_be_shared_with_later_namespaces(engine: Engine, image: Image) -> None:
    script = "grep ' /t ' /proc/self/mountinfo"
    assert " shared:" in output(engine, image, script, tmpfs={"/t": "shared"})
    assert " shared:" not in output(engine, image, script, tmpfs={"/t": "size=1m"})


def test_a_device_request_fails_at_the_start(engine: Engine, image: Image) -> None:
    request = {"Driver": "", "Count": -1, "Capabilities": [["gpu", "a"], ["b"]]}
    container = engine.containers.create_described(
        image, FOREVER, {"network_mode": "none"}, host_config=HostConfig(device_requests=(request,))
    )
    with pytest.raises(
        RuntimeFailed, match=r'could not select device driver "" with capabilities: \[\[gpu a\] \[b\]\]'
    ):
        container.start()


def test_a_remote_log_driver_fails_at_the_start(engine: Engine, image: Image) -> None:
    wanted = {"Type": "splunk", "Config": {"splunk-url": "http://logs.test"}}
    container = engine.containers.create(image, FOREVER, log_config=wanted, network_mode="none")
    assert container.attrs["HostConfig"]["LogConfig"] == wanted
    with pytest.raises(RuntimeFailed, match="failed to initialize logging driver: splunk"):
        container.start()
    assert container.status == "created"
