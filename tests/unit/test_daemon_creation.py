"""daemon/creation.py: what a body asks for, and what of it is refused."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from pylab_container.daemon import creation, shapes
from pylab_container.errors import InvalidInput
from pylab_container.oci.network_settings import EndpointIpam

Json = dict[str, Any]


def wanted(**body: Any) -> creation.CreateRequest:
    return creation.parse(sent({"Image": "busybox:1", **body}, creation.CREATE), name="/given")


def sent(body: Json, shape: Any) -> Json:
    """A body as it comes over the wire."""
    return cast(Json, shapes.read(json.dumps(body).encode(), shape))


def host(**fields: Any) -> creation.CreateRequest:
    return wanted(HostConfig=fields)


def test_a_name_loses_its_slash_and_a_command_may_be_one_word() -> None:
    assert wanted(Cmd="single").command == ["single"]
    assert wanted().options["name"] == "given"
    assert wanted(Cmd=None).command is None


def test_fields_are_found_in_any_case_as_go_finds_them() -> None:
    assert wanted(workingdir="/srv").options["working_dir"] == "/srv"
    assert wanted(hostconfig={"memory": 64 << 20}).options["mem_limit"] == 64 << 20


def test_what_very_old_clients_say_of_the_host_stands_beside_its_config() -> None:
    alone = wanted(Memory=64 << 20, Cpuset="0", Binds=["data:/data"]).options
    assert (alone["mem_limit"], alone["cpuset_cpus"], alone["volumes"]) == (64 << 20, "0", ["data:/data"])
    assert wanted(CapAdd="NET_ADMIN", HostConfig=None).options["cap_add"] == ["NET_ADMIN"]
    both = wanted(Memory=64 << 20, CpuShares=7, Binds=["data:/data"], HostConfig={"Memory": 32 << 20}).options
    assert (both["mem_limit"], both["cpu_shares"], both["volumes"]) == (32 << 20, 7, [])


@pytest.mark.parametrize("nothing", [None, 0, "", False, [], {}, [0, 0]], ids=repr)
def test_a_field_of_docker_that_asks_for_nothing_is_taken_and_so_is_one_that_docker_has_not(nothing: object) -> None:
    assert wanted(OfTomorrow=1, HostConfig={"OfTomorrow": 1, "StorageOpt": nothing}).image == "busybox:1"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"HostConfig": {"IOMaximumIOps": 3}}, "linux does not support configuration of maximum IOPs"),
        ({"HostConfig": {"StorageOpt": {"size": "1g"}}}, "--storage-opt is supported only for overlay over xfs"),
        ({"HostConfig": {"Runtime": "other"}}, "Unknown runtime specified other"),
        ({"HostConfig": {"Isolation": "hyperv"}}, 'Invalid isolation: "hyperv"'),
        ({"Runtime": "other"}, "Unknown runtime specified other"),
        ({"HostConfig": {"VolumeDriver": "nfs", "Binds": ["x:/y"]}}, "VolumeDriver nfs is not supported"),
        ({"HostConfig": {"ConsoleSize": [1]}}, "invalid value of ConsoleSize"),
        (
            {"HostConfig": {"Memory": "much"}},
            "json: cannot unmarshal string into Go struct field HostConfig.Memory",
        ),
        ({"HostConfig": {"PortBindings": {"80/nosuch": [{}]}}}, "Invalid proto: nosuch"),
        (
            {"HostConfig": {"Binds": "no list"}},
            "cannot unmarshal string into Go struct field HostConfig.Binds",
        ),
        ({"Env": [1]}, "json: cannot unmarshal number into Go struct field Env of type string"),
        ({"Image": ""}, "No command specified"),
        ({"NetworkingConfig": {"EndpointsConfig": {"net": {"Links": ["a:b:c"]}}}}, "bad format for links"),
        ({"NetworkingConfig": {"EndpointsConfig": {"net": {"MacAddress": "x"}}}}, "not a valid mac address"),
    ],
    ids=str,
)
def test_what_the_engine_does_not_do_is_refused(body: Json, words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        wanted(**body)
    assert words in raised.value.message


def test_without_a_network_there_is_none_whatever_the_mode() -> None:
    found = wanted(NetworkDisabled=True, HostConfig={"NetworkMode": "bridge"})
    assert found.options["network_mode"] == "none"
    assert found.config.network_disabled is True
    assert found.host_config.network_mode == "bridge"


def test_networks_are_by_their_own_names_with_what_was_wished() -> None:
    endpoints = {"default": None, "net": {"Aliases": ["db"], "IPAMConfig": {"IPv4Address": "10.1.2.3"}}}
    found = wanted(NetworkingConfig={"EndpointsConfig": endpoints}).networks
    assert found["bridge"].aliases == ()
    assert (found["net"].aliases, found["net"].ipam_config) == (("db",), EndpointIpam(ipv4_address="10.1.2.3"))


def test_each_network_may_have_a_hardware_address_and_more_of_its_own() -> None:
    address = "02:42:ac:11:00:99"
    net = {
        "MacAddress": address,
        "Links": ["db"],
        "DriverOpts": {"a": "b"},
        "IPAMConfig": {"LinkLocalIPs": ["fe80::9"]},
    }
    found = wanted(NetworkingConfig={"EndpointsConfig": {"net": net, "other": {}}}).networks
    assert (found["net"].desired_mac_address, found["net"].links) == (address, ("db:db",))
    assert found["net"].driver_opts == {"a": "b"}
    assert found["net"].ipam_config == EndpointIpam(link_local_ips=("fe80::9",))
    assert "DesiredMacAddress" not in found["other"].document()


def test_null_and_an_empty_list_are_written_down_as_they_were_sent() -> None:
    assert host(Dns=[], CapAdd=None).host_config.document()["Dns"] == []
    assert host(Dns=None).host_config.document()["Dns"] is None
    assert wanted(Env=[], Volumes={}, OnBuild=[]).config.document() == {"Env": None, "Volumes": None, "OnBuild": []}


def test_only_what_can_change_is_taken_by_an_update() -> None:
    given = creation.changes(
        sent({"Memory": 64 << 20, "CpuShares": 0, "RestartPolicy": {"Name": "no"}, "BlkioWeight": 0}, creation.UPDATE)
    )
    assert given == {"mem_limit": 64 << 20, "restart_policy": {"Name": "no"}}
    more = creation.changes(sent({"BlkioWeight": 10, "PidsLimit": 0}, creation.UPDATE))
    assert more == {"blkio_weight": 10, "pids_limit": 0}
    ulimits = [{"Name": "nofile", "Soft": 1, "Hard": 2}]  # taken by dockerd, which changes nothing
    assert creation.changes(sent({"CpuShares": 5, "Ulimits": ulimits}, creation.UPDATE)) == {"cpu_shares": 5}
    with pytest.raises(InvalidInput, match="ShmSize cannot be updated"):
        creation.changes(sent({"ShmSize": 10}, creation.UPDATE))
