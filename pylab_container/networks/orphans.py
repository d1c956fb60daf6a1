"""Bridges that no network has any more, and how they go.

While an engine makes or removes a network, its record is there whenever its bridge is. So a bridge
without a record is left over: somebody deleted the data root, with `rm -rf` or as a scratch engine
does it. Each bridge tells in its alias whose it is, and whoever next makes a network or tidies up
(`network prune`, `system down`), on whatever data root, takes it away.

Even one that is wrongly taken for left over, because its data root is not mounted right now, does no harm:
a bridge with containers is never removed, and one without comes back with the next container.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.errors import LabError

if TYPE_CHECKING:
    from pylab_container.engine import Engine


def owner(engine: Engine, network_id: str) -> str:
    """What a bridge's alias says: the file with the record of its network."""
    return str(engine.data.networks.path(network_id))


def find() -> list[tuple[str, Path]]:
    """(bridge, its record that is gone) of each one that is left over and that no container is on."""
    from pylab_container.runtime.network import owned_bridges

    found = [(name, Path(path)) for name, path in owned_bridges()]
    return [(name, path) for name, path in found if not path.exists()]


def clear() -> list[str]:
    """Remove them with their rules; their names. One that cannot be removed now stays for the next time."""
    removed = []
    for name, path in find():
        with contextlib.suppress(LabError):
            remove(name, path)
            removed.append(name)
    return removed


def remove(name: str, path: Path) -> None:
    """Remove one of find(). Raises InUse where a container is on it now."""
    from pylab_container.runtime import RUN_ROOT
    from pylab_container.runtime.network import Bridge

    bridge = Bridge(name, run_root=RUN_ROOT, owner=str(path))
    bridge.remove()
    bridge.remove_lock()
