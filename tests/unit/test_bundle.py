"""oci/bundle.py and runtime/etc.py: the config.json and the files of /etc that a container starts with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pylab_container.errors import InvalidInput
from pylab_container.oci.bundle import (
    Limits,
    Mount,
    Process,
    process_config,
    runtime_config,
)
from pylab_container.oci.users import User
from pylab_container.runtime.etc import container_resolv_conf, hosts_file, nameservers


def config(*, process: Process | None = None, **options: Any) -> dict[str, Any]:
    return runtime_config(
        process or Process(argv=("true",)), root="/merged", hostname="h", cgroups_path="/labctr/x", **options
    )


def destinations(made: dict[str, Any]) -> list[str]:
    return [mount["destination"] for mount in made["mounts"]]


# -- config.json -------------------------------------------------------------------------------


def test_a_config_is_json_and_says_what_to_run_where() -> None:
    process = Process(argv=("sh", "-c", "true"), environment=("A=b",), cwd="/srv", user=User(uid=7, gid=8))
    made = json.loads(json.dumps(config(process=process, annotations={"k": "v"})))
    assert made["ociVersion"] == "1.0.2"
    assert made["root"] == {"path": "/merged", "readonly": False}
    assert made["process"]["args"] == ["sh", "-c", "true"]
    assert made["process"]["env"] == ["A=b"]
    assert made["process"]["user"] == {"uid": 7, "gid": 8, "additionalGids": []}
    assert made["annotations"] == {"k": "v"}


def test_the_default_capabilities_are_dockers_fourteen() -> None:
    capabilities = process_config(Process(argv=("true",)))["capabilities"]
    assert len(capabilities["bounding"]) == 14
    assert "CAP_SYS_ADMIN" not in capabilities["bounding"]
    assert set(capabilities) == {"bounding", "effective", "permitted"}


@pytest.mark.parametrize("process", [Process(argv=()), Process(argv=("true",), cwd="srv")])
def test_no_command_and_a_relative_directory_are_refused(process: Process) -> None:
    with pytest.raises(InvalidInput):
        process_config(process)


def test_a_mount_of_the_user_replaces_the_default_one() -> None:
    mine = Mount(source="tmpfs", destination="/dev/shm", type="tmpfs", options=("size=1m",))
    made = config(mounts=[mine])
    assert destinations(made).count("/dev/shm") == 1
    assert next(m for m in made["mounts"] if m["destination"] == "/dev/shm")["options"] == ["size=1m"]


def test_without_shared_memory_there_is_only_the_users_own() -> None:
    mine = Mount(source="tmpfs", destination="/dev/shm", type="tmpfs")
    assert "/dev/shm" not in destinations(config(shared_memory=False))
    assert "/dev/shm" in destinations(config(mounts=[mine], shared_memory=False))


def test_parents_are_mounted_before_what_is_below_them() -> None:
    bind = [Mount(source="/s", destination=path, type="bind", options=("rbind",)) for path in ("/a/b/c", "/a", "/a/b")]
    order = destinations(config(mounts=bind))
    assert order.index("/a") < order.index("/a/b") < order.index("/a/b/c")
    assert order.index("/dev") < order.index("/dev/pts")


def test_a_relative_mount_destination_is_refused() -> None:
    with pytest.raises(InvalidInput):
        config(mounts=[Mount(source="/s", destination="data", type="bind")])


def test_limits_become_cgroup_settings() -> None:
    resources = config(limits=Limits(memory=64 << 20, cpus=1.5, pids=10))["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 << 20}
    assert resources["cpu"] == {"quota": 150_000, "period": 100_000}
    assert resources["pids"] == {"limit": 10}


def test_without_limits_only_the_device_rules_are_set() -> None:
    assert set(config()["linux"]["resources"]) == {"devices"}


@pytest.mark.parametrize("limits", [Limits(memory=0), Limits(cpus=-0.5), Limits(pids=0)])
def test_a_limit_that_is_not_positive_is_refused(limits: Limits) -> None:
    with pytest.raises(InvalidInput):
        config(limits=limits)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("", [{"type": "network"}]),
        ("/proc/7/ns/net", [{"type": "network", "path": "/proc/7/ns/net"}]),
        (None, []),
    ],
)
def test_the_network_namespace_is_new_joined_or_the_hosts(network: str | None, expected: list[Any]) -> None:
    linux = config(network_namespace=network)["linux"]
    assert [n for n in linux["namespaces"] if n["type"] == "network"] == expected
    assert ("sysctl" in linux) == (network is not None)


def test_the_cgroup_namespace_is_made_on_request() -> None:
    kinds = [{n["type"] for n in config(cgroup_namespace=wanted)["linux"]["namespaces"]} for wanted in (False, True)]
    assert kinds[1] - kinds[0] == {"cgroup"}


def test_privileged_hides_nothing_and_filters_only_what_it_is_asked_to() -> None:
    profile = {"defaultAction": "SCMP_ACT_ERRNO"}
    assert config(privileged=True, seccomp=profile)["linux"]["seccomp"] == profile
    made = config(privileged=True)
    linux = made["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "seccomp" not in linux
    assert "ro" not in next(m for m in made["mounts"] if m["destination"] == "/sys")["options"]


@pytest.mark.parametrize(
    "cwd", ["/proc/self/fd/7", "/proc/1/fd", "/x/../proc/self/fd/7/../..", "/proc/self/task/1/fd/3", "/proc/9/root/etc"]
)
def test_a_working_directory_that_is_what_a_process_has_open_is_refused(cwd: str) -> None:
    with pytest.raises(InvalidInput):
        process_config(Process(argv=("true",), cwd=cwd))


# -- /etc --------------------------------------------------------------------------------------


def test_hosts_names_the_container_last() -> None:
    lines = hosts_file("web", ["172.17.0.2"], extra=[("db", "10.0.0.7")]).splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-2:] == ["10.0.0.7\tdb", "172.17.0.2\tweb"]
    assert "web" not in hosts_file("web")


def test_nameservers_on_the_hosts_loopback_are_left_out() -> None:
    text = "search lab\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\n"
    made = container_resolv_conf(text)
    assert nameservers(made) == ("10.0.0.2", "fe80::1%eth0")
    assert "search lab" in made


def test_the_fallback_serves_when_only_loopback_is_left() -> None:
    made = container_resolv_conf("nameserver 127.0.0.53\n", fallback="nameserver 192.168.1.1\nsearch home\n")
    assert made == "nameserver 192.168.1.1\nsearch home\n"


@pytest.mark.parametrize("text", ["", "nameserver 127.0.0.53\nsearch lab\n", "nameserver\n"])
def test_where_the_host_has_no_reachable_nameservers_there_are_dockers_public_ones(text: str) -> None:
    made = container_resolv_conf(text, fallback="nameserver ::1\n")
    assert nameservers(made) == ("8.8.8.8", "8.8.4.4")
    assert ("search lab" in made) == ("search lab" in text)
