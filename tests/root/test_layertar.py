"""Layers as tars and as directories: real archives, whiteouts both ways, byte-exact rebuilding, hostile archives."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from isal import igzip

from pylab_container.errors import CorruptStore, InvalidArchive
from pylab_container.host import programs
from pylab_container.oci import tar
from pylab_container.store import layer_content, layertar, tarsplit
from pylab_container.store.layer_store import Layer, LayerStore
from pylab_container.store.overlay2 import Overlay2
from pylab_container.store.treetar import TreeReader

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service=ep


class Store:
    """A layer store in a scratch directory, beside files that no operation may change."""

    def __init__(self, scratch: Path) -> None:
        self.data_root = scratch / "root"
        self.layers = LayerStore(
            self.data_root / "layerdb", self.data_root / "locks", Overlay2(self.data_root / "overlay2")
        )
        self.outside = scratch / "outside"
        self.outside.mkdir()
        (self.outside / "canary").write_text("alive")
        (self.outside / "directory").mkdir()
        (self.outside / "directory/inner").write_text("alive")

    def register(self, archive: bytes, parent: str = "") -> Layer:
        return layer_content.register(self.layers, layertar.TarReader(io.BytesIO(archive)), parent)

    def diff(self, layer: Layer) -> Path:
        return self.layers.driver.diff_path(layer.cache_id)

    def extract(self, archive: bytes) -> Path:
        return self.diff(self.register(archive))

    def rebuilt(self, layer: Layer) -> bytes:
        return b"".join(layer_content.tar_stream(self.layers, layer.chain_id))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def snapshot(directory: Path, *, times: int = 1) -> dict[bytes, tuple[Any, ...]]:
    """Everything about every file of a tree; times are cut to multiples of `times` nanoseconds, 0 leaves them out."""
    found = {}
    top = os.fsencode(directory)
    for parent, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            content: bytes | None = None
            if stat.S_ISREG(status.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            links = status.st_nlink if stat.S_ISREG(status.st_mode) else 0
            time = status.st_mtime_ns // times if times else 0
            owner = (status.st_uid, status.st_gid)
            found[os.path.relpath(path, top)] = (status.st_mode, owner, status.st_rdev, links, time, content, xattrs)
    return found


def archive_of(*members: tuple[tarfile.TarInfo, bytes], dialect: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=dialect) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def file(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(content), 1_700_000_000
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


def directory(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return file(name, type=tarfile.DIRTYPE, mode=0o755)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return file(name, type=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return file(name, type=tarfile.LNKTYPE, linkname=target)


# -- real archives -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything that a file system can hold and ustar can say."""
    top = tmp_path_factory.mktemp("tree")
    (top / "etc").mkdir(mode=0o755)
    (top / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (top / "etc/empty").touch()
    (top / "etc/big").write_bytes(os.urandom(3_000_001))
    (top / "tmp").mkdir()
    (top / "tmp").chmod(0o1777)
    (top / "set-uid").write_text("x")
    os.chown(top / "set-uid", 1000, 1001)
    (top / "set-uid").chmod(0o6755)
    (top / "unreadable").write_text("x")
    (top / "unreadable").chmod(0)
    os.link(top / "etc/hosts", top / "hard")
    (top / "soft").symlink_to("etc/hosts")
    (top / "dangling").symlink_to("/no/such/file")
    os.lchown(top / "dangling", 5, 6)
    os.mkfifo(top / "pipe", 0o640)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "sda", stat.S_IFBLK | 0o660, os.makedev(8, 17))
    (top / "line\nend").write_text("x")
    (top / os.fsdecode(b"caf\xe9")).write_text("x")
    (top / "-dash and space ").write_text("x")
    (top / ("d" * 60) / ("e" * 60)).mkdir(parents=True)
    (top / ("d" * 60) / ("e" * 60) / "file").write_text("below a long path")
    return top


