"""A container's files from outside: diff, export, single files in and out, cp; and links that lead out of it."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import stat
import sys
import tarfile
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pylab_container import Engine
from pylab_container.containers.root_filesystem import ContainerFiles
from pylab_container.docker import cp
from pylab_container.engine.container import Container
from pylab_container.errors import InvalidArchive, InvalidInput, LabError, NotFound
from pylab_container.images.image import Image
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.shared_engine

CHANGES = (
    "echo new > /new; rm /bin/plain; rm -r /home; mkdir /home; chmod 700 /root; ln -s /nowhere /link; mkdir /empty"
)


def files_of(engine: Engine, container: Container) -> ContainerFiles:
    return ContainerFiles(engine.data, engine.runtime, container.id)


@pytest.fixture(params=["stopped", "running"])
def container(request: pytest.FixtureRequest, engine: Engine, image: Image) -> Container:
    """A container that ran CHANGES, and has ended or runs still."""
    rest = "; touch /tmp/done; sleep 1000" if request.param == "running" else ""
    made = engine.containers.run_detached(image, ["sh", "-c", CHANGES + rest], network_mode="none")
    if rest:
        eventually((made.upper / "tmp/done").exists)
    else:
        made.wait()
    return made


@pytest.fixture
def stopped(engine: Engine, image: Image) -> Container:
    return engine.containers.create(image, ["sleep", "1000"], network_mode="none")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's current directory."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host that no container may change."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "canary").write_text("alive")
    yield path
    assert [each.name for each in path.iterdir()] == ["canary"]
    assert (path / "canary").read_text() == "alive"
    assert stat.S_IMODE((path / "canary").stat().st_mode) == 0o644


def members(archive: Iterator[bytes] | bytes) -> dict[str, tarfile.TarInfo]:
    raw = archive if isinstance(archive, bytes) else b"".join(archive)
    with tarfile.open(fileobj=io.BytesIO(raw)) as opened:
        return {member.name: member for member in opened}


def content(archive: Iterator[bytes], name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as opened:
        file = opened.extractfile(name)
        assert file
        return file.read()


def archive_of(*entries: tuple[str, bytes | str, bytes]) -> bytes:
    """(name, content or link, type) each."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data, kind in entries:
            member = tarfile.TarInfo(name)
            member.type = kind
            if isinstance(data, str):
                member.linkname, data = data, b""
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


# -- diff and export ---------------------------------------------------------------------------


def test_diff_tells_what_was_added_changed_and_deleted(container: Container) -> None:
    told = [f"{change.letter} {change.path}" for change in container.diff() if not change.path.startswith("/tmp")]
    assert told == [
        "C /bin",
        "D /bin/plain",
        "A /empty",
        "C /home",
        "D /home/student",
        "A /link",
        "A /new",
        "C /root",
    ]


def test_a_fresh_container_has_no_changes(stopped: Container) -> None:
    assert stopped.diff() == []


def test_export_holds_the_whole_tree_with_names_of_owners_and_imports_again(
    engine: Engine, container: Container
) -> None:
    container.put_archive("/", archive_of(("mine", b"x", tarfile.REGTYPE)))
    raw = b"".join(container.export())
    found = members(raw)
    assert "new" in found
    assert "bin/plain" not in found
    assert "home/student" not in found
    assert found["bin/sh"].linkname == "busybox"
    assert (found["new"].uname, found["new"].gname) == ("root", "root")
    assert not any(name.startswith((".wh.", "proc/", "sys/")) for name in found)
    imported = engine.images.import_(io.BytesIO(raw), "exported:1")
    assert engine.containers.run(imported, ["cat", "/new"], remove=True, network_mode="none") == b"new\n"


# -- archives in and out -----------------------------------------------------------------------


def test_a_path_comes_out_as_a_tar_that_begins_with_its_own_name(container: Container) -> None:
    assert list(members(container.get_archive("/etc/passwd")[0])) == ["passwd"]
    assert list(members(container.get_archive("/empty")[0])) == ["empty"]
    assert "passwd" in "".join(members(container.get_archive("/etc/.")[0]))
    assert all(not name.startswith("etc") for name in members(container.get_archive("/etc/.")[0]))
    assert content(container.get_archive("/new")[0], "new") == b"new\n"
    everything = members(container.get_archive("/")[0])
    assert {"", "/etc", "/etc/passwd"} <= everything.keys()
    assert all(name.startswith("/") and not name.startswith("//") for name in everything if name)
    container.put_archive("/empty", io.BytesIO(b"".join(container.get_archive("/")[0])))
    assert list(members(container.get_archive("/empty/etc/passwd")[0])) == ["passwd"]
    found = members(container.get_archive("/link")[0])["link"]
    assert (found.issym(), found.linkname) == (True, "/nowhere")


