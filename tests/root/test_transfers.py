"""Transfers of a container's files while the container lives on, stops, is killed, starts again or is removed.

The archives are generators, which read the files as their pieces are taken: a test that takes one piece and then does
something to the container is a client that is slow at exactly that moment.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.containers.root_filesystem import ContainerFiles
from pylab_container.docker import cp
from pylab_container.engine.container import Container
from pylab_container.errors import Conflict, LabError
from pylab_container.host import linux
from pylab_container.host.descent import opened, walk
from pylab_container.images.image import Image
from pylab_container.maintenance import usage
from pylab_container.store import treetar
from tests.support.api import serving

pytestmark = pytest.mark.shared_engine

FILES = [f"data/{directory}/{name}" for directory in range(10) for name in range(10)]
LARGE = 1 << 28
"""Bytes of a file without content."""


def files_of(engine: Engine, container: Container) -> ContainerFiles:
    return ContainerFiles(engine.data, engine.runtime, container.id)


@pytest.fixture
def container(engine: Engine, image: Image) -> Container:
    """A running container with its own files; it exits at SIGTERM."""
    script = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"
    made = engine.containers.run_detached(image, ["sh", "-c", script], network_mode="none")
    for name in FILES:
        (made.merged / name).parent.mkdir(parents=True, exist_ok=True)
        (made.merged / name).write_text(name)
    return made


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return [member.name for member in opened]


def exported(container: Container) -> Iterator[bytes]:
    return container.export()


def copied(container: Container) -> Iterator[bytes]:
    return container.get_archive("/")[0]


def detach(container: Container) -> None:
    linux.umount(str(container.merged), linux.MNT_DETACH)


READERS = pytest.mark.parametrize("read", [exported, copied])
ENDS: dict[str, Callable[[Container], object]] = {
    "stop": lambda container: container.stop(),
    "kill": lambda container: container.kill(),
    "restart": lambda container: container.restart(),
    "umount": detach,
    "pause": lambda container: container.pause(),
}


# -- the end in the middle of it ------------------------------------------------------------------


@READERS
@pytest.mark.parametrize("taken", [1, 200])
@pytest.mark.parametrize("end", ENDS)
def test_an_archive_is_whole_whatever_becomes_of_its_container(
    container: Container, read: Callable[[Container], Iterator[bytes]], end: str, taken: int
) -> None:
    before = b"".join(read(container))
    pieces = read(container)
    begun = b"".join(next(pieces) for _ in range(taken))
    ENDS[end](container)
    assert begun + b"".join(pieces) == before
    assert len(names(before)) > len(FILES) + 200  # the image's files and its own


@READERS
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_an_archive_of_a_container_that_is_removed_meanwhile_has_no_end(
    container: Container, read: Callable[[Container], Iterator[bytes]], state: str
) -> None:
    if state == "stopped":
        container.kill()
    pieces = read(container)
    begun = next(pieces)
    container.remove(force=True)
    rest: list[bytes] = []
    with pytest.raises(Conflict, match="removed while its files were read"):
        rest.extend(pieces)
    assert not b"".join([begun, *rest]).endswith(bytes(1024))


def test_a_stopped_container_starts_while_its_archive_is_read(container: Container) -> None:
    container.kill()
    before = b"".join(container.export())
    pieces = container.export()
    begun = next(pieces)
    container.start()
    container.exec_run(["sh", "-c", "echo more > /zzz"])
    assert begun + b"".join(pieces) == before
    assert (container.merged / "zzz").read_text() == "more\n"


def test_a_copy_to_the_host_fails_if_the_container_is_removed(
    engine: Engine, container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkfifo
    os.mkfifo(container.merged / "data/5/pipe")

    def remove(path: str, mode: int, *, dir_fd: int) -> None:
        container.remove(force=True)
        real(path, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkfifo", remove)
    with pytest.raises(Conflict, match="removed while its files were read"):
        cp.to_host(files_of(engine, container), "/data", str(tmp_path))


def test_a_command_that_exports_reports_that_the_container_was_removed(
    container: Container, tmp_path: Path, cli: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, done = treetar.file_content, threading.Event()

    def removing(fd: int, size: int) -> Iterator[bytes]:
        if not done.is_set():
            done.set()
            container.remove(force=True)
        yield from real(fd, size)

    monkeypatch.setattr(treetar, "file_content", removing)
    result = cli("export", "-o", str(tmp_path / "out.tar"), container.name, check=False)
    assert result.returncode == 1  # type: ignore[attr-defined]
    assert "was removed while its files were read" in result.stderr  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


# -- what a container does concurrently -------------------------------------------------------------


@READERS
def test_a_container_is_not_frozen_while_its_files_are_read(
    engine: Engine, container: Container, read: Callable[[Container], Iterator[bytes]]
) -> None:
    pieces = read(container)
    next(pieces)
    assert (engine.runtime.runc.state(container.id) or {})["status"] == "running"
    assert container.exec_run(["true"]).exit_code == 0
    container.commit("meanwhile:1")
    container.stop()
    assert container.wait() == 0
    assert b"".join(pieces).endswith(bytes(1024))


def test_a_file_that_grows_or_shrinks_or_vanishes_leaves_an_archive_that_can_be_read(container: Container) -> None:
    data = container.merged / "data/5"
    for name in ("a-grows", "b-shrinks", "c-is-emptied"):
        (data / name).write_bytes(b"x" * 1000)
    pieces = container.export()
    taken = b""
    for piece in pieces:
        taken += piece
        if b"data/5/a-grows" in piece:
            (data / "a-grows").write_bytes(b"x" * 5000)
        if b"data/5/b-shrinks" in piece:
            os.truncate(data / "b-shrinks", 10)
        if b"data/5/c-is-emptied" in piece:
            (data / "c-is-emptied").write_bytes(b"")
            (container.merged / "data/6/0").unlink()
            (container.merged / "data/7").rename(container.merged / "data/7-moved")
    with tarfile.open(fileobj=io.BytesIO(taken)) as archive:
        found = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}  # type: ignore[union-attr]
    assert found["data/5/a-grows"] == b"x" * 1000
    assert found["data/5/b-shrinks"] == b"x" * 10 + bytes(990)
    assert found["data/5/c-is-emptied"] == bytes(1000)
    assert not {"data/6/0", "data/7/0"} & found.keys()
    assert {"data/6/1", "data/8/0"} <= found.keys()


@pytest.mark.parametrize("swapped", ["link", "fifo", "directory"])
def test_what_takes_a_file_s_place_while_it_is_read_is_not_read(
    container: Container, tmp_path: Path, swapped: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret of the host")
    target = container.merged / "data/5/0"
    pieces = container.export()
    taken = b""
    for piece in pieces:
        taken += piece
        if b"data/5/0\0" in piece:
            target.unlink()
            if swapped == "link":
                target.symlink_to(secret)
            elif swapped == "fifo":
                os.mkfifo(target)
            else:
                target.mkdir()
    assert b"secret of the host" not in taken
    with tarfile.open(fileobj=io.BytesIO(taken)) as archive:
        assert archive.extractfile("data/5/0").read() == b"data/5/0"  # type: ignore[union-attr]


def test_a_link_that_a_container_puts_in_the_way_of_a_copy_changes_nothing_on_the_host(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TOCTOU: the container replaces a directory between its creation and the change of its mode."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    real = os.mkdir

    def mkdir(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(path, mode, dir_fd=dir_fd)
        if path == "new":
            os.rmdir(path, dir_fd=dir_fd)
            os.symlink(outside, path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", mkdir)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("new")
        member.type, member.mode, member.uid = tarfile.DIRTYPE, 0o777, 1234
        archive.addfile(member)
    with contextlib.suppress(LabError):
        container.put_archive("/data", buffer.getvalue())
    assert outside.stat().st_mode & 0o7777 == 0o700
    assert outside.stat().st_uid == 0


@pytest.mark.parametrize("path", ["export", "archive?path=/"])
def test_a_container_runs_on_when_the_daemon_is_killed_during_a_transfer(
    engine: Engine, container: Container, repository: Path, path: str
) -> None:
    os.truncate(container.merged / "data/0/0", LARGE)
    with serving(engine.data_root, repository) as daemon, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(daemon.socket))
        client.sendall(f"GET /containers/{container.id}/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
        daemon.process.kill()
        while client.recv(1 << 16):
            pass
        assert (engine.runtime.runc.state(container.id) or {})["status"] == "running"
        assert container.exec_run(["true"]).exit_code == 0


# -- files without content ---------------------------------------------------------------------------


def blocks(directory: Path) -> int:
    """Bytes on the disk below a directory."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_blocks * 512
        for parent, _, files in os.walk(directory)
        for name in files
    )


