"""Which storage driver a data root is opened with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pylab_container.errors import Conflict, InvalidInput
from pylab_container.events import Emit
from pylab_container.store.driver import Driver
from pylab_container.store.overlay2 import Overlay2

DRIVERS = ("overlay2", "overlay", "vfs")
"""The first is the default."""


def open_driver(data_root: Path, name: str | None, *, emit: Emit) -> Driver:
    """The driver called name; without one the one in $LABCTR_DRIVER, else the one used here before, else overlay2.

    Each driver has images and layers of its own below image/<name> and <name>, as in Docker.
    Raises InvalidInput for an unknown name, Conflict where several were used before.
    """
    name = name or os.environ.get("LABCTR_DRIVER") or _prior(data_root) or DRIVERS[0]
    make = _MAKERS.get(name)
    if make is None:
        raise InvalidInput(f"unknown storage driver: {name}", hint=f"there are {', '.join(DRIVERS)}")
    return make(data_root / name, emit)


def _overlay(root: Path, emit: Emit) -> Driver:
    from pylab_container.store.overlay import Overlay

    return Overlay(root, emit=emit)


def _vfs(root: Path, emit: Emit) -> Driver:
    from pylab_container.store.vfs import Vfs

    return Vfs(root, emit=emit)


_MAKERS: dict[str, Callable[[Path, Emit], Driver]] = {
    "overlay2": lambda root, emit: Overlay2(root, emit=emit),
    "overlay": _overlay,
    "vfs": _vfs,
}


def _prior(data_root: Path) -> str | None:
    found = [name for name in DRIVERS if (data_root / "image" / name).is_dir()]
    if len(found) > 1:
        raise Conflict(
            f"{data_root} contains several storage drivers' images: {', '.join(found)}",
            hint="choose one with --storage-driver or $LABCTR_DRIVER",
        )
    return found[0] if found else None
