"""tests/run.py: how the parts of a run add up."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests import run

TESTS = """\
<testsuites><testsuite name="pytest">
  <testcase classname="tests.unit.test_tar" name="test_a" time="0.1"/>
  <testcase classname="tests.test_architecture" name="test_b" time="0.2"/>
  <testcase classname="tests.root.test_images" name="test_c" time="9.5"><failure/></testcase>
  <testcase classname="tests.compat.test_build" name="test_d" time="1"><error/></testcase>
  <testcase classname="tests.compat.test_build" name="test_e" time="1"><skipped/></testcase>
</testsuite></testsuites>"""
LABS = """\
<testsuites><testsuite name="pytest">
  <testcase classname="labs.01_base_image.ipynb" name="::Cell 0" time="2"/>
</testsuite></testsuites>"""


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    return tmp_path


def job(name: str, *script: str, junit: Path | None = None) -> run.Job:
    return run.Job(name, [["bash", "-c", line] for line in script], junit)


def test_the_closing_line_adds_up_all_parts(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for name, text in (("tests", TESTS), ("labs", LABS)):
        (results / f"{name}.xml").write_text(text)
        found.append(job(name, junit=results / f"{name}.xml"))
    assert run.report([*found, job("lint")], 61) == 2
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "3 passed, 2 failed, 1 skipped"
    assert next(line for line in lines if "slowest" not in line and line.strip()).endswith("test_images::test_c")
    assert [line.split()[1:3] for line in lines if "in all workers" in line] == [
        ["unit", "2"], ["root", "1"], ["compat", "2"], ["labs", "1"],
    ]  # fmt: skip
    assert len(list(ElementTree.parse(results / "junit.xml").iter("testcase"))) == 6


def test_a_run_without_a_report_has_run_no_test(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.report([job("lint")], 1) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 0 failed"


def test_jobs_run_at_once_and_a_failed_one_shows_its_output(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waits = f"until [[ -e {results}/made ]]; do sleep 0.01; done"  # ends only if both run at the same time
    jobs = [job("first", waits), job("second", f"touch {results}/made", "echo broken", "exit 3", "touch never")]
    assert run.run(jobs) == {"first": 0, "second": 3}
    output = capsys.readouterr().out
    assert "broken" in output
    assert "test: first ok" in output
    assert "test: second FAILED" in output


def test_slow_programs_start_late_and_are_the_same(results: Path) -> None:
    with run.slow_programs():
        for name in run.SLOWED:
            done = subprocess.run([name, "--version"], capture_output=True, text=True, check=True)
            assert name in done.stdout.lower()
        wrapped = subprocess.run(["bash", "-c", "command -v runc"], capture_output=True, text=True, check=True)
        assert wrapped.stdout.strip() == str(results / "slow/runc")


def test_an_unknown_part_is_refused_with_the_known_ones(repository: Path) -> None:
    command = [sys.executable, "-m", "tests.run", "integration"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("the parts are: quick, lint, unit, root, compat, labs")
