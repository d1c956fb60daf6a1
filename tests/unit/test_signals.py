"""Signals by number and by name."""

from __future__ import annotations

import pytest

from pylab_container.errors import InvalidInput
from pylab_container.oci.signals import signal_number


@pytest.mark.parametrize(
    ("name", "number"),
    [(9, 9), ("15", 15), ("SIGTERM", 15), ("term", 15), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("rtmin", 34), ("64", 64)],
)
def test_a_signal_has_a_number_and_names(name: str | int, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize(
    "name", ["SIGBOGUS", "0", "65", "-1", "1 2", "", "RTMIN-1", "RTMIN+99", "SIG_BLOCK", "SIG42", "٩"]
)
def test_what_is_no_signal_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid signal"):
        signal_number(name)
