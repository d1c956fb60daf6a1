"""Files of a container: every path and link is resolved inside its root."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pylab_container.errors import InvalidInput
from pylab_container.host.inside import make_directories, read_text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_bytes(b"root:x:0:0::/root:/bin/sh\n\xff\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/passwd").write_text("secret")
    return root


def test_a_text_is_read_and_a_missing_file_is_empty(root: Path) -> None:
    assert read_text(root, "etc/passwd") == "root:x:0:0::/root:/bin/sh\n\ufffd\n"
    assert read_text(root, "etc/passwd", errors="surrogateescape").endswith("\udcff\n")
    assert read_text(root, "etc/group") == ""
    assert read_text(root, "none/group") == ""


@pytest.mark.parametrize("target", ["/", "../../..", "{outside}"])
def test_a_link_does_not_lead_out_of_the_root(root: Path, target: str) -> None:
    (root / "etc/passwd").unlink()
    (root / "etc").rmdir()
    (root / "etc").symlink_to(target.format(outside=root.parent / "outside"))
    (root / "passwd").write_text("own")
    assert read_text(root, "etc/passwd") in ("own", "")
    make_directories(root, "/etc/new")
    assert sorted(os.listdir(root.parent)) == ["outside", "root"]
    assert os.listdir(root.parent / "outside") == ["passwd"]


def test_another_kind_of_file_is_an_error_and_does_not_block(root: Path) -> None:
    os.mkfifo(root / "etc/group")
    for path in ("etc/group", "etc"):
        with pytest.raises(InvalidInput, match=f"^/{path} in the container is not a file"):
            read_text(root, path)


@pytest.mark.parametrize("path", ["/srv/www/a", "srv//www/./a/", "/srv/x/../www/a"])
def test_directories_are_created_with_their_parents(root: Path, path: str) -> None:
    before = os.umask(0o077)
    try:
        make_directories(root, path)
        make_directories(root, path)
    finally:
        os.umask(before)
    for made in ("srv", "srv/www", "srv/www/a"):
        assert stat.S_IMODE((root / made).stat().st_mode) == 0o755
    assert os.listdir(root / "srv") == ["www"]


def test_a_new_directory_belongs_to_root_whatever_its_parent(root: Path) -> None:
    os.chown(root / "etc", 5, 6)
    (root / "etc").chmod(0o2755)
    make_directories(root, "/etc/new")
    status = (root / "etc/new").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 0, 0o755)


@pytest.mark.parametrize(("target", "made"), [("/srv/real", "srv/real"), ("real/deep", "real/deep"), ("../x", "x")])
def test_a_link_to_a_missing_directory_creates_that(root: Path, target: str, made: str) -> None:
    (root / "link").symlink_to(target)
    make_directories(root, "/link/a")
    assert (root / made / "a").is_dir()
    assert (root / "link").is_symlink()


def test_a_file_in_the_way_and_a_loop_are_errors(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    for path in ("/etc/passwd", "/etc/passwd/a"):
        with pytest.raises(NotADirectoryError):
            make_directories(root, path)
    with pytest.raises(OSError, match="Too many levels"):
        make_directories(root, "/loop/a")
