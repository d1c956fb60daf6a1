"""Orphaned bridges: bridges whose network does not exist any more.

A network's record exists whenever its bridge does (creation.py). So a bridge without a record is an orphan: its data
root was deleted, with `rm -rf` or by a test. The alias of each bridge is the path of the record, so every engine that
creates networks or tidies up (`network prune`, `system down`) finds and removes the orphans of all data roots.

A bridge whose data root is only unmounted at the moment looks like an orphan. That is harmless: a bridge with
containers is never removed, and another one is created with the next container.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from pylab_container.errors import LabError
from pylab_container.runtime import RUN_ROOT, network


def find() -> list[tuple[str, Path]]:
    """Return (bridge, path of its missing record) of each orphan."""
    bridges = [(name, Path(path)) for name, path in network.owned_bridges()]
    return [(name, path) for name, path in bridges if not path.exists()]


def clear() -> list[str]:
    """Remove all orphans with their rules, and return their names.

    One that cannot be removed now is left.
    """
    removed = []
    for name, path in find():
        with contextlib.suppress(LabError):
            remove(name, path)
            removed.append(name)
    return removed


def remove(name: str, path: Path) -> None:
    """Remove an orphan that find() returned. Raises InUse if a container is connected to it."""
    bridge = network.Bridge(name, run_root=RUN_ROOT, owner=str(path))
    bridge.remove()
    bridge.remove_lock()
