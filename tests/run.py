"""Run the parts of the test suite side by side, and close with one line that adds them up.

    scripts/test                                 everything: lint, unit, root, compat, labs
    scripts/test quick                           in two minutes: lint, unit, a smoke test of root and labs
    scripts/test [lint|unit|root|compat|labs]…   only these parts
    scripts/test --stress …                      the long crash, competition and property loops as well
    scripts/test --busy …                        beside two loops that use the processor
    scripts/test --slow …                        runc, conmon and docker start up to 0.6 s late, at random
    scripts/test --coverage …                    measure pylab_container, also in child processes

Three processes run at once, each with its output in build/test/: lint, labs (the notebooks share one data root), and
pytest for the rest, whose workers take whole test files (pytest-xdist, --dist loadfile).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import site
import subprocess
import sys
import textwrap
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "build/test"
PARTS = ("lint", "unit", "root", "compat", "labs")
PATHS = {"unit": ["tests/test_architecture.py", "tests/unit"], "root": ["tests/root"], "compat": ["tests/compat"]}
SMOKE_LAB = "labs/01_base_image.ipynb"
WORKERS_PER_CORE = 2  # most tests wait for runc, a disk or the network
SLOWED = ("runc", "conmon", "docker")
SLOWEST_SHOWN = 10
NBVAL = ["--nbval", "--nbval-sanitize-with", "tests/nbval_sanitize.cfg"]


@dataclass
class Job:
    """One process of the run: its commands, one after the other, and the tests that it reports.

    junit  the file that pytest writes; None for a job without tests
    """

    name: str
    commands: list[list[str]]
    junit: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    live: bool = False

    @property
    def log(self) -> Path:
        return RESULTS / f"{self.name}.log"

    def start(self) -> subprocess.Popen[bytes]:
        """Start the commands in a process group of their own; the first failure ends the job."""
        script = " && ".join(shlex.join(command) for command in self.commands)
        with open(self.log, "wb") as log:
            return subprocess.Popen(
                ["bash", "-c", script],
                cwd=REPOSITORY,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=None if self.live else log,
                stderr=None if self.live else subprocess.STDOUT,
                start_new_session=True,
            )


# -- what runs ---------------------------------------------------------------------------------


def jobs(parts: list[str], arguments: argparse.Namespace) -> list[Job]:
    """The processes that run these parts."""
    python = [sys.executable, "-m"]
    found = []
    if "lint" in parts:
        scripts = sorted(str(path.relative_to(REPOSITORY)) for path in _shell_scripts())
        checks = [
            [*python, "ruff", "check", "."],
            [*python, "ruff", "format", "--check", "."],
            ["shellcheck", *scripts],
        ]
        found.append(Job("lint", [*checks, [*python, "mypy", "pylab_container", "tests"]]))
    pytest = [*python, "pytest", "-q", "-p", "no:cacheprovider"]
    if "labs" in parts:
        # The data root of scripts/labs: paths are part of the reference outputs.
        environment = {"LABCTR_ROOT": str(REPOSITORY / "build/labs/data-root")}
        junit, notebooks = RESULTS / "labs.xml", SMOKE_LAB if arguments.quick else "labs"
        found.append(Job("labs", [[*pytest, notebooks, *NBVAL, f"--junitxml={junit}"]], junit, environment))
    if selected := [part for part in PATHS if part in parts]:
        junit = RESULTS / "tests.xml"
        paths = [path for part in selected for path in PATHS[part]]
        command = [
            *pytest,
            *paths,
            f"--junitxml={junit}",
            "-n",
            str(arguments.workers),
            "--dist",
            "loadfile",
            "--no-loadscope-reorder",
        ]
        command += ["-m", "smoke or not root"] if arguments.quick else []
        command += ["--stress"] if arguments.stress else []
        command += [f"--seed={arguments.seed}"] if arguments.seed is not None else []
        found.append(Job("tests", [command], junit, live=True))
    return found


def _shell_scripts() -> Iterator[Path]:
    for path in [*(REPOSITORY / "scripts").iterdir(), REPOSITORY / ".ci/run"]:
        if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash"):
            yield path


def run(jobs: list[Job]) -> dict[str, int]:
    """Run all jobs at once; return the exit status of each. An interrupt ends them all."""
    running = {job.name: job.start() for job in jobs}
    began, statuses = time.monotonic(), dict[str, int]()
    try:
        while len(statuses) < len(running):
            for job in jobs:
                status = running[job.name].poll()
                if job.name not in statuses and status is not None:
                    statuses[job.name] = status
                    _show_end(job, status, time.monotonic() - began)
            time.sleep(0.2)
    finally:
        for process in running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)  # pytest tears its fixtures down
                process.wait()
    return statuses


def _show_end(job: Job, status: int, seconds: float) -> None:
    if status and not job.live:
        print(f"\n{job.log.read_text(errors='replace')}", flush=True)
    print(f"\ntest: {job.name} {'FAILED' if status else 'ok'}, {seconds:.0f} s", flush=True)


# -- worse conditions --------------------------------------------------------------------------


@contextlib.contextmanager
def busy_machine(loops: int = 2) -> Iterator[None]:
    """Processes that use the processor as long as the block runs."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@contextlib.contextmanager
