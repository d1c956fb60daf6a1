"""Both spellings of whiteouts: the same change made through root's mount and through that of a user namespace."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container.host import programs
from pylab_container.host.descent import Entry, opened, walk
from pylab_container.oci import tar
from pylab_container.oci.ids import CacheId, ContainerId
from pylab_container.store import layer_content, layertar
from pylab_container.store.changes import ADDED, DELETED, MODIFIED
from pylab_container.store.layer_store import Layer, LayerStore, WritableLayer
from pylab_container.store.overlay2 import Overlay2
from pylab_container.store.treetar import TreeReader
from pylab_container.store.whiteouts import is_opaque, is_whiteout

LONG_AGO = 1_600_000_000 * 10**9

BASE = {
    "gone": "x",
    "empty": "",
    "again/old": "x",
    "again/sub/old": "x",
    "was-directory/old": "x",
    "was-file": "x",
    "merged/changed": "x",
    "merged/gone": "x",
    "merged/sub/gone": "x",
    "merged/deep/er/gone": "x",
    "untouched": "x",
}

CHANGE = """
rm gone merged/gone merged/sub/gone
rm -r again; mkdir again; echo new > again/new
rm -r was-directory; echo new > was-directory
rm was-file; mkdir was-file; echo new > was-file/new
echo new >> merged/changed
rm -r merged/deep/er; mkdir merged/deep/er
echo new > new; ln new hard; mkdir -p made/sub; echo new > made/sub/new
: > empty; chmod 600 empty
"""

CHANGES = {
    "/gone": DELETED,
    "/empty": MODIFIED,
    "/again/old": DELETED,
    "/again/sub": DELETED,
    "/again/new": ADDED,
    "/was-directory": MODIFIED,
    "/was-directory/old": DELETED,
    "/was-file": MODIFIED,
    "/was-file/new": ADDED,
    "/merged/changed": MODIFIED,
    "/merged/gone": DELETED,
    "/merged/sub/gone": DELETED,
    "/merged/deep/er/gone": DELETED,
    "/new": ADDED,
    "/hard": ADDED,
    "/made": ADDED,
    "/made/sub": ADDED,
    "/made/sub/new": ADDED,
}

NAMES = [
    "again",
    "again/.wh..wh..opq",
    "again/new",
    "empty",
    ".wh.gone",
    "hard",
    "made",
    "made/sub",
    "made/sub/new",
    "merged",
    "merged/changed",
    "merged/deep",
    "merged/deep/er",
    "merged/deep/er/.wh..wh..opq",
    "merged/.wh.gone",
    "merged/sub",
    "merged/sub/.wh.gone",
    "new",
    "was-directory",
    "was-file",
    "was-file/.wh..wh..opq",
    "was-file/new",
]


class Store:
    """A layer store on overlay2, with a layer of the files of BASE."""

    def __init__(self, top: Path) -> None:
        self.driver = Overlay2(top / "overlay2")
        self.layers = LayerStore(top / "layerdb", top / "locks", self.driver)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, text in BASE.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
        buffer.seek(0)
        self.base = layer_content.register(self.layers, layertar.TarReader(buffer), "")

    @contextlib.contextmanager
    def changed(self, script: str, *, userxattr: bool) -> Iterator[WritableLayer]:
        """Return a writable layer that a script has changed, in root's mount or in that of a user namespace."""
        writable = self.layers.create_writable(ContainerId("c" * 64), self.base.chain_id)
        try:
            if userxattr:
                self._in_user_namespace(writable.mount_id, script)
            else:
                merged = shlex.quote(str(self.driver.mount(writable.mount_id)))
                programs.run(["sh", "-ec", f"cd {merged}; {script}"])
                self.driver.unmount(writable.mount_id)
            yield writable
        finally:
            self.layers.remove_writable(writable.container_id)

    def _in_user_namespace(self, cache_id: CacheId, script: str) -> None:
        own = self.driver.root / cache_id
        (own / "merged").mkdir()
        options = ["userxattr", f"lowerdir={':'.join(self.driver.lowers(cache_id))}"]
        options += [f"upperdir={own}/diff", f"workdir={own}/work"]
        mount = shlex.join(["mount", "-t", "overlay", "-o", ",".join(options), "overlay", str(own / "merged")])
        root, merged = shlex.quote(str(self.driver.root)), shlex.quote(str(own / "merged"))
        inside = f"cd {root}; {mount}; cd {merged}; {script}"
        programs.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", inside])

    def members(self, writable: WritableLayer) -> list[str]:
        with self.driver.members(writable.mount_id, writable.init_id) as members:
            return [header.name.rstrip("/") for header in members]

    def changes(self, writable: WritableLayer) -> dict[str, int]:
        return self.driver.changes(writable.mount_id, writable.init_id)

    def commit(self, writable: WritableLayer) -> Layer:
        lease = self.layers.leases.open()
        layer = layer_content.copy(self.layers, writable, lease, newest=LONG_AGO)
        lease.end()
        assert layer
        return layer

    def view(self, layer: Layer) -> dict[str, str]:
        """The files that a container of this layer sees."""
        writable = self.layers.create_writable(ContainerId("d" * 64), layer.chain_id)
        root = self.driver.mount(writable.mount_id)
        seen = {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}
        self.layers.remove_writable(writable.container_id)
        return seen


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def attributes(top: Path) -> set[str]:
    paths = [os.path.join(parent, name) for parent, folders, files in os.walk(top) for name in folders + files]
    return {name for path in paths for name in os.listxattr(path, follow_symlinks=False)}


