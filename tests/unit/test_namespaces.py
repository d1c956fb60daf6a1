"""Namespaces that containers share."""

from __future__ import annotations

import pytest

from pylab_container.containers.namespaces import Namespaces, bundle_namespaces, joined_containers
from pylab_container.errors import Conflict
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.host_config import DEFAULT, HostConfig
from pylab_container.oci.ids import ContainerId
from pylab_container.store.container_store import ContainerRecord


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
    assert bundle_namespaces(own, joined) == Namespaces(network="/proc/7/ns/net", pid=None, ipc="", uts="")


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
