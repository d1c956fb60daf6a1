"""What a damaged file of the data root does to an operation: it disables the object that it describes, nothing else.

A command that names the object raises CorruptStore, which names the file. A listing leaves the object out, and what
removes things keeps whatever the object may need; both report it as StoreDamaged on the engine's stream of events.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from pylab_container.errors import CorruptStore
from pylab_container.events import Emit, StoreDamaged


class ReportingDamage:
    """End the block at a damaged file and report the damage, so that the caller continues with the next object.

    removed  returns whether the object has been removed since; then the read raced with the removal, and nothing is
             reported
    """

    def __init__(self, emit: Emit, removed: Callable[[], bool] = lambda: False) -> None:
        self._emit = emit
        self._removed = removed

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, CorruptStore):
            if not self._removed():
                self._emit(StoreDamaged.of(error))
            return True
        return False