@pytest.fixture(scope="module")
def rich_tree(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """And what only GNU and pax archives can say."""
    top = tmp_path_factory.mktemp("rich")
    programs.run(["cp", "-a", f"{tree}/.", str(top)])
    (top / ("n" * 255)).write_text("the longest name")
    (top / "long link").symlink_to("t" * 1000)
    (top / "/".join(["deep"] * 40)).mkdir(parents=True)
    (top / "/".join(["deep"] * 40) / "file").write_text("x")
    os.chown(top / "hard", 3_000_000, 4_000_000)
    os.utime(top / "set-uid", ns=(0, 1_700_000_000_123_456_789))
    os.utime(top / "etc", ns=(0, 1_600_000_000_987_654_321))
    os.utime(top / "etc/empty", ns=(0, -86_400_000_000_000))
    return top


@pytest.fixture(scope="module")
def pax_tree(rich_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """And what only pax archives can say."""
    top = tmp_path_factory.mktemp("pax")
    programs.run(["cp", "-a", f"{rich_tree}/.", str(top)])
    os.setxattr(top / "etc/hosts", "user.note", b"binary \xff\0\n")
    os.setxattr(top / "etc", "user.directory", b"yes")
    os.setxattr(top / "set-uid", "security.capability", CAPABILITY)
    return top


def gnu_tar(top: Path, *options: str) -> bytes:
    archive = top.with_name(top.name + ".tar")
    programs.run(["tar", "--numeric-owner", *options, "-C", str(top), "-cf", str(archive), "."])
    data = archive.read_bytes()
    archive.unlink()
    return data


def python_tar(top: Path, dialect: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=dialect) as archive:
        archive.add(top, ".")
    return buffer.getvalue()


def pax_with_xattrs(top: Path) -> bytes:
    return gnu_tar(top, "--format=posix", "--xattrs", "--xattrs-include=*")


SECOND = 10**9
ARCHIVES: list[tuple[str, Callable[[Path], bytes], str, int]] = [
    ("gnu tar ustar", lambda top: gnu_tar(top, "--format=ustar"), "tree", SECOND),
    ("gnu tar v7 of few", lambda top: gnu_tar(top / "etc", "--format=v7"), "tree", SECOND),
    ("gnu tar gnu", lambda top: gnu_tar(top, "--format=gnu"), "rich_tree", SECOND),
    ("gnu tar oldgnu", lambda top: gnu_tar(top, "--format=oldgnu"), "rich_tree", SECOND),
    ("gnu tar posix", lambda top: gnu_tar(top, "--format=posix"), "rich_tree", 1),
    ("gnu tar posix xattrs", pax_with_xattrs, "pax_tree", 1),
    ("tarfile ustar", lambda top: python_tar(top, tarfile.USTAR_FORMAT), "tree", SECOND),
    ("tarfile gnu", lambda top: python_tar(top, tarfile.GNU_FORMAT), "rich_tree", SECOND),
    ("tarfile pax", lambda top: python_tar(top, tarfile.PAX_FORMAT), "rich_tree", SECOND),
]


@pytest.mark.parametrize(("make", "source", "times"), [row[1:] for row in ARCHIVES], ids=[row[0] for row in ARCHIVES])
def test_a_real_archive_is_extracted_with_everything_and_rebuilt_byte_for_byte(
    store: Store, request: pytest.FixtureRequest, make: Callable[[Path], bytes], source: str, times: int
) -> None:
    top: Path = request.getfixturevalue(source)
    archive = make(top)
    layer = store.register(archive)
    assert layer.diff_id == "sha256:" + hashlib.sha256(archive).hexdigest()
    extracted = snapshot(store.diff(layer), times=times)
    if b"hosts" in extracted:  # the archive of few
        assert set(extracted) == {b"hosts", b"empty", b"big"}
    else:
        assert extracted == snapshot(top, times=times)
    assert hashlib.sha256(store.rebuilt(layer)).hexdigest() == layer.diff_id[7:]


SPARSE = (
    ["--format=gnu"],
    ["--format=oldgnu"],
    ["--format=posix", "--sparse-version=0.0"],
    ["--format=posix", "--sparse-version=0.1"],
    ["--format=posix", "--sparse-version=1.0"],
)


@pytest.mark.parametrize("options", SPARSE, ids=["gnu", "oldgnu", "0.0", "0.1", "1.0"])
def test_a_sparse_file_keeps_its_holes_and_is_rebuilt_byte_for_byte(
    store: Store, tmp_path: Path, options: list[str]
) -> None:
    top = tmp_path / "sparse"
    top.mkdir()
    with open(top / "pieces", "wb") as sparse_file:
        for number in range(60):
            sparse_file.seek(number * 200_000)
            sparse_file.write(bytes([number + 1]) * 5000)
        sparse_file.truncate(50_000_000)
    with open(top / "hole", "wb") as hole:
        hole.truncate(10_000_000)
    (top / "plain").write_text("after")
    archive = gnu_tar(top, "--sparse", *options)
    layer = store.register(archive)
    for name in ("pieces", "hole", "plain"):
        assert (store.diff(layer) / name).read_bytes() == (top / name).read_bytes()
    assert (store.diff(layer) / "pieces").stat().st_blocks * 512 < 1_000_000
    assert (store.diff(layer) / "hole").stat().st_blocks == 0
    assert sorted(os.listdir(store.diff(layer))) == ["hole", "pieces", "plain"]
    assert store.rebuilt(layer) == archive
    assert layer.size == 60_000_005


@pytest.mark.parametrize(
    ("records", "content"),
    [
        ({"major": "1", "minor": "0", "name": "x", "realsize": "9"}, b"no map"),
        ({"major": "1", "minor": "0", "name": "x", "realsize": "9"}, b"2\n0\n5\n".ljust(512, b"\0")),
        ({"major": "1", "minor": "0", "name": "x", "realsize": "9"}, b"1\n0\n50\n".ljust(562, b"\0")),
        ({"major": "1", "minor": "0", "name": "../x", "realsize": "9"}, b"0\n".ljust(512, b"\0")),
        ({"major": "9", "minor": "0", "name": "x", "realsize": "9"}, b""),
        ({"major": "0", "minor": "1", "map": "0,5,3,5", "size": "99"}, b"0123456789"),
        ({"major": "0", "minor": "1", "map": "0,5", "size": "99"}, b"0123456789"),
        ({"major": "0", "minor": "1", "map": "0,0", "size": "9" * 18}, b""),
        ({"major": "0", "minor": "1", "map": "0,0", "size": "9" * 19}, b""),
    ],
)
def test_a_sparse_file_that_cannot_be_is_refused(store: Store, records: dict[str, str], content: bytes) -> None:
    pax = {f"GNU.sparse.{name}": value for name, value in records.items()}
    refused(store, archive_of(file("a", content, pax_headers=pax)))


def test_the_size_of_a_layer_counts_contents_and_link_targets_once(store: Store, tree: Path) -> None:
    layer = store.register(gnu_tar(tree, "--format=ustar"))
    files = {
        (status.st_ino): status.st_size for path in tree.rglob("*") if stat.S_ISREG((status := path.lstat()).st_mode)
    }
    links = sum(len(os.readlink(path)) for path in tree.rglob("*") if path.is_symlink())
    assert layer.size == sum(files.values()) + links


def test_an_archive_without_its_end_blocks_or_with_bytes_after_them_is_rebuilt(store: Store) -> None:
    whole = archive_of(file("a", b"x" * 700), file("b", b"y"))
    for archive in (whole[:2560], whole + b"trailing bytes", whole[:3072]):
        assert store.rebuilt(store.register(archive)) == archive


def test_an_archive_that_comes_in_single_bytes_is_read(store: Store) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(1)

    archive = archive_of(file("a", b"content"), file("n" * 200, b"more"))
    layer = layer_content.register(store.layers, layertar.TarReader(Slow(archive)), "")
    assert layer.diff_id == store.register(archive).diff_id


def test_missing_parents_are_made(store: Store) -> None:
    diff = store.extract(archive_of(file("a/b/c/d", b"x")))
    assert (diff / "a/b/c/d").read_bytes() == b"x"
    assert stat.S_IMODE((diff / "a/b").stat().st_mode) == 0o755


def test_a_later_directory_entry_keeps_the_files_and_sets_the_mode(store: Store) -> None:
    diff = store.extract(archive_of(file("a/b", b"x"), file("a", type=tarfile.DIRTYPE, mode=0o700)))
    assert (diff / "a/b").read_bytes() == b"x"
    assert stat.S_IMODE((diff / "a").stat().st_mode) == 0o700


def test_hard_links_are_made_however_many_directories_lie_between(store: Store) -> None:
    many = [file(f"{number}/f", b"x") for number in range(450)]
    links = [hardlink(f"{number}/link", f"{(number * 7 + 201) % 450}/f") for number in range(450)]
    diff = store.extract(archive_of(*many, *links))
    assert (diff / "0/link").samefile(diff / "201/f")


def test_a_link_in_the_path_leads_inside_the_layer_and_the_archive_is_rebuilt_through_it(store: Store) -> None:
    archive = archive_of(
        symlink("var", str(store.outside)), file(f"{store.outside}/x"[1:], b"1"), file("var/canary", b"fake")
    )
    layer = store.register(archive)
    assert (store.diff(layer) / str(store.outside)[1:] / "canary").read_bytes() == b"fake"
    assert (store.outside / "canary").read_text() == "alive"
    assert store.rebuilt(layer) == archive


def test_a_deep_tree_is_kept_read_and_removed(store: Store) -> None:
    archive = archive_of(file("d/" * 1500 + "file", b"x"))
    layer = store.register(archive)
    assert store.rebuilt(layer) == archive
    again = layer_content.register(store.layers, TreeReader(store.diff(layer)), "")
    assert again.diff_id != layer.diff_id
    store.layers.release([layer.chain_id], ())
    store.layers.release([again.chain_id], ())
    assert list((store.data_root / "overlay2").iterdir()) == [store.data_root / "overlay2/l"]


def extension(kind: str, content: bytes) -> bytes:
    """A member that says something of the next one."""
    header = tar.build_header(tar.Header("extension", kind=kind, size=len(content)))
    return header + content + bytes(tar.padding(len(content)))


def record(keyword: str, value: str) -> bytes:
    return tar._pax_record(keyword, value.encode())


FIRST = extension("x", record("path", "first") + record("uid", "11"))
SECOND_PAX = extension("x", record("path", "second") + record("gid", "22"))
LONG_NAME = extension("L", b"long\0")
COMMENT = extension("g", record("comment", "x") + record("path", "global"))


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([FIRST, SECOND_PAX], ("second", 0, 22)),
        ([SECOND_PAX, FIRST], ("first", 11, 0)),
        ([LONG_NAME, FIRST], ("long", 11, 0)),
        ([FIRST, LONG_NAME], ("long", 11, 0)),
        ([FIRST, COMMENT], ("plain", 0, 0)),
        ([LONG_NAME, COMMENT], ("plain", 0, 0)),
        ([COMMENT, FIRST], ("first", 11, 0)),
    ],
)
def test_of_several_extensions_in_a_row_those_count_that_count_for_go(
    store: Store, before: list[bytes], expected: tuple[str, int, int]
) -> None:
    member = tar.build_header(tar.Header("plain", size=1)) + b"x" + bytes(511)
    archive = b"".join(before) + member + tar.END
    layer = store.register(archive)
    (path,) = store.diff(layer).iterdir()
    status = path.stat()
    assert (path.name, status.st_uid, status.st_gid) == expected
    assert store.rebuilt(layer) == archive


