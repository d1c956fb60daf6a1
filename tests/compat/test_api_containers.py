"""The same requests about containers to dockerd and to our daemon: statuses and documents are equal."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Answer, Api
from tests.support.sides import IMAGE

Json = dict[str, Any]


@pytest.fixture(scope="module")
def apis(sockets: tuple[Path, Path]) -> tuple[Api, Api]:
    """Docker's daemon and ours, with the same image."""
    return Api(sockets[0]), Api(sockets[1])


# -- what create writes down ----------------------------------------------------------------------

HOST_CONFIGS: tuple[Json, ...] = (
    {},
    {"AutoRemove": True},
    {"Binds": ["/srv:/t"]},
    {"Binds": ["/srv:/t:ro"]},
    {"Binds": ["vol:/t"]},
    {"Binds": ["vol:/t:ro"]},
    {"CapAdd": ["NET_ADMIN"], "CapDrop": ["CHOWN"]},
    {"ConsoleSize": [20, 60]},
    {"ContainerIDFile": "/tmp/id"},
    {"CpuShares": 512},
    {"CpusetCpus": "0"},
    {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rw"}]},
    {"Dns": ["10.9.8.7"], "DnsOptions": ["ndots:2"], "DnsSearch": ["example.org"]},
    {"ExtraHosts": ["x:10.9.8.7"]},
    {"GroupAdd": ["5"]},
    {"Init": True},
    {"Init": False},
    {"IpcMode": "host"},
    {"IpcMode": "shareable"},
    {"LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "3"}}},
    {"LogConfig": {"Type": "none"}},
    {"Memory": 64 << 20},
    {"Memory": 64 << 20, "MemorySwap": -1},
    {"Memory": 64 << 20, "MemoryReservation": 32 << 20},
    {"Mounts": [{"Type": "bind", "Source": "/srv", "Target": "/t", "ReadOnly": True}]},
    {"Mounts": [{"Type": "volume", "Source": "vol", "Target": "/t"}]},
    {"Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20}}]},
    {"NanoCpus": 500_000_000},
    {"NetworkMode": "bridge"},
    {"NetworkMode": "default"},
    {"NetworkMode": "host"},
    {"NetworkMode": "none"},
    {"OomScoreAdj": 100},
    {"PidMode": "host"},
    {"PidsLimit": 30},
    {"PidsLimit": -1},
    {"PidsLimit": 0},
    {"PortBindings": {"80/tcp": [{"HostPort": "18080"}]}},
    {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}], "53/udp": [{"HostPort": "1053"}]}},
    {"PortBindings": {"80/tcp": None}},
    {"Privileged": True},
    {"PublishAllPorts": True},
    {"ReadonlyRootfs": True},
    {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}},
    {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}},
    {"RestartPolicy": {"Name": ""}},
    {"SecurityOpt": ["no-new-privileges"]},
    {"ShmSize": 1 << 20},
    {"Sysctls": {"net.ipv4.ip_forward": "1"}},
    {"Tmpfs": {"/t": "size=1m"}},
    {"UTSMode": "host"},
    {"Ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 128}]},
    # what clients send although they want nothing
    {"BlkioDeviceReadBps": [{"Path": "/dev/vda", "Rate": 1000}], "BlkioDeviceWriteIOps": []},
    {"CgroupParent": "/class", "Memory": 64 << 20, "OomKillDisable": True},
    {"OomKillDisable": True},
    {"BlkioWeight": 300, "BlkioWeightDevice": [{"Path": "/dev/vda", "Weight": 300}]},
    {"Cgroup": "x", "CpuCount": 2, "CpuPercent": 10},
    {"CpuRealtimePeriod": 1_000_000, "CpuRealtimeRuntime": 1000},
    {"CpuShares": 1},
    {"DeviceRequests": [{"Driver": "nvidia", "Capabilities": [["gpu"]]}]},
    {"KernelMemory": 64 << 20, "KernelMemoryTCP": 64 << 20, "OomKillDisable": True},
    {"MemorySwap": -2},
    {"NanoCpus": 100},
    {"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "18080"}]}},
    {"PidsLimit": -5},
    {"MaskedPaths": ["/proc/version"], "ReadonlyPaths": []},
    {"MaskedPaths": None, "Runtime": "io.containerd.runc.v2"},
    {"BlkioWeight": 0, "BlkioWeightDevice": [], "CpuPeriod": 0, "DeviceRequests": None, "OomKillDisable": False},
    {"MemorySwappiness": None, "Isolation": "", "CgroupParent": "", "Links": None, "VolumesFrom": None},
    {"Binds": None, "PortBindings": None, "CapAdd": None, "Dns": None, "Ulimits": None, "Runtime": "runc"},
)

CONFIGS: tuple[Json, ...] = (
    {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "OpenStdin": True, "StdinOnce": True},
    {"OpenStdin": True},
    {"Tty": True, "OpenStdin": True},
    {"Cmd": None, "Entrypoint": ["/bin/true"]},
    {"Cmd": "single"},
    {"Cmd": ["a"], "Entrypoint": ["/bin/echo", "x"]},
    {"Domainname": "lab", "Hostname": "box"},
    {"Env": ["A=b", "C="]},
    {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}},
    {"Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9, "Retries": 2}},
    {"Healthcheck": {"Test": ["NONE"]}},
    {"Labels": {"a": "b"}},
    {"Labels": None, "Env": None, "Volumes": None, "ExposedPorts": None, "OnBuild": None},
    {"StopSignal": "SIGINT", "StopTimeout": 3},
    {"User": "student"},
    {"Volumes": {"/v": {}}},
    {"WorkingDir": "/tmp"},
)

_OF_THIS_MACHINE = (
    "Id",
    "Created",
    "GraphDriver",
    "HostnamePath",
    "HostsPath",
    "Image",
    "LogPath",
    "ResolvConfPath",
    "Name",
)


def _normal(document: Json) -> Json:
    """An inspect document without what is different on every data root."""
    kept = {name: value for name, value in document.items() if name not in _OF_THIS_MACHINE}
    if kept["Config"]["Hostname"] == document["Id"][:12]:
        kept["Config"]["Hostname"] = "ID"
    for mount in kept["Mounts"]:
        mount["Source"] = re.sub(r".*/volumes/", "VOLUMES/", mount["Source"])
        for name in ("Name", "Source"):
            mount[name] = re.sub(r"[0-9a-f]{64}", "ID", mount.get(name, ""))
    return kept


def _different(one: Any, other: Any, path: str = "") -> list[str]:
    """Return the places where two documents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted({*one, *other})
        missing = object()
        return [
            line
            for name in names
            for line in _different(one.get(name, missing), other.get(name, missing), f"{path}.{name}")
        ]
    return [] if one == other else [f"{path}: docker's {one!r:.120}, ours {other!r:.120}"]


def _created(api: Api, body: Json) -> tuple[Answer, Json]:
    answer = api.post("/containers/create", body)
    assert answer.status == 201, answer.body
    container = answer.document["Id"]
    try:
        return answer, api.get(f"/containers/{container}/json").document
    finally:
        assert api.delete(f"/containers/{container}", v=1).status == 204


@pytest.mark.parametrize(
    "body",
    [{"HostConfig": host} for host in HOST_CONFIGS] + list(CONFIGS),
    ids=lambda body: (
        "-".join([*(name for name in body if name != "HostConfig"), *body.get("HostConfig", ())]) or "none"
    ),
)
def test_inspect_shows_of_a_body_what_dockers_shows(body: Json, apis: tuple[Api, Api]) -> None:
    whole = {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {}, **body}
    (their_answer, expected), (our_answer, got) = (_created(api, whole) for api in apis)
    assert set(our_answer.document) == set(their_answer.document)
    assert our_answer.document["Warnings"] == their_answer.document["Warnings"]
    differences = _different(_normal(expected), _normal(got))
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize(
    "host",
    [
        {"Memory": 1},
        {"MemorySwap": 64 << 20},
        {"NanoCpus": 10**12},
        {"CpusetCpus": "77"},
        {"CpusetMems": "77"},
        {"CpuRealtimePeriod": 1000, "CpuRealtimeRuntime": 10_000},
        {"IOMaximumIOps": 3},
        {"KernelMemory": 1000},
        {"ShmSize": -1},
        {"OomScoreAdj": 5000},
        {"RestartPolicy": {"Name": "sometimes"}},
        {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
        {"Binds": ["a:b:c:d"]},
        {"Binds": ["/a:relative"]},
        {"Mounts": [{"Type": "bind", "Source": "/no/such/place", "Target": "/t"}]},
        {"Mounts": [{"Type": "nosuch", "Target": "/t"}]},
        {"SecurityOpt": ["nosuch"]},
        {"CapAdd": ["NOSUCH"]},
        {"Sysctls": {"kernel.nosuch.of.its.own": "1"}, "Memory": 1},
        {"Ulimits": [{"Name": "nofile", "Soft": 9, "Hard": 3}], "Memory": 1},
    ],
    ids=str,
)
def test_what_docker_refuses_is_refused(host: Json, apis: tuple[Api, Api]) -> None:
    body = {"Image": IMAGE, "Cmd": ["true"], "HostConfig": host}
    expected, got = (api.post("/containers/create", body) for api in apis)
    # 500 is Docker's mistake: later versions say 400, too.
    assert got.status == 400
    assert expected.status in (400, 500)


@pytest.mark.parametrize(
    "body",
    [
        {"HostConfig": {"Runtime": "other"}},
        {"HostConfig": {"StorageOpt": {"size": "1g"}}},
    ],
    ids=str,
)
def test_what_the_engine_does_not_do_is_refused_with_its_name(body: Json, apis: tuple[Api, Api]) -> None:
    answer = apis[1].post("/containers/create", {"Image": IMAGE, "Cmd": ["true"], **body})
    assert answer.status == 400
    field = next(iter(body["HostConfig"]))
    assert field.lower() in answer.message.lower().replace("-", "") or "runtime" in answer.message


# -- statuses ---------------------------------------------------------------------------------------

# (method, path, parameters, body) → of a container "made", that was never started, and one "runs"
REQUESTS: tuple[tuple[str, str, Json, Any], ...] = (
    ("GET", "/containers/nosuch/json", {}, None),
    ("GET", "/containers/nosuch/logs", {"stdout": 1}, None),
    ("GET", "/containers/nosuch/top", {}, None),
    ("GET", "/containers/nosuch/changes", {}, None),
    ("GET", "/containers/nosuch/export", {}, None),
    ("GET", "/containers/nosuch/stats", {"stream": 0}, None),
    ("GET", "/containers/nosuch/archive", {"path": "/"}, None),
    ("PUT", "/containers/nosuch/archive", {"path": "/"}, b""),
    ("POST", "/containers/nosuch/start", {}, None),
    ("POST", "/containers/nosuch/stop", {}, None),
    ("POST", "/containers/nosuch/restart", {}, None),
    ("POST", "/containers/nosuch/kill", {}, None),
    ("POST", "/containers/nosuch/pause", {}, None),
    ("POST", "/containers/nosuch/unpause", {}, None),
    ("POST", "/containers/nosuch/rename", {"name": "x"}, None),
    ("POST", "/containers/nosuch/resize", {"h": 1, "w": 1}, None),
    ("POST", "/containers/nosuch/update", {}, {}),
    ("POST", "/containers/nosuch/attach", {"stream": 1}, None),
    ("POST", "/containers/nosuch/wait", {}, None),
    ("POST", "/containers/nosuch/exec", {}, {"Cmd": ["true"]}),
    ("DELETE", "/containers/nosuch", {}, None),
    ("GET", "/exec/nosuch/json", {}, None),
    ("POST", "/exec/nosuch/start", {}, {"Detach": False}),
    ("POST", "/exec/nosuch/resize", {"h": 1, "w": 1}, None),
    ("GET", "/containers/made/logs", {}, None),
    ("GET", "/containers/made/logs", {"stdout": 1}, None),
    ("GET", "/containers/made/logs", {"stdout": 1, "since": "nonsense"}, None),
    ("GET", "/containers/made/top", {}, None),
    ("GET", "/containers/made/changes", {}, None),
    ("GET", "/containers/made/stats", {"stream": 0}, None),
    ("GET", "/containers/made/archive", {}, None),
    ("GET", "/containers/made/archive", {"path": "/nosuch"}, None),
    ("GET", "/containers/made/archive", {"path": "/etc/passwd"}, None),
    ("HEAD", "/containers/made/archive", {"path": "/etc/passwd"}, None),
    ("HEAD", "/containers/made/archive", {"path": "/nosuch"}, None),
    ("PUT", "/containers/made/archive", {"path": "/nosuch"}, b"\0" * 1024),
    ("PUT", "/containers/made/archive", {"path": "/etc/passwd"}, b"\0" * 1024),
    ("PUT", "/containers/made/archive", {"path": "/tmp"}, b"\0" * 1024),
    ("POST", "/containers/made/stop", {}, None),
    ("POST", "/containers/made/kill", {}, None),
    ("POST", "/containers/made/pause", {}, None),
    ("POST", "/containers/made/unpause", {}, None),
    ("POST", "/containers/made/rename", {}, None),
    ("POST", "/containers/made/rename", {"name": "runs"}, None),
    ("POST", "/containers/made/rename", {"name": "bad/name"}, None),
    ("POST", "/containers/made/resize", {"h": 1, "w": 1}, None),
    ("POST", "/containers/made/resize", {"h": "x", "w": 1}, None),
    ("POST", "/containers/made/update", {}, {"CpuShares": 300}),
    ("POST", "/containers/made/wait", {}, None),
    ("POST", "/containers/made/wait", {"condition": "nosuch"}, None),
    ("POST", "/containers/made/exec", {}, {"Cmd": ["true"]}),
    ("POST", "/containers/runs/start", {}, None),
    ("POST", "/containers/runs/start", {"detachKeys": "nonsense"}, None),
    ("POST", "/containers/runs/kill", {"signal": "NOSUCH"}, None),
    ("POST", "/containers/runs/unpause", {}, None),
    ("POST", "/containers/runs/stop", {"t": "x"}, None),
    ("POST", "/containers/runs/exec", {}, {"Cmd": []}),
    ("POST", "/containers/runs/exec", {}, {}),
    ("POST", "/containers/runs/exec", {}, {"Cmd": ["true"], "DetachKeys": "nonsense"}),
    ("GET", "/containers/runs/top", {"ps_args": "aux"}, None),
    ("GET", "/containers/runs/json", {"size": 1}, None),
    ("DELETE", "/containers/runs", {}, None),
    ("GET", "/containers/json", {"all": 1}, None),
    ("GET", "/containers/json", {"all": 1, "size": 1}, None),
    ("GET", "/containers/json", {"limit": 1}, None),
    ("GET", "/containers/json", {"limit": "x"}, None),
    ("GET", "/containers/json", {"filters": "nonsense"}, None),
    ("GET", "/containers/json", {"filters": {"nosuch": ["x"]}}, None),
    ("GET", "/containers/json", {"filters": {"status": {"running": True}}}, None),
    ("POST", "/containers/create", {}, {}),
    ("POST", "/containers/create", {}, {"Image": "nosuch:1"}),
    ("POST", "/containers/create", {"name": "runs"}, {"Image": IMAGE, "Cmd": ["true"]}),
    ("POST", "/containers/create", {"name": "bad/name"}, {"Image": IMAGE, "Cmd": ["true"]}),
    ("POST", "/containers/create", {}, {"Image": IMAGE}),
    ("POST", "/containers/create", {}, None),
    ("POST", "/containers/prune", {"filters": {"nosuch": ["x"]}}, None),
    ("POST", "/containers/prune", {"filters": {"label": ["nobody=has"]}}, None),
)


@pytest.fixture(scope="module")
def two(apis: tuple[Api, Api]) -> tuple[Api, Api]:
    """Clients of both daemons, each with the containers "made" and "runs"."""
    for api in apis:
        for name in ("made", "runs"):
            body = {"Image": IMAGE, "Cmd": ["sleep", "1000"]}
            assert api.post("/containers/create", body, name=name).status == 201
        assert api.post("/containers/runs/start").status == 204
    return apis


@pytest.mark.parametrize(("path", "name", "lands"), [("/", "../../up", "/up"), ("/tmp", "../../out", "/out"),
                                                     ("/tmp", "deep/../in", "/tmp/in")])  # fmt: skip
def test_an_archive_that_climbs_ends_where_dockers_does(two: tuple[Api, Api], path: str, name: str, lands: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    put = [api.request("PUT", "/containers/made/archive", archive.getvalue(), parameters={"path": path}) for api in two]
    # That the archive is to blame dockerd says with 500.
    assert (put[0].status, put[1].status) == ((200, 200) if lands.startswith(path) else (500, 400))
    there = [api.request("GET", "/containers/made/archive", parameters={"path": lands}).status for api in two]
    assert there == [put[0].status if put[0].status == 200 else 404] * 2


def _shape(value: Any) -> Any:
    """The names and types of a document."""
    if isinstance(value, dict):
        return {name: _shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return type(value).__name__


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: f"{one[0]} {one[1]} {one[2]} {one[3]!r:.40}")
def test_a_request_has_dockers_status_and_a_document_of_dockers_shape(
    request_: tuple[str, str, Json, Any], two: tuple[Api, Api]
) -> None:
    method, path, parameters, body = request_
    expected, got = (api.request(method, path, body, parameters=parameters) for api in two)
    # dockerd sends 500 for some errors of the client. We send 500 only for filters that are not JSON, until 1.41.
    own = (500,) if parameters.get("filters") == "nonsense" else (400, 404, 409)
    statuses = own if expected.status == 500 else (expected.status,)
    assert got.status in statuses, (expected.body[:300], got.body[:300])
    if expected.status < 300 and expected.headers.get("Content-Type") == "application/json" and expected.body:
        differences = _different(_shape(expected.document), _shape(got.document))
        assert not differences, "\n".join(differences)
    if expected.status >= 400 and expected.body and expected.headers["Content-Type"] == "application/json":
        assert set(got.document) >= {"message"}
