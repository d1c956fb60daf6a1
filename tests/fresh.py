"""The README's two commands on minimal Debian systems: the program behind scripts/fresh.

    build/fresh/bookworm-2026-01-31.tar    the system, made by mmdebstrap at most once a day
    build/fresh/bookworm.log               what the commands printed
    build/fresh/root-bookworm/             the data root of the engine that runs the system, and a clone of HEAD;
                                           removed at the end

A system is `mmdebstrap --variant=minbase --include=ca-certificates`. It runs as a privileged container of our own
engine, so scripts/setup has to install everything else, and the engine inside runs containers of its own. The clone
and that engine's data root are on volumes, because overlay2 needs a file system other than overlayfs.

A run fails if one of the commands fails, if a shell misses a program, or if the kit starts a program of a package that
scripts/packages.txt does not name. A package that is only a dependency of a named one does not count: the next release
may depend on another. tests/support/executions.py records what is started.

What the machine needs to reach its mirrors goes into the system: apt's sources and its proxies, the certificates,
pip's settings, and the variables that curl and requests heed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TextIO

from pylab_container import Engine
from tests.support.debian import sources
from tests.support.executions import Executions

RELEASES = ("bookworm", "trixie")
REPOSITORY = Path(__file__).resolve().parent.parent
BUILD = REPOSITORY / "build/fresh"
KIT = "/kit"
QUICK = ("quick",)
# Debian's own place (package ca-certificates): a proxy's authority that this machine trusts is needed inside, too.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_FILES = (Path("/etc/pip.conf"), Path("/root/.config/pip/pip.conf"), Path("/root/.pip/pip.conf"))
VARIABLES = re.compile(r"PIP_.*|(https?|no|all)_proxy|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE", re.I)
LOOPBACK_HAS_IPV6 = "/proc/sys/net/ipv6/conf/{all,default,lo}/disable_ipv6"
MISSING = re.compile(r"^.*(?:line \d+|\d+): (\S+): (?:command )?not found$", re.MULTILINE)


class Failed(Exception):
    """The failure of one system, in one line."""


def main() -> int:
    """Run the systems and return the exit status: 0 if both commands of every system succeeded."""
    options = parse()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("fresh: interrupted"))
    BUILD.mkdir(parents=True, exist_ok=True)
    with locked(), bridge_restored():
        changed = run("git", "status", "--porcelain")
        if changed:
            print("fresh: these changes are not committed, and not tested:", changed.rstrip(), sep="\n")
        arguments = [] if options.whole else options.parts
        try:
            for release in options.releases:
                make_system(release)
        except Failed as error:
            print(f"fresh: {error}")
            return 1
        running = Running()
        with ThreadPoolExecutor(1 if options.one_by_one else len(options.releases)) as threads:
            try:
                outcomes = list(threads.map(partial(prove, arguments=arguments, running=running), options.releases))
            finally:
                running.stop()
    return 0 if all(outcomes) else 1


class Running:
    """The commands that run in the systems. After stop() no further command starts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """A process whose output is a pipe. Raises Failed after stop()."""
        with self._lock:
            if self._stopped:
                raise Failed("interrupted")
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                start_new_session=True,  # Ctrl-C is for this program, which ends the others in order
            )  # fmt: skip
            self._processes.append(process)
            return process

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._processes:
                process.kill()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/fresh", description="Prove the README's commands on minimal systems."
    )
    parser.add_argument("releases", nargs="*", metavar="RELEASE", help=f"of {', '.join(RELEASES)}; all by default")
    parser.add_argument("--whole", action="store_true", help="every test, instead of the quick ones")
    parser.add_argument("--parts", nargs="+", default=list(QUICK), metavar="PART", help="these parts of scripts/test")
    parser.add_argument("--one-by-one", action="store_true", help="not all systems at once")
    options = parser.parse_args()
    options.releases = options.releases or list(RELEASES)
    for release in options.releases:
        if release not in RELEASES:
            parser.error(f"no release is called {release}; there are {', '.join(RELEASES)}")
    return options


# -- one system --------------------------------------------------------------------------------