@pytest.mark.parametrize("kind", "xgL")
def test_extensions_without_end_are_refused(store: Store, kind: str) -> None:
    content = b"long\0" if kind == "L" else record("comment", "x")
    with pytest.raises(InvalidArchive, match="more than 100 tar header extensions in a row"):
        store.register(extension(kind, content) * 2000)


def test_a_changed_or_missing_file_is_noticed_when_the_archive_is_rebuilt(store: Store) -> None:
    layer = store.register(archive_of(file("a", b"content")))
    path = store.diff(layer) / "a"
    for damage in (lambda: path.write_bytes(b"CONTENT"), lambda: path.write_bytes(b"con"), path.unlink):
        damage()
        with pytest.raises(CorruptStore, match='"a"'):
            store.rebuilt(layer)
    path.symlink_to(store.outside / "canary")
    with pytest.raises(CorruptStore, match='"a"'):
        store.rebuilt(layer)


# -- whiteouts ---------------------------------------------------------------------------------


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def test_a_whiteout_becomes_the_device_0_0_and_an_opaque_marker_an_attribute(store: Store) -> None:
    diff = store.extract(archive_of(file("d/.wh.gone"), directory("o"), file("o/.wh..wh..opq"), file("o/new", b"x")))
    assert is_whiteout(diff / "d/gone")
    assert os.getxattr(diff / "o", "trusted.overlay.opaque") == b"y"
    assert sorted(os.listdir(diff / "o")) == ["new"]


