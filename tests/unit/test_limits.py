"""Limits that the kernel does not have are discarded in Docker's words; what remains is checked."""

from __future__ import annotations

from typing import Any

import pytest

from pylab_container.docker import limits
from pylab_container.errors import InvalidInput

MIB = 1 << 20


@pytest.mark.parametrize(
    ("asked", "unsupported", "kept", "begins"),
    [
        ({"BlkioWeight": 300}, "BlkioWeight", {"BlkioWeight": 0}, ["Your kernel does not support Block I/O weight or"]),
        ({"BlkioWeight": 5000}, "BlkioWeight", {"BlkioWeight": 0}, ["Your kernel does not support Block I/O weight"]),
        ({"BlkioWeight": 300}, "", {"BlkioWeight": 300}, []),
        ({"BlkioWeight": 0}, "BlkioWeight", {"BlkioWeight": 0}, []),
        ({"MemorySwappiness": 0}, "MemorySwappiness", {"MemorySwappiness": None}, ["Your kernel does not support mem"]),
        ({"OomKillDisable": False}, "OomKillDisable", {"OomKillDisable": False}, []),
        (
            {"OomKillDisable": True},
            "OomKillDisable",
            {"OomKillDisable": None},
            ["Your kernel does not support Oom"],
        ),
        ({"OomKillDisable": True}, "", {"OomKillDisable": True}, ["OOM killer is disabled for the container, but no"]),
        ({"OomKillDisable": True, "Memory": MIB}, "", {"OomKillDisable": True, "Memory": MIB}, []),
        ({"CpuPeriod": 1, "CpuQuota": 2}, "CpuPeriod CpuQuota", {"CpuPeriod": 0, "CpuQuota": 0}, ["Your kernel does"]),
        (
            {"Memory": MIB},
            "Memory MemorySwap",
            {"Memory": 0, "MemorySwap": -1},
            ["Your kernel does not support mem"],
        ),
        ({"Memory": MIB}, "MemorySwap", {"Memory": MIB, "MemorySwap": -1}, ["Your kernel does not support swap limit"]),
        ({"Memory": MIB, "MemorySwap": -1}, "MemorySwap", {"Memory": MIB, "MemorySwap": -1}, []),
        ({"KernelMemory": 9 * MIB}, "", {"KernelMemory": 9 * MIB}, ["Specifying a kernel memory limit is deprecated"]),
        (
            {"KernelMemory": MIB, "CpuPercent": 5},
            "KernelMemory",
            {"KernelMemory": 0, "CpuPercent": 0},
            ["Specifying a", "Your kernel does not support kernel memory limit", "linux does not support CPU percent"],
        ),
    ],
    ids=str,
)
def test_what_the_kernel_has_not_is_discarded_with_a_warning(
    asked: dict[str, Any], unsupported: str, kept: dict[str, Any], begins: list[str]
) -> None:
    found, warnings = limits.discard(asked, unsupported.split())
    assert found == kept
    assert len(warnings) == len(begins)
    assert all(said.startswith(words) for said, words in zip(warnings, begins, strict=True)), warnings


@pytest.mark.parametrize(
    ("asked", "unsupported", "words"),
    [
        ({"BlkioWeight": 5000}, "", "Range of blkio weight is from 10 to 1000"),
        ({"KernelMemory": 1000}, "", "Minimum kernel memory limit allowed is 6MB"),
        ({"CpuRealtimePeriod": 10, "CpuRealtimeRuntime": 11}, "", "runtime cannot be higher than cpu real-time period"),
        ({"CpuRealtimeRuntime": 11}, "CpuRealtimeRuntime", "Your kernel does not support CPU real-time scheduler"),
        ({"NanoCpus": 10**9}, "NanoCpus", "NanoCPUs can not be set"),
    ],
    ids=str,
)
def test_what_cannot_be_done_without_is_refused(asked: dict[str, Any], unsupported: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        limits.discard(asked, unsupported.split())
