"""Explain failures of the machine: the façade runs the operations that may be the first to need one of its features."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pylab_container.errors import LabError


@contextlib.contextmanager
def explaining(data_root: Path) -> Iterator[None]:
    """Add the machine's missing features to the hint of an error of the block (maintenance/failures.py)."""
    try:
        yield
    except LabError as error:
        from pylab_container.maintenance.failures import explain  # 5 ms, which only a failure needs

        explain(error, data_root)
        raise
