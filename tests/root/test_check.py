"""maintenance/check.py: the machine's features, and a remedy for each one that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from pylab_container import Engine
from pylab_container.errors import Conflict, MissingProgram, RuntimeFailed
from pylab_container.host import programs
from pylab_container.images.image import Image
from pylab_container.maintenance import check, failures
from pylab_container.maintenance.check import Machine
from pylab_container.oci.capabilities import ALL_CAPABILITIES
from tests.support.commands import Labctr

GOOD = Machine(
    kernel="6.1.0-18-amd64",
    overlay="",
    idmapping="",
    network={},
    namespaces=frozenset(("ipc", "mnt", "net", "pid", "uts")),
    user_namespaces=True,
    cgroup="2",
    controllers=frozenset(("cpu", "cpuset", "io", "memory", "pids")),
    seccomp=True,
    capabilities=frozenset(ALL_CAPABILITIES),
    forwarding=True,
    programs={
        "runc": "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1",
        "conmon": "conmon version 2.1.6\ncommit: unknown",
        "nft": "nftables v1.0.6 (Lester Gooch #5)",
        "mmdebstrap": "mmdebstrap 1.3.5",
    },
)
V1 = frozenset(check.CONTROLLERS)
NO_RUNC = {name: said for name, said in GOOD.programs.items() if name != "runc"}


def test_a_machine_with_everything_lacks_nothing() -> None:
    assert all(one.ok and not one.remedy and one.found for one in check.judge(GOOD))
    assert all(one.ok for one in check.judge(replace(GOOD, cgroup="1", controllers=V1)))


@pytest.mark.parametrize(
    ("machine", "name", "remedy"),
    [
        (replace(GOOD, kernel="5.5.19"), "kernel", "5.6"),
        (replace(GOOD, kernel="4.19.0-26-amd64"), "kernel", "apt-get install"),
        (replace(GOOD, overlay="no such device"), "overlay", "modprobe overlay"),
        (replace(GOOD, namespaces=frozenset(("mnt", "pid"))), "namespaces", "ipc, net, uts"),
        (replace(GOOD, seccomp=False), "seccomp", "CONFIG_SECCOMP_FILTER"),
        (replace(GOOD, capabilities=frozenset(("CAP_CHOWN",))), "capabilities", "CAP_SYS_ADMIN"),
        (replace(GOOD, user_namespaces=False), "user namespaces", "sysctl"),
        (replace(GOOD, idmapping="invalid argument"), "id-mapped mounts", "5.19"),
        (replace(GOOD, controllers=frozenset()), "cgroups", "cgroupfs-mount"),
        (replace(GOOD, controllers=frozenset(("cpu", "cpuset", "pids"))), "cgroups", "cgroup_enable=memory"),
        (replace(GOOD, cgroup="1", controllers=V1 - {"devices"}), "cgroups", "devices"),
        (replace(GOOD, network={"bridge": "not supported"}), "bridge", "modprobe bridge"),
        (replace(GOOD, network={"nf_tables": "not supported"}), "nf_tables", "modprobe nf_tables"),
        (replace(GOOD, forwarding=False), "forwarding", "sysctl"),
        (replace(GOOD, programs=NO_RUNC), "runc", "apt-get install runc"),
        (replace(GOOD, programs={**GOOD.programs, "runc": "runc version 1.0.0"}), "runc", "1.1 or newer"),
        (replace(GOOD, programs={**GOOD.programs, "runc": "runc version 1.1.5"}), "runc CVE-2024-21626", "1.1.12"),
        (replace(GOOD, programs={**GOOD.programs, "nft": "no number"}), "nft", "apt-get install nftables"),
        (replace(GOOD, programs={}), "mmdebstrap", "apt-get install mmdebstrap"),
    ],
)
def test_a_missing_feature_is_reported_with_its_remedy(machine: Machine, name: str, remedy: str) -> None:
    (line,) = (one for one in check.judge(machine) if one.name == name)
    assert not line.ok
    assert line.found
    assert remedy in line.remedy


def test_optional_features_are_not_needed() -> None:
    spare = replace(
        GOOD, user_namespaces=False, idmapping="no", forwarding=False, programs={**NO_RUNC, "runc": "1.1.9"}
    )
    assert not any(one.needed for one in check.judge(spare) if not one.ok)


def test_a_runc_that_is_new_or_patched_by_debian_needs_no_warning() -> None:
    for said in ("runc version 1.1.12", "runc version 1.2.0", "runc version 1.1.15+ds1\ncommit: 1.1.15+ds1-2"):
        assert all(one.ok for one in check.judge(replace(GOOD, programs={**GOOD.programs, "runc": said})))


# -- this machine ------------------------------------------------------------------------------


def test_this_machine_has_what_the_engine_needs_and_is_left_as_it_was(engine: Engine) -> None:
    before = sorted(path.name for path in engine.data_root.iterdir())
    assert [one for one in engine.check() if one.needed and not one.ok] == []
    assert sorted(path.name for path in engine.data_root.iterdir()) == before
    assert "check" not in Path("/proc/net/dev").read_text()
    assert "check" not in programs.run(["nft", "list", "tables"]).output


def test_a_data_root_that_cannot_hold_upper_directories_is_reported(engine: Engine, image: Image) -> None:
    """A container's root is an overlay itself."""
    container = engine.containers.run_detached(image, ["sleep", "1000"], network_mode="none")
    machine = check.look(container.merged)
    assert "overlay" in machine.overlay
    assert {one.name for one in check.judge(machine) if not one.ok} >= {"overlay"}


