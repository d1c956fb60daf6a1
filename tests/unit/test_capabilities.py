"""oci/capabilities.py: names, masks, --cap-add and --cap-drop."""

from __future__ import annotations

import pytest

from pylab_container.errors import InvalidInput
from pylab_container.oci.capabilities import DEFAULT_CAPABILITIES, capabilities_of, choose_capabilities


def test_capabilities_are_added_and_dropped_by_any_spelling() -> None:
    chosen = choose_capabilities(add=["net_admin", "CAP_SYS_PTRACE"], drop=["Chown"])
    assert set(chosen) == set(DEFAULT_CAPABILITIES) - {"CAP_CHOWN"} | {"CAP_NET_ADMIN", "CAP_SYS_PTRACE"}


def test_all_means_what_the_machine_has() -> None:
    available = ("CAP_CHOWN", "CAP_SYS_ADMIN")
    assert choose_capabilities(add=["ALL"], available=available) == available
    assert choose_capabilities(drop=["all"], add=["kill"]) == ("CAP_KILL",)
    assert choose_capabilities(add=["all"], drop=["chown"], available=available) == ("CAP_SYS_ADMIN",)


def test_an_unknown_capability_is_refused() -> None:
    with pytest.raises(InvalidInput):
        choose_capabilities(add=["FLY"])


def test_a_mask_is_read_bit_by_bit() -> None:
    assert capabilities_of(0b1001) == ("CAP_CHOWN", "CAP_FOWNER")
    assert len(capabilities_of((1 << 64) - 1)) == 41
