"""The known ways out of a container, each tried: what happens on the host is nothing."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.engine.container import Container
from pylab_container.errors import InvalidInput, LabError
from pylab_container.host import programs
from pylab_container.images.image import Image
from tests.support.waiting import eventually

pytestmark = pytest.mark.shared_engine

SWAP = "while true; do mv d dir; mv link d; mv d link; mv dir d; done"
"""Moves a directory d away and a link into its place, and back, for ever."""


@pytest.fixture
def rounds(*, stress: bool) -> int:
    """The number of repetitions of a race with the start of a container."""
    return 30 if stress else 3


@pytest.fixture
def copies(*, stress: bool) -> int:
    """The number of repetitions of a race with the copy of files."""
    return 200 if stress else 8


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host that no container may change or read."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "canary").write_text("alive")
    yield path
    assert [each.name for each in path.iterdir()] == ["canary"]
    assert (path / "canary").read_text() == "alive"


Hostile = Callable[..., Image]


@pytest.fixture
def hostile(engine: Engine, image: Image, busybox_tar: Path) -> Hostile:
    """Makes an image whose links lead where their maker wants: hostile({"data": "/etc"})."""

    def make(links: dict[str, str] | None = None, files: dict[str, bytes] | None = None, kind: bytes = b"") -> Image:
        entries = {name: _entry(name, tarfile.SYMTYPE, link=target) for name, target in (links or {}).items()}
        entries |= {name: _entry(name, kind or tarfile.REGTYPE, data) for name, data in (files or {}).items()}
        buffer = io.BytesIO()
        with tarfile.open(busybox_tar) as source, tarfile.open(fileobj=buffer, mode="w") as archive:
            for member in source:
                if not any(member.name == name or member.name.startswith(f"{name}/") for name in entries):
                    archive.addfile(member, source.extractfile(member) if member.isreg() else None)
            for name, entry in entries.items():
                archive.addfile(entry, io.BytesIO((files or {}).get(name, b"")))
        buffer.seek(0)
        return engine.images.import_(buffer, "hostile:1")

    return make


def _entry(name: str, kind: bytes, data: bytes = b"", link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname = kind, len(data), link
    entry.devmajor, entry.devminor = 1, 5  # /dev/zero
    return entry


def run(engine: Engine, image: Image, script: str, **options: Any) -> str:
    done = engine.containers.run(image, ["sh", "-c", script], remove=True, network_mode="none", **options)
    return bytes(done).decode()


def up(engine: Engine, image: Image, script: str, **options: Any) -> Container:
    made = engine.containers.run_detached(image, ["sh", "-c", script], network_mode="none", **options)
    assert isinstance(made, Container)
    return made


def swaps(directory: Path) -> bool:
    """Whether the loop SWAP runs there: the directory is away for half of the time."""
    return (directory / "dir").exists()


# -- mounts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("climb", ["{outside}", "/../../../../../..{outside}", "../../../../../../..{outside}"])
def test_a_mount_on_a_link_that_leaves_the_root_stays_inside(
    engine: Engine, hostile: Hostile, outside: Path, tmp_path: Path, climb: str
) -> None:
    image = hostile({"data": climb.format(outside=outside)})
    (tmp_path / "source").mkdir()
    (tmp_path / "source/mark").write_text("mark")
    seen = run(
        engine,
        image,
        "cat /data/mark /data/sub/mark",
        volumes=[f"{tmp_path}/source:/data", f"{tmp_path}/source:/data/sub"],
    )
    assert seen == "markmark"
    (tmp_path / "source/sub").rmdir()


def test_a_volume_below_a_link_that_leaves_the_root_takes_no_file_of_the_host(
    engine: Engine, hostile: Hostile, outside: Path
) -> None:
    image = hostile({"data": str(outside)})
    assert run(engine, image, "ls -A /data/", volumes=["new:/data"]) == ""
    assert list((engine.data_root / "volumes/new/_data").iterdir()) == []


def test_a_link_swapped_while_mounting_leads_nowhere(
    engine: Engine, image: Image, outside: Path, tmp_path: Path, rounds: int
) -> None:
    """CVE-2021-30465: one container swaps a link in a volume where another is having something mounted."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/mark").write_text("mark")
    script = f"cd /v; ln -s /../../../../../..{outside} link; mkdir dir; mv dir d; {SWAP}"
    attacker = up(engine, image, script, volumes=["shared:/v"])
    eventually(lambda: swaps(engine.data_root / "volumes/shared/_data"))
    for _ in range(rounds):
        with contextlib.suppress(LabError):
            seen = run(engine, image, "ls /; cat /*/canary", volumes=["shared:/v", f"{tmp_path}/source:/v/d"])
            assert "alive" not in seen
        assert not os.path.ismount(outside)
    attacker.remove(force=True)