# -- what the kernel writes --------------------------------------------------------------------


@pytest.mark.parametrize("userxattr", [False, True])
def test_a_change_is_read_off_the_directory_of_either_mount(store: Store, *, userxattr: bool) -> None:
    with store.changed(CHANGE, userxattr=userxattr) as writable:
        spelling = "user" if userxattr else "trusted"
        found = attributes(store.driver.diff_path(writable.mount_id))
        assert f"{spelling}.overlay.opaque" in found
        assert {name.split(".")[0] for name in found} == {spelling}
        assert store.changes(writable) == CHANGES
        assert store.members(writable) == NAMES


def test_either_mount_s_commit_is_the_same_tar_and_the_same_files(tmp_path: Path) -> None:
    tars, views = [], []
    for userxattr in (False, True):
        store = Store(tmp_path / f"userxattr-{userxattr}")
        with store.changed(CHANGE, userxattr=userxattr) as writable:
            layer = store.commit(writable)
        tars.append(b"".join(layer_content.tar_stream(store.layers, layer.chain_id)))
        views.append(store.view(layer))
        assert attributes(store.driver.diff_path(layer.cache_id)) == {"trusted.overlay.opaque"}, "a copy is root's"
    assert tars[0] == tars[1]
    assert b"overlay." not in tars[0]
    assert views[0] == views[1]
    assert views[0]["again/new"] == "new\n"
    assert not {"gone", "again/old", "merged/deep/er/gone"} & set(views[0])


# -- what programs write -----------------------------------------------------------------------


