"""The contract of all storage drivers, and their difference: which data their layers share."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import shutil
import stat
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.errors import Conflict, CorruptStore, InvalidArchive, InvalidInput, LabError
from pylab_container.events import ignore
from pylab_container.host import linux, programs
from pylab_container.host.files import locked
from pylab_container.oci.ids import CacheId, ContainerId
from pylab_container.store import layer_content, layertar, overlayfs
from pylab_container.store.changes import ADDED, DELETED, MODIFIED
from pylab_container.store.driver import Driver
from pylab_container.store.drivers import DRIVERS, open_driver
from pylab_container.store.layer_store import Layer, LayerStore, WritableLayer
from pylab_container.store.whiteouts import OPAQUE
from tests.support.processes import awaits_lock
from tests.support.waiting import PATIENCE, eventually

LOWER, UPPER, MISSING = (CacheId(letter * 64) for letter in "abc")
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service=ep
LONG_AGO = 1_600_000_000
View = dict[str, Any]


class Store:
    """A layer store on one driver."""

    def __init__(self, top: Path, name: str) -> None:
        self.driver = open_driver(top, name, emit=ignore)
        self.layers = LayerStore(top / "image" / name / "layerdb", top / "locks", self.driver)

    def register(self, archive: bytes, parent: str = "") -> Layer:
        return layer_content.register(self.layers, layertar.TarReader(io.BytesIO(archive)), parent)

    @contextlib.contextmanager
    def container(self, parent: str) -> Iterator[WritableLayer]:
        """A writable layer, gone in the end."""
        container_id = ContainerId(secrets.token_hex(32))
        yield self.layers.create_writable(container_id, parent, fill_init)
        self.layers.remove_writable(container_id)

    @contextlib.contextmanager
    def changing(self, parent: str) -> Iterator[tuple[WritableLayer, Path]]:
        """A writable layer, and where it can be written to."""
        with self.container(parent) as writable:
            yield writable, self.driver.mount(writable.mount_id)

    def committed(self, parent: str, change: Callable[[Path], None], *, adopt: bool = False) -> Layer:
        with self.changing(parent) as (writable, root):
            change(root)
            lease = self.layers.leases.open()
            layer = (layer_content.adopt if adopt else layer_content.copy)(self.layers, writable, lease)
            lease.end()
        assert layer
        return layer

    def view(self, chain: str) -> View:
        """Return the merged view of this layer without the files of the init layer."""
        with self.changing(chain) as (_, root):
            return {name: seen for name, seen in tree(root).items() if not name.startswith("init")}

    def rebuilt(self, layer: Layer) -> bytes:
        return b"".join(layer_content.tar_stream(self.layers, layer.chain_id))

    def names(self, layer: Layer) -> list[str]:
        """The members of its tar, without marks on new directories: only overlayfs makes those."""
        with tarfile.open(fileobj=io.BytesIO(self.rebuilt(layer))) as archive:
            return [name for name in archive.getnames() if not name.endswith(OPAQUE)]


def fill_init(root: Path) -> None:
    (root / "init").write_text("a file that containers have and images do not")


@pytest.fixture(params=DRIVERS)
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def store(tmp_path: Path, name: str) -> Store:
    return Store(tmp_path / "root", name)


@pytest.fixture
def stores(tmp_path: Path) -> list[Store]:
    return [Store(tmp_path / "root", name) for name in DRIVERS]


@pytest.fixture
def driver(store: Store) -> Driver:
    return store.driver


def tar(*entries: tuple[str, str | None], **headers: dict[str, Any]) -> bytes:
    """A tar of (name, text) and, with None, directories; headers[name] sets fields of one."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, text in entries:
            entry = tarfile.TarInfo(name)
            entry.mtime = LONG_AGO
            entry.mode = 0o755 if text is None else 0o644
            entry.type = tarfile.DIRTYPE if text is None else tarfile.REGTYPE
            entry.size = len(text or "")
            for field, value in headers.get(name, {}).items():
                setattr(entry, field, value)
            archive.addfile(entry, io.BytesIO((text or "").encode()))
    return target.getvalue()