def test_what_is_at_a_path_is_told_with_it(container: Container) -> None:
    status = container.get_archive("/etc/passwd")[1]
    assert (status.name, stat.S_ISREG(status.mode), status.link) == ("passwd", True, "")
    assert status.size == len(content(container.get_archive("/etc/passwd")[0], "passwd"))
    assert container.get_archive("/link")[1].link == "/nowhere"


def test_an_archive_is_extracted_into_a_directory_and_seen_inside(container: Container) -> None:
    container.put_archive("/tmp", archive_of(("d", b"", tarfile.DIRTYPE), ("d/f", b"hello", tarfile.REGTYPE)))
    assert content(container.get_archive("/tmp/d/f")[0], "f") == b"hello"
    if container.status == "running":
        assert container.exec_run(["cat", "/tmp/d/f"]).output == b"hello"


def test_where_there_is_no_directory_nothing_is_extracted(container: Container) -> None:
    archive = archive_of(("x", b"x", tarfile.REGTYPE))
    before = container.diff()
    with pytest.raises(NotFound):
        container.put_archive("/nowhere", archive)
    with pytest.raises((InvalidInput, NotFound)):
        container.put_archive("/etc/passwd", archive)
    with pytest.raises(NotFound):
        container.put_archive("/link", archive)
    with pytest.raises(InvalidArchive):
        container.put_archive("/tmp", b"no tar" * 1000)
    with pytest.raises(NotFound):
        container.get_archive("/nowhere")
    assert container.diff() == before


def test_a_volume_is_written_and_read_where_the_container_sees_it(engine: Engine, image: Image, work: Path) -> None:
    (work / "shared").mkdir()
    volumes = [f"{work}/shared:/data", f"{work}/shared:/frozen:ro"]
    made = engine.containers.run_detached(image, ["sleep", "600"], network_mode="none", volumes=volumes)
    (work / "f").write_text("x")
    cp.to_container(files_of(engine, made), "f", "/data/")
    assert made.exec_run(["cat", "/data/f"]).output == b"x"
    assert (work / "shared/f").read_text() == "x"
    cp.to_host(files_of(engine, made), "/data/f", "back")
    assert (work / "back").read_text() == "x"
    with pytest.raises(InvalidInput, match="read-only"):
        cp.to_container(files_of(engine, made), "f", "/frozen/")


def test_a_link_in_a_volume_leads_out_of_it(engine: Engine, image: Image, work: Path) -> None:
    (work / "shared").mkdir()
    (work / "shared/out").symlink_to("/home")
    options: dict[str, Any] = {"network_mode": "none", "volumes": [f"{work}/shared:/data"]}
    made, frozen = (
        engine.containers.create(image, ["true"], read_only=read_only, **options) for read_only in (False, True)
    )
    archive = b"".join(made.get_archive("/etc/passwd")[0])
    made.put_archive("/data/out", io.BytesIO(archive))
    assert list(members(made.get_archive("/home/passwd")[0])) == ["passwd"]
    assert list(members(made.get_archive("/data/out/passwd")[0])) == ["passwd"]
    with pytest.raises(InvalidInput, match="container rootfs is marked read-only"):
        frozen.put_archive("/data/out", io.BytesIO(archive))


