"""A damaged file disables the object that it describes, and nothing else.

A command that names the object raises CorruptStore, which names the file. A listing leaves the object out, and an
operation that removes objects keeps everything that the damaged one may need. Both report StoreDamaged.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from pylab_container.errors import CorruptStore
from pylab_container.events import Emit, StoreDamaged


class ReportingDamage:
    """Suppress CorruptStore in a block and report StoreDamaged, so that a loop can go on.

    emit     receives StoreDamaged
    removed  reports whether the object was removed concurrently; its file was then not damaged, and nothing is emitted
    """

    def __init__(self, emit: Emit, removed: Callable[[], bool] = lambda: False) -> None:
        self._emit = emit
        self._removed = removed

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if not isinstance(error, CorruptStore):
            return False
        if not self._removed():
            self._emit(StoreDamaged.of(error))
        return True