@pytest.fixture(params=["trusted", "user"])
def namespace(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


def hide(upper: Path, namespace: str, name: str, *, mark: bytes = b"x") -> Path:
    """Make an empty file that hides a name, and mark the directory that it is in."""
    path = upper / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.setxattr(path, f"{namespace}.overlay.whiteout", b"")
    if mark:
        os.setxattr(path.parent, f"{namespace}.overlay.opaque", mark)
    return path


def test_an_empty_file_in_a_marked_directory_hides_a_name(store: Store, namespace: str) -> None:
    with store.changed("mkdir -p merged/sub; touch new", userxattr=namespace == "user") as writable:
        upper = store.driver.diff_path(writable.mount_id)
        for name in ("gone", "merged/gone", "merged/sub/gone", "was-directory"):
            hide(upper, namespace, name)
        os.link(upper / "gone", upper / "untouched")  # the kernel links its whiteouts, too
        assert store.changes(writable) == {
            "/gone": DELETED,
            "/untouched": DELETED,
            "/merged/gone": DELETED,
            "/merged/sub/gone": DELETED,
            "/was-directory": DELETED,
            "/new": ADDED,
        }
        layer = store.commit(writable)
    assert not {"gone", "untouched", "merged/gone", "merged/sub/gone", "was-directory/old"} & set(store.view(layer))
    with tarfile.open(fileobj=io.BytesIO(b"".join(layer_content.tar_stream(store.layers, layer.chain_id)))) as archive:
        assert [(member.size, member.mode, member.isreg()) for member in archive if ".wh." in member.name] == [
            (0, 0o600, True)
        ] * 5
        assert not any(name.endswith(".wh..wh..opq") for name in archive.getnames())


def test_we_see_what_the_kernel_sees(store: Store, namespace: str) -> None:
    """The reference is an overlay mount of the directory over the layer below: it hides the same names."""
    with store.changed("touch again/more merged/sub/more new", userxattr=namespace == "user") as writable:
        upper, base = store.driver.diff_path(writable.mount_id), store.driver.diff_path(store.base.cache_id)
        hide(upper, namespace, "merged/gone")
        os.setxattr(upper / "again", f"{namespace}.overlay.opaque", b"y")
        os.setxattr(upper, f"{namespace}.overlay.opaque", b"x")
        point = upper.with_name("point")
        point.mkdir()
        # Relative, because mount(8) has 255 bytes for an option since util-linux 2.39.
        lowers = ":".join(str(path.relative_to(store.driver.root)) for path in (upper, base))
        options = f"lowerdir={lowers}" + (",userxattr" if namespace == "user" else "")
        mount = f"cd {store.driver.root}; mount -t overlay -o {options} overlay {point}"
        script = f"{mount}; cd {point}; find . -type f | sort"
        namespaces = ["--user", "--map-root-user"] if namespace == "user" else []
        seen = programs.run(["unshare", *namespaces, "--mount", "sh", "-ec", script]).output.split()
        deleted = {path for path, kind in store.changes(writable).items() if kind == DELETED}
        point.rmdir()
    assert deleted == {"/merged/gone", "/again/old", "/again/sub"}
    hidden = ("merged/gone", "again/old", "again/sub/old")
    assert set(seen) == {f"./{name}" for name in [*BASE, "again/more", "merged/sub/more", "new"] if name not in hidden}


def test_lower_layers_hide_in_either_spelling(store: Store, namespace: str) -> None:
    lower = store.driver.create(CacheId("a" * 64), store.base.cache_id)
    hide(lower, namespace, "gone")
    (lower / "again").mkdir()
    os.setxattr(lower / "again", f"{namespace}.overlay.opaque", b"y")
    upper = store.driver.create(CacheId("b" * 64), CacheId("a" * 64))
    (upper / "again").mkdir()
    for name in ("gone", "again/old"):
        (upper / name).touch()
    assert store.driver.changes(CacheId("b" * 64), CacheId("a" * 64)) == {"/gone": ADDED, "/again/old": ADDED}


def walked(top: Path) -> Iterator[tuple[str, Entry]]:
    fd = opened(top)
    try:
        yield from walk(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("damage", ["no mark", "another mark", "content", "no file", "no attribute"])
def test_what_only_looks_like_a_whiteout_is_a_file(tmp_path: Path, namespace: str, damage: str) -> None:
    path = hide(tmp_path, namespace, "d/f", mark={"no mark": b"", "another mark": b"y"}.get(damage, b"x"))
    if damage == "content":
        path.write_text("x")
    if damage == "no file":
        path.unlink()
        path.mkdir()
        os.setxattr(path, f"{namespace}.overlay.whiteout", b"")
    if damage == "no attribute":
        os.removexattr(path, f"{namespace}.overlay.whiteout")
    found = {name: (is_whiteout(entry), is_opaque(entry)) for name, entry in walked(tmp_path)}
    assert not found["d/f"][0]
    assert found["d"][1] == (damage == "another mark")
    names = [header.name for header in TreeReader(tmp_path)]
    assert "d/f" in [name.rstrip("/") for name in names]


# -- overlayfs attributes that a container cannot forge ----------------------------------------

FORGERY = """
setfattr() { python3 -c 'import os, sys; os.setxattr(sys.argv[3], sys.argv[1], sys.argv[2].encode())' "$@"; }
touch merged/new; setfattr user.overlay.opaque y merged; setfattr user.overlay.opaque x merged/sub
: > merged/sub/gone; setfattr user.overlay.whiteout y merged/sub/gone
"""


def test_a_container_s_process_hides_nothing_in_a_commit_with_attributes_of_its_own(store: Store) -> None:
    with store.changed(FORGERY, userxattr=False) as writable:
        assert store.changes(writable) == {"/merged/new": ADDED, "/merged/sub/gone": MODIFIED}
        layer = store.commit(writable)
    view = store.view(layer)
    assert view["merged/changed"] == "x"
    assert view["merged/sub/gone"] == ""
    assert b"user.overlay" not in b"".join(layer_content.tar_stream(store.layers, layer.chain_id))


def test_in_a_tree_that_is_no_layer_marks_mean_nothing(tmp_path: Path, namespace: str) -> None:
    hide(tmp_path, namespace, "d/f")
    os.setxattr(tmp_path / "d", f"{namespace}.overlay.opaque", b"y")
    os.mknod(tmp_path / "device", stat.S_IFCHR, os.makedev(0, 0))
    found = {header.name: header.kind for header in TreeReader(tmp_path, whiteouts=False)}
    assert found == {"d/": tar.DIRECTORY, "d/f": tar.FILE, "device": tar.CHARACTER}
