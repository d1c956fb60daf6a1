"""Pytest plugin: the fixtures of tests that need root. They fail if an engine leaves resources behind."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.errors import ImageNotFound
from pylab_container.host import programs
from pylab_container.images.image import Image
from tests.support import leftovers
from tests.support.api import Daemon, serving
from tests.support.commands import Labctr, Terminal, run_in_process
from tests.support.contexts import Context, write_context
from tests.support.isolation import isolated

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


@pytest.fixture(scope="session")
def isolation() -> Iterator[None]:
    """Run this test process in its own network and mount namespace; see isolation.py."""
    with isolated():
        yield


@pytest.fixture(scope="module")
def nothing_left_behind(isolation: None) -> Iterator[None]:
    """Fail if a module's tests leave a cgroup or an interface. The check reads all of /proc: one per module."""
    before = leftovers.ownerless()
    yield
    leftovers.assert_removed(lambda: leftovers.ownerless() - before)


@contextlib.contextmanager
def engine_on(data_root: Path) -> Iterator[Engine]:
    """Yield an engine on a data root. Afterwards remove its containers and networks, and fail if a resource remains."""
    engine = Engine(data_root)
    yield engine
    for container in engine.containers.list(all=True):
        container.remove(force=True, v=True)
    for network in engine.networks.list({"type": "custom"}):
        network.remove()
    try:
        leftovers.assert_removed(lambda: leftovers.of_engine(engine))
    finally:
        shutil.rmtree(engine.runtime.path, ignore_errors=True)


def _shares(request: pytest.FixtureRequest) -> bool:
    node = request.node
    return bool(node.get_closest_marker("shared_engine")) and not node.get_closest_marker("own_engine")


@pytest.fixture(scope="module")
def module_engine(tmp_path_factory: pytest.TempPathFactory, nothing_left_behind: None) -> Iterator[Engine]:
    """The engine of a module's tests with the mark shared_engine."""
    with engine_on(tmp_path_factory.mktemp("module") / "root") as engine:
        yield engine


@pytest.fixture(scope="module")
def module_image(module_engine: Engine, busybox_tar: Path) -> Image:
    """The image busybox:1 in that engine; _empty() keeps it between tests."""
    return module_engine.images.import_(busybox_tar, "busybox:1")


def _empty(engine: Engine, base: Image) -> None:
    """Remove every object of an engine except base, and all names of base except busybox:1.

    base is removed, too, if it is not called busybox:1 any more.
    """
    for container in engine.containers.list(all=True):
        container.remove(force=True, v=True)
    for network in engine.networks.list({"type": "custom"}):
        network.remove()
    for volume in engine.volumes.list():
        volume.remove()
    for image in engine.images.list():
        kept = image == base and "busybox:1" in image.tags
        for name in [tag for tag in image.tags if tag != "busybox:1"] if kept else image.tags or [image.id]:
            engine.images.remove(name, force=True)
    engine.prune_builds(all=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path, nothing_left_behind: None) -> Iterator[Engine]:
    """An engine on an empty data root. With the mark shared_engine it is the module's, emptied after each test."""
    if _shares(request):
        shared: Engine = request.getfixturevalue("module_engine")
        base: Image = request.getfixturevalue("module_image")
        yield shared
        _empty(shared, base)
        return
    with engine_on(tmp_path / "root") as engine:
        yield engine


@pytest.fixture
def image(engine: Engine, busybox_tar: Path) -> Image:
    """The image busybox:1 in that engine."""
    try:
        return engine.images.get("busybox:1")
    except ImageNotFound:
        return engine.images.import_(busybox_tar, "busybox:1")


@pytest.fixture
def context(tmp_path: Path, image: Image) -> Context:
    """Write a build context for the image busybox:1; see contexts.py."""
    return partial(write_context, tmp_path / "context")


# -- the command line -------------------------------------------------------------------------


@pytest.fixture
def command(engine: Engine) -> list[str]:
    """The words of a command line before the labctr command: program and data root."""
    return [sys.executable, "-m", "pylab_container", "--root", str(engine.data_root)]


@pytest.fixture
def labctr(command: list[str], repository: Path) -> Labctr:
    """Run a labctr command in a child process and wait for it; with check, it must succeed."""

    def run(*arguments: str, input: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        line = [*command, *arguments]
        done = subprocess.run(line, input=input, capture_output=True, text=True, timeout=300, cwd=repository)
        assert "Traceback" not in done.stderr, done.stderr
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def cli(engine: Engine, repository: Path) -> Labctr:
    """Run a labctr command in this process; arguments and result as for the fixture labctr. See run_in_process()."""
    root = ["--root", str(engine.data_root)]

    def run(*arguments: str, input: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        done = run_in_process([*root, *arguments], input=input, cwd=repository)
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def terminal(command: list[str], repository: Path) -> Iterator[Callable[..., Terminal]]:
    """Start a labctr command in its own pseudo-terminal."""
    opened: list[Terminal] = []

    def start(*arguments: str, rows: int = 24, columns: int = 80) -> Terminal:
        opened.append(Terminal([*command, *arguments], rows=rows, columns=columns, cwd=repository))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


@pytest.fixture(scope="module")
def module_daemon(module_engine: Engine, repository: Path) -> Iterator[Daemon]:
    """The daemon of a module's tests with the mark shared_engine."""
    with serving(module_engine.data_root, repository) as running:
        yield running


@pytest.fixture
def daemon(request: pytest.FixtureRequest, engine: Engine, repository: Path) -> Iterator[Daemon]:
    """A `labctr daemon` on that engine's data root. With the mark shared_engine it is the module's."""
    if _shares(request):
        shared: Daemon = request.getfixturevalue("module_daemon")
        yield shared
        assert shared.complaints() == []
        return
    with serving(engine.data_root, repository) as running:
        yield running
