"""Waiting for what another process does: as long as a slow machine may need, and no longer than it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds. A test that passes waits for as long as it takes; one that fails may take its time."""


def soon(holds: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Whether something holds by then; it is asked again and again."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
