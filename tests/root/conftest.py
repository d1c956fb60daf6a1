"""Each process of the root tests runs in its own namespaces."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _isolated(isolation: None) -> None:
    """Isolate tests that do not use an engine, too."""
