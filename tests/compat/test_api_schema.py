"""Each answer is valid according to Docker's description of its API, in every version.

Violations that dockerd's own answer has, too, are allowed. dockerd supports versions until 1.41; from 1.42 on,
dockerd's violations in 1.41 are allowed.
"""

from __future__ import annotations

import functools
import io
import json
import re
import tarfile
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.api import Answer, Api
from tests.support.pair import Pair, create_stopped
from tests.support.schema import Description, fetch

VERSIONS = ("1.22", "1.25", "1.30", "1.35", "1.40", "1.41", "1.42", "1.43", "1.44", "1.45", "1.46", "1.47")
NEWEST_OF_DOCKERD = "1.41"

GETS = [
    "/_ping", "/version", "/info", "/system/df", "/images/json", "/images/json?all=1&digests=1",
    "/images/busybox:1/json", "/images/busybox:1/history", "/volumes", "/volumes/data", "/networks", "/networks/net",
    "/networks/bridge", "/networks/host", "/networks/none", "/networks/net?verbose=1", "/containers/json",
    "/containers/json?all=1", "/containers/json?all=1&size=1", "/containers/busy/json", "/containers/busy/json?size=1",
    "/containers/ended/json", "/containers/created/json", "/containers/busy/top", "/containers/busy/top?ps_args=aux",
    "/containers/busy/changes", "/containers/busy/stats?stream=0", "/containers/ended/stats?stream=0", "/plugins",
    "/images/nothing/json", "/volumes/nothing", "/networks/nothing", "/containers/nothing/json", "/nodes", "/swarm",
    "/exec/nothing/json", "/images/busybox:1/nothing", "/containers/ended/top",
]  # fmt: skip
POSTS = [
    ("/volumes/create", {"Name": "another"}),
    ("/networks/create", {"Name": "another"}),
    ("/networks/create", {"Name": "net", "CheckDuplicate": True}),
    ("/containers/create", {"Image": "busybox:1"}),
    ("/containers/create", {"Image": "nothing"}),
    ("/containers/busy/exec", {"Cmd": ["true"]}),
    ("/containers/ended/exec", {"Cmd": ["true"]}),
    ("/containers/ended/wait", None),
    ("/containers/busy/update", {"Memory": 128 << 20, "MemorySwap": 256 << 20}),
    ("/containers/nothing/start", None),
    ("/commit?container=ended", {}),
    ("/containers/prune", None),
    ("/images/prune", None),
    ("/volumes/prune", None),
    ("/networks/prune", None),
    ("/build/prune", None),
]

_WORDS = re.compile(r"^.*?( is not | does not )")
_NAMED = re.compile(r"(?<=\bNetworks\.)[a-z]+|\b[0-9]+\b")
_LATER = "HostConfig.RestartPolicy.Name"
"""Its enumeration lacks "no", which every docker command sends; later versions have it."""


@pytest.fixture(scope="session")
def description(repository: Path) -> Callable[[str], Description]:
    """Return the description of an API version."""
    path = fetch()
    return functools.cache(lambda version: Description(path, version))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_is_answered_as_it_is_described(
    version: str, populated: Pair, description: Callable[[str], Description]
) -> None:
    populated.both(_restore)
    older = min(version, NEWEST_OF_DOCKERD)
    pair = Pair(populated.ours.at(version), populated.docker.at(older))
    faults = [
        f"{method} {asked}: {fault}"
        for method, asked, body in [*(("GET", asked, None) for asked in GETS), *(("POST", *post) for post in POSTS)]
        for fault in _faults(description(version), description(older), method, asked, _ask(pair, method, asked, body))
    ]
    faults += [f"POST /build: {fault}" for fault in _faults_of_lines(description(version), pair)]
    assert not faults, "\n".join(faults)


def _restore(api: Api) -> None:
    """Undo what POSTS of another version did to containers and images."""
    for container in api.get("/containers/json", all=1).document:
        if "/busy" not in container["Names"]:
            assert api.delete(f"/containers/{container['Id']}").status == 204
    assert api.post("/images/prune").status == 200
    create_stopped(api)


def _ask(pair: Pair, method: str, asked: str, body: object) -> tuple[Answer, Answer]:
    place, _, query = asked.partition("?")
    return pair.request(method, place, body, parameters=dict(urllib.parse.parse_qsl(query)))


def _faults(
    ours_: Description, dockers: Description, method: str, asked: str, answers: tuple[Answer, Answer]
) -> Iterator[str]:
    """Yield a status that differs from dockerd's, and violations of the schema that only our document has."""
    ours, docker = answers
    if ours.status != docker.status:
        yield f"{ours.status} {ours.body!r}, and of dockerd {docker.status} {docker.body!r}"
        return
    known = ours_.path_of(method, asked.partition("?")[0])
    if known is None:  # not in the description, such as plugins of one kind or an unknown page
        assert ours.status == 404
        return
    excused = {_general(fault) for fault in dockers.faults(method, known, docker.status, _document(docker))}
    for fault in ours_.faults(method, known, ours.status, _document(ours)):
        if _general(fault) not in excused and not fault.startswith(_LATER):
            yield fault


def _faults_of_lines(description: Description, pair: Pair) -> list[str]:
    """Return the violations in a build's output: /build has no schema for it, but BuildInfo is defined."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        text = b"FROM busybox:1\nLABEL a=b\n"
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    built = pair.request("POST", "/build", context.getvalue(), headers={"Content-Type": "application/x-tar"})
    kinds = [[key for line in answer.lines for key in line if key != "stream"] for answer in built]
    assert kinds[0] == kinds[1]  # since 1.30 the id of the image
    return [fault for line in built[0].lines for fault in description.faults_of("BuildInfo", line)]


def _general(fault: str) -> str:
    """A fault without the numbers and names in its place, and without the value."""
    place, _, reason = fault.partition(": ")
    return _NAMED.sub("*", place) + _WORDS.sub(r"\1", reason)


def _document(answer: Answer) -> object:
    text = answer.body.decode()
    return json.loads(text) if text.startswith(("{", "[")) else text


SUMMARY = {
    "Id": "a", "ParentId": "", "RepoTags": [], "RepoDigests": [], "Created": 1, "Size": 1, "SharedSize": 1,
    "Labels": {}, "Containers": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("definition", "document", "until", "since", "words"),
    [
        ("ImageSummary", SUMMARY, "1.43", "1.44", "'VirtualSize' is a required property"),
        ("EndpointSettings", {"DNSNames": []}, "1.43", "1.44", "'DNSNames' was unexpected"),
        ("HostConfig", {"Annotations": {"a": "b"}}, "1.42", "1.43", "'Annotations' was unexpected"),
        ("Mount", {"VolumeOptions": {"Subpath": "a"}}, "1.44", "1.45", "'Subpath' was unexpected"),
        ("HealthConfig", {"StartPeriod": 1}, "1.28", "1.29", "'StartPeriod' was unexpected"),
    ],
)
def test_a_description_finds_what_its_version_does_not_have(
    definition: str,
    document: object,
    until: str,
    since: str,
    words: str,
    description: Callable[[str], Description],
) -> None:
    (fault,) = description(until).faults_of(definition, document)
    assert words in fault
    assert description(since).faults_of(definition, document) == []
    assert description(since).faults_of(definition, {**document, "Nonsense": 1}) != []  # type: ignore[dict-item]
