"""What every kind of test may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# On a busy machine an example may take long; a failure is shown with its example, so none is kept on disk.
settings.register_profile("lab", deadline=None, database=None)
settings.load_profile("lab")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the source tree."""
    return Path(__file__).resolve().parent.parent
