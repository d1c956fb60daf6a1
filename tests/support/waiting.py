"""Waiting for an event in another process or in the kernel, however slow the machine is."""

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

    Raises AssertionError after PATIENCE with the last result; an ignored exception is its cause.
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
    """Return whether condition stays false for a time: for events that must not happen.

    A slow machine can only make such a test pass, never fail.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return False
        time.sleep(POLL_INTERVAL)
    return True