def prove(release: str, *, arguments: Sequence[str], running: Running) -> bool:
    """Run both commands in a new system; print and return how it went."""
    began = time.monotonic()
    root = BUILD / f"root-{release}"
    log = BUILD / f"{release}.log"
    problems: list[str] = []
    try:
        with log.open("w") as output, booted(release, root) as name:
            pid = int(run(*labctr(root), "inspect", "-f", "{{.State.Pid}}", name))
            with Executions(pid, KIT) as executions:
                for command in (["scripts/labs"], ["scripts/test", *arguments]):
                    with noted(problems):
                        follow(release, [*labctr(root), "exec", "-w", KIT, name, *command], output, running)
            with noted(problems):
                check_programs(executions.paths, Path(f"/proc/{pid}/root"), release)
            with noted(problems):
                check_shells(log.read_text())
    except (subprocess.CalledProcessError, OSError) as error:
        problems.append(f"{error} {getattr(error, 'stderr', None) or ''}".strip())
    print(f"fresh: {release} {'FAILED' if problems else 'ok'}, {time.monotonic() - began:.0f} s")
    for problem in problems:
        print(f"fresh: {release}: {problem}")
    return not problems


@contextlib.contextmanager
def noted(problems: list[str]) -> Iterator[None]:
    """Append what is raised as Failed: one failure does not hide the next one."""
    try:
        yield
    except Failed as error:
        problems.append(str(error))


@contextlib.contextmanager
def booted(release: str, root: Path) -> Iterator[str]:
    """Boot a container of the system with a clone of the repository at KIT, and remove it after the block."""
    remove(root)  # what a killed run left
    clone = root.with_name(f"{root.name}-kit")
    name = f"fresh-{release}"
    try:
        run("git", "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(clone))
        run(*labctr(root), "import", str(tar_of(release)), f"fresh:{release}")
        mounts = [f"{clone}:{KIT}", "inner:/var/lib/pylab-container", "tmp:/tmp", *mounted_settings()]
        volumes = [word for mount in mounts for word in ("-v", mount)]
        variables = [word for one in os.environ if VARIABLES.fullmatch(one) for word in ("-e", one)]
        rights = ["--privileged", "--cgroupns", "private"]
        start = ["run", "-d", "--name", name, *rights, *volumes, *variables, f"fresh:{release}"]
        # Process 1 reaps orphans, as a shell does.
        run(*labctr(root), *start, "bash", "-c", "sleep infinity & wait")
        # A container on a network without IPv6 has it switched off even on the loopback device.
        run(*labctr(root), "exec", name, "bash", "-c", f"for key in {LOOPBACK_HAS_IPV6}; do echo 0 >$key; done")
        yield name
    finally:
        remove(root)


def remove(root: Path) -> None:
    """Remove the system that runs on a data root, and the data root."""
    clone = root.with_name(f"{root.name}-kit")
    if root.exists():
        containers = run(*labctr(root), "ps", "-aq").split()
        if containers:
            run(*labctr(root), "rm", "-f", "-v", *containers)
        shutil.rmtree(Engine(root).runtime.path, ignore_errors=True)
        shutil.rmtree(root)
    if clone.exists():
        shutil.rmtree(clone)


def follow(release: str, command: Sequence[str], log: TextIO, running: Running) -> None:
    """Run a command in the system, show and note what it prints. Raises Failed unless it succeeds."""
    words = shlex.join(command[command.index(KIT) + 2 :])
    began = time.monotonic()
    process = running.start(command)
    assert process.stdout
    for line in process.stdout:
        log.write(line)
        log.flush()
        print(f"{release} | {line.rstrip().rpartition(chr(13))[2]}", flush=True)
    status = process.wait()
    if status:
        raise Failed(f"{words} ended with status {status}")
    print(f"fresh: {release}: {words} ok, {time.monotonic() - began:.0f} s")


# -- which programs were used ------------------------------------------------------------------


def check_programs(paths: set[str], system: Path, release: str) -> None:
    """Raise Failed if a program belongs to a package that is neither required in Debian nor named in packages.txt."""
    owners = owners_of(paths, system)
    allowed = required_packages(system) | named_packages()
    # The kernel opens a dynamic program's loader for execution, too.
    own = re.compile(rf"{KIT}/|/tmp/|.*/ld-linux[^/]*$")
    used = {path: owner for path, owner in owners.items() if not own.match(path)}
    wrong = [f"{path} ({owner or 'of no package'})" for path, owner in used.items() if owner not in allowed]
    print(f"fresh: {release}: programs of {len(set(used.values()))} packages were used")
    if wrong:
        raise Failed(f"used, but not in scripts/packages.txt: {', '.join(sorted(wrong))}")


def owners_of(paths: set[str], system: Path) -> dict[str, str]:
    """For each path its package, or "". A package may have listed it without the /usr that it was merged into."""
    owners = dict.fromkeys(paths, "")
    for listing in (system / "var/lib/dpkg/info").glob("*.list"):
        files = set(listing.read_text().splitlines())
        for path in paths:
            if path in files or path.removeprefix("/usr") in files:
                # python3 is a name for python3.11, which is a package that python3 depends on.
                owners[path] = re.sub(r"^python3\.\d+(-minimal)?$", "python3", listing.stem.partition(":")[0])
    return owners


def required_packages(system: Path) -> set[str]:
    """Packages that every Debian system has: required and essential ones, and apt."""
    stanzas = (system / "var/lib/dpkg/status").read_text().split("\n\n")
    required = [text for text in stanzas if re.search(r"^(Priority: required|Essential: yes)$", text, re.MULTILINE)]
    return {"apt"} | {text.partition("\n")[0].removeprefix("Package: ") for text in required}


def named_packages() -> set[str]:
    text = re.sub(r"#.*|\[\w+\]|\|", "", (REPOSITORY / "scripts/packages.txt").read_text())
    return set(text.split())


def check_shells(printed: str) -> None:
    """Raise Failed if a shell said that it did not find a program, even if the script went on."""
    missing = sorted(set(MISSING.findall(printed)))
    if missing:
        raise Failed(f"used, but not installed: {', '.join(missing)}")


# -- making a system ---------------------------------------------------------------------------


def tar_of(release: str) -> Path:
    return BUILD / f"{release}-{datetime.date.today().isoformat()}.tar"


def make_system(release: str) -> None:
    """Make the tar of a minimal system, unless today's is there."""
    target = tar_of(release)
    if target.exists():
        return
    for old in BUILD.glob(f"{release}-*.tar*"):
        old.unlink()
    began = time.monotonic()
    unfinished = target.with_suffix(".tar.new.tar")
    apt = [word for option in apt_options() for word in ("--aptopt", option)]
    hooks = []
    if CERTIFICATES.exists():
        hooks = ["--customize-hook", f'cat {CERTIFICATES} >"$1{CERTIFICATES}"']
    words = ["--quiet", "--variant=minbase", "--include=ca-certificates", *apt, *hooks, release, str(unfinished)]
    command = ["mmdebstrap", *words, *sources(release)]
    try:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
            try:
                _, errors = process.communicate()
            except BaseException:
                process.terminate()  # it unmounts and removes what it has made; killed, it would not
                raise
        if process.returncode:
            raise Failed(f"mmdebstrap could not make {release}: {errors.strip()}")
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"fresh: made a minimal {release}, {time.monotonic() - began:.0f} s")


