"""HostConfig: what its parts mean for a container."""

from __future__ import annotations

from typing import Any

import pytest

from pylab_container.formats.hostconfig import log_size


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, None),
        ({"max-file": "3"}, None),
        ({"max-size": "10k"}, 10 << 10),
        ({"max-size": "10k", "max-file": "3"}, 30 << 10),
        ({"max-size": "1000", "max-file": "1"}, 1000),
    ],
)
def test_a_log_may_be_as_large_as_all_of_dockers_files_together(options: dict[str, Any], size: int | None) -> None:
    assert log_size({"Type": "json-file", "Config": options}) == size
    assert log_size({"Type": "json-file", "Config": None}) is None
