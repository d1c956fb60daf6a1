"""Rights of containers that depend on the engine's own, and the namespaces that containers share."""

from __future__ import annotations

import pytest

from pylab_container.containers.sandbox import Namespaces, joined_containers, namespaces, oom_score
from pylab_container.errors import Conflict, RuntimeFailed
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.host_config import DEFAULT, HostConfig
from pylab_container.oci.ids import ContainerId
from pylab_container.store.container_store import ContainerRecord


@pytest.mark.parametrize(
    ("score", "own", "may_lower", "written"),
    [
        (0, 0, False, None),
        (0, -500, False, 0),  # a daemon that protects itself protects no container
        (0, 300, False, None),
        (0, 300, True, 0),
        (200, 0, False, 200),
        (-200, -500, False, -200),
        (-200, 0, True, -200),
    ],
)
def test_a_container_has_the_oom_score_that_it_asks_for(
    score: int, own: int, written: int | None, *, may_lower: bool
) -> None:
    assert oom_score(score, own=own, may_lower=may_lower) == written


def test_an_oom_score_that_cannot_be_is_refused() -> None:
    with pytest.raises(RuntimeFailed, match="the oom score -200 is below the engine's own"):
        oom_score(-200, own=0, may_lower=False)


def record(digit: str, host_config: dict[str, str] | None = None, *, pid: int = 0) -> ContainerRecord:
    """A container whose name is the first digit of its id."""
    return ContainerRecord(
        id=ContainerId(digit * 64),
        name=digit,
        created="2026-11-24T08:00:00Z",
        image="",
        path="sh",
        args=(),
        config=ContainerConfig(),
        host_config=HostConfig.parse({**DEFAULT.document(), **(host_config or {})}),
        pid=pid,
    )


def test_a_joined_namespace_is_that_of_the_other_containers_process() -> None:
    own, other = record("a", {"NetworkMode": "container:b", "PidMode": "host"}), record("b", pid=7)
    joined = joined_containers(own, {"b": other}.__getitem__)
    assert joined == {"network": other}
    assert namespaces(own, joined) == Namespaces(network="/proc/7/ns/net", pid=None, ipc="", uts="")


@pytest.mark.parametrize(
    ("field", "other", "words"),
    [
        ("NetworkMode", record("b"), "cannot join network of a non running container"),
        ("IpcMode", record("b", pid=7), "non-shareable IPC"),
        ("NetworkMode", record("a", pid=7), "cannot join own network"),
    ],
)
def test_a_namespace_that_cannot_be_joined_is_a_conflict(field: str, other: ContainerRecord, words: str) -> None:
    with pytest.raises(Conflict, match=words):
        joined_containers(record("a", {field: "container:b"}), lambda _: other)
