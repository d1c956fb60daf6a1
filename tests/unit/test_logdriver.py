"""LogConfig: how large a log may be, and what its details are."""

from __future__ import annotations

from typing import Any

import pytest

from pylab_container.docker.filters import searcher
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.host_config import LogConfig
from pylab_container.runtime.logdriver import log_details, log_size


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
    assert log_size(LogConfig(type="json-file", config=options)) == size
    assert log_size(LogConfig.parse({"Type": "json-file", "Config": None})) is None


@pytest.mark.parametrize(
    ("options", "details"),
    [
        ({}, " "),
        ({"labels": "b,a,absent", "env": "X"}, "X=Y%3DZ,a=1,b=x+y "),
        ({"labels-regex": "^a", "env-regex": "."}, "X=Y%3DZ,a=1,ab=2 "),
        ({"tag": "t t"}, "tag=t+t "),
    ],
)
def test_details_are_what_the_options_name_sorted(options: dict[str, str], details: str) -> None:
    config = ContainerConfig(labels={"a": "1", "ab": "2", "b": "x y"}, env=("X=Y=Z",))
    assert log_details(LogConfig(config=options), config, searcher) == details
