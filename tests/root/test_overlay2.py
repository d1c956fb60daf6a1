"""The overlay2 driver: the files that it writes, and the mounts that it makes; test_drivers.py has the rest."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container.errors import InvalidInput, RuntimeFailed
from pylab_container.events import Event, OverlayMounted, OverlayUnmounted
from pylab_container.oci.ids import CacheId
from pylab_container.store.overlay2 import MOST_LAYERS, Overlay2

A, BASE, SOURCE, TARGET = (CacheId(letter * 64) for letter in "abcd")


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def driver(tmp_path: Path, events: list[Event]) -> Iterator[Overlay2]:
    driver = Overlay2(tmp_path / "overlay2", emit=events.append)
    yield driver
    for path in driver.root.glob("*/merged"):
        driver.unmount(CacheId(path.parent.name))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def mount_options(point: Path) -> str:
    """Return the options of a mount from /proc/self/mountinfo."""
    (line,) = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == str(point)]
    return line.split(" - ")[1].split()[2]


def stack(driver: Overlay2, height: int) -> list[CacheId]:
    """Layers on top of each other, each with a file of its own and one that all have."""
    names = [CacheId(f"{number:03}".ljust(64, "0")) for number in range(height)]
    for below, name in zip([None, *names], names, strict=False):
        diff = driver.create(name, below)
        (diff / name[:3]).write_text(name)
        (diff / "top").write_text(name[:3])
    return names


def test_the_lowest_layer_has_a_diff_and_a_link(driver: Overlay2) -> None:
    diff = driver.create(A, None)
    assert sorted(os.listdir(driver.root / A)) == ["diff", "link"]
    link = (driver.root / A / "link").read_text()
    assert re.fullmatch("[A-Z2-7]{26}", link)
    assert os.readlink(driver.root / "l" / link) == f"../{A}/diff"
    assert diff == driver.diff_path(A) == driver.root / A / "diff"
    assert driver.lowers(A) == []


def test_a_child_names_the_layers_below_the_nearest_first_and_commits_its_parent(driver: Overlay2) -> None:
    a, b, c = stack(driver, 3)
    links = {name: (driver.root / name / "link").read_text() for name in (a, b)}
    assert sorted(os.listdir(driver.root / c)) == ["diff", "link", "lower", "work"]
    assert (driver.root / c / "lower").read_text() == f"l/{links[b]}:l/{links[a]}"
    assert (driver.root / b / "lower").read_text() == f"l/{links[a]}"
    assert (driver.root / a / "committed").read_bytes() == b""
    assert not (driver.root / c / "committed").exists()


def test_modes_are_docker_s(driver: Overlay2) -> None:
    before = os.umask(0o077)
    try:
        a, b = stack(driver, 2)
    finally:
        os.umask(before)
    assert mode(driver.root / a) == 0o710 & ~0o077
    assert mode(driver.diff_path(b)) == 0o755, "what a container sees as / must not depend on the umask"
    assert mode(driver.root / b / "work") == 0o700
    assert mode(driver.root / "l") == 0o700


def test_a_mount_joins_the_layers_and_what_is_written_goes_to_the_uppermost(
    driver: Overlay2, events: list[Event]
) -> None:
    *_, b, c = stack(driver, 3)
    merged = driver.mount(c)
    assert sorted(os.listdir(merged)) == ["000", "001", "002", "top"]
    assert (merged / "top").read_text() == "002"
    (merged / "new").write_text("x")
    (merged / "001").unlink()
    assert (driver.diff_path(c) / "new").read_text() == "x"
    assert (driver.diff_path(c) / "001").stat().st_rdev == 0
    assert stat.S_ISCHR((driver.diff_path(c) / "001").stat().st_mode)
    assert (driver.diff_path(b) / "001").exists()
    driver.unmount(c)
    assert not (driver.root / c / "merged").exists()
    assert [type(event) for event in events] == [OverlayMounted, OverlayUnmounted]


def test_the_options_are_absolute_and_those_that_the_kernel_has(driver: Overlay2, events: list[Event]) -> None:
    a, b = stack(driver, 2)
    merged = driver.mount(b)
    link = (driver.root / a / "link").read_text()
    own = driver.root / b
    expected = f"lowerdir={driver.root}/l/{link},upperdir={own}/diff,workdir={own}/work"
    (event,) = events
    assert isinstance(event, OverlayMounted)
    assert event.options.endswith(expected)
    assert event.target == str(merged)
    assert expected in mount_options(merged)
    assert "metacopy=on" not in mount_options(merged)
    assert "redirect_dir=on" not in mount_options(merged)


def test_mounting_twice_is_one_mount_and_unmounting_twice_is_fine(driver: Overlay2, events: list[Event]) -> None:
    *_, top = stack(driver, 2)
    assert driver.mount(top) == driver.mount(top)
    assert driver.is_mounted(top)
    driver.unmount(top)
    driver.unmount(top)
    assert not driver.is_mounted(top)
    assert len(events) == 2


def test_a_busy_mount_goes_away_for_everybody_else(driver: Overlay2) -> None:
    *_, top = stack(driver, 2)
    merged = driver.mount(top)
    with open(merged / "top") as open_file:
        driver.unmount(top)
        assert open_file.read() == "001"
    assert not driver.is_mounted(top)


def test_as_many_layers_as_docker_allows_are_mounted_by_relative_paths(driver: Overlay2, events: list[Event]) -> None:
    names = stack(driver, MOST_LAYERS)
    here = os.getcwd()
    merged = driver.mount(names[-1])
    assert os.getcwd() == here
    assert len(os.listdir(merged)) == MOST_LAYERS + 1
    (event,) = events
    assert isinstance(event, OverlayMounted)
    assert "lowerdir=l/" in event.options
    assert len(event.options) < os.sysconf("SC_PAGE_SIZE")
    with pytest.raises(InvalidInput, match="128 layers"):
        driver.create(A, names[-1])
    assert not (driver.root / A).exists()


def test_a_failed_mount_leaves_the_working_directory_and_says_what_was_tried(driver: Overlay2) -> None:
    names = stack(driver, MOST_LAYERS)
    (driver.root / names[-1] / "work").rmdir()
    here = os.getcwd()
    with pytest.raises(RuntimeFailed, match="mount -t overlay -o") as caught:
        driver.mount(names[-1])
    assert caught.value.hint
    assert os.getcwd() == here
    assert not driver.is_mounted(names[-1])


def test_removing_takes_the_directory_the_short_name_and_the_mount(driver: Overlay2) -> None:
    a, b = stack(driver, 2)
    driver.mount(b)
    driver.remove(b)
    driver.remove(b)
    assert sorted(os.listdir(driver.root)) == sorted([a, "l"])
    assert os.listdir(driver.root / "l") == [(driver.root / a / "link").read_text()]


def test_half_a_layer_is_removed_too(driver: Overlay2) -> None:
    driver.create(A, None)
    (driver.root / A / "link").unlink()
    driver.remove(A)
    assert not (driver.root / A).exists()


def test_adopting_moves_the_files_without_copying_them(driver: Overlay2) -> None:
    driver.create(BASE, None)
    source = driver.create(SOURCE, BASE)
    (source / "file").write_text("x")
    os.setxattr(source, "trusted.overlay.opaque", b"y")
    inode = (source / "file").stat().st_ino
    target = driver.create(TARGET, BASE)
    driver.adopt(TARGET, SOURCE)
    assert (target / "file").stat().st_ino == inode
    assert os.listdir(source) == []
    assert driver.mount(TARGET).joinpath("file").read_text() == "x"
    assert driver.mount(SOURCE).is_dir()
