"""The data root is Docker's: dockerd opens ours, and we open dockerd's."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.host import programs
from pylab_container.images.image import Image
from pylab_container.store import layer_content
from tests.support.dockerd import Docker, copy_of, run_dockerd

CHANGES = "echo new > /new; rm /bin/plain; rm -r /home; mkdir /home; ln /new /hard; chmod 4755 /etc/group; mkfifo /pipe"


def diff_ids_of_save(archive: bytes) -> list[str]:
    """The digests of the layers' tars in what `docker save` writes."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:

        def read(name: str) -> bytes:
            member = tar.extractfile(name)
            assert member
            return member.read()

        (manifest,) = json.loads(read("manifest.json"))
        return [f"sha256:{hashlib.sha256(read(layer)).hexdigest()}" for layer in manifest["Layers"]]


def rebuilt_diff_ids(engine: Engine, image: Image) -> list[str]:
    layers = (b"".join(layer_content.tar_stream(engine.data.layers, layer.chain_id)) for layer in image.layers)
    return [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]


def run(engine: Engine, image: Image | str, script: str) -> bytes:
    output: bytes = engine.containers.run(image, ["sh", "-c", script], remove=True, network_mode="none")
    return output


@pytest.fixture
def changed(engine: Engine, image: Image) -> Image:
    """A committed image with a whiteout, an opaque directory, a hard link and a set-uid file."""
    container = engine.containers.run_detached(image, ["sh", "-c", CHANGES], network_mode="none")
    container.wait()
    child = container.commit("lab/changed:v1", message="changes", author="student", conf={"Env": ["A=1 & 2"]})
    container.remove()
    return child


# -- dockerd on our data root ------------------------------------------------------------------


