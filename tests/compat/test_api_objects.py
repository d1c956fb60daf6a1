"""Volumes, networks and the rest over the API: ours and dockerd's answers to the same requests, side by side."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.pair import Pair, differences, words

IPAM = {"Config": [{"Subnet": "10.99.0.0/24", "Gateway": "10.99.0.7", "IPRange": "10.99.0.128/25"}]}
NETWORK = {"Name": "n1", "Driver": "bridge", "Labels": {"a": "b"}, "Internal": True, "IPAM": IPAM}
ENDPOINT = {"Aliases": ["q"], "IPAMConfig": {"IPv4Address": "10.99.0.200"}}

SAME: list[tuple[str, str, object, dict[str, Any]]] = [
    ("POST", "/volumes/create", {"Name": "v1", "Labels": {"a": "b"}}, {}),
    ("POST", "/volumes/create", {"Name": "v1"}, {}),
    ("POST", "/volumes/create", {}, {}),
    ("POST", "/volumes/create", {"Name": "xx", "Driver": "nope"}, {}),
    ("POST", "/volumes/create", {"Name": "xx", "DriverOpts": {"nope": "1"}}, {}),
    ("GET", "/volumes", None, {"filters": {"name": ["v1"]}}),
    ("GET", "/volumes", None, {"filters": {"dangling": ["true"], "name": ["v1"]}}),
    ("GET", "/volumes", None, {"filters": {"label": ["a"]}}),
    ("GET", "/volumes", None, {"filters": {"nope": ["a"]}}),
    ("DELETE", "/volumes/data", None, {}),
    ("DELETE", "/volumes/v1", None, {}),
    ("DELETE", "/volumes/v1", None, {}),
    ("DELETE", "/volumes/v1", None, {"force": 1}),
    ("POST", "/volumes/prune", None, {"filters": {"nope": ["x"]}}),
    ("POST", "/volumes/prune", None, {}),
    ("POST", "/networks/create", NETWORK, {}),
    ("POST", "/networks/create", {"Name": "n1", "CheckDuplicate": True}, {}),
    ("POST", "/networks/create", {"Name": "n2", "Driver": "nope"}, {}),
    ("POST", "/networks/create", {"Name": "n2", "Driver": "host"}, {}),
    ("GET", "/networks/n1", None, {}),
    ("GET", "/networks", None, {"filters": {"name": ["n1"]}}),
    ("GET", "/networks", None, {"filters": {"driver": ["host"]}}),
    ("GET", "/networks", None, {"filters": {"nope": ["host"]}}),
    ("POST", "/networks/n1/connect", {"Container": "busy", "EndpointConfig": ENDPOINT}, {}),
    ("POST", "/networks/n1/connect", {"Container": "busy"}, {}),
    ("POST", "/networks/n1/connect", {"Container": "nothing"}, {}),
    ("POST", "/networks/nothing/connect", {"Container": "busy"}, {}),
    ("GET", "/networks/n1", None, {}),
    ("DELETE", "/networks/n1", None, {}),
    ("POST", "/networks/n1/disconnect", {"Container": "busy"}, {}),
    ("POST", "/networks/host/connect", {"Container": "busy"}, {}),
    ("DELETE", "/networks/n1", None, {}),
    ("DELETE", "/networks/n1", None, {}),
    ("DELETE", "/networks/bridge", None, {}),
    ("POST", "/networks/prune", None, {"filters": {"nope": ["x"]}}),
    ("GET", "/events", None, {"since": "0", "until": "1"}),
    ("GET", "/nodes", None, {}),
    ("GET", "/swarm/unlockkey", None, {}),
    ("POST", "/swarm/leave", None, {}),
    ("GET", "/plugins/x/json", None, {}),
    ("GET", "/plugins/privileges", None, {"remote": "x"}),
    ("DELETE", "/plugins/x", None, {}),
    ("PUT", "/containers/json", None, {}),
    ("GET", "/nothing", None, {}),
]


def test_the_same_requests_are_answered_alike(populated: Pair) -> None:
    for method, path, body, parameters in SAME:
        ours, docker = populated.request(method, path, body, parameters=parameters)
        assert ours.status == docker.status, (method, path, parameters, ours.body, docker.body)
        if ours.status >= 400:
            assert words(ours) == words(docker), (method, path)
        elif ours.body.strip():
            assert differences(ours.document, docker.document) == set(), (method, path, parameters)


@pytest.mark.parametrize("path", ["/info", "/version", "/system/df", "/_ping"])
def test_what_they_tell_about_themselves_has_the_same_shape(populated: Pair, path: str) -> None:
    ours, docker = populated.get(path)
    assert ours.status == docker.status == 200
    assert set(docker.headers) - {"Transfer-Encoding"} <= set(ours.headers)
    if path != "/_ping":
        assert differences(ours.document, docker.document) == set()


def test_a_container_that_is_not_on_a_network_cannot_be_taken_off_even_by_force(populated: Pair) -> None:
    for force in (False, True):
        ours, docker = populated.post("/networks/bridge/disconnect", {"Container": "busy", "Force": force})
        assert (ours.status, docker.status) == (409, 500)
        assert words(ours) == words(docker)


def test_the_space_that_is_taken_is_told_of_the_same_things(populated: Pair) -> None:
    ours, docker = (answer.document for answer in populated.get("/system/df"))
    for kind, name in (("Containers", "Names"), ("Images", "RepoTags")):
        assert sorted(str(one[name]) for one in ours[kind]) == sorted(str(one[name]) for one in docker[kind])
    assert ours["LayersSize"] == docker["LayersSize"]
