"""Docker's documents as Structs: what is parsed is written back as it was, and a wrong type is an error with a path."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from msgspec.structs import replace

from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.document import Document
from pylab_container.oci.host_config import DEFAULT, DeviceMapping, HostConfig, LogConfig, RestartPolicy, Ulimit
from pylab_container.oci.image import EMPTY_CONFIG
from pylab_container.oci.network_settings import EndpointIpam, EndpointSettings, NetworkSettings

ENDPOINT = {
    "IPAMConfig": {"IPv4Address": "10.9.0.2"},
    "Links": None,
    "Aliases": ["web", "db"],
    "NetworkID": "n" * 64,
    "EndpointID": "",
    "Gateway": "",
    "IPAddress": "10.9.0.2",
    "IPPrefixLen": 24,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "MacAddress": "02:42:0a:09:00:02",
    "DriverOpts": None,
}
# A container's NetworkSettings in a config.v2.json that dockerd 20.10 wrote.
DOCKERD_NETWORK = {
    "Bridge": "",
    "SandboxID": "",
    "HairpinMode": False,
    "LinkLocalIPv6Address": "",
    "LinkLocalIPv6PrefixLen": 0,
    "Networks": {"lab": {**ENDPOINT, "IPAMOperational": False}, "lost": None},
    "Service": None,
    "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": None},
    "SandboxKey": "",
    "SecondaryIPAddresses": None,
    "SecondaryIPv6Addresses": None,
    "IsAnonymousEndpoint": True,
    "HasSwarmEndpoint": False,
}
DEFAULTS = json.loads(
    """{
    "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}}, "NetworkMode": "bridge",
    "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": false,
    "VolumeDriver": "", "VolumesFrom": null, "CapAdd": null, "CapDrop": null, "CgroupnsMode": "host", "Dns": [],
    "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null, "GroupAdd": null, "IpcMode": "private", "Cgroup": "",
    "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false, "PublishAllPorts": false,
    "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "", "ShmSize": 67108864,
    "Runtime": "runc", "ConsoleSize": [0, 0], "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0,
    "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [],
    "BlkioDeviceWriteBps": [], "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0,
    "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": [],
    "DeviceCgroupRules": null, "DeviceRequests": null, "KernelMemory": 0, "KernelMemoryTCP": 0,
    "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": null, "OomKillDisable": false, "PidsLimit": null,
    "Ulimits": null, "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
    "MaskedPaths": ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
    "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    }"""
)
"""hostconfig.json of a container that `docker create` made without options."""
DOCUMENTS: list[tuple[type[Document], dict[str, Any]]] = [
    (HostConfig, dict(DEFAULTS)),
    (HostConfig, {}),
    (HostConfig, dict.fromkeys(DEFAULTS)),
    (HostConfig, {"NetworkMode": "host", "Binds": [], "CapAdd": None, "Tmpfs": {}, "Init": False, "Memory": 0}),
    (HostConfig, {"NetworkMode": "x", "FromTheFuture": {"a": [1, None]}, "Nulls": 1, "Unknown": None, "Missing": []}),
    (HostConfig, {"RestartPolicy": {"Name": ""}, "LogConfig": {"Type": "local", "Config": None, "Mode": 1}}),
    (HostConfig, {"Devices": [{"PathOnHost": "/dev/fuse"}], "Ulimits": [{"Name": "nofile", "Hard": 2, "Soft": 1}]}),
    (HostConfig, {"MemorySwappiness": 0, "PidsLimit": 0, "OomKillDisable": None, "ConsoleSize": [24, 80]}),
    (HostConfig, {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "80"}], "81/tcp": None}}),
    (ContainerConfig, dict(EMPTY_CONFIG)),
    (ContainerConfig, {**EMPTY_CONFIG, "Cmd": [], "Env": ["A=1"], "StopTimeout": 0, "Healthcheck": {"Test": ["NONE"]}}),
    (ContainerConfig, {"Healthcheck": {}, "Labels": {}, "Volumes": {"/v": {}}, "org.example": "unknown"}),
    (ContainerConfig, {"Hostname": None, "Tty": None, "Labels": None, "Healthcheck": None}),
    (NetworkSettings, {}),
    (NetworkSettings, {"Networks": {"bridge": {"Aliases": None}}}),
    (NetworkSettings, DOCKERD_NETWORK),
    (EndpointSettings, {**ENDPOINT, "DesiredMacAddress": "02:42:0a:09:00:02", "GwPriority": 1}),
    (EndpointSettings, {"IPAMConfig": {}, "Links": [], "DriverOpts": {}}),
]


@pytest.mark.parametrize(("kind", "document"), DOCUMENTS)
def test_a_document_is_written_back_as_it_was_read(kind: type[Document], document: dict[str, Any]) -> None:
    assert kind.parse(document).document() == document


