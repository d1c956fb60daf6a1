"""Choose and open the storage driver of a data root."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pylab_container.errors import Conflict, InvalidInput
from pylab_container.events import Emit
from pylab_container.store.driver import Driver
from pylab_container.store.overlay import Overlay
from pylab_container.store.overlay2 import Overlay2
from pylab_container.store.vfs import Vfs

DRIVERS = ("overlay2", "overlay", "vfs")
"""The names of all drivers; the first is the default."""

_MAKERS: Mapping[str, Callable[[Path, Emit], Driver]] = {
    "overlay2": lambda root, emit: Overlay2(root, emit=emit),
    "overlay": lambda root, emit: Overlay(root, emit=emit),
    "vfs": lambda root, emit: Vfs(root, emit=emit),
}


def open_driver(data_root: Path, name: str | None, *, emit: Emit) -> Driver:
    """Open the driver with this name.

    name  None: the one in $LABCTR_DRIVER, else the one that the data root has images of, else overlay2

    Each driver has its own images and layers in image/<name> and <name>, as in Docker.
    Raises InvalidInput for an unknown name, Conflict if the data root has images of several drivers.
    """
    name = name or os.environ.get("LABCTR_DRIVER") or _prior(data_root) or DRIVERS[0]
    make = _MAKERS.get(name)
    if make is None:
        raise InvalidInput(f"unknown storage driver: {name}", hint=f"use one of {', '.join(DRIVERS)}")
    return make(data_root / name, emit)


def _prior(data_root: Path) -> str | None:
    """Return the driver that the data root has images of, None if it has none.

    Raises Conflict for several.
    """
    used = [name for name in DRIVERS if (data_root / "image" / name).is_dir()]
    if len(used) > 1:
        # As dockerd: to guess would show a user an empty list instead of their images (moby graphdriver.New).
        raise Conflict(
            f"{data_root} contains several storage drivers' images: {', '.join(used)}",
            hint="choose one with --storage-driver or $LABCTR_DRIVER",
        )
    return used[0] if used else None
