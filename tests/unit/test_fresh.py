"""What scripts/fresh makes of the programs that a system used, and of what its shells said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import fresh

STATUS = """Package: bash
Essential: yes
Priority: required

Package: mount
Priority: required

Package: procps
Priority: important

Package: python3.13-minimal
Priority: optional

Package: iptables
Priority: optional
"""


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """What dpkg knows of a small Debian: a file of each package."""
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info.parent / "status").write_text(STATUS)
    files = {"bash": "/bin/bash", "mount": "/usr/bin/mount", "procps": "/bin/ps", "iptables": "/usr/sbin/iptables"}
    for package, file in {**files, "python3.13-minimal:amd64": "/usr/bin/python3.13"}.items():
        (info / f"{package}.list").write_text(f"/.\n{file}\n")
    return tmp_path


def test_required_packages_and_those_that_are_named_may_be_used(system: Path) -> None:
    used = {"/usr/bin/bash", "/usr/bin/mount", "/usr/bin/ps", "/usr/bin/python3.13"}
    own = {"/kit/.venv/bin/labctr", "/tmp/x/probe", "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"}
    fresh.check_programs(used | own, system, "trixie")


@pytest.mark.parametrize("path", ["/usr/sbin/iptables", "/opt/own"])
def test_a_program_of_another_package_is_a_failure(system: Path, path: str) -> None:
    with pytest.raises(fresh.Failed, match=f"not in scripts/packages.txt: {path} "):
        fresh.check_programs({"/usr/bin/bash", path}, system, "trixie")


@pytest.mark.parametrize(
    "line", ["scripts/leftovers: line 27: ps: command not found", "sh: 1: ps: not found", "/bin/sh: 12: ps: not found"]
)
def test_a_shell_that_misses_a_program_is_a_failure(line: str) -> None:
    fresh.check_shells("all ok\nlab 00 was not found\n")
    with pytest.raises(fresh.Failed, match="not installed: ps"):
        fresh.check_shells(f"before\n{line}\nafter\n")