BASE = tar(
    ("etc", None),
    ("etc/hosts", "base"),
    ("etc/old", "old"),
    ("etc/plain", "base"),
    ("file", "a file"),
    ("full", None),
    ("full/a", "a"),
    ("full/b", "b"),
    ("full/sub", None),
    ("full/sub/c", "c"),
    ("link", ""),
    ("kept", "kept"),
    ("linked", ""),
    ("pipe", ""),
    ("null", ""),
    linked={"type": tarfile.LNKTYPE, "linkname": "etc/hosts"},
    link={"type": tarfile.SYMTYPE, "linkname": "/full"},
    pipe={"type": tarfile.FIFOTYPE},
    null={"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3, "mode": 0o666},
    file={"mode": 0o4755, "uid": 1000, "pax_headers": {"SCHILY.xattr.user.note": "a note"}},
)


def tree(top: Path) -> View:
    """Kinds, modes, owners, links, content and attributes of all that is in a directory."""
    found: View = {}
    inodes: dict[int, str] = {}
    for path in sorted(top.rglob("*")):
        status, name = path.lstat(), str(path.relative_to(top))
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = (path.read_bytes(), inodes.setdefault(status.st_ino, name))
        elif path.is_symlink():
            content = os.readlink(path)
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
            if not key.startswith("trusted.overlay.")
        }
        found[name] = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, content, xattrs)
    return found


def walked(top: Path) -> list[tuple[str, list[str], list[str]]]:
    """All directories with what is in them: a file system lists that in an order of its own."""
    return sorted((directory, sorted(folders), sorted(files)) for directory, folders, files in os.walk(top))


def texts(view: View) -> dict[str, bytes]:
    return {name: seen[4][0] for name, seen in view.items() if stat.S_ISREG(seen[0])}


# -- create, mount, remove ---------------------------------------------------------------------


def test_a_child_sees_its_parent_and_what_it_writes_stays_its_own(driver: Driver) -> None:
    (driver.create(LOWER, None) / "below").write_text("below")
    driver.create(UPPER, LOWER)
    root = driver.mount(UPPER)
    (root / "below").write_text("changed")
    (root / "above").write_text("above")
    assert driver.mount(UPPER) == root == driver.merged_path(UPPER)
    assert (driver.mount(LOWER) / "below").read_text() == "below"
    assert not (driver.mount(LOWER) / "above").exists()
    driver.unmount(UPPER)
    driver.unmount(UPPER)
    assert not driver.is_mounted(UPPER)
    assert sorted(os.listdir(driver.mount(UPPER))) == ["above", "below"], "unmounting loses nothing"
    driver.remove(UPPER)
    assert not driver.diff_path(UPPER).exists()


def test_the_lowest_layer_is_its_own_view(driver: Driver) -> None:
    diff = driver.create(LOWER, None)
    assert diff == driver.diff_path(LOWER) == driver.mount(LOWER)
    assert not driver.is_mounted(LOWER)
    assert stat.S_IMODE(diff.stat().st_mode) == 0o755


def test_removing_what_is_not_there_or_mounted_or_half_made_is_fine(driver: Driver) -> None:
    before = walked(driver.root)
    driver.remove(MISSING)
    driver.create(LOWER, None)
    driver.create(UPPER, LOWER)
    driver.mount(UPPER)
    driver.remove(UPPER)
    driver.remove(UPPER)
    shutil.rmtree(driver.diff_path(LOWER))
    driver.remove(LOWER)
    assert walked(driver.root) == before


def test_a_layer_on_a_missing_one_is_a_corrupt_store(driver: Driver) -> None:
    before = walked(driver.root)
    with pytest.raises(CorruptStore, match=f"{driver.name}/.*missing"):
        driver.create(UPPER, MISSING)
    assert walked(driver.root) == before


def test_two_drivers_may_share_a_directory(driver: Driver) -> None:
    other = open_driver(driver.root.parent, driver.name, emit=ignore)
    (driver.create(LOWER, None) / "file").write_text("x")
    other.create(UPPER, LOWER)
    assert (other.mount(UPPER) / "file").read_text() == "x"
    assert driver.mount(UPPER) == other.mount(UPPER)
    driver.remove(UPPER)


def test_the_root_of_a_container_has_its_mode_whatever_the_umask(driver: Driver) -> None:
    before = os.umask(0o077)
    try:
        driver.create(LOWER, None)
        driver.create(UPPER, LOWER)
    finally:
        os.umask(before)
    assert stat.S_IMODE(driver.mount(UPPER).stat().st_mode) == 0o755
    driver.remove(UPPER)