def slow_programs() -> Iterator[None]:
    """Put programs of the same names in front of runc, conmon and docker that wait up to 0.6 s before they start."""
    directory = RESULTS / "slow"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name in SLOWED:
        if program := shutil.which(name):
            wrapper = directory / name
            wrapper.write_text(
                f'#!/bin/bash\nprintf -v late 0.%03d $((RANDOM % 600))\nsleep "$late"\nexec {program} "$@"\n'
            )
            wrapper.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{directory}:{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


@contextlib.contextmanager
def coverage() -> Iterator[None]:
    """Measure every Python process of the virtual environment, however it is started, and report the sum."""
    hook = Path(site.getsitepackages()[0]) / "labctr_coverage.pth"
    data = RESULTS / "coverage"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    configuration = data / "rc"
    configuration.write_text(
        textwrap.dedent(f"""\
            [run]
            branch = true
            parallel = true
            data_file = {data}/data
            source_pkgs = pylab_container
            concurrency = thread,multiprocessing
            sigterm = true
            patch = _exit
            disable_warnings = no-data-collected,module-not-measured,module-not-imported,couldnt-parse,already-imported
            """)
    )
    line = f'import os; os.environ.setdefault("COVERAGE_PROCESS_START", "{configuration}"); import coverage'
    hook.write_text(f"{line}; coverage.process_startup()\n")
    try:
        yield
    finally:
        hook.unlink()
        environment = {**os.environ, "COVERAGE_RCFILE": str(configuration)}
        for action in (["combine", "--quiet"], ["report", "--skip-covered", "--sort=miss", "--precision=2"]):
            with open(data / f"{action[0]}.txt", "wb") as output:
                command = [sys.executable, "-m", "coverage", *action]
                subprocess.run(command, stdout=output, stderr=output, env=environment, check=False)
        total = (data / "report.txt").read_text().splitlines()[-3:]
        print("\n".join(["test: coverage in build/test/coverage/report.txt", *total]))


# -- what remains ------------------------------------------------------------------------------


def leftovers() -> set[str]:
    """Return the kernel resources that containers of the kit hold now, one per line."""
    done = subprocess.run([REPOSITORY / "scripts/leftovers"], capture_output=True, text=True, check=False)
    return set(done.stdout.splitlines())


def remove_bridge() -> None:
    """Remove labctr0, which waits for the next container as docker0 does."""
    command = [sys.executable, "-m", "pylab_container", "--root", "build/labs/data-root", "system", "down"]
    subprocess.run(command, cwd=REPOSITORY, check=True)


# -- the report --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One test as JUnit reports it."""

    part: str
    name: str
    seconds: float
    outcome: str


def cases(junit: Path) -> Iterator[Case]:
    """The tests in a JUnit file."""
    for element in ElementTree.parse(junit).iter("testcase"):
        place = element.get("classname", "")
        part = next((part for part in PARTS if place.startswith((f"tests.{part}", f"{part}."))), "unit")
        failed = element.find("failure") is not None or element.find("error") is not None
        outcome = "failed" if failed else "skipped" if element.find("skipped") is not None else "passed"
        yield Case(part, f"{place}::{element.get('name')}", float(element.get("time", 0)), outcome)


def merge(files: list[Path], target: Path) -> None:
    """Write one JUnit file with the suites of several."""
    suites = ElementTree.Element("testsuites")
    for path in files:
        suites.extend(ElementTree.parse(path).iter("testsuite"))
    ElementTree.ElementTree(suites).write(target, encoding="utf-8", xml_declaration=True)


def report(jobs: list[Job], seconds: float) -> int:
    """Print times, the slowest tests and the closing line; return the number of failed tests."""
    files = [job.junit for job in jobs if job.junit and job.junit.exists()]
    found = [case for path in files for case in cases(path)]
    merge(files, RESULTS / "junit.xml")
    print(f"\nThe {SLOWEST_SHOWN} slowest tests:")
    for case in sorted(found, key=lambda case: -case.seconds)[:SLOWEST_SHOWN]:
        print(f"{case.seconds:8.1f} s  {case.name}")
    for part in PARTS:
        if own := [case for case in found if case.part == part]:
            print(f"test: {part:6} {len(own):5} tests, {sum(case.seconds for case in own):6.0f} s in all workers")
    outcomes = Counter(case.outcome for case in found)
    skipped = f", {outcomes['skipped']} skipped" if outcomes["skipped"] else ""
    print(f"test: {seconds:.0f} s, JUnit: build/test/junit.xml")
    print(f"{outcomes['passed']} passed, {outcomes['failed']} failed{skipped}", flush=True)
    return outcomes["failed"]


QUICK_LEAVES_OUT = """\
test: quick leaves out compat, all of root but its smoke tests, and the labs but 01; scripts/test runs them all"""


def main() -> int:
    arguments = _arguments()
    parts = [part for part in PARTS if part in arguments.parts or not arguments.parts]
    RESULTS.mkdir(parents=True, exist_ok=True)
    for old in RESULTS.glob("*.xml"):
        old.unlink()
    began, before = time.monotonic(), leftovers()
    with contextlib.ExitStack() as stack:
        for wanted, condition in (
            (arguments.busy, busy_machine),
            (arguments.slow, slow_programs),
            (arguments.coverage, coverage),
        ):
            if wanted:
                stack.enter_context(condition())
        selected = jobs(parts, arguments)
        statuses = run(selected)
    if "link labctr0" not in before:
        remove_bridge()
    left = sorted(leftovers() - before)
    if left:
        print("\ntest: left behind:", *left, sep="\n  ")
    broken = [name for name, status in statuses.items() if status]
    failed = report(selected, time.monotonic() - began)
    if arguments.quick:
        print(QUICK_LEAVES_OUT)
    if broken or left or failed:
        print("test: FAILED:", ", ".join([*broken, *(["leftovers"] if left else [])]))
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/test", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"quick, or of {', '.join(PARTS)}; default all")
    for option in ("stress", "busy", "slow", "coverage"):
        parser.add_argument(f"--{option}", action="store_true", help="see above")
    parser.add_argument("--seed", type=int, help="of the random moments at which tests kill, to repeat a run")
    workers = WORKERS_PER_CORE * len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=workers, help=f"test processes; default {workers}")
    arguments = parser.parse_args()
    arguments.quick = arguments.parts == ["quick"]
    if arguments.quick:
        arguments.parts = ["lint", "unit", "root", "labs"]
    for part in arguments.parts:
        if part not in PARTS:
            parser.error(f"no part is called {part}; the parts are: quick, {', '.join(PARTS)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
