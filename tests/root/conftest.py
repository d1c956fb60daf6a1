"""Root tests run in namespaces of their process's own."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _isolated(isolation: None) -> None:
    """Also for tests that use no engine."""