# -- layers in, layers out ---------------------------------------------------------------------


def test_a_layer_is_seen_as_its_tar_says(store: Store) -> None:
    view = store.view(store.register(BASE).chain_id)
    assert texts(view) == {
        "etc/hosts": b"base",
        "etc/old": b"old",
        "etc/plain": b"base",
        "file": b"a file",
        "full/a": b"a",
        "full/b": b"b",
        "full/sub/c": b"c",
        "kept": b"kept",
        "linked": b"base",
    }
    assert view["linked"][4] == (b"base", "etc/hosts"), "a hard link stays one"
    assert view["link"][4] == "/full"
    assert view["null"][3] == os.makedev(1, 3)
    assert view["file"][:3] == (stat.S_IFREG | 0o4755, 1000, 0)
    assert view["file"][5] == {"user.note": b"a note"}


def test_whiteouts_and_replacements_give_the_same_view_with_every_driver(stores: list[Store]) -> None:
    change = tar(
        ("etc/.wh.old", ""),
        ("file", None),
        ("file/inside", "x"),
        ("full", None),
        ("full/.wh..wh..opq", ""),
        ("full/new", "new"),
        ("null", "a file instead of a device"),
        ("etc/.wh.none", ""),
        ("etc/hosts", "changed"),
    )
    over = tar(("file", "a file again"), (".wh.full", ""), ("etc/old", "back"))
    views = []
    for store in stores:
        below = store.register(BASE)
        middle = store.register(change, below.chain_id)
        top = store.register(over, middle.chain_id)
        views.append([store.view(layer.chain_id) for layer in (below, middle, top)])
    assert views[0] == views[1] == views[2]
    lowest, changed, uppermost = (texts(view) for view in views[0])
    assert changed == {
        "etc/hosts": b"changed",
        "etc/plain": b"base",
        "file/inside": b"x",
        "full/new": b"new",
        "kept": b"kept",
        "linked": b"base",
        "null": b"a file instead of a device",
    }
    assert uppermost == {
        "etc/hosts": b"changed",
        "etc/old": b"back",
        "etc/plain": b"base",
        "file": b"a file again",
        "kept": b"kept",
        "linked": b"base",
        "null": b"a file instead of a device",
    }
    assert lowest["full/sub/c"] == b"c", "the layer below is as it was"


@pytest.mark.parametrize(
    "change",
    [
        tar((".wh.kept", ""), ("kept", "new")),
        tar(("kept", "new"), (".wh.kept", "")),
        tar(("full", None), ("full/a", "new"), ("full/.wh.a", "")),
        tar(("full/a", "new"), ("full/.wh..wh..opq", "")),
        tar(("full/sub/c", "new"), ("full/.wh..wh..opq", ""), ("full/.wh.sub", "")),
    ],
)
def test_a_whiteout_never_hides_what_comes_in_the_same_layer(store: Store, change: bytes) -> None:
    layer = store.register(change, store.register(BASE).chain_id)
    assert b"new" in texts(store.view(layer.chain_id)).values()
    assert store.rebuilt(layer) == change


