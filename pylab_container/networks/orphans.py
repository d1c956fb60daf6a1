"""Orphaned bridges: bridges whose network does not exist any more.

As long as a bridge exists, so does its network's record (creation.py). A bridge without a record is therefore an
orphan: its data root was deleted, with `rm -rf` or by a test. The alias of each bridge contains the path of its record.
So any engine can find and remove the orphans of all data roots; it does so when it creates a network, and in
`network prune` and `system down`.

The bridge of a data root that is currently unmounted looks like an orphan as well. Removing it is harmless: a bridge
with containers is never removed, and the next container recreates the bridge.
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
    """Remove all orphans with their rules; return their names. Skip an orphan that cannot be removed now."""
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