def test_an_opaque_marker_may_come_before_or_without_its_directory(store: Store) -> None:
    diff = store.extract(archive_of(file("a/.wh..wh..opq"), directory("a"), file("b/.wh..wh..opq")))
    assert os.getxattr(diff / "a", "trusted.overlay.opaque") == b"y"
    assert os.getxattr(diff / "b", "trusted.overlay.opaque") == b"y"


@pytest.mark.parametrize("members", [(file(".wh.a"), file("a", b"x")), (file("a", b"x"), file(".wh.a"))])
def test_a_layer_s_own_file_stands_whatever_it_hides_below(store: Store, members: Any) -> None:
    assert (store.extract(archive_of(*members)) / "a").read_bytes() == b"x"


def test_notes_of_aufs_are_not_extracted_but_rebuilt(store: Store) -> None:
    archive = archive_of(directory(".wh..wh.plnk"), file(".wh..wh.aufs"), file("a", b"x"))
    layer = store.register(archive)
    assert os.listdir(store.diff(layer)) == ["a"]
    assert store.rebuilt(layer) == archive


@pytest.mark.parametrize("namespace", ["trusted", "user"])
@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("opaque", "y"),
        ("opaque", "x"),
        ("redirect", "/etc"),
        ("whiteout", "y"),
        ("metacopy", ""),
        ("origin", "\0"),
        ("overlay.opaque", "y"),  # as overlayfs escapes the attributes of an overlay within
    ],
)
def test_overlay_s_own_attributes_cannot_be_forged(store: Store, namespace: str, attribute: str, value: str) -> None:
    headers = {f"SCHILY.xattr.{namespace}.overlay.{attribute}": value, "SCHILY.xattr.user.overlays": "kept"}
    members = [
        file("d", type=tarfile.DIRTYPE, mode=0o755, pax_headers=headers),
        file("d/f", pax_headers=headers),
        file("d/l", type=tarfile.SYMTYPE, linkname="f", pax_headers={**headers, "SCHILY.xattr.user.overlays": ""}),
        file("d/p", type=tarfile.FIFOTYPE, pax_headers=headers),
    ]
    archive = archive_of(*members)
    layer = store.register(archive)
    diff = store.diff(layer)
    assert [os.listxattr(diff / name) for name in ("d", "d/f")] == [["user.overlays"]] * 2
    assert [os.listxattr(diff / name, follow_symlinks=False) for name in ("d/l", "d/p")] == [[], []]
    assert store.rebuilt(layer) == archive


