"""A full or read-only data root: what frees space works, what only reads works, the rest fails in one sentence."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.host import reserve
from pylab_container.host.files import locked, write_atomic
from tests.support import disks
from tests.support.api import serving
from tests.support.commands import run_in_process
from tests.support.disks import Disk
from tests.support.fixtures import engine_on
from tests.support.waiting import eventually

SLEEP = ("--network", "none", "busybox:1", "sleep", "1000")
DOCKERFILE = "FROM busybox:1\nRUN --network=none --mount=type=cache,target=/cache echo a > /a\n"


@pytest.fixture
def disk(tmp_path: Path, nothing_left_behind: None) -> Iterator[Disk]:
    with disks.ext4(tmp_path) as made:
        yield made


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    with disks.ext4(tmp_path, megabytes=8, inodes=64) as made:
        yield made


Run = Callable[..., str]


@pytest.fixture
def run(disk: Disk, repository: Path, busybox_tar: Path) -> Iterator[Run]:
    """Run labctr on a data root on that disk; what it prints. status: what it ends with."""
    root = disk.path / "root"

    def run(*arguments: str, status: int = 0) -> str:
        done = run_in_process(["--root", str(root), *arguments], cwd=repository)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), (arguments, done.stderr)
        return done.stderr if status else done.stdout

    with engine_on(root):
        run("import", str(busybox_tar), "busybox:1")
        yield run
        with contextlib.suppress(FileNotFoundError):
            disk.empty()


def populate(run: Run, context: Path) -> None:
    """Make some of everything that can be removed."""
    for name in ("stopped", "killed", "forced", "paused", "left"):
        run("run", "-d", "--stop-timeout", "0", "--name", name, *SLEEP)
    run("pause", "paused")
    run("run", "-d", "--restart", "always", "--name", "restarted", *SLEEP)
    run("run", "-d", "--rm", "--stop-timeout", "0", "--name", "temporary", *SLEEP)
    run("run", "--name", "changed", "-v", "/anonymous", "--network", "none", "busybox:1", "sh", "-c", "echo x > /x")
    for name in ("second:1", "third:1", "other/second:1"):
        run("commit", "changed", name)
    run("commit", "changed")
    run("tag", "busybox:1", "more:1")
    for name in ("one", "two"):
        run("volume", "create", name)
        run("network", "create", f"net-{name}")
    for _ in range(2):
        run("create", *SLEEP)
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    run("build", "-q", "-t", "built:1", str(context))


REMOVALS = """
stop stopped
kill killed
rm -f forced paused
rm stopped killed
stop temporary
rm -f restarted
rm -v changed
rmi second:1
rmi more:1
rmi -f third:1
volume rm one
network rm net-one
container prune -f
image prune -f
volume prune -f
volume prune -f --filter all=true
network prune -f
builder prune -f
rmi built:1
system prune -af --volumes
rm -f left
system prune -af --volumes
""".strip().splitlines()


@pytest.mark.parametrize("mode", disks.MODES)
def test_everything_can_be_stopped_and_removed_while_the_disk_stays_full(
    run: Run, disk: Disk, tmp_path: Path, mode: str
) -> None:
    populate(run, tmp_path / "context")
    for command in REMOVALS:
        disk.fill(mode)
        run(*command.split())
    assert run("ps", "-aq") == run("images", "-aq") == run("volume", "ls", "-q") == ""
    assert run("system", "fsck") == "nothing found\n"
    root = disk.path / "root"
    assert not [*root.glob("containers/*"), *root.glob("overlay2/*/diff"), *root.glob("image/overlay2/layerdb/*/*")]


@pytest.mark.parametrize("mode", disks.MODES)
def test_what_needs_room_fails_in_one_sentence_and_leaves_nothing(
    run: Run, disk: Disk, busybox_tar: Path, mode: str
) -> None:
    disk.fill(mode)
    for command in (("import", str(busybox_tar), "new:1"), ("create", *SLEEP), ("volume", "create", "new")):
        disk.fill(mode)
        error = run(*command, status=1)
        assert "no space left on device" in error or "what the disk has to spare" in error
        assert error.count("Error:") == 1
    disk.empty()
    assert run("system", "fsck") == "nothing found\n"
    assert run("run", "--rm", "--network", "none", "busybox:1", "echo", "fine") == "fine\n"
    assert all(slot.stat().st_size == 64 << 10 for slot in (disk.path / "root/.reserve").iterdir())


def test_containers_are_stopped_and_removed_again_and_again(run: Run, disk: Disk) -> None:
    names = [f"c{number}" for number in range(17)]  # one more than the reserve has slots
    for name in names:
        run("create", "--name", name, *SLEEP)
    for name in names:
        disk.fill("both")
        run("rm", name)


def test_a_log_that_has_no_room_is_read_from_where_it_is(run: Run, disk: Disk) -> None:
    run(
        "run",
        "-d",
        "--stop-timeout",
        "0",
        "--name",
        "web",
        "--network",
        "none",
        "busybox:1",
        "sh",
        "-c",
        "echo x; sleep 1000",
    )
    eventually(lambda: run("logs", "web"))
    disk.fill("both")
    run("stop", "web")
    assert run("logs", "web") == "x\n"
    disk.empty()
    run("start", "web")
    eventually(lambda: run("logs", "web") == "x\nx\n")
    run("stop", "web")
    assert run("logs", "web") == "x\nx\n"


def test_an_image_is_saved_and_removed_on_a_full_disk(run: Run, disk: Disk, tmp_path: Path) -> None:
    disk.fill("both")
    run("save", "-o", str(tmp_path / "image.tar"), "busybox:1")
    run("rmi", "busybox:1")
    disk.empty()
    run("load", "-i", str(tmp_path / "image.tar"))
    assert run("images", "-q")


def test_the_daemon_stops_and_removes_on_a_full_disk(run: Run, disk: Disk, repository: Path) -> None:
    for name in ("one", "two"):
        run("run", "-d", "--name", name, *SLEEP)
    disk.fill("both")
    with serving(disk.path / "root", repository) as daemon:
        assert daemon.api.post("/containers/one/stop", t=0).status == 204
        disk.fill("both")
        assert daemon.api.post("/containers/two/kill").status == 204
        for name in ("one", "two"):
            assert daemon.api.delete(f"/containers/{name}", force=1).status == 204
            disk.fill("both")
        refused = daemon.api.post("/volumes/create", {"Name": "new"})
        assert (refused.status, "no space left on device" in refused.message) == (500, True)
        assert daemon.api.delete("/images/busybox:1").status == 200
        assert daemon.complaints() == []


# -- read-only ---------------------------------------------------------------------------------

READING = """
ps -a
images
inspect changed
inspect second:1
logs changed
history second:1
diff changed
info
system df -v
volume ls
volume inspect one
network ls
network inspect net-one
top left
stats --no-stream left
events --since 1h --until 0s
system fsck
export -o OUT changed
save -o OUT second:1
cp changed:/x OUT
exec left true
wait changed
""".strip().splitlines()

WRITING = """
stop left
kill left
rm -f left
pause left
restart left
rename changed renamed
update --memory 64m changed
start changed
commit changed new:1
create busybox:1 true
run --rm busybox:1 true
rmi second:1
tag busybox:1 new:1
import TAR new:1
volume create new
volume rm one
network create new
network rm net-one
container prune -f
image prune -f
network prune -f
builder prune -f
system prune -f
cp TAR changed:/
""".strip().splitlines()


def test_a_read_only_data_root_is_read_and_refuses_the_rest_in_one_sentence(
    run: Run, disk: Disk, tmp_path: Path, busybox_tar: Path, repository: Path
) -> None:
    populate(run, tmp_path / "context")
    places = {"OUT": str(tmp_path / "out"), "TAR": str(busybox_tar)}
    with disk.read_only():
        for command in READING:
            run(*(places.get(word, word) for word in command.split()))
        for command in WRITING:
            words = [places.get(word, word) for word in command.split()]
            error = run(*words, status=125 if words[0] == "run" else 1)
            assert "read-only file system" in error, command
            assert error.count("Error:") == 1, command
        assert "left" in run("ps")
        with serving(disk.path / "root", repository) as daemon:
            assert len(daemon.api.get("/containers/json").document) == 7
            refused = daemon.api.post("/containers/left/stop")
            assert (refused.status, "read-only file system" in refused.message) == (500, True)
            assert daemon.complaints() == []
    assert run("system", "fsck") == "nothing found\n"


def test_a_container_that_ends_on_a_read_only_data_root_is_shown_as_exited(run: Run, disk: Disk) -> None:
    run("run", "-d", "--name", "web", "--network", "none", "busybox:1", "sh", "-c", "sleep 1000; exit 1")
    root = disk.path / "root"
    with disk.read_only():
        container = Engine(root).containers.get("web")
        os.kill(container.pid, 9)
        assert container.wait() == 137
        assert (container.status, container.attrs["State"]["ExitCode"]) == ("exited", 137)
        assert "Exited (137)" in run("ps", "-a")
    assert Engine(root).containers.get("web").wait() == 137


# -- the reserve -------------------------------------------------------------------------------


class Killed(BaseException):
    """The end of a process."""


def test_a_process_killed_in_the_reserve_leaves_the_old_file_or_the_new_one(
    small: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, top = small, small.path / "root"
    top.mkdir()
    reserve.fill(top)
    path, lock = top / "record", top / "lock"
    path.write_bytes(b"old")
    calls = {"os": ("fsync", "fchmod", "link", "truncate", "open"), "path": ("rename", "unlink", "chmod")}
    disk.fill("both")
    for name in [*calls["os"], *calls["path"]]:
        for number in range(3):
            lock.unlink(missing_ok=True)
            disk.empty()
            reserve.fill(top)  # what was freed after a kill, the filling of the disk may have taken
            disk.fill("both")
            with monkeypatch.context() as patch:
                owner: object = os if name in calls["os"] else Path
                patch.setattr(owner, name, _killing(getattr(owner, name), number))
                with contextlib.suppress(Killed):
                    write_atomic(path, b"new" * number)
                with contextlib.suppress(Killed), locked(lock):
                    pass
            assert path.read_bytes() in (b"old", b"new" * number)
            write_atomic(path, b"old")
            with locked(lock):
                assert lock.read_bytes() == b""
            assert all(slot.stat().st_nlink == 1 for slot in (top / ".reserve").iterdir() if slot.stat().st_size)


def _killing(function: Callable[..., object], number: int) -> Callable[..., object]:
    """function, which ends the process when it is called for the number-th time, counted from 0."""
    calls = iter(range(1000))

    def call(*arguments: object, **options: object) -> object:
        if next(calls) == number:
            raise Killed
        return function(*arguments, **options)

    return call


def test_a_file_larger_than_a_slot_takes_the_blocks_of_others(small: Disk) -> None:
    reserve.fill(small.path)
    small.fill("both")
    path = small.path / "large"
    data = os.urandom(300_000)
    write_atomic(path, data)
    assert path.read_bytes() == data
    small.fill("both")
    with pytest.raises(OSError, match="No space left"):
        write_atomic(small.path / "larger", bytes(2 << 20))
    assert not (small.path / "larger").exists()


def test_nobody_s_file_is_taken_for_a_lock_that_appeared_meanwhile(
    small: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve.fill(small.path)
    small.fill("both")
    lock = small.path / "lock"
    (small.path / "ballast" / "0").unlink()
    lock.write_bytes(b"")
    inode = lock.stat().st_ino
    assert reserve.create(lock)
    assert lock.stat().st_ino == inode


@pytest.mark.parametrize("mode", disks.MODES)
def test_a_full_disk_of_these_tests_has_no_room(small: Disk, mode: str) -> None:
    small.fill(mode)
    with pytest.raises(OSError, match="No space left"):
        (small.path / "x").write_bytes(bytes(1 << 20))
