"""Poll for a condition in another process or in the kernel, without assumptions about the machine's speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 60.0  # seconds; a passing test never waits this long, a failing one may
POLL_INTERVAL = 0.01  # seconds

T = TypeVar("T")


def eventually(
    condition: Callable[[], T], *, ignoring: tuple[type[Exception], ...] = (), seconds: float = PATIENCE
) -> T:
    """Call condition until its result is true, and return that result.

    ignoring  exceptions of condition that count as "not yet"
    seconds   time limit

    Raises AssertionError with the last result after the time limit; its cause is the last ignored exception.
    """
    deadline = time.monotonic() + seconds
    while True:
        failure: Exception | None = None
        result: T | None = None
        try:
            result = condition()
        except ignoring as error:
            failure = error
        if failure is None and result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"still {failure or result!r} after {seconds:.0f} s") from failure
        time.sleep(POLL_INTERVAL)


def never_within(seconds: float, condition: Callable[[], object]) -> bool:
    """Return whether condition stays false for a number of seconds: for events that must not happen.

    On a slow machine such a test may miss the event and pass, but it never fails without one.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return False
        time.sleep(POLL_INTERVAL)
    return True