def test_the_command_prints_a_line_for_each(labctr: Labctr) -> None:
    done = labctr("system", "check")
    names = [line.split("  ")[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert {"kernel", "overlay", "cgroups", "seccomp", "runc", "conmon", "nft"} <= set(names)


def test_the_command_fails_if_a_needed_feature_is_missing(
    cli: Labctr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A conmon of the same name that comes first is too old."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/conmon").write_text("#!/bin/sh\necho conmon version 1.0.0\n")
    (tmp_path / "bin/conmon").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    done = cli("system", "check", check=False)
    assert done.returncode == 1
    assert "apt-get install conmon" in done.stdout


# -- after a failure ---------------------------------------------------------------------------


def test_a_failure_of_the_machine_gets_the_findings_as_its_hint(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/conmon").write_text("#!/bin/sh\necho conmon version 1.0.0\n")
    (tmp_path / "bin/conmon").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    (tmp_path / "Dockerfile").write_text("FROM busybox:1\nRUN true\n")
    with pytest.raises(RuntimeFailed) as caught:
        engine.containers.run(image, "true", network_mode="none")
    assert "conmon: apt-get install conmon" in caught.value.hint
    with pytest.raises(RuntimeFailed) as caught:
        engine.images.build(tmp_path, nocache=True)
    assert "conmon: apt-get install conmon" in caught.value.hint


def test_a_failed_start_by_policy_gets_the_findings_as_its_hint(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    container = engine.containers.run_detached(image, ["true"], restart_policy={"Name": "always"}, network_mode="none")
    container.stop(timeout=0)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/conmon").write_text("#!/bin/sh\necho conmon version 1.0.0\n")
    (tmp_path / "bin/conmon").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    (error,) = engine.start_by_policy()
    assert "conmon: apt-get install conmon" in error.hint


def test_a_network_that_cannot_be_made_is_explained_and_leaves_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    script = '#!/bin/sh\n[ "$1" = --version ] && exec echo nftables v0.8.0\nexit 1\n'
    (tmp_path / "bin/nft").write_text(script)
    (tmp_path / "bin/nft").chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
        with pytest.raises(RuntimeFailed) as caught:
            engine.networks.create("lab")
    assert "nft: apt-get install nftables" in caught.value.hint
    assert len(caught.value.hint) < 300
    assert engine.networks.list({"type": "custom"}) == []
    engine.networks.create("lab")


def test_only_failures_of_the_machine_are_explained(tmp_path: Path) -> None:
    for error in (Conflict("it runs"), RuntimeFailed("no", hint="do this"), ValueError("bad")):
        before = str(error)
        failures.explain(error, tmp_path)
        assert str(error) == before
    missing = MissingProgram("the program x is not installed", hint="apt-get install x")
    failures.explain(missing, tmp_path)
    assert missing.hint.startswith("apt-get install x")
    unknown = RuntimeFailed("runc failed")
    failures.explain(unknown, tmp_path)
    assert unknown.hint
