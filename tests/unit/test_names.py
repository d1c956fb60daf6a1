"""Generated names and ids."""

from __future__ import annotations

import re

import pytest

from pylab_container.containers import random_names
from pylab_container.host import random_ids


def test_a_generated_name_is_a_mood_and_a_person() -> None:
    assert re.fullmatch(r"[a-z]+_[a-z]+", random_names.generate())


def test_an_id_has_64_hexadecimal_digits() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", random_ids.generate_container_id())


def test_an_id_whose_host_name_would_look_like_a_number_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["1" * 12 + "a" * 52, "1" * 11 + "a" * 53])
    monkeypatch.setattr(random_ids, "random_hex", lambda _: next(drawn))
    assert random_ids.generate_container_id() == "1" * 11 + "a" * 53
