"""Variables, config instructions and RUN: our builder and a peer produce the same image.

The peer is docker's classic builder, or the Dockerfile reference, whose facts are in the case.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

import pytest

from tests.compat.build_context import Case
from tests.compat.builders import Ours, Outcome, assert_same
from tests.compat.instruction_cases import CONFIG, RUN, VARIABLES

CASES = [*VARIABLES, *CONFIG, *RUN]


@pytest.mark.parametrize("case", CASES, ids=[case.claim for case in CASES])
def test_builds_are_the_peer_s(case: Case, our_builds: Ours, peer_builds: Mapping[str, Future[Outcome]]) -> None:
    assert_same(case, our_builds, peer_builds)
