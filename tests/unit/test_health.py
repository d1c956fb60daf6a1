"""containers/health.py: when the next check is due."""

from __future__ import annotations

import pytest

from pylab_container.containers import health

SECOND = 10**9
CHECK = {"Test": ["CMD", "true"], "Interval": 30 * SECOND, "StartPeriod": 10 * SECOND, "StartInterval": SECOND}


@pytest.mark.parametrize(
    ("status", "ran", "changed", "seconds"),
    [
        ("starting", 0, {}, 1),
        ("starting", 9, {}, 1),
        ("starting", 10, {}, 30),
        ("healthy", 1, {}, 30),
        ("starting", 1, {"StartInterval": 0}, 30),
        ("starting", 1, {"StartPeriod": 0}, 30),
    ],
)
def test_while_it_starts_checks_follow_each_other_as_the_start_interval_says(
    status: str, ran: int, changed: dict[str, int], seconds: int
) -> None:
    check = health.effective({**CHECK, **changed})
    assert check is not None
    assert health.pause({**health.starting(), "Status": status}, check, ran=ran * SECOND) == seconds * SECOND


@pytest.mark.parametrize("test", [["NONE"], ["true"], ["CMD"], ["CMD-SHELL"], []])
def test_what_is_no_command_is_recorded_and_checks_nothing(test: list[str]) -> None:
    check = health.merge(None, {"test": test, "interval": SECOND})
    assert check is not None
    assert check.get("Test", []) == test
    assert health.effective(check) is None