# -- cp ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("/etc/passwd", "fresh", ["fresh"]),
        ("/etc/passwd", "directory", ["directory/passwd"]),
        ("/etc/passwd", "directory/", ["directory/passwd"]),
        ("/etc/passwd", "directory/fresh", ["directory/fresh"]),
        ("/etc/passwd", "file", ["file"]),
        ("/etc/passwd", ".", ["passwd"]),
        ("/home", "fresh", ["fresh", "fresh/student"]),
        ("/home", "fresh/", ["fresh", "fresh/student"]),
        ("/home/", "directory", ["directory/home", "directory/home/student"]),
        ("/home/.", "directory", ["directory/student"]),
        ("/home/.", "fresh", ["fresh", "fresh/student"]),
        ("/var/../home", "directory", ["directory/home", "directory/home/student"]),
        ("home", "directory", ["directory/home", "directory/home/student"]),
    ],
)
def test_cp_puts_things_where_docker_does(
    engine: Engine, stopped: Container, work: Path, source: str, target: str, expected: list[str]
) -> None:
    make_targets(work)
    cp.to_host(files_of(engine, stopped), source, target)
    assert sorted(listing(work) - {"file", "directory"} | ({"file"} & set(expected))) == expected
    if expected == ["file"]:
        assert (work / "file").read_text().startswith("root:")
    # And the other way round, with the host's and the container's parts changed.
    back(engine, stopped, work, source, target, expected)


def back(engine: Engine, container: Container, work: Path, source: str, target: str, expected: list[str]) -> None:
    host = work / "host"
    cp.to_host(files_of(engine, container), "/.", str(host))
    container.put_archive("/tmp", archive_of(("directory", b"", tarfile.DIRTYPE), ("file", b"old", tarfile.REGTYPE)))
    cp.to_container(files_of(engine, container), f"{host}/{source}", f"/tmp/{target}")
    found = {f"{name}".removeprefix("./") for name in members(container.get_archive("/tmp/.")[0])}
    assert set(expected) <= found
    assert found - set(expected) <= {".", "directory", "file"}


def make_targets(work: Path) -> None:
    (work / "directory").mkdir()
    (work / "file").write_text("old")


def listing(work: Path) -> set[str]:
    return {str(path.relative_to(work)) for path in work.rglob("*")}


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("/etc/passwd", "missing/", "no such directory"),
        ("/etc/passwd", "missing/x", "does not exist"),
        ("/etc", "file", "cannot copy directory"),
        ("/etc", "missing/x", "does not exist"),
        ("/etc/passwd", "file/", "not a directory"),
        ("/etc/passwd", "/dev/null", "must be a directory or a regular file"),
        ("/nowhere", "x", "Could not find the file"),
        ("/etc/passwd/", "x", "not a directory"),
        ("/etc/passwd/x", "x", "not a directory"),
    ],
)
def test_cp_refuses_what_docker_refuses(
    engine: Engine, stopped: Container, work: Path, source: str, target: str, reason: str
) -> None:
    make_targets(work)
    with pytest.raises(LabError, match=reason) as caught:
        cp.to_host(files_of(engine, stopped), source, target)
    assert caught.value.hint
    assert listing(work) == {"file", "directory"}
    assert (work / "file").read_text() == "old"


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("file", "/missing/", "no such directory"),
        ("file", "/missing/x", "Could not find the file"),
        ("directory", "/etc/passwd", "cannot copy directory"),
        ("nowhere", "/", "no such file"),
        ("file/", "/", "not a directory"),
        ("file", "/etc/passwd/x", "extraction point is not a directory"),
    ],
)
def test_cp_into_a_container_refuses_what_docker_refuses(
    engine: Engine, stopped: Container, work: Path, source: str, target: str, reason: str
) -> None:
    make_targets(work)
    with pytest.raises(LabError, match=reason):
        cp.to_container(files_of(engine, stopped), source, target)
    assert stopped.diff() == []


def test_cp_keeps_numbers_of_owners_into_a_container_and_out_only_if_asked(
    engine: Engine, stopped: Container, work: Path
) -> None:
    (work / "f").write_text("x")
    os.chown(work / "f", 1234, 4321)
    (work / "f").chmod(0o4755)
    cp.to_container(files_of(engine, stopped), "f", "/f")
    inside = members(stopped.get_archive("/f")[0])["f"]
    assert (inside.uid, inside.gid, inside.mode) == (1234, 4321, 0o4755)
    cp.to_host(files_of(engine, stopped), "/f", "plain")
    cp.to_host(files_of(engine, stopped), "/f", "kept", keep_owners=True)
    plain, kept = (work / "plain").stat(), (work / "kept").stat()
    assert (plain.st_uid, plain.st_gid, stat.S_IMODE(plain.st_mode)) == (os.getuid(), os.getgid(), 0o755)
    assert (kept.st_uid, kept.st_gid, stat.S_IMODE(kept.st_mode)) == (1234, 4321, 0o4755)


