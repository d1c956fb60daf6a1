"""daemon/versions.py: what a version does not know; and how versions are compared."""

from __future__ import annotations

from typing import Any

import pytest

from pylab_container.daemon.call import parse_version
from pylab_container.daemon.versions import known

MOUNTS = {"HostConfig": {"Mounts": [{"BindOptions": {"ReadOnlyForceRecursive": True, "Propagation": "shared"}}, {}]}}


@pytest.mark.parametrize(
    ("schema", "version", "document", "left"),
    [
        ("ContainerUpdate", "1.41", {"KernelMemory": 1, "Memory": 2}, {"KernelMemory": 1, "Memory": 2}),
        ("ContainerUpdate", "1.42", {"KernelMemory": 1, "Memory": 2}, {"Memory": 2}),
        ("ContainerCreate", "1.44", MOUNTS, MOUNTS),
        (
            "ContainerCreate",
            "1.43",
            MOUNTS,
            {"HostConfig": {"Mounts": [{"BindOptions": {"Propagation": "shared"}}, {}]}},
        ),
        (
            "ContainerCreate",
            "1.42",
            {"HostConfig": None, "Healthcheck": {"StartInterval": 1}},
            {"HostConfig": None, "Healthcheck": {}},
        ),
        ("Image", "1.44", {"VirtualSize": 1, "Container": ""}, {"Container": ""}),
        (
            "ContainerInspect",
            "1.43",
            {"NetworkSettings": {"Networks": {"a": {"DNSNames": [], "Links": []}, "b": {"DNSNames": None}}}},
            {"NetworkSettings": {"Networks": {"a": {"Links": []}, "b": {}}}},
        ),
    ],
)
def test_what_a_version_does_not_know_is_left_out(schema: str, version: str, document: Any, left: Any) -> None:
    before = repr(document)
    assert known(schema, document, parse_version(version)) == left
    assert repr(document) == before


@pytest.mark.parametrize(
    ("one", "other"), [("1.41", "1.041"), ("1.41", "1.41.0"), ("2", "2.0"), ("1.", "1"), (".41", "0.41"), ("..", "")]
)
def test_versions_are_numbers_with_dots_between(one: str, other: str) -> None:
    assert parse_version(one) == parse_version(other)
    assert parse_version("1.9") < parse_version("1.22") < parse_version("1.22.1") < parse_version("1.23")