def test_fields_are_written_in_dockers_order() -> None:
    assert list(HostConfig.parse(dict(DEFAULTS)).document()) == list(DEFAULTS)
    assert list(ContainerConfig().document()) == list(EMPTY_CONFIG)
    assert list(HostConfig.parse({"New": 1, "Memory": 1, "Binds": None}).document()) == ["Binds", "Memory", "New"]


def test_values_are_read_by_attribute() -> None:
    host = HostConfig.parse(
        {
            "NetworkMode": "lab",
            "Binds": None,
            "UTSMode": "host",
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "LogConfig": {"Type": "local", "Config": {"max-size": "1m"}},
            "Devices": [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}],
            "Ulimits": [{"Name": "nofile", "Hard": -1, "Soft": 1}],
        }
    )
    assert (host.network_mode, host.binds, host.uts_mode, host.memory) == ("lab", (), "host", 0)
    assert (host.init, host.tmpfs, host.pids_limit) == (None, {}, None)
    assert host.restart_policy == RestartPolicy(name="on-failure", maximum_retry_count=3)
    assert host.log_config == LogConfig(type="local", config={"max-size": "1m"})
    assert host.devices == (DeviceMapping(path_on_host="/dev/a", path_in_container="/dev/b", cgroup_permissions="r"),)
    assert host.ulimits == (Ulimit(name="nofile", hard=-1, soft=1),)
    settings = NetworkSettings.parse(DOCKERD_NETWORK)
    endpoint = settings.networks["lab"]
    assert endpoint is not None
    assert (endpoint.ip_address, endpoint.aliases) == ("10.9.0.2", ("web", "db"))
    assert endpoint.ipam_config is not None
    assert endpoint.ipam_config.ipv4_address == "10.9.0.2"
    assert settings.networks["lost"] is None


def test_a_changed_field_is_written_and_the_others_stay() -> None:
    host = HostConfig.parse({"NetworkMode": "bridge", "Binds": None, "Links": None, "Init": True, "Other": 1})
    changed = replace(host, links=("/db:/web/db",), tmpfs={"/t": ""}, init=None)
    assert changed.document() == {
        "NetworkMode": "bridge",
        "Binds": None,
        "Links": ["/db:/web/db"],
        "Tmpfs": {"/t": ""},
        "Init": None,
        "Other": 1,
    }
    assert replace(changed, links=(), tmpfs={}, init=True).document() == host.document()


def test_a_new_document_is_what_docker_writes_without_options() -> None:
    assert DEFAULT.document() == DEFAULTS
    assert ContainerConfig().document() == EMPTY_CONFIG
    assert NetworkSettings().document() == {}
    assert EndpointIpam().document() == {}
    assert EndpointSettings(aliases=("a",)).document()["Links"] is None


@pytest.mark.parametrize(
    ("kind", "document", "message"),
    [
        (HostConfig, [], "Expected `object`, got `array`"),
        (HostConfig, {"NetworkMode": 1}, "Expected `str`, got `int` - at `$.NetworkMode`"),
        (HostConfig, {"Binds": ["a", 1]}, "Expected `str`, got `int` - at `$.Binds[1]`"),
        (HostConfig, {"Privileged": "yes"}, "Expected `bool`, got `str` - at `$.Privileged`"),
        (HostConfig, {"ConsoleSize": [1]}, "Expected `array` of length 2, got 1 - at `$.ConsoleSize`"),
        (HostConfig, {"RestartPolicy": 1}, "Expected `object`, got `int` - at `$.RestartPolicy`"),
        (
            HostConfig,
            {"RestartPolicy": {"MaximumRetryCount": "3"}},
            "Expected `int`, got `str` - at `$.RestartPolicy.MaximumRetryCount`",
        ),
        (HostConfig, {"Ulimits": {}}, "Expected `array`, got `object` - at `$.Ulimits`"),
        (HostConfig, {"Ulimits": [{}, {"Soft": "1"}]}, "Expected `int`, got `str` - at `$.Ulimits[1].Soft`"),
        (ContainerConfig, {"Labels": {"a": 1}}, "Expected `str`, got `int` - at `$.Labels[...]`"),
        (ContainerConfig, {"Healthcheck": {"Test": "x"}}, "Expected `array`, got `str` - at `$.Healthcheck.Test`"),
        (
            NetworkSettings,
            {"Networks": {"lab": {"IPAMConfig": {"IPv4Address": 1}}}},
            "Expected `str`, got `int` - at `$.Networks[...].IPAMConfig.IPv4Address`",
        ),
    ],
)
def test_another_type_is_an_error_that_names_the_field(kind: type[Document], document: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        kind.parse(document)
