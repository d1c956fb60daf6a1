"""List the names of objects in a data root for shell completion.

These functions only read: they take no locks, start no recovery and raise no errors.

The stores create their directories and report damage. Completion runs at each press of Tab, possibly as a user who may
not read the data root, so a directory or file that is missing, unreadable or damaged contributes no names.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pylab_container.errors import CorruptStore, InvalidReference
from pylab_container.oci.ids import ContainerId, NetworkId, VolumeName
from pylab_container.oci.reference import parse
from pylab_container.store.reading import read_bytes

DEFAULT_ROOT = "/var/lib/pylab-container"


class _NameOnly(msgspec.Struct, frozen=True):
    Name: str


class _Repositories(msgspec.Struct, frozen=True):
    Repositories: dict[str, dict[str, str]]


def container_names(data_root: Path) -> list[str]:
    """Return the names of all containers, sorted."""
    directory = data_root / "containers"
    paths = (directory / name / "config.v2.json" for name in _entries(directory) if ContainerId.match(name))
    return _valid_names(paths)


def network_names(data_root: Path) -> list[str]:
    """Return the names of the networks that users created, sorted."""
    directory = data_root / "networks"
    paths = (directory / name for name in _entries(directory) if NetworkId.match(name.removesuffix(".json")))
    return _valid_names(paths)


def volume_names(data_root: Path) -> list[str]:
    """Return the names of all volumes, sorted."""
    directory = data_root / "volumes"
    return sorted(name for name in _entries(directory) if VolumeName.match(name) and (directory / name).is_dir())


def image_names(data_root: Path) -> list[str]:
    """Return the names of the images of every storage driver, sorted: "debian:12"."""
    names: set[str] = set()
    for driver in _entries(data_root / "image"):
        with contextlib.suppress(OSError, CorruptStore, msgspec.MsgspecError):
            content = read_bytes(data_root / "image" / driver / "repositories.json")
            repositories = msgspec.json.decode(content, type=_Repositories).Repositories
            names.update(name for references in repositories.values() for name in _familiar_names(references))
    return sorted(names)


def _familiar_names(references: dict[str, str]) -> Iterator[str]:
    for name in references:
        with contextlib.suppress(InvalidReference):
            reference = parse(name)
            if not reference.digest:  # completion offers names, which users type; digests are pasted
                yield reference.familiar


def _valid_names(documents: Iterator[Path]) -> list[str]:
    """Return the field Name of each document, without Docker's slash before it.

    A name that the engine would refuse is left out: it may hold characters that a shell interprets.
    """
    names: list[str] = []
    for path in documents:
        with contextlib.suppress(OSError, CorruptStore, msgspec.MsgspecError):
            name = msgspec.json.decode(read_bytes(path), type=_NameOnly).Name.removeprefix("/")
            names += [name] if VolumeName.match(name) else []  # the same characters
    return sorted(names)


def _entries(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