def test_a_link_is_copied_as_a_link_unless_it_is_to_be_followed(engine: Engine, stopped: Container, work: Path) -> None:
    (work / "f").write_text("x")
    (work / "link").symlink_to("f")
    cp.to_container(files_of(engine, stopped), "link", "/tmp/")
    cp.to_container(files_of(engine, stopped), "link", "/tmp/followed", follow_link=True)
    cp.to_container(files_of(engine, stopped), "f", "/tmp/")
    assert members(stopped.get_archive("/tmp/link")[0])["link"].issym()
    assert content(stopped.get_archive("/tmp/followed")[0], "followed") == b"x"
    cp.to_host(files_of(engine, stopped), "/tmp/link", "out")
    cp.to_host(files_of(engine, stopped), "/tmp/link", "out-followed", follow_link=True)
    (work / "d").mkdir()
    cp.to_host(files_of(engine, stopped), "/tmp/link", "d", follow_link=True)
    assert (work / "out").is_symlink()
    assert (work / "out-followed").read_text() == (work / "d/link").read_text() == "x"


def test_a_directory_and_a_file_never_replace_each_other(engine: Engine, stopped: Container, work: Path) -> None:
    (work / "directory/etc/passwd").mkdir(parents=True)
    (work / "directory/etc/passwd/inner").touch()
    with pytest.raises(InvalidArchive, match="cannot overwrite directory"):
        cp.to_host(files_of(engine, stopped), "/etc", "directory")
    assert (work / "directory/etc/passwd/inner").exists()


# -- hostile containers ------------------------------------------------------------------------


def plant(container: Container, *entries: tuple[str, bytes | str, bytes]) -> None:
    container.put_archive("/", archive_of(*entries))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_link_in_a_container_leads_to_no_file_of_the_host(
    engine: Engine, container: Container, work: Path, outside: Path, depth: int
) -> None:
    up = "../" * 40
    target = str(outside) if depth == 1 else up + str(outside)[1:]
    plant(container, ("out", target, tarfile.SYMTYPE), ("file", f"{target}/canary", tarfile.SYMTYPE))
    for path in ("/out/canary", "/out/", "/out/.", "/file/", f"/tmp/{up}{outside}/canary"):
        with pytest.raises(NotFound):
            cp.to_host(files_of(engine, container), path, "stolen")
    with pytest.raises(NotFound):
        cp.to_host(files_of(engine, container), "/file", "stolen", follow_link=True)
    assert not (work / "stolen").exists()


@pytest.mark.parametrize("path", ["/out", "/out/", "/out/x"])
def test_nothing_is_written_through_a_container_s_link(
    engine: Engine, container: Container, work: Path, outside: Path, path: str
) -> None:
    plant(container, ("out", str(outside), tarfile.SYMTYPE))
    (work / "canary").write_text("evil")
    with pytest.raises(LabError):
        cp.to_container(files_of(engine, container), "canary", path.replace("x", "canary/x"))
    with pytest.raises(LabError):
        container.put_archive(path, archive_of(("canary", b"evil", tarfile.REGTYPE)))


def test_a_link_to_a_host_s_directory_means_the_container_s(engine: Engine, container: Container, work: Path) -> None:
    plant(container, ("out", "/etc", tarfile.SYMTYPE))
    (work / "labctr-canary").write_text("inside")
    cp.to_container(files_of(engine, container), "labctr-canary", "/out/")
    assert content(container.get_archive("/etc/labctr-canary")[0], "labctr-canary") == b"inside"
    assert not Path("/etc/labctr-canary").exists()


