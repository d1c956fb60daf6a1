"""Limits that the kernel does not have are discarded in Docker's words; what remains is checked."""

from __future__ import annotations

from typing import Any

import pytest

from pylab_container.docker import limits
from pylab_container.errors import InvalidInput
from pylab_container.oci.host_config import HostConfig

MIB = 1 << 20


@pytest.mark.parametrize(
    ("asked", "unsupported", "kept", "begins"),
    [
        (
            {"blkio_weight": 300},
            "blkio_weight",
            {"blkio_weight": 0},
            ["Your kernel does not support Block I/O weight or"],
        ),
        (
            {"blkio_weight": 5000},
            "blkio_weight",
            {"blkio_weight": 0},
            ["Your kernel does not support Block I/O weight"],
        ),
        ({"blkio_weight": 300}, "", {"blkio_weight": 300}, []),
        ({"blkio_weight": 0}, "blkio_weight", {"blkio_weight": 0}, []),
        (
            {"memory_swappiness": 0},
            "memory_swappiness",
            {"memory_swappiness": None},
            ["Your kernel does not support mem"],
        ),
        ({"oom_kill_disable": False}, "oom_kill_disable", {"oom_kill_disable": False}, []),
        (
            {"oom_kill_disable": True},
            "oom_kill_disable",
            {"oom_kill_disable": None},
            ["Your kernel does not support Oom"],
        ),
        (
            {"oom_kill_disable": True},
            "",
            {"oom_kill_disable": True},
            ["OOM killer is disabled for the container, but no"],
        ),
        ({"oom_kill_disable": True, "memory": MIB}, "", {"oom_kill_disable": True, "memory": MIB}, []),
        (
            {"cpu_period": 1, "cpu_quota": 2},
            "cpu_period cpu_quota",
            {"cpu_period": 0, "cpu_quota": 0},
            ["Your kernel does"],
        ),
        (
            {"memory": MIB},
            "memory memory_swap",
            {"memory": 0, "memory_swap": -1},
            ["Your kernel does not support mem"],
        ),
        (
            {"memory": MIB},
            "memory_swap",
            {"memory": MIB, "memory_swap": -1},
            ["Your kernel does not support swap limit"],
        ),
        ({"memory": MIB, "memory_swap": -1}, "memory_swap", {"memory": MIB, "memory_swap": -1}, []),
        (
            {"kernel_memory": 9 * MIB},
            "",
            {"kernel_memory": 9 * MIB},
            ["Specifying a kernel memory limit is deprecated"],
        ),
        (
            {"kernel_memory": MIB, "cpu_percent": 5},
            "kernel_memory",
            {"kernel_memory": 0, "cpu_percent": 0},
            ["Specifying a", "Your kernel does not support kernel memory limit", "linux does not support CPU percent"],
        ),
    ],
    ids=str,
)
def test_what_the_kernel_has_not_is_discarded_with_a_warning(
    asked: dict[str, Any], unsupported: str, kept: dict[str, Any], begins: list[str]
) -> None:
    found, warnings = limits.discard(HostConfig(**asked), unsupported.split())
    assert found == HostConfig(**kept)
    assert len(warnings) == len(begins)
    assert all(said.startswith(words) for said, words in zip(warnings, begins, strict=True)), warnings


@pytest.mark.parametrize(
    ("asked", "unsupported", "words"),
    [
        ({"blkio_weight": 5000}, "", "Range of blkio weight is from 10 to 1000"),
        ({"kernel_memory": 1000}, "", "Minimum kernel memory limit allowed is 6MB"),
        (
            {"cpu_realtime_period": 10, "cpu_realtime_runtime": 11},
            "",
            "runtime cannot be higher than cpu real-time period",
        ),
        ({"cpu_realtime_runtime": 11}, "cpu_realtime_runtime", "Your kernel does not support CPU real-time scheduler"),
        ({"nano_cpus": 10**9}, "nano_cpus", "NanoCPUs can not be set"),
    ],
    ids=str,
)
def test_what_cannot_be_done_without_is_refused(asked: dict[str, Any], unsupported: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        limits.discard(HostConfig(**asked), unsupported.split())