@pytest.fixture
def hollow(container: Container) -> Container:
    """A container with a large file that has three bytes, in the middle and at the end."""
    with open(container.merged / "data/hollow", "wb") as file:
        file.seek(LARGE // 2)
        file.write(b"xy")
        file.truncate(LARGE - 1)
        file.seek(LARGE - 1)
        file.write(b"z")
    return container


@READERS
def test_a_hollow_file_takes_no_space_on_its_way_out(
    engine: Engine, hollow: Container, read: Callable[[Container], Iterator[bytes]]
) -> None:
    before = most = blocks(engine.data_root)
    for number, piece in enumerate(read(hollow)):
        assert len(piece) <= 1 << 20
        if number % 64 == 0:
            most = max(most, blocks(engine.data_root))
    assert most - before < 1 << 20


def test_a_hollow_file_is_hollow_wherever_it_is_copied_to(engine: Engine, hollow: Container, tmp_path: Path) -> None:
    before = blocks(engine.data_root)
    image = hollow.commit("hollow:1")
    again = engine.containers.create(image, ["true"], network_mode="none")
    (tmp_path / "out").mkdir()
    cp.to_host(files_of(engine, again), "/data/hollow", str(tmp_path / "out"))
    cp.to_container(files_of(engine, again), str(tmp_path / "out/hollow"), "/tmp/")
    cp.to_container(files_of(engine, hollow), str(tmp_path / "out/hollow"), "/tmp/")
    again.put_archive("/var", Pieces(hollow.get_archive("/data/hollow")[0]))  # type: ignore[arg-type]
    assert blocks(engine.data_root) - before < 4 << 20
    assert blocks(tmp_path / "out") < 1 << 20
    for place in (tmp_path / "out/hollow", again.upper / "tmp/hollow", again.upper / "var/hollow"):
        assert place.stat().st_size == LARGE
        with open(place, "rb") as file:
            assert [os.pread(file.fileno(), 2, at) for at in (LARGE // 2, LARGE - 2)] == [b"xy", b"\0z"]


class Pieces(io.RawIOBase):
    """An archive in pieces as a stream, as a request's body is one."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._rest = self._rest or next(self._pieces, b"")
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 70_000, 200_000])
@pytest.mark.parametrize("data", [(), (0,), (4096,), (0, 69_000), (65_536, 131_072)])
def test_a_file_with_holes_is_read_as_what_it_is(tmp_path: Path, size: int, data: tuple[int, ...]) -> None:
    path = tmp_path / "file"
    with open(path, "wb") as file:
        for at in data:
            file.seek(at)
            file.write(b"data")
        file.truncate(size)
    with open(path, "rb") as file:
        assert b"".join(treetar.file_content(file.fileno(), size)) == path.read_bytes()
        assert b"".join(treetar.file_content(file.fileno(), size + 100)) == path.read_bytes() + bytes(100)


# -- trees deeper than any path -----------------------------------------------------------------------

DEPTH = 20_000


def dig(directory: Path, depth: int) -> None:
    """Make a chain of directories, and a file in the last one."""
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open("f", os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=fd)
    os.write(file, b"deep")
    os.close(file)
    os.close(fd)


def test_a_tree_deeper_than_any_path_is_measured_compared_and_read(engine: Engine, container: Container) -> None:
    before = usage.container_sizes(engine.data, container.record)[0]
    dig(container.merged, DEPTH)
    assert usage.container_sizes(engine.data, container.record)[0] == before + 4
    assert engine.df().containers_size == before + 4
    assert sum(change.path.startswith("/d/") for change in container.diff()) == DEPTH
    deepest = last = b""
    for piece in container.export():
        if piece == b"deep":
            deepest = last
        last = piece
    assert b"/d" * (DEPTH - 1) + b"/f" in deepest
    container.remove(force=True)


def test_a_tree_deeper_than_any_path_is_committed_and_comes_back(engine: Engine, container: Container) -> None:
    depth = 3000  # a path of 6,000 bytes; the layer's tar grows with the square of the depth
    dig(container.merged, depth)
    image = container.commit("deep:1")
    saved = io.BytesIO()
    for piece in image.save():
        saved.write(piece)
    engine.images.remove("deep:1", force=True)
    saved.seek(0)
    (loaded,) = engine.images.load(saved)
    assert loaded.id == image.id
    again = engine.containers.create(loaded, ["true"], network_mode="none")
    assert b"deep" in list(again.export())
    (again.upper / "tmp").mkdir(exist_ok=True)
    again.remove()


def test_the_times_of_deep_directories_are_kept(engine: Engine, container: Container) -> None:
    dig(container.merged, 2500)
    moment = 1_500_000_000 * 10**9

    def times(top: Path) -> set[int]:
        fd = opened(top)
        try:
            return {entry.status.st_mtime_ns for _, entry in walk(fd)}
        finally:
            os.close(fd)

    fd = opened(container.upper / "d")
    for _, entry in walk(fd):
        os.utime(entry.name, ns=(moment, moment), dir_fd=entry.directory, follow_symlinks=False)
    os.close(fd)
    image = container.commit("deep:1")
    assert times(engine.data.driver.diff_path(image.layers[-1].cache_id) / "d") == {moment}
