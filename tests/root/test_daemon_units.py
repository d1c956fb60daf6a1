"""The units with which systemd starts the daemon."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from pylab_container.daemon.server import DEFAULT_ADDRESS


class _Units(configparser.RawConfigParser):
    """systemd's files: INI with case-sensitive keys that may be repeated (systemd.syntax(7))."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#",))
        self.optionxform = str  # type: ignore[assignment,method-assign]
        assert self.read(path) == [str(path)]


@pytest.fixture
def units(repository: Path) -> Path:
    return repository / "scripts" / "systemd"


def test_the_socket_is_the_default_one_for_its_owner_and_group(units: Path) -> None:
    socket = _Units(units / "labctr.socket")["Socket"]
    assert f"unix://{socket['ListenStream']}" == DEFAULT_ADDRESS
    assert socket["SocketMode"] == "0660"


def test_the_service_serves_what_systemd_passes_and_leaves_containers_alone(units: Path) -> None:
    service = _Units(units / "labctr.service")
    assert service["Service"]["ExecStart"].endswith("labctr daemon --host fd://")
    assert service["Service"]["KillMode"] == "process"
    assert service["Unit"]["Requires"] == "labctr.socket"


def test_systemd_verifies_them(units: Path, tmp_path: Path) -> None:
    program = tmp_path / "labctr"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in ("labctr.socket", "labctr.service"):
        text = (units / name).read_text().replace("/usr/local/bin/labctr", str(program))
        (tmp_path / name).write_text(text)
    analyzer = shutil.which("systemd-analyze")
    assert analyzer, "apt-get install systemd"
    done = subprocess.run(
        [analyzer, "verify", "--man=no", str(tmp_path / "labctr.service"), str(tmp_path / "labctr.socket")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, "labctr" in done.stderr) == (0, False), done.stderr


def test_the_machine_shuts_down_before_vagrant_powers_it_off(units: Path) -> None:
    limit = _Units(units / "shutdown.conf")["Manager"]["DefaultTimeoutStopSec"]
    assert limit == "10s"  # once for the services, twice for the other processes; vagrant waits 60 s