@pytest.mark.parametrize("namespace", ["trusted", "user"])
def test_no_attribute_of_overlayfs_comes_into_a_tar(store: Store, tmp_path: Path, namespace: str) -> None:
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "d/f").write_text("x")
    for path in (top, top / "d", top / "d/f"):
        for attribute in ("origin", "impure", "uuid", "redirect", "overlay.opaque"):
            os.setxattr(path, f"{namespace}.overlay.{attribute}", b"y")
        os.setxattr(path, "user.note", b"mine")
    for whiteouts in (True, False):
        archive = b"".join(read(TreeReader(top, whiteouts=whiteouts)))
        assert b"overlay." not in archive
        assert archive.count(b"user.note") == 2


def read(members: TreeReader) -> Iterator[bytes]:
    for _ in members:
        yield members.raw
        yield from members.content()
    yield from members.trailer()


def test_a_directory_with_whiteouts_becomes_the_markers_again(store: Store, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "o").mkdir(parents=True)
    (upper / "o/new").write_text("x")
    os.setxattr(upper / "o", "trusted.overlay.opaque", b"y")
    os.mknod(upper / "o/gone", stat.S_IFCHR, os.makedev(0, 0))
    os.mknod(upper / "gone", stat.S_IFCHR, os.makedev(0, 0))
    os.mknod(upper / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    layer = layer_content.register(store.layers, TreeReader(upper), "")
    with tarfile.open(fileobj=io.BytesIO(store.rebuilt(layer))) as archive:
        members = {member.name: member for member in archive}
    assert list(members) == [".wh.gone", "null", "o", "o/.wh..wh..opq", "o/.wh.gone", "o/new"]
    assert all(members[name].isreg() and not members[name].size for name in members if ".wh." in name)
    assert members["null"].ischr()
    diff = store.diff(layer)
    assert is_whiteout(diff / "gone")
    assert is_whiteout(diff / "o/gone")
    assert os.getxattr(diff / "o", "trusted.overlay.opaque") == b"y"


# -- a directory as a tar ----------------------------------------------------------------------


def test_a_tree_gives_the_same_bytes_however_it_was_made(store: Store, tmp_path: Path) -> None:
    ids: list[str] = []
    for order in (("a", "b", "c"), ("c", "b", "a")):
        upper = tmp_path / "".join(order)
        upper.mkdir()
        for name in order:
            (upper / name).write_text(name)
            os.utime(upper / name, ns=(1, 5 * SECOND + len(ids)))
        ids.append(layer_content.register(store.layers, TreeReader(upper), "").diff_id)
    assert ids[0] == ids[1]


def test_a_tree_read_as_a_tar_is_the_tree_that_gnu_tar_extracts(store: Store, pax_tree: Path, tmp_path: Path) -> None:
    layer = layer_content.register(store.layers, TreeReader(pax_tree), "")
    (tmp_path / "layer.tar").write_bytes(store.rebuilt(layer))
    (tmp_path / "out").mkdir()
    options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-permissions", "--same-owner"]
    programs.run(["tar", *options, "-C", str(tmp_path / "out"), "-xf", str(tmp_path / "layer.tar")])
    theirs, ours = snapshot(tmp_path / "out", times=SECOND), snapshot(store.diff(layer), times=SECOND)
    assert ours == snapshot(pax_tree, times=SECOND)
    assert theirs == ours


def test_a_socket_is_left_out(store: Store, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    os.mknod(upper / "socket", stat.S_IFSOCK | 0o666)
    assert os.listdir(store.diff(layer_content.register(store.layers, TreeReader(upper), ""))) == []


# -- hostile archives --------------------------------------------------------------------------


def everything(store: Store) -> tuple[list[str], dict[bytes, tuple[Any, ...]]]:
    files = sorted(str(path.relative_to(store.data_root)) for path in store.data_root.rglob("*"))
    return [name for name in files if not name.startswith("locks")], snapshot(store.outside)


def refused(store: Store, archive: bytes) -> InvalidArchive:
    """The archive is refused, and neither the store nor anything outside has changed."""
    before = everything(store)
    with pytest.raises(InvalidArchive) as caught:
        store.register(archive)
    assert everything(store) == before
    assert caught.value.hint
    # The traceback keeps what the store opened. A compressor that is not closed writes to its closed file later.
    assert not [one for one in gc.get_objects() if isinstance(one, igzip.IGzipFile) and not one.closed]
    return caught.value


def raw(kind: bytes = b"0", **fields: bytes) -> bytes:
    """A header with raw bytes in some of its fields."""
    block = bytearray(tar.build_header(tar.Header("name", kind=kind.decode())))
    for offset, value in ((int(place.removeprefix("at_")), value) for place, value in fields.items()):
        block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


OUTSIDE_NAMES = [
    "../x",
    "../../outside/canary",
    "a/../../x",
    "a/../../../outside/canary",
    "..",
    "/..",
    "/../x",
    "./../x",
]


@pytest.mark.parametrize("name", OUTSIDE_NAMES)
@pytest.mark.parametrize("make", [file, directory, lambda name: symlink(name, "/"), lambda name: file(name + "/.wh.x")])
def test_a_name_that_climbs_out_is_refused(store: Store, name: str, make: Callable[[str], Any]) -> None:
    refused(store, archive_of(file("first", b"x"), make(name)))


def hostile_but_harmless(outside: Path) -> Iterator[tuple[str, list[Any]]]:
    up = "../" * 30
    yield "absolute name", [file(str(outside / "canary"), b"evil")]
    yield "double slash", [file("//" + str(outside / "canary"), b"evil")]
    yield "write through an absolute link", [symlink("l", str(outside)), file("l/canary", b"evil")]
    yield "write through a relative link", [symlink("l", up + str(outside)[1:]), file("l/canary", b"evil")]
    yield "write through two links", [symlink("a", str(outside)), symlink("b", "a"), file("b/canary", b"evil")]
    yield "write over a link", [symlink("l", str(outside / "canary")), file("l", b"evil")]
    yield "directory over a link", [symlink("l", str(outside)), directory("l"), file("l/canary", b"evil")]
    yield "hard link to outside", [hardlink("l", str(outside / "canary"))]
    yield "hard link that climbs out", [hardlink("l", up + str(outside / "canary"))]
    yield "hard link through a link", [symlink("s", str(outside)), hardlink("l", "s/canary"), file("l", b"evil")]
    yield (
        "hard link to a link, then written",
        [symlink("s", str(outside / "canary")), hardlink("l", "s"), file("l", b"x")],
    )
    yield "whiteout through a link", [symlink("l", str(outside)), file("l/.wh.canary")]
    yield "opaque through a link", [symlink("l", str(outside)), file("l/.wh..wh..opq")]
    yield "mode through a link", [symlink("l", str(outside)), file("l/directory", type=tarfile.DIRTYPE, mode=0o000)]
    yield "replace a directory through a link", [symlink("l", str(outside)), file("l/directory", b"evil")]
    yield "replace a directory by a link", [directory("d"), symlink("d", str(outside)), file("d/canary", b"evil")]
    yield "whiteout of a link", [symlink("l", str(outside)), file(".wh.l")]
    yield "time through a link", [directory("d"), directory("d/directory"), symlink("d", str(outside))]
    yield (
        "device through a link",
        [symlink("l", str(outside)), file("l/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    )
    yield "link through proc", [symlink("l", "/proc/self/root"), file("l" + str(outside / "canary"), b"evil")]
    yield "link through cwd", [symlink("l", "/proc/self/cwd"), file("l/canary", b"evil")]


@pytest.mark.parametrize("number", range(21))
def test_nothing_outside_the_layer_is_touched(store: Store, number: int) -> None:
    name, members = list(hostile_but_harmless(store.outside))[number]
    before = snapshot(store.outside)
    try:
        layer = store.register(archive_of(*members))
    except InvalidArchive:
        refused(store, archive_of(*members))
    else:
        assert store.rebuilt(layer) == archive_of(*members)
    assert snapshot(store.outside) == before, name


def test_the_list_of_hostile_archives_is_run_whole(tmp_path: Path) -> None:
    assert len(list(hostile_but_harmless(tmp_path))) == 21


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([file("a", b"x"), file("a/b", b"x")], "not a directory"),
        ([symlink("a", "b"), symlink("b", "a"), file("a/c", b"x")], "loop"),
        ([symlink("a", "a"), file("a/c", b"x")], "loop"),
        ([symlink("a", "nowhere"), file("a/c", b"x")], "link to a missing file"),
        ([hardlink("a", "missing")], "does not hold"),
        ([hardlink("a", "a")], "does not hold"),
        ([directory("d"), hardlink("a", "d")], "link to a directory"),
        ([hardlink("a", "..")], "outside"),
        ([file("n" * 256, b"x")], "longer than the kernel allows"),
        ([file("d/" * 10_000 + "x", b"x")], "longer than the kernel allows"),
        ([directory("d/" * 10_000)], "longer than the kernel allows"),
        ([symlink("a", "t" * 5000)], "longer than the kernel allows"),
        ([file(".wh.")], "hides nothing"),
        ([file(".wh..")], "hides nothing"),
        ([file(".wh...")], "hides nothing"),
        ([file("d/.wh...")], "hides nothing"),
        ([file("a", b"x"), file("a", b"y")], "twice"),
        ([file("a", b"x"), file("./a", b"y")], "twice"),
        ([file("a/b", b"x"), file("a//b", b"y")], "twice"),
        ([directory("d"), directory("d/")], "twice"),
        ([file(".wh.a", b"content")], "content"),
        ([file("d/.wh..wh..opq", b"content")], "content"),
        ([file(".", b"content")], "content"),
        ([file("a", b"x", type=b"S")], "pieces"),
        ([file("a", b"x", type=b"V")], "kind"),
        ([file("a", b"x", uid=2**40)], "cannot exist"),
        ([file("a", b"x", pax_headers={"path": "a\0b"})], "cannot exist"),
        ([symlink("a", "b"), file("c", pax_headers={"SCHILY.xattr.": "x"})], ""),
        ([file("c", pax_headers={"SCHILY.xattr.user." + "n" * 300: "x"})], ""),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(store: Store, members: list[Any], reason: str) -> None:
    assert reason in refused(store, archive_of(*members, dialect=tarfile.PAX_FORMAT)).message


@pytest.mark.parametrize(
    "archive",
    [
        raw(at_124=b"\xff" * 12),
        raw(at_124=b"\x80" + b"\xff" * 11),
        raw(at_124=b"77777777777\0"),
        raw(at_136=b"\x80" + b"\xff" * 11) + tar.END,
        raw(at_136=b"\xff\x80" + bytes(10)) + tar.END,
        raw(at_108=b"\xff" * 7 + b"\xfe") + tar.END,
        raw(at_108=b"\x80" + b"\xff" * 7) + tar.END,
        raw(b"3", at_329=b"\x80" + b"\xff" * 7) + tar.END,
        raw(b"4", at_337=b"\xff" * 8) + tar.END,
        raw(b"x", at_124=b"77777777777\0"),
        raw(b"L", at_124=b"\x80" + b"\xff" * 11),
        raw(b"x", at_124=b"00000000100\0") + b"9" * 64 + bytes(448) + tar.END,
        raw(b"L", at_124=b"00000000010\0") + b"name\0\0\0\0".ljust(512, b"\0"),
        b"not a tar",
        b"not a tar" * 1000,
        b"\0" * 100,
        b"\x7fELF" + bytes(2000),
    ],
)
def test_senseless_numbers_and_bytes_are_refused(store: Store, archive: bytes) -> None:
    refused(store, archive)


def test_an_archive_cut_off_anywhere_is_refused_or_shorter_by_whole_members(store: Store) -> None:
    long = file("n" * 300, b"z" * 600)
    whole = archive_of(file("a", b"x" * 700), directory("d"), symlink("l", "a"), long)
    ends = [512 + 1024, 512 + 1024 + 512, 512 + 1024 + 1024]
    content_end = len(whole.rstrip(b"\0"))
    padding = range(512 + 700, 512 + 1024)  # of a; Go's reader takes an archive without its last padding for whole
    for cut in [*range(1, 3584, 73), *(end + more for end in ends[1:] for more in (-1, 1)), content_end - 1]:
        if cut not in (0, *ends, *padding):
            refused(store, whole[:cut])
    for end in (padding[0], padding[100], *ends):
        assert store.register(whole[:end]).diff_id == "sha256:" + hashlib.sha256(whole[:end]).hexdigest()


def test_the_empty_blocks_at_the_end_are_whole_or_one_of_them_is_missing(store: Store) -> None:
    members = archive_of(file("a", b"x")).rstrip(b"\0").ljust(1024, b"\0")
    for blocks in (0, 1, 2, 3):
        store.register(members + bytes(512 * blocks))
    for size in (1, 511, 513, 1023):
        refused(store, members + bytes(size))


def test_the_record_of_an_archive_is_the_same_each_time(store: Store, tmp_path: Path) -> None:
    archive = archive_of(file("a", b"x" * 700), directory("d"))
    for number in (1, 2):
        with open(tmp_path / str(number), "wb") as sink:
            record = tarsplit.TarSplitWriter(sink)
            layertar.store(layertar.TarReader(io.BytesIO(archive)), None, record)
            record.close()
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
