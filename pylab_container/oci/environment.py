"""Environments as lists of "NAME=value"."""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH in a container whose image does not set it, as in Docker."""


def merge_environment(*environments: Sequence[str]) -> list[str]:
    """Merge environments; a later value of a name replaces an earlier one in its place."""
    merged: dict[str, str] = {}
    for entries in environments:
        for entry in entries:
            merged[entry.partition("=")[0]] = entry
    return list(merged.values())