def test_the_first_filling_of_a_volume_follows_no_link_that_a_container_plants_concurrently(
    engine: Engine, hostile: Hostile, outside: Path, rounds: int
) -> None:
    names = [f"d{number}" for number in range(20)]
    image = hostile(files={f"data/{name}/canary": b"dead" for name in names} | {"data/d0/evil": b"dead"})
    volume = engine.data_root / "volumes/shared/_data"
    attacker = up(
        engine,
        image,
        f"while true; do for d in {' '.join(names)}; do ln -s {outside} /v/$d; rm -rf /v/$d; done; done 2> /dev/null",
        volumes=["shared:/v"],
    )
    eventually(lambda: list(volume.iterdir()))
    for _ in range(rounds):
        with contextlib.suppress(LabError):
            run(engine, image, "true", volumes=["shared:/data"])
    attacker.remove(force=True)
    assert volume.is_dir()


@pytest.mark.parametrize(
    "text", ["..:/x", ".:/x", "../../x:/x", "a/../../b:/x", "v:../x", "v:/", "v:/..", "v:/a/../..", "/tmp:/x/../.."]
)
def test_a_volume_names_nothing_outside(engine: Engine, image: Image, text: str) -> None:
    with pytest.raises(InvalidInput):
        engine.containers.create(image, "true", volumes=[text])
    assert engine.containers.list(all=True) == []


