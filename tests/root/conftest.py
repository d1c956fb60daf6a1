"""What root tests share: an engine of their own, and the proof that it leaves nothing behind."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.engine.images.image import Image
from pylab_container.host import programs
from tests.root.api import Daemon, serving
from tests.root.commands import Labctr, Terminal
from tests.root.contexts import Context, write_context

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nstudent:x:1000:1000::/home/student:/bin/sh\n",
    "etc/group": "root:x:0:\nstudent:x:1000:\n",
    "bin/plain": "no x bit\n",
}


@pytest.fixture(scope="session")
def busybox_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of one static program and its links, as a tar of 2 MB."""
    busybox = programs.find("busybox")
    path = tmp_path_factory.mktemp("base") / "busybox.tar"
    with tarfile.open(path, "w") as archive:
        for directory in ("bin", "dev", "etc", "home", "home/student", "proc", "root", "sys", "tmp", "var"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            archive.addfile(entry)
        _add_file(archive, "bin/busybox", Path(busybox).read_bytes(), 0o755)
        for applet in programs.run([busybox, "--list"]).output.split():
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
        for name, text in FILES.items():
            _add_file(archive, name, text.encode(), 0o644)
    return path


def _add_file(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine on an empty data root. In the end its containers go, and nothing may be left of them."""
    before = _ownerless()
    engine = Engine(tmp_path / "root")
    yield engine
    for container in engine.containers.list(all=True):
        container.remove(force=True, v=True)
    for network in engine.networks.list({"type": "custom"}):
        network.remove()
    try:
        assert not _soon_empty(lambda: [*_mounts(engine), *_monitors(engine), *_files(engine.run_root)])
        assert not _soon_empty(lambda: sorted(_ownerless() - before))
    finally:
        shutil.rmtree(engine.run_root, ignore_errors=True)


@pytest.fixture
def image(engine: Engine, busybox_tar: Path) -> Image:
    """The image busybox:1 in that engine."""
    return engine.images.import_(busybox_tar, "busybox:1")


@pytest.fixture
def context(tmp_path: Path, image: Image) -> Context:
    """Writes a build context whose base image is there; see contexts.py."""
    return partial(write_context, tmp_path / "context")


# -- the command line -------------------------------------------------------------------------


@pytest.fixture
def command(engine: Engine) -> list[str]:
    """The beginning of every command line."""
    return [sys.executable, "-m", "pylab_container", "--root", str(engine.data_root)]


@pytest.fixture
def labctr(command: list[str], repository: Path) -> Labctr:
    """Run a command to its end; check: it must succeed."""

    def run(*arguments: str, input: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*command, *arguments], input=input, capture_output=True, text=True, timeout=90, cwd=repository, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def terminal(command: list[str], repository: Path) -> Iterator[Callable[..., Terminal]]:
    """Start a command in a terminal of its own."""
    opened: list[Terminal] = []

    def start(*arguments: str, rows: int = 24, columns: int = 80) -> Terminal:
        opened.append(Terminal([*command, *arguments], rows=rows, columns=columns, cwd=repository))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def daemon(engine: Engine, repository: Path) -> Iterator[Daemon]:
    """A `labctr daemon` on that engine's data root."""
    with serving(engine.data_root, repository) as running:
        yield running


# -- what could be left behind -----------------------------------------------------------------


def _soon_empty(look: Callable[[], list[str]], seconds: float = 30) -> list[str]:
    """What look() finds each time for a while: the kernel takes veths and cgroups away in the background.

    What comes meanwhile is not ours: another run of these tests on the machine makes and removes such things as well.
    """
    found, deadline = look(), time.monotonic() + seconds
    while found and time.monotonic() < deadline:
        time.sleep(0.05)
        now = look()
        found = [one for one in found if one in now]
    return found


def _mounts(engine: Engine) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith((f"{engine.data_root}/", f"{engine.run_root}/"))]


def _monitors(engine: Engine) -> list[str]:
    """The command lines of the monitors of this engine's containers."""
    commands = (command for command in _commands() if command.startswith("conmon\0") or "/conmon\0" in command)
    return [command.replace("\0", " ") for command in commands if str(engine.run_root) in command]


def _commands() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "cmdline").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile


def _files(directory: Path) -> list[str]:
    return [os.path.join(top, name) for top, _, names in os.walk(directory) for name in names]


def _ownerless() -> set[str]:
    """Cgroups without a process and veths without a monitor, of any engine on this machine."""
    top = Path("/sys/fs/cgroup")  # one hierarchy, or with cgroup v1 one below it for each controller
    cgroups = {str(path) for path in [*top.glob("labctr/*"), *top.glob("*/labctr/*")] if path.is_dir()}
    empty = {cgroup for cgroup in cgroups if not _populated(Path(cgroup))}
    commands = list(_commands())
    return empty | {name for name, owner in _veths() if not any(owner in command for command in commands)}


def _veths() -> Iterator[tuple[str, str]]:
    """(interface, container id) of the host's ends; the alias says "<bridge> <container id> <address> <interface>"."""
    for path in Path("/sys/class/net").glob("veth*/ifalias"):
        try:
            words = path.read_text().split()
        except OSError:
            continue
        if len(words) == 4 and words[0] == "labctr0":
            yield path.parent.name, words[1]


def _populated(cgroup: Path) -> bool:
    try:
        return bool((cgroup / "cgroup.procs").read_text())
    except OSError:
        return True  # it is going away, or is of a kind that lists no processes
