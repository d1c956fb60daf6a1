"""Every answer that Docker's own description of its API describes is as it says, as far as dockerd's is."""

from __future__ import annotations

import json
import re
import urllib.parse
from pathlib import Path

import pytest

from tests.compat.pair import Pair
from tests.compat.schema import Description, fetch
from tests.root.api import Answer


@pytest.fixture(scope="session")
def description(repository: Path) -> Description:
    return Description(fetch(repository / "build" / "docker-api"))


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
_LATER = "HostConfig.RestartPolicy.Name"
"""Its enumeration lacks "no", which every docker command sends; later versions have it."""


@pytest.mark.parametrize("asked", GETS)
def test_what_is_asked_for_is_as_described(populated: Pair, description: Description, asked: str) -> None:
    place, _, query = asked.partition("?")
    answers = populated.get(place, **dict(urllib.parse.parse_qsl(query)))
    _check(description, "GET", place, answers)


@pytest.mark.parametrize(("asked", "body"), POSTS)
def test_what_is_done_is_answered_as_described(
    populated: Pair, description: Description, asked: str, body: object
) -> None:
    place, _, query = asked.partition("?")
    answers = populated.post(place, body, **dict(urllib.parse.parse_qsl(query)))
    _check(description, "POST", place, answers)


def _check(description: Description, method: str, place: str, answers: tuple[Answer, Answer]) -> None:
    """The same status, and a document as the schema has it, but where dockerd's own is not so either."""
    ours, docker = answers
    assert ours.status == docker.status, (ours.body, docker.body)
    known = description.path_of(method, place)
    if known is None:  # not in the description: plugins of a kind, or a page that there is not
        assert ours.status == 404
        return
    excused = {_general(fault) for fault in description.faults(method, known, ours.status, _document(docker))}
    faults = description.faults(method, known, ours.status, _document(ours))
    assert [fault for fault in faults if _general(fault) not in excused and not fault.startswith(_LATER)] == []


def _general(fault: str) -> str:
    """A fault without the numbers in its place, and without the value."""
    place, _, reason = fault.partition(": ")
    return re.sub(r"\b[0-9]+\b", "*", place) + _WORDS.sub(r"\1", reason)


def _document(answer: Answer) -> object:
    text = answer.body.decode()
    return json.loads(text) if text.startswith(("{", "[")) else text