def test_a_path_with_dots_in_a_container_ends_inside(engine: Engine, image: Image, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/mark").write_text("mark")
    assert run(engine, image, "cat /deep/mark", volumes=[f"{tmp_path}/source:/x/../../../deep"]) == "mark"


def test_the_whole_host_and_the_data_root_may_be_shown_and_are_let_go_again(engine: Engine, image: Image) -> None:
    """Docker allows it: a user who may start containers has root's rights. No mount may remain, no data may be lost."""
    seen = run(engine, image, "ls /host; ls /data", volumes=["/:/host:ro", f"{engine.data_root}:/data"])
    assert {"proc", "etc", "overlay2", "containers"} <= set(seen.split())
    assert engine.data_root.is_dir()
    assert engine.images.get("busybox:1").id == image.id


# -- files of the engine in the image's place --------------------------------------------------


@pytest.mark.parametrize(
    "links",
    [
        {"etc/hosts": "{outside}/canary", "etc/resolv.conf": "{outside}/canary", "etc/hostname": "{outside}/canary"},
        {"etc/hosts": "/../../../../../../../..{outside}/canary", ".dockerenv": "{outside}/canary"},
        {"etc/mtab": "{outside}/canary", "dev/console": "{outside}/canary", "dev/pts": "{outside}"},
        {"sys": "{outside}", "proc": "{outside}", "dev": "{outside}", "etc": "{outside}"},
    ],
)
def test_links_where_the_engine_puts_its_own_files_are_not_followed(
    engine: Engine, hostile: Hostile, outside: Path, links: dict[str, str]
) -> None:
    image = hostile({name: target.format(outside=outside) for name, target in links.items()})
    with contextlib.suppress(LabError):
        seen = run(engine, image, "cat /etc/hosts /etc/resolv.conf /etc/hostname; echo dead >> /etc/hosts")
        assert "alive" not in seen


def test_users_are_looked_up_in_the_container_s_own_file(engine: Engine, hostile: Hostile) -> None:
    image = hostile({"etc/passwd": "/etc/shadow", "etc/group": "/../../../etc/group"})
    assert run(engine, image, "id -u") == "0\n"
    with pytest.raises(InvalidInput):
        run(engine, image, "true", user="daemon")


@pytest.mark.parametrize(
    "kind",
    [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE],
    ids=["fifo", "zero", "disk", "directory"],
)
def test_a_user_file_that_is_no_file_is_refused_and_never_opened(engine: Engine, hostile: Hostile, kind: bytes) -> None:
    image = hostile(files={"etc/passwd": b"", "etc/group": b""}, kind=kind)
    for user in ("", "root", "7:8"):
        with pytest.raises(InvalidInput):
            run(engine, image, "true", user=user)
    container = up(engine, hostile(), "rm /etc/passwd; mkfifo /etc/passwd; sleep 1000")
    eventually(container.merged.joinpath("etc/passwd").is_fifo)
    with pytest.raises(InvalidInput):
        container.exec_run("true")


def test_a_huge_user_file_is_read_in_part(engine: Engine, hostile: Hostile) -> None:
    image = hostile(files={"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n" + (b"#" * 1023 + b"\n") * (32 << 10)})
    assert run(engine, image, "id -u", user="root") == "0\n"


@pytest.mark.parametrize("user", ["../../etc", "root\nx", "0:0:0", "-1", "99999999999", "$(id)", "root:../x"])
def test_a_hostile_user_is_refused(engine: Engine, image: Image, user: str) -> None:
    container = up(engine, image, "sleep 1000")
    with pytest.raises(LabError):
        container.exec_run("id", user=user)
    with pytest.raises(LabError):
        run(engine, image, "id", user=user)


# -- descriptors and working directories -------------------------------------------------------


@pytest.mark.parametrize("terminal", [False, True])
def test_a_container_s_process_has_three_descriptors_and_no_more(engine: Engine, image: Image, terminal: bool) -> None:  # noqa: FBT001
    script = "for fd in 0 1 2 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$fd > /dev/null && echo $fd; done; true"
    directory = os.open("/", os.O_RDONLY)  # as a careless host program leaves one, inheritable
    os.set_inheritable(directory, True)  # noqa: FBT003
    try:
        container = up(engine, image, f"exec > /first; {script}; touch /told; sleep 1000", tty=terminal)
        eventually((container.upper / "told").exists)
        second = container.exec_run(["sh", "-c", script]).output
        first = container.exec_run(["cat", "/first"]).output
    finally:
        os.close(directory)
    assert set(first.split()) | set(second.split()) <= {b"0", b"1", b"2"}


@pytest.mark.parametrize("way", ["/proc/self/fd/{fd}", "/proc/1/fd/{fd}/./", "/proc/thread-self/fd/{fd}", "/link{fd}"])
def test_a_working_directory_that_names_a_descriptor_is_none(
    engine: Engine, hostile: Hostile, outside: Path, way: str
) -> None:
    """CVE-2024-21626: the runtime still holds descriptors of the host when it changes to the working directory."""
    image = hostile({f"link{fd}": f"/proc/self/fd/{fd}/" for fd in range(3, 12)})
    container = up(engine, image, "sleep 1000")
    for fd in range(3, 12):
        place = way.format(fd=fd)
        with contextlib.suppress(LabError):
            seen = run(
                engine, image, "cat ./../../../../../..{outside}/canary; ls -a ../../../../..; true", working_dir=place
            )
            assert "vmlinuz" not in seen
            raise AssertionError(f"{place} was taken for a working directory")
        with contextlib.suppress(LabError):
            assert container.exec_run(["pwd"], workdir=place).exit_code != 0


def test_a_working_directory_that_goes_up_from_a_descriptor_is_taken_by_its_words(engine: Engine, image: Image) -> None:
    container = up(engine, image, "sleep 1000", working_dir="/proc/1/fd/7/../../..")
    assert container.exec_run(["pwd"]).output == b"/proc\n"
    with contextlib.suppress(LabError):
        assert container.exec_run(["pwd"], workdir="/proc/1/fd/7/../../..").exit_code != 0


def test_a_container_can_not_replace_the_runtime(engine: Engine, hostile: Hostile) -> None:
    """CVE-2019-5736: a program that is /proc/self/exe is the runtime itself, opened to be written."""
    runtime = Path(programs.find("runc"))
    before = (runtime.stat().st_size, runtime.stat().st_mtime_ns)
    image = hostile({"bin/evil": "/proc/self/exe"})
    with contextlib.suppress(LabError):
        run(engine, image, "true", entrypoint=["/bin/evil"])
    container = up(
        engine, image, "while true; do for p in /proc/[0-9]*; do echo x 2> /dev/null > $p/exe; done; done 2> /dev/null"
    )
    for _ in range(5):
        with contextlib.suppress(LabError):
            container.exec_run("/bin/evil")
    assert (runtime.stat().st_size, runtime.stat().st_mtime_ns) == before


# -- files in and out --------------------------------------------------------------------------


def test_what_a_container_swaps_in_a_shared_volume_is_never_a_file_of_the_host(
    engine: Engine, image: Image, outside: Path, copies: int
) -> None:
    """cp reads and writes one container's volume while another one swaps a directory in it for a link."""
    script = f"cd /v; ln -s {outside} link; mkdir d; echo own > d/canary; {SWAP}"
    attacker = up(engine, image, script, volumes=["shared:/v"])
    victim = up(engine, image, "sleep 1000", volumes=["shared:/v"])
    eventually(lambda: swaps(engine.data_root / "volumes/shared/_data"))
    for _ in range(copies):
        with contextlib.suppress(LabError):
            pieces, _ = victim.get_archive("/v")
            assert b"alive" not in b"".join(pieces)
        with contextlib.suppress(LabError):
            victim.put_archive("/v", _archive({"d/canary": b"dead", "d/new": b"dead"}))
    attacker.remove(force=True)


def test_what_a_container_swaps_in_its_root_is_never_a_file_of_the_host(
    engine: Engine, image: Image, outside: Path, rounds: int
) -> None:
    script = f"mkdir /v; cd /v; ln -s {outside} link; mkdir d; echo own > d/canary; {SWAP}"
    attacker = up(engine, image, script)
    eventually(lambda: swaps(attacker.upper / "v"))
    for _ in range(rounds):
        with contextlib.suppress(LabError):
            assert b"alive" not in b"".join(attacker.get_archive("/v/")[0])
            attacker.put_archive("/v/d", _archive({"new": b"dead"}))
        with contextlib.suppress(LabError):
            copied = attacker.commit("swapped", pause=False)
            assert "alive" not in run(engine, copied, "cat /v/*/canary /v/canary 2> /dev/null; true")
    attacker.remove(force=True)


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
