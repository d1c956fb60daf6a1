"""Rights of containers that depend on the engine's own."""

from __future__ import annotations

import pytest

from pylab_container.containers.rights import oom_score
from pylab_container.errors import RuntimeFailed


@pytest.mark.parametrize(
    ("score", "own", "may_lower", "written"),
    [
        (0, 0, False, None),
        (0, -500, False, 0),  # a daemon that protects itself protects no container
        (0, 300, False, None),
        (0, 300, True, 0),
        (200, 0, False, 200),
        (-200, -500, False, -200),
        (-200, 0, True, -200),
    ],
)
def test_a_container_has_the_oom_score_that_it_asks_for(
    score: int, own: int, written: int | None, *, may_lower: bool
) -> None:
    assert oom_score(score, own=own, may_lower=may_lower) == written


def test_an_oom_score_that_cannot_be_is_refused() -> None:
    with pytest.raises(RuntimeFailed, match="the oom score -200 is below the engine's own"):
        oom_score(-200, own=0, may_lower=False)
