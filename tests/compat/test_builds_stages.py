"""Syntax, ONBUILD, stages and BuildKit's extensions: our builder and a peer produce the same image.

The peer is docker's classic builder; for what that does not know it is buildah, and for what neither knows the
Dockerfile reference, whose facts are in the case.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

import pytest

from tests.compat.build_cases import MODERN, ONBUILD, STAGES, SYNTAX
from tests.compat.build_context import Case
from tests.compat.builders import Ours, Outcome, assert_same

CASES = [*SYNTAX, *ONBUILD, *STAGES, *MODERN]


@pytest.mark.parametrize("case", CASES, ids=[case.claim for case in CASES])
def test_builds_are_the_peer_s(case: Case, our_builds: Ours, peer_builds: Mapping[str, Future[Outcome]]) -> None:
    assert_same(case, our_builds, peer_builds)
