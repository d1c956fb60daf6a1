"""Options and fixtures for all tests."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.support.fixtures"]

# pip may use the machine's own proxy. Kept in the environment, because pytest-xdist's workers import this file again.
os.environ.setdefault("OUTER_HTTPS_PROXY", os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or "")
# No test speaks to a registry of the world: what asks for one finds a proxy that is not there. Loopback needs none.
os.environ["HTTPS_PROXY"] = os.environ["https_proxy"] = "http://127.0.0.1:9"

# On a busy machine an example may take long; a failure is shown with its example, so none is kept on disk.
# Every run has the same examples: what chance might find is looked for with --stress, and does not fail an innocent.
settings.register_profile("lab", deadline=None, database=None, derandomize=True)
settings.register_profile("stress", deadline=None, database=None, derandomize=False, max_examples=10_000)
settings.load_profile("lab")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stress", action="store_true", help="kill 200 times instead of 4, full counts of all loops, other examples"
    )
    parser.addoption(
        "--seed", type=int, default=None, help="of the random moments at which tests kill, to repeat a run"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--stress"):
        settings.load_profile("stress")


LONGEST_FILES = (
    *("test_servers", "test_daemon_termination", "test_builds_instructions", "test_layertar", "test_docker_cli"),
    *("test_builds_stages", "test_api_containers", "test_lifecycle", "test_daemon", "test_drivers", "test_names"),
    *("test_networks", "test_create_options", "test_daemon_robustness", "test_api_schema", "test_api_objects"),
    "test_damage_fuzz",
)
"""They start first, so that the other workers do not wait for the last one at the end of a run."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, so that `-m` can select a part, and start with the longest files."""
    for item in items:
        if item.path.parent.name in ("root", "compat"):
            item.add_marker(item.path.parent.name)
    ranks = {name: rank for rank, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


@pytest.fixture(scope="session")
def stress(pytestconfig: pytest.Config) -> bool:
    """Whether --stress is set. With it loops have their full counts, without it a fixed share."""
    return bool(pytestconfig.getoption("--stress"))


@pytest.fixture(scope="session")
def kills(pytestconfig: pytest.Config) -> int:
    """The number of times that each operation is killed."""
    return 200 if pytestconfig.getoption("--stress") else 4


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of this run's random choices; a failing test prints it."""
    given = pytestconfig.getoption("--seed")
    return secrets.randbelow(10**6) if given is None else int(given)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the source tree."""
    return Path(__file__).resolve().parent.parent