def test_dockerd_opens_a_copy_of_our_data_root(engine: Engine, image: Image, changed: Image, tmp_path: Path) -> None:
    with run_dockerd(copy_of(engine.data_root, tmp_path / "copy")) as docker:
        listed = docker.lines("images", "--all", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
        assert sorted(listed) == sorted([f"busybox:1 {image.id}", f"lab/changed:v1 {changed.id}"])
        for each in (image, changed):
            (theirs,) = docker.json("inspect", each.id)
            ours = json.loads(json.dumps(each.attrs))
            assert set(theirs.pop("GraphDriver")["Data"]) == set(ours.pop("GraphDriver")["Data"])
            assert theirs == ours
        history = docker.lines("history", "--no-trunc", "--human=false", "--format", "{{json .}}", changed.id)
        assert [
            (step["ID"], step["Size"], step["CreatedBy"], step["Comment"]) for step in map(json.loads, history)
        ] == [(entry.id, str(entry.size), entry.created_by, entry.comment) for entry in changed.history()]
        script = "cat /new; ls /home; test -e /bin/plain || echo gone; stat -c %a:%h /etc/group /hard; echo $A"
        output = docker.run("run", "--rm", "--network=none", "lab/changed:v1", "sh", "-c", script)
        assert output == b"new\ngone\n4755:1\n644:2\n1 & 2\n"
        assert diff_ids_of_save(docker.run("save", "lab/changed:v1")) == list(changed.config.diff_ids)


def test_dockerd_builds_and_commits_on_our_images_and_removes_them(
    engine: Engine, changed: Image, tmp_path: Path
) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM lab/changed:v1\nRUN echo more >> /new\nCMD cat /new\n")
    with run_dockerd(copy_of(engine.data_root, tmp_path / "copy")) as docker:
        docker.run("build", "--network=none", "-t", "built:1", tmp_path / "context")
        assert docker.run("run", "--rm", "--network=none", "built:1") == b"new\nmore\n"
        docker.run("rmi", "built:1", "lab/changed:v1", "busybox:1")
        assert docker.lines("images", "--all", "--quiet") == []
        assert os.listdir(docker.data_root / "overlay2/l") == []


def test_dockerd_opens_a_data_root_that_a_repair_has_mended(
    engine: Engine, image: Image, changed: Image, tmp_path: Path
) -> None:
    """The copies of what was damaged are beside the files, where dockerd finds them, too."""
    container = engine.containers.create(changed, ["true"], name="damaged", network_mode="none")
    store, layers = (
        engine.data.images,
        [engine.data.layers.root / "sha256" / layer.chain_id.hex for layer in changed.layers],
    )
    mounts = engine.data.layers.root / "mounts" / container.id
    own = engine.data.driver.root / engine.data.layers.writable(container.id).mount_id
    contents = [store.content_path(one.id) for one in (image, changed)]
    exchanged = [path.read_bytes() for path in contents]
    for path, content in zip(contents, reversed(exchanged), strict=True):
        path.write_bytes(content)
    damaged = [layers[0] / "size", layers[1] / "cache-id", layers[1] / "parent", mounts / "mount-id", mounts / "parent"]
    damaged += [own / "link", own / "lower", store.root / "imagedb/metadata/sha256" / changed.id[7:] / "parent"]
    damaged += [engine.data.records.directory(container.id) / "hostconfig.json"]
    for path in damaged:
        path.write_bytes(b"\xff../../x")
    names = store.root / "repositories.json"
    names.write_bytes(names.read_bytes()[:-2])
    assert [finding for finding in engine.fsck(repair=True) if not finding.repaired] == []
    assert engine.fsck(deep=True) == []
    assert all(path.with_name(f"{path.name}.damaged").exists() for path in [*contents, *damaged, names])
    with run_dockerd(copy_of(engine.data_root, tmp_path / "copy")) as docker:
        listed = docker.lines("images", "--all", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
        assert sorted(listed) == sorted([f"busybox:1 {image.id}", f"lab/changed:v1 {changed.id}"])
        (theirs,) = docker.json("inspect", changed.id)
        assert theirs["Parent"] == image.id
        assert docker.run("run", "--rm", "--network=none", "lab/changed:v1", "cat", "/new") == b"new\n"
        assert diff_ids_of_save(docker.run("save", "lab/changed:v1")) == list(changed.config.diff_ids)


# -- our engine on dockerd's data root ---------------------------------------------------------


@pytest.fixture(scope="module")
def docker_root(busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root of dockerd after an import, a build of three layers and a commit."""
    top = tmp_path_factory.mktemp("docker")
    (top / "context").mkdir()
    (top / "context/file").write_text("copied\n")
    (top / "context/Dockerfile").write_text(
        f"FROM busybox:1\nRUN {CHANGES}\nCOPY file /srv/\nENV A=<b>&c\nCMD cat /new\n"
    )
    with run_dockerd(top / "root") as docker:
        docker.run("import", "--message=hello", busybox_tar, "busybox:1")
        docker.run("build", "--network=none", "-t", "built:1", top / "context")
        docker.run("run", "--detach", "--name=lab", "--network=none", "built:1", "sh", "-c", "echo x > /x")
        docker.run("wait", "lab")
        docker.run("commit", "--message=m", "--author=a", "lab", "committed:1")
        docker.run("rm", "lab")
        names = ("busybox:1", "built:1", "committed:1")
        (top / "inspect.json").write_bytes(docker.run("inspect", *names))
        (top / "ids").write_bytes(docker.run("images", "--all", "--quiet", "--no-trunc"))
    return top


@pytest.fixture
def adopted(docker_root: Path, tmp_path: Path, engine: Engine) -> Engine:
    """An engine on a copy of dockerd's data root: the fixture's own, so that it is cleaned up."""
    shutil.rmtree(engine.data_root)
    copy_of(docker_root / "root", engine.data_root)
    return Engine(engine.data_root)


def test_we_open_a_data_root_that_dockerd_made(adopted: Engine, docker_root: Path) -> None:
    assert {image.id for image in adopted.images.list(all=True)} == set((docker_root / "ids").read_text().split())
    for theirs in json.loads((docker_root / "inspect.json").read_bytes()):
        image = adopted.images.get(theirs["RepoTags"][0])
        ours = json.loads(json.dumps(image.attrs))
        assert set(theirs.pop("GraphDriver")["Data"]) == set(ours.pop("GraphDriver")["Data"])
        assert ours == theirs
        assert rebuilt_diff_ids(adopted, image) == list(image.config.diff_ids)
    assert run(adopted, "built:1", "cat /new /srv/file; ls /home; echo $A") == b"new\ncopied\n<b>&c\n"
    assert adopted.containers.run("committed:1", ["cat", "/x"], remove=True, network_mode="none") == b"x\n"


def test_dockerd_takes_back_what_we_committed_on_its_image(adopted: Engine, tmp_path: Path) -> None:
    container = adopted.containers.run_detached(
        "built:1", ["sh", "-c", "echo ours > /ours; rm /new"], network_mode="none"
    )
    container.wait()
    child = container.commit("ours:1")
    container.remove()
    with run_dockerd(copy_of(adopted.data_root, tmp_path / "back")) as docker:
        assert docker.lines("images", "--no-trunc", "--quiet", "ours") == [child.id]
        output = docker.run(
            "run", "--rm", "--network=none", "ours:1", "sh", "-c", "cat /ours /srv/file; ls /new || true"
        )
        assert output == b"ours\ncopied\n"


def test_we_remove_what_dockerd_made(adopted: Engine) -> None:
    for name in ("committed:1", "built:1", "busybox:1"):
        adopted.images.remove(name)
    assert adopted.images.list(all=True) == []
    assert adopted.data.layers.all() == []
    assert os.listdir(adopted.data_root / "overlay2/l") == []


# -- the same input gives the same -------------------------------------------------------------


@pytest.fixture(scope="module")
def odd_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files whose size or name leaves room for opinions."""
    top = tmp_path_factory.mktemp("odd")
    (top / "big").write_bytes(b"x" * 100_000)
    os.link(top / "big", top / "hard")
    (top / "soft").symlink_to("big")
    (top / "dangling").symlink_to("/no/such/place/" + "x" * 200)
    (top / "directory").mkdir(mode=0o2750)
    (top / ("n" * 200)).write_text("x")
    (top / os.fsdecode(b"caf\xe9")).write_text("x")
    (top / "<&>").write_text("x")
    os.mkfifo(top / "pipe")
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(top / "big", "user.note", b"x")
    os.utime(top / "soft", ns=(0, 1_600_000_000_123_456_789), follow_symlinks=False)
    return top


@pytest.mark.parametrize("dialect", ["gnu", "posix"])
def test_an_import_gives_docker_s_diff_id_size_and_config(
    engine: Engine, empty_dockerd: Docker, odd_tree: Path, tmp_path: Path, dialect: str
) -> None:
    archive = tmp_path / "odd.tar"
    programs.run(["tar", f"--format={dialect}", "--xattrs", "-C", str(odd_tree), "-cf", str(archive), "."])
    ours = engine.images.import_(archive, "odd:1", message="hello")
    their_id = empty_dockerd.run("import", "--message=hello", archive, "odd:1").decode().strip()
    (theirs,) = empty_dockerd.json("inspect", "odd:1")
    assert theirs["RootFS"]["Layers"] == list(ours.config.diff_ids)
    assert theirs["Size"] == ours.size
    layer = empty_dockerd.data_root / "image/overlay2/layerdb/sha256" / ours.config.chain_id[7:]
    assert (layer / "size").read_text() == str(ours.size)
    expected = empty_dockerd.config(their_id)
    found = ours.config.document
    for document in (expected, found):
        document.pop("created")
        document.pop("docker_version")  # Debian's says +dfsg1
        document["history"][0].pop("created")
    assert found == expected
    assert list(found) == list(expected)
    assert tree(empty_dockerd.data_root / "overlay2" / (layer / "cache-id").read_text() / "diff") == tree(
        engine.data.driver.diff_path(ours.layers[0].cache_id)
    )


def tree(top: Path) -> dict[str, Any]:
    """Names, kinds, modes, owners, attributes and times of a directory's files."""
    found: dict[str, Any] = {}
    for path in top.rglob("*"):
        status = path.lstat()
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
        owner = (status.st_uid, status.st_gid, status.st_rdev)
        found[str(path.relative_to(top))] = (status.st_mode, owner, status.st_nlink, status.st_mtime_ns, xattrs)
    return found


def test_a_commit_has_the_config_that_docker_gives_it(adopted: Engine, docker_root: Path) -> None:
    container = adopted.containers.run_detached("built:1", ["sh", "-c", "echo x > /x"], network_mode="none")
    container.wait()
    ours = container.commit("ours:1", message="m", author="a")
    container.remove()
    theirs, found = adopted.images.get("committed:1").config.document, ours.config.document
    for document in (theirs, found):
        for varying in ("created", "container", "docker_version"):
            document.pop(varying)
        document["history"][-1].pop("created")
        document["rootfs"]["diff_ids"].pop()  # the container's files have times of their own
        document["container_config"].pop("Hostname")
        document["config"].pop("Hostname")
    assert found == theirs
    assert list(found) == list(theirs)
    assert list(found["config"]) == list(theirs["config"])
