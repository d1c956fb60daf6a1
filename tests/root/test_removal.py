"""Trees are removed below an open directory, by a name that is one entry of it."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from pylab_container.host import linux
from pylab_container.host.removal import discard_below, remove_below
from pylab_container.oci.ids import EntryName

pytestmark = pytest.mark.usefixtures("isolation")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A directory with a tree in it, and a sibling that must survive everything."""
    (tmp_path / "top/tree/sub").mkdir(parents=True)
    (tmp_path / "top/tree/sub/file").write_text("x")
    (tmp_path / "sibling").mkdir()
    (tmp_path / "sibling/precious").write_text("x")
    return tmp_path / "top"


def test_an_entry_goes_with_all_that_is_in_it(top: Path) -> None:
    remove_below(top, EntryName("tree"))
    assert os.listdir(top) == []
    with pytest.raises(FileNotFoundError):
        remove_below(top, EntryName("tree"))
    discard_below(top, EntryName("tree"))


@pytest.mark.parametrize("name", ["", ".", "..", "../sibling", "tree/..", "tree/../..", "/", "tree/sub", "a\0b"])
def test_no_name_reaches_the_directory_itself_or_what_is_outside(top: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a file"):
        remove_below(top, name)  # type: ignore[arg-type]
    assert (top / "tree/sub/file").exists()
    assert (top.parent / "sibling/precious").exists()


def test_a_link_is_removed_and_not_followed(top: Path) -> None:
    (top / "link").symlink_to(top.parent / "sibling")
    (top / "tree/link").symlink_to(top.parent / "sibling")
    remove_below(top, EntryName("link"))
    remove_below(top, EntryName("tree"))
    assert os.listdir(top) == []
    assert (top.parent / "sibling/precious").exists()


def test_a_file_in_the_directory_s_place_is_removed(top: Path) -> None:
    (top / "file").write_text("x")
    remove_below(top, EntryName("file"))
    assert os.listdir(top) == ["tree"]


@pytest.mark.parametrize(("place", "number"), [("tree", errno.EXDEV), ("tree/sub", errno.EBUSY)])
def test_nothing_is_deleted_through_a_mount(top: Path, place: str, number: int) -> None:
    linux.mount(str(top.parent / "sibling"), str(top / place), "", linux.MS_BIND)
    try:
        with pytest.raises(OSError, match=rf"\[Errno {number}\]"):
            remove_below(top, EntryName("tree"))
        assert (top.parent / "sibling/precious").exists()
    finally:
        linux.umount(str(top / place), linux.MNT_DETACH)
    assert (top.parent / "sibling/precious").exists()


def test_a_tree_of_any_depth_goes_with_few_open_files(top: Path) -> None:
    descriptor = os.open(top / "tree", os.O_RDONLY)
    for _ in range(1500):  # more than Python's stack, and than open files
        os.mkdir("x", dir_fd=descriptor)
        below = os.open("x", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 60, limits[1]))
    try:
        remove_below(top, EntryName("tree"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert os.listdir(top) == []


def test_a_directory_that_is_filled_while_it_is_removed_goes(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy into a container holds directories open, and continues while the container is removed."""
    real = os.rmdir
    filled: list[str] = []

    def rmdir(path: str, *, dir_fd: int | None = None) -> None:
        if len(filled) < 5:
            filled.append(path)
            os.mkdir(f"{path}/late", dir_fd=dir_fd)
        real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", rmdir)
    remove_below(top, EntryName("tree"))
    assert len(filled) == 5
    assert os.listdir(top) == []