HOSTILE: list[tuple[str, Callable[[Path], list[tuple[str, bytes | str, bytes]]]]] = [
    ("climbing name", lambda outside: [("../../../../x", b"evil", tarfile.REGTYPE)]),
    ("climbing link target", lambda outside: [("h", "../../x", tarfile.LNKTYPE)]),
    (
        "write through a link",
        lambda outside: [("l", str(outside), tarfile.SYMTYPE), ("l/canary", b"evil", tarfile.REGTYPE)],
    ),
    ("write over a link", lambda outside: [("l", f"{outside}/canary", tarfile.SYMTYPE), ("l", b"x", tarfile.REGTYPE)]),
    ("hard link to the host", lambda outside: [("h", f"{outside}/canary", tarfile.LNKTYPE)]),
    (
        "hard link through a link",
        lambda outside: [("l", str(outside), tarfile.SYMTYPE), ("h", "l/canary", tarfile.LNKTYPE)],
    ),
    (
        "through proc",
        lambda outside: [("l", "/proc/self/root", tarfile.SYMTYPE), (f"l{outside}/x", b"", tarfile.REGTYPE)],
    ),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_archive_stays_in_the_container(container: Container, outside: Path, number: int) -> None:
    with contextlib.suppress(InvalidArchive):
        container.put_archive("/tmp", archive_of(*HOSTILE[number][1](outside)))


def test_a_container_s_files_are_harmless_on_the_host(engine: Engine, container: Container, work: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, mode in (("evil", tarfile.DIRTYPE, 0o755), ("evil/disk", tarfile.BLKTYPE, 0o666)):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.devmajor, member.devminor = kind, mode, 8, 0
            archive.addfile(member)
        member = tarfile.TarInfo("evil/su")
        member.mode, member.size = 0o6755, 1
        archive.addfile(member, io.BytesIO(b"x"))
        member = tarfile.TarInfo("evil/passwd")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    container.put_archive("/", buffer.getvalue())
    cp.to_host(files_of(engine, container), "/evil", "got")
    assert stat.S_IMODE((work / "got/disk").lstat().st_mode) & 0o077 == 0
    assert stat.S_IMODE((work / "got/su").stat().st_mode) == 0o755
    assert os.readlink(work / "got/passwd") == "/etc/passwd"


def test_a_link_on_the_host_is_not_written_through_by_a_container_s_tree(
    engine: Engine, container: Container, work: Path, outside: Path
) -> None:
    plant(
        container,
        ("tree", b"", tarfile.DIRTYPE),
        ("tree/sub", b"", tarfile.DIRTYPE),
        ("tree/sub/canary", b"evil", tarfile.REGTYPE),
    )
    (work / "tree").mkdir()
    (work / "tree/sub").symlink_to(outside)
    with pytest.raises(InvalidArchive, match="cannot overwrite"):
        cp.to_host(files_of(engine, container), "/tree", ".")


# -- slow people ---------------------------------------------------------------------------------


def _unread(pipe: BinaryIO) -> int:
    """The number of bytes in a pipe that its reader has not taken (FIONREAD)."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def _runs(engine: Engine, container: Container) -> bool:
    state = engine.runtime.runc.state(container.id)
    return state is not None and state["status"] == "running"


@pytest.mark.parametrize("wanted", ["all", "/large"])
def test_who_takes_an_archive_slowly_holds_no_container_up(engine: Engine, image: Image, wanted: str) -> None:
    container = engine.containers.run_detached(image, ["sleep", "1000"], network_mode="none")
    (container.merged / "large").write_bytes(os.urandom(5 << 20))
    pieces = container.export() if wanted == "all" else container.get_archive(wanted)[0]
    first = next(pieces)
    eventually(lambda: _runs(engine, container))
    container.kill()
    container.start()  # a lock of the first reader's would be in the way
    whole = first + b"".join(pieces)
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        assert archive.getmember("large").size == 5 << 20
    container.remove(force=True)


def test_nothing_lies_above_the_root(stopped: Container) -> None:
    stopped.put_archive("/../tmp/..", archive_of(("top", b"x", tarfile.REGTYPE)))
    assert stopped.path_status("/top").size == 1
    stopped.remove(force=True)


def test_who_takes_only_a_part_of_an_archive_leaves_nothing(engine: Engine, stopped: Container) -> None:
    pieces = stopped.export()
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    stopped.start()
    assert list((engine.data_root / "tmp").iterdir()) == []
    stopped.remove(force=True)


def test_who_sends_an_archive_slowly_holds_no_container_up(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(image, ["sleep", "1000"], network_mode="none")
    reading, writing = os.pipe()
    with open(reading, "rb") as body, open(writing, "wb", buffering=0) as sender:
        thread = threading.Thread(target=container.put_archive, args=("/tmp", body))
        thread.start()
        archive = archive_of(("slow", b"x" * 2000, tarfile.REGTYPE))
        sender.write(archive[:1000])
        eventually(lambda: not _unread(body))
        assert _runs(engine, container)
        sender.write(archive[1000:])
        sender.close()
        thread.join(PATIENCE)
    assert (container.merged / "tmp/slow").read_bytes() == b"x" * 2000
    container.remove(force=True)