def apt_options() -> list[str]:
    """Return the apt options of this machine for its mirrors: proxies and the validity of release files."""
    return re.findall(r'^Acquire::(?:https?::.+|Check-\S+) ".+";$', run("apt-config", "dump"), re.MULTILINE)


def mounted_settings() -> list[str]:
    """pip's files, and the folders that they and the variables name, at their own paths."""
    files = [path for path in PIP_FILES if path.exists()]
    texts = [path.read_text() for path in files]
    texts += [value for key, value in os.environ.items() if key.startswith("PIP_")]
    words = [word for text in texts for word in text.split()]
    # The pages of an index in a folder name files beside that folder.
    named = [Path(word.removeprefix("file://")).parent for word in words if word.startswith("file:///")]
    named += [Path(word) for word in words if word.startswith("/") and Path(word).is_dir()]
    return [f"{path}:{path}:ro" for path in dict.fromkeys([*files, *named])]


# -- this machine ------------------------------------------------------------------------------


def labctr(root: Path) -> list[str]:
    return [sys.executable, "-m", "pylab_container", "--root", str(root)]


def run(*command: str) -> str:
    """Return what a program prints. Raises CalledProcessError."""
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, start_new_session=True)
    return done.stdout


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One run at a time in this clone."""
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def bridge_restored() -> Iterator[None]:
    """Remove the engine's bridge, which waits for the next container, unless it was there before."""
    bridge = Path("/sys/class/net/labctr0")
    before = bridge.exists()
    try:
        yield
    finally:
        if bridge.exists() and not before:
            root = BUILD / "root-down"
            run(*labctr(root), "system", "down")
            shutil.rmtree(root)


if __name__ == "__main__":
    sys.exit(main())
