"""Lists that must stay equal: packages, versions, and files of the project."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from pylab_container.host.programs import PACKAGES


def debian_packages(repository: Path, section: str) -> list[str]:
    """The packages that a section of scripts/packages.txt names; "new | old" is one of them."""
    sections = re.split(r"^\[(\w+)\]$", (repository / "scripts/packages.txt").read_text(), flags=re.MULTILINE)
    lines = sections[sections.index(section) + 1].splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def test_binder_installs_what_setup_installs(repository: Path) -> None:
    assert (repository / "binder/apt.txt").read_text().split() == debian_packages(repository, "run")


@pytest.mark.parametrize("section", ["run", "dev", "service"])
def test_every_package_says_why_it_is_needed_and_the_section_is_sorted(repository: Path, section: str) -> None:
    packages = debian_packages(repository, section)
    assert packages == sorted(set(packages))
    for package in packages:
        assert re.search(
            rf"^{re.escape(package)} +# \S", (repository / "scripts/packages.txt").read_text(), re.MULTILINE
        )


def test_no_package_is_in_both_sections(repository: Path) -> None:
    assert not set(debian_packages(repository, "run")) & set(debian_packages(repository, "dev"))


def test_the_hint_for_a_missing_program_names_a_package_that_setup_installs(repository: Path) -> None:
    # tar and util-linux are essential in Debian: always there, never listed.
    assert set(PACKAGES.values()) - {"tar", "util-linux"} <= set(debian_packages(repository, "run"))


@pytest.mark.parametrize(
    "script",
    [
        "scripts/setup",
        "scripts/test",
        "scripts/labs",
        "scripts/jupyter",
        "scripts/bench",
        "scripts/fresh",
        "scripts/leftovers",
    ],
)
def test_a_script_is_executable_and_stops_at_the_first_error(repository: Path, script: str) -> None:
    path = repository / script
    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text()


def test_hooks_run_the_tools_of_the_test_suite_and_fetch_none(repository: Path) -> None:
    (source,) = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())["repos"]
    assert source["repo"] == "local"
    assert {hook["language"] for hook in source["hooks"]} == {"system"}


def test_the_workflow_runs_what_ci_runs_on_both_releases(repository: Path) -> None:
    (job,) = yaml.safe_load((repository / ".github/workflows/test.yml").read_text())["jobs"].values()
    assert job["strategy"]["matrix"]["release"] == ["12", "13"]
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
