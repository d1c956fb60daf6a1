"""containers/health.py: when the next check is due."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pylab_container.containers import health
from pylab_container.oci.container_config import Healthcheck

SECOND = 10**9
CHECK = Healthcheck(test=("CMD", "true"), interval=30 * SECOND, start_period=10 * SECOND, start_interval=SECOND)


@pytest.mark.parametrize(
    ("status", "ran", "changed", "seconds"),
    [
        ("starting", 0, {}, 1),
        ("starting", 9, {}, 1),
        ("starting", 10, {}, 30),
        ("healthy", 1, {}, 30),
        ("starting", 1, {"start_interval": 0}, 30),
        ("starting", 1, {"start_period": 0}, 30),
    ],
)
def test_while_it_starts_checks_follow_each_other_as_the_start_interval_says(
    status: str, ran: int, changed: dict[str, int], seconds: int
) -> None:
    check = health.effective(replace(CHECK, **changed))
    assert check is not None
    assert health.pause({**health.starting(), "Status": status}, check, ran=ran * SECOND) == seconds * SECOND


@pytest.mark.parametrize("test", [["NONE"], ["true"], ["CMD"], ["CMD-SHELL"], []])
def test_what_is_no_command_is_recorded_and_checks_nothing(test: list[str]) -> None:
    check = health.merge(None, {"test": test, "interval": SECOND})
    assert check is not None
    assert check.test == tuple(test)
    assert health.effective(check) is None