@pytest.mark.parametrize("target", ["", "/", "full/sub"])
def test_a_whiteout_through_a_link_stays_in_the_layer(store: Store, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_text("alive")
    link = target or str(outside)
    below = store.register(
        tar(("evil", ""), ("canary", "x"), ("full", None), evil={"type": tarfile.SYMTYPE, "linkname": link})
    )
    with contextlib.suppress(InvalidArchive):
        store.register(tar(("evil/.wh.canary", ""), ("evil/.wh..wh..opq", "")), below.chain_id)
    assert (outside / "canary").read_text() == "alive"


def test_every_layer_is_rebuilt_byte_for_byte(store: Store) -> None:
    change = tar(("etc/.wh.old", ""), ("full", None), ("full/.wh..wh..opq", ""), ("full/new", "new"), ("null", "x"))
    below = store.register(BASE)
    top = store.register(change, below.chain_id)
    assert store.rebuilt(below) == BASE
    assert store.rebuilt(top) == change
    assert f"sha256:{hashlib.sha256(change).hexdigest()}" == top.diff_id


def test_a_refused_layer_leaves_nothing(store: Store) -> None:
    below = store.register(BASE)
    store.register(tar(("kept", "x")), below.chain_id)
    before = [walked(place) for place in (store.driver.root, store.layers.root)]
    with pytest.raises(InvalidArchive):
        store.register(tar(("full/a", "x"), ("../../out", "x")), below.chain_id)
    with pytest.raises(InvalidArchive):
        store.register(tar((".wh.kept", ""), ("full/a", "x"))[:600], below.chain_id)
    assert [walked(place) for place in (store.driver.root, store.layers.root)] == before
    assert texts(store.view(below.chain_id))["full/a"] == b"a"


def test_releasing_layers_leaves_nothing(store: Store) -> None:
    before = walked(store.driver.root)
    below = store.register(BASE)
    top = store.register(tar(("kept", "x")), below.chain_id)
    removed = store.layers.release([top.chain_id], ())
    assert removed == [top.chain_id, below.chain_id]
    assert walked(store.driver.root) == before


# -- what a container changed ------------------------------------------------------------------


def change_everything(root: Path) -> None:
    """All kinds of changes."""
    (root / "etc/plain").write_text("changed")
    (root / "etc/old").unlink()
    (root / "file").unlink()
    (root / "file").mkdir()
    (root / "file/inside").write_text("x")
    shutil.rmtree(root / "full/sub")
    (root / "null").unlink()
    (root / "null").write_text("no device")
    (root / "kept").chmod(0o4711)
    (root / "new").write_text("new")
    os.link(root / "new", root / "etc/new")
    os.setxattr(root / "new", "security.capability", CAPABILITY)
    os.symlink("new", root / "soft")
    os.mkfifo(root / "full/pipe")


CHANGES = {
    "/etc/new": ADDED,
    "/etc/old": DELETED,
    "/etc/plain": MODIFIED,
    "/file": MODIFIED,
    "/file/inside": ADDED,
    "/full/pipe": ADDED,
    "/full/sub": DELETED,
    "/kept": MODIFIED,
    "/new": ADDED,
    "/null": MODIFIED,
    "/soft": ADDED,
}


def test_all_drivers_report_the_same_changes(store: Store) -> None:
    with store.changing(store.register(BASE).chain_id) as (writable, root):
        assert store.driver.changes(writable.mount_id, writable.init_id) == {}
        change_everything(root)
        assert store.driver.changes(writable.mount_id, writable.init_id) == CHANGES


def test_changes_below_a_replaced_link_are_not_looked_for_behind_it(store: Store, tmp_path: Path) -> None:
    """Neither where a container replaced it nor where a layer did."""
    (tmp_path / "outside").mkdir()
    for name in ("one", "two", "three"):
        (tmp_path / "outside" / name).write_text("the host's")
    links = {name: {"type": tarfile.SYMTYPE, "linkname": str(tmp_path / "outside")} for name in ("a", "b")}
    below = store.register(tar(("a", ""), ("b", ""), **links))
    middle = store.register(tar((".wh.a", ""), ("a/", None), ("a/one", "x")), below.chain_id)
    with store.changing(middle.chain_id) as (writable, root):
        (root / "a/two").write_text("x")
        (root / "b").unlink()
        (root / "b").mkdir()
        (root / "b/three").write_text("x")
        changes = store.driver.changes(writable.mount_id, writable.init_id)
    changes.pop("/a", None)
    assert changes == {"/a/two": ADDED, "/b": MODIFIED, "/b/three": ADDED}


def test_a_directory_made_again_hides_what_any_layer_had_in_it(store: Store) -> None:
    below = store.register(tar(("d", None), ("d/low", "x")))
    middle = store.register(tar(("d", None), ("d/middle", "x")), below.chain_id)
    with store.changing(middle.chain_id) as (writable, root):
        shutil.rmtree(root / "d")
        (root / "d").mkdir()
        (root / "d/new").write_text("x")
        changes = store.driver.changes(writable.mount_id, writable.init_id)
    assert changes == {"/d/low": DELETED, "/d/middle": DELETED, "/d/new": ADDED}


@pytest.mark.parametrize("adopt", [False, True])
def test_a_commit_holds_the_changes_and_gives_the_view_that_the_container_had(store: Store, adopt: bool) -> None:  # noqa: FBT001
    base = store.register(BASE)
    seen: View = {}

    def change(root: Path) -> None:
        change_everything(root)
        (root / "init").unlink()
        seen.update(tree(root))

    layer = store.committed(base.chain_id, change, adopt=adopt)
    assert store.names(layer) == [
        "etc",
        "etc/new",
        "etc/.wh.old",
        "etc/plain",
        "file",
        "file/inside",
        "full",
        "full/pipe",
        "full/.wh.sub",
        ".wh.init",
        "kept",
        "new",
        "null",
        "soft",
    ]
    assert store.view(layer.chain_id) == seen
    assert texts(store.view(base.chain_id))["etc/plain"] == b"base"
    assert f"sha256:{hashlib.sha256(store.rebuilt(layer)).hexdigest()}" == layer.diff_id


def test_the_same_change_has_the_same_diff_id_with_every_driver(stores: list[Store]) -> None:
    def change(root: Path) -> None:
        (root / "etc/hosts").unlink()
        (root / "etc/hosts").write_text("changed")
        (root / "full/sub/new").write_text("new")
        os.link(root / "full/sub/new", root / "full/new")
        (root / "kept").chmod(0o600)
        for name in ("etc/hosts", "full/sub/new", "etc", "full", "full/sub", "kept"):
            os.utime(root / name, (LONG_AGO, LONG_AGO))

    layers = [store.committed(store.register(BASE).chain_id, change) for store in stores]
    assert len({layer.diff_id for layer in layers}) == 1
    assert len({layer.size for layer in layers}) == 1
    assert len({store.rebuilt(layer) for store, layer in zip(stores, layers, strict=True)}) == 1


def test_what_was_deleted_and_made_again_holds_nothing_old(store: Store) -> None:
    def change(root: Path) -> None:
        shutil.rmtree(root / "full")
        (root / "full").mkdir()
        (root / "full/new").write_text("new")
        (root / "kept").unlink()
        (root / "kept").write_text("kept")

    layer = store.committed(store.register(BASE).chain_id, change)
    view = texts(store.view(layer.chain_id))
    assert {name for name in view if name.startswith("full")} == {"full/new"}
    assert view["kept"] == b"kept"


def test_a_new_name_for_an_old_file_stays_a_hard_link(store: Store) -> None:
    layer = store.committed(store.register(BASE).chain_id, lambda root: os.link(root / "kept", root / "again"))
    assert store.names(layer) == ["again", "kept"]
    view = store.view(layer.chain_id)
    assert view["kept"][4] == view["again"][4] == (b"kept", "again")


def test_only_where_nothing_is_copied_up_a_write_reaches_all_names_of_a_file(stores: list[Store]) -> None:
    changed = {}
    for store in stores:
        with store.changing(store.register(BASE).chain_id) as (writable, root):
            (root / "linked").write_text("changed")
            changed[store.driver.name] = sorted(store.driver.changes(writable.mount_id, writable.init_id))
    assert changed == {"overlay2": ["/linked"], "overlay": ["/linked"], "vfs": ["/etc/hosts", "/linked"]}


def test_a_directory_where_a_link_was_holds_only_its_own(store: Store) -> None:
    def change(root: Path) -> None:
        (root / "link").unlink()
        (root / "link").mkdir()
        (root / "link/a").write_text("mine")

    layer = store.committed(store.register(BASE).chain_id, change)
    assert store.names(layer) == ["link", "link/a"]
    view = texts(store.view(layer.chain_id))
    assert (view["link/a"], view["full/a"], "link/b" in view) == (b"mine", b"a", False)


def test_a_container_that_changed_nothing_makes_no_layer(store: Store) -> None:
    base = store.register(BASE)
    lease = store.layers.leases.open()
    with store.changing(base.chain_id) as (writable, _):
        assert layer_content.copy(store.layers, writable, lease) is None
        assert layer_content.adopt(store.layers, writable, lease) is None
    lease.end()


def test_a_container_on_no_image_starts_empty(store: Store) -> None:
    layer = store.committed("", lambda root: (root / "only").touch())
    assert store.names(layer) == ["only"]
    assert list(store.view(layer.chain_id)) == ["only"]


def test_a_commit_leaves_the_containers_mount_alone(store: Store) -> None:
    lease = store.layers.leases.open()
    with store.changing(store.register(BASE).chain_id) as (writable, root):
        (root / "one").write_text("1")
        assert layer_content.copy(store.layers, writable, lease)
        (root / "two").write_text("2")
        layer = layer_content.copy(store.layers, writable, lease)
        assert layer
        assert store.names(layer) == ["one", "two"]
    lease.end()


# -- what layers share -------------------------------------------------------------------------


def bytes_on_disk(top: Path) -> int:
    """Count a file with several hard links once, as du(1) does."""
    inodes = {path.lstat().st_ino: path.lstat().st_blocks * 512 for path in top.rglob("*") if path.is_file()}
    return sum(inodes.values())


def test_vfs_copies_overlay_links_and_overlay2_shares(stores: list[Store]) -> None:
    megabyte = "x" * (1 << 20)
    cost, same_inode = {}, {}
    for store in stores:
        parent = store.register(tar(("big", megabyte))).chain_id
        before = bytes_on_disk(store.driver.root)
        for number in range(3):
            parent = store.register(tar((f"small{number}", "x")), parent).chain_id
        cost[store.driver.name] = (bytes_on_disk(store.driver.root) - before) >> 20
        files = [store.driver.diff_path(layer.cache_id) / "big" for layer in store.layers.chain(parent)]
        same_inode[store.driver.name] = len({file.stat().st_ino for file in files if file.exists()})
    assert cost == {"overlay2": 0, "overlay": 0, "vfs": 3}
    assert same_inode == {"overlay2": 1, "overlay": 1, "vfs": 4}


def test_a_container_on_vfs_is_one_more_copy_and_on_the_others_none(stores: list[Store]) -> None:
    cost = {}
    for store in stores:
        base = store.register(tar(("big", "x" * (1 << 20))))
        before = bytes_on_disk(store.driver.root)
        with store.container(base.chain_id):
            cost[store.driver.name] = (bytes_on_disk(store.driver.root) - before) >> 20
    assert cost == {"overlay2": 0, "overlay": 0, "vfs": 2}, "and its init layer another one"


def test_graph_data_is_docker_s(stores: list[Store]) -> None:
    found = {}
    for store in stores:
        base = store.register(BASE)
        with store.container(base.chain_id) as writable:
            both = (store.driver.graph_data(base.cache_id), store.driver.graph_data(writable.mount_id))
            found[store.driver.name] = [data and sorted(data) for data in both]
    mounted = ["LowerDir", "MergedDir", "UpperDir", "WorkDir"]
    assert found == {"overlay2": [mounted[1:], mounted], "overlay": [["RootDir"], mounted], "vfs": [None, None]}


# -- the engine on each ------------------------------------------------------------------------


@pytest.fixture
def chosen(engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine with that driver on the data root of the fixture that proves that nothing is left behind."""
    shutil.rmtree(engine.data_root)
    monkeypatch.setenv("LABCTR_DRIVER", name)
    chosen = Engine(engine.data_root)
    yield chosen
    for container in chosen.containers.list(all=True):
        container.remove(force=True, v=True)


def test_a_container_runs_is_diffed_and_committed(chosen: Engine, name: str, busybox_tar: Path) -> None:
    image = chosen.images.import_(busybox_tar, "busybox:1")
    script = "echo new > /new; rm /bin/plain; mkdir /home/x"
    container = chosen.containers.run_detached(image, ["sh", "-c", script], network_mode="none")
    container.wait()
    assert [(change.letter, change.path) for change in container.diff()] == [
        ("C", "/bin"),
        ("D", "/bin/plain"),
        ("C", "/home"),
        ("A", "/home/x"),
        ("A", "/new"),
    ]
    child = container.commit("child:1")
    assert container.attrs["Driver"] == container.attrs["GraphDriver"]["Name"] == chosen.info().storage_driver == name
    assert container.attrs["GraphDriver"]["Data"] == chosen.data.driver.graph_data(
        chosen.data.layers.writable(container.id).mount_id
    )
    container.remove()
    script = "cat /new; ls -d /home/x; test -e /bin/plain || echo gone"
    output = chosen.containers.run(child, ["sh", "-c", script], remove=True, network_mode="none")
    assert output == b"new\n/home/x\ngone\n"
    chosen.images.remove("child:1")
    assert chosen.images.list()[0].tags == ["busybox:1"]


def test_a_running_container_can_be_committed_and_entered(chosen: Engine, busybox_tar: Path) -> None:
    image = chosen.images.import_(busybox_tar, "busybox:1")
    container = chosen.containers.run_detached(image, ["sleep", "600"], network_mode="none")
    assert container.exec_run(["sh", "-c", "echo x > /x; cat /x"]).output == b"x\n"
    child = container.commit("child:1")
    assert container.status == "running"
    assert container.exec_run(["cat", "/x"]).output == b"x\n"
    container.remove(force=True)
    assert chosen.containers.run(child, ["cat", "/x"], remove=True, network_mode="none") == b"x\n"


def test_a_dockerfile_is_built_and_its_cache_is_found_again(chosen: Engine, busybox_tar: Path, tmp_path: Path) -> None:
    chosen.images.import_(busybox_tar, "busybox:1")
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("copied\n")
    (context / "Dockerfile").write_text(
        "FROM busybox:1\nCOPY file /srv/\nRUN rm /bin/plain; echo x >> /srv/file\nWORKDIR /w\nCMD cat /srv/file\n"
    )
    image = chosen.images.build(context, tag="built:1")
    assert chosen.containers.run(image, remove=True, network_mode="none") == b"copied\nx\n"
    assert chosen.images.build(context).id == image.id
    own = [path for layer in image.layers for path in _names(chosen, layer)]
    assert "srv/file" in own
    assert not any("dockerenv" in path or path.startswith("etc/hosts") for path in own)
    if chosen.data.driver.keeps_trees:  # whole trees: what only containers have must not be in them
        assert not (chosen.data.driver.diff_path(image.layers[-1].cache_id) / ".dockerenv").exists()


def _names(engine: Engine, layer: Layer) -> list[str]:
    stream = io.BytesIO(b"".join(layer_content.tar_stream(engine.data.layers, layer.chain_id)))
    with tarfile.open(fileobj=stream) as archive:
        return archive.getnames()


def test_fsck_finds_nothing_wrong_and_removes_an_orphan(chosen: Engine, name: str, busybox_tar: Path) -> None:
    image = chosen.images.import_(busybox_tar, "busybox:1")
    container = chosen.containers.run_detached(image, ["sh", "-c", "rm /bin/plain"], network_mode="none")
    container.wait()
    container.commit("child:1")
    assert chosen.fsck(deep=True) == []
    nobodys = chosen.data.driver.create(CacheId("ab" * 32), None)
    (finding,) = chosen.fsck(repair=True)
    assert f"{name}/abab" in finding.sentence
    assert not nobodys.exists()
    assert chosen.fsck(deep=True) == []


@pytest.mark.parametrize("mounted", [False, True])
def test_the_view_of_a_killed_commit_is_named_and_goes(engine: Engine, *, mounted: bool) -> None:
    chosen = Engine(engine.data_root, storage_driver="overlay")
    below = chosen.data.driver.create(CacheId("ab" * 32), None)
    upper = chosen.data.driver.create(CacheId("cd" * 32), CacheId("ab" * 32))
    point = chosen.data.driver.root / f"{overlayfs.VIEW}abcd1234"
    point.mkdir()
    if mounted:
        # mount(8) passes each option to fsconfig(2) since util-linux 2.39, where an option may have 255 bytes.
        linux.mount("overlay", str(point), "overlay", options=f"lowerdir={upper}:{below}")
    for cache_id in ("cd" * 32, "ab" * 32):
        chosen.data.driver.remove(CacheId(cache_id))
    sentence = f"a killed command left a view of layers: overlay/{point.name}"
    assert [finding.sentence for finding in chosen.fsck()] == [sentence]
    (finding,) = chosen.fsck(repair=True)
    assert (finding.sentence, finding.kind, finding.repaired) == (sentence, "leftover", True)
    assert not point.exists()
    assert chosen.fsck(deep=True) == []


def test_a_view_that_holds_files_is_no_view_and_stays(engine: Engine) -> None:
    chosen = Engine(engine.data_root, storage_driver="overlay")
    file = chosen.data.driver.root / f"{overlayfs.VIEW}abcd1234/precious"
    file.parent.mkdir()
    file.touch()
    (finding,) = chosen.fsck(repair=True)
    assert not finding.repaired
    assert "the repair failed" in finding.sentence
    assert file.exists()


def test_fsck_waits_for_a_view_that_is_being_made(engine: Engine) -> None:
    chosen = Engine(engine.data_root, storage_driver="overlay")
    point = chosen.data.driver.root / f"{overlayfs.VIEW}abcd1234"
    with ThreadPoolExecutor(1) as pool:
        with locked(chosen.data.driver.root, shared=True):
            point.mkdir()
            checking = pool.submit(chosen.fsck, repair=True)
            eventually(lambda: awaits_lock(chosen.data.driver.root))
            assert not checking.done()
            point.rmdir()
        assert checking.result(PATIENCE) == []


# -- which driver a data root has --------------------------------------------------------------


def test_a_data_root_keeps_the_driver_that_it_was_used_with(tmp_path: Path, name: str) -> None:
    Engine(tmp_path / "root", storage_driver=name)
    assert Engine(tmp_path / "root").data.driver.name == name
    assert sorted(os.listdir(tmp_path / "root/image")) == [name]
    assert (tmp_path / "root" / name).is_dir()


def test_a_new_data_root_gets_overlay2(tmp_path: Path) -> None:
    assert Engine(tmp_path / "root").info().storage_driver == "overlay2"


def test_the_environment_chooses_and_the_argument_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Engine(tmp_path / "root")
    monkeypatch.setenv("LABCTR_DRIVER", "vfs")
    assert Engine(tmp_path / "root").data.driver.name == "vfs"
    assert Engine(tmp_path / "root", storage_driver="overlay").data.driver.name == "overlay"


def test_after_several_drivers_one_must_be_named(tmp_path: Path) -> None:
    for name in ("overlay2", "vfs"):
        Engine(tmp_path / "root", storage_driver=name)
    with pytest.raises(Conflict, match="overlay2, vfs") as caught:
        Engine(tmp_path / "root")
    assert "--storage-driver" in caught.value.hint
    assert Engine(tmp_path / "root", storage_driver="vfs").data.driver.name == "vfs"


def test_an_unknown_driver_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="unknown storage driver: zfs") as caught:
        Engine(tmp_path / "root", storage_driver="zfs")
    assert caught.value.hint == "use one of overlay2, overlay, vfs"
    assert not (tmp_path / "root/zfs").exists()
    assert not (tmp_path / "root/image").exists()


def test_drivers_on_one_data_root_do_not_see_each_others_images_and_containers(
    engine: Engine, busybox_tar: Path
) -> None:
    image = engine.images.import_(busybox_tar, "busybox:1")
    container = engine.containers.create(image, ["true"], name="same")
    other = Engine(engine.data_root, storage_driver="vfs")
    assert other.images.list() == []
    assert other.containers.list(all=True) == []
    twin = other.containers.create(other.images.import_(busybox_tar, "busybox:1"), ["true"], name="same")
    assert [each.id for each in engine.containers.list(all=True)] == [container.id]
    with pytest.raises(LabError):
        engine.containers.get(twin.id)
    twin.remove()
    container.remove()


def labctr(data_root: Path, *arguments: str) -> programs.Completed:
    return programs.run([sys.executable, "-m", "pylab_container", "--root", str(data_root), *arguments], check=False)


def test_labctr_chooses_the_driver_and_info_shows_it(engine: Engine, busybox_tar: Path) -> None:
    root, vfs = engine.data_root, ("--storage-driver", "vfs")
    shutil.rmtree(root)
    assert labctr(root, *vfs, "import", str(busybox_tar), "busybox:1").status == 0
    assert "\nStorage Driver: vfs\nLogging Driver: " in labctr(root, "info").output, "found out again"
    assert labctr(root, *vfs, "run", "--rm", "--network", "none", "busybox:1", "echo", "x").output == "x\n"
    assert "\nStorage Driver: overlay\n Backing Filesystem: " in labctr(root, "--storage-driver=overlay", "info").output
    refused = labctr(root, "info")
    assert (refused.status, refused.output) == (1, "")
    assert "overlay, vfs\nHint: choose one with --storage-driver" in refused.errors
    unknown = labctr(root, "--storage-driver", "zfs", "info")
    assert unknown.errors == "Error: unknown storage driver: zfs\nHint: use one of overlay2, overlay, vfs\n"


def test_the_monitor_of_a_detached_container_knows_the_driver(engine: Engine, busybox_tar: Path) -> None:
    other = Engine(engine.data_root, storage_driver="overlay")
    other.images.import_(busybox_tar, "busybox:1")
    container = other.containers.run_detached("busybox:1", ["true"], remove=True, network_mode="none")
    directory = other.data.records.directory(container.id)
    eventually(lambda: not directory.exists())  # only its monitor removes it
