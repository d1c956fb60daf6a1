"""Images go back and forth between us, docker, skopeo and umoci, and no digest changes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.images.image import Image
from pylab_container.store import layer_content
from tests.support.dockerd import Docker

CHANGES = (
    "echo new > /new; rm /bin/plain; rm -r /home; mkdir /home; ln /new /hard; ln -s /new /soft; chmod 4755 /etc/group;"
    "chown 1000:1000 /etc/passwd; mkdir -p /a/b; touch /a/b/c; mkfifo /pipe"
)


def tool(*words: str | Path) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def skopeo_copy(source: str, target: str) -> None:
    tool("skopeo", "--insecure-policy", "copy", "--quiet", source, target)


@pytest.fixture
def child(engine: Engine, image: Image) -> Image:
    """lab/child:v1, of two layers, with a whiteout and an opaque directory."""
    container = engine.containers.run_detached(image, ["sh", "-c", CHANGES], network_mode="none")
    container.wait()
    made = container.commit("lab/child:v1", changes=["CMD sh", "LABEL a=<b>&c"])
    container.remove()
    return made


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "other")
    yield engine
    shutil.rmtree(engine.runtime.path, ignore_errors=True)


# -- skopeo and umoci --------------------------------------------------------------------------

PLACES = [
    ("docker-archive", "", "docker-archive:{}"),
    ("docker-archive", "gzip", "docker-archive:{}"),
    ("oci-archive", "", "oci-archive:{}"),
    ("oci-archive", "zstd", "oci-archive:{}"),
    ("oci-dir", "", "oci:{}"),
    ("oci-dir", "gzip", "oci:{}"),
]


@pytest.mark.parametrize(("format", "compress", "place"), PLACES)
def test_skopeo_reads_what_we_save(
    engine: Engine, child: Image, tmp_path: Path, format: str, compress: str, place: str
) -> None:
    engine.images.save("lab/child:v1", tmp_path / "saved", format=format, compress=compress)
    source = place.format(tmp_path / "saved")
    assert tool("skopeo", "inspect", "--config", "--raw", source).encode() == child.config.raw
    skopeo_copy(source, f"dir:{tmp_path}/copy")  # every digest is verified on the way
    manifest = json.loads((tmp_path / "copy/manifest.json").read_bytes())
    assert manifest["config"]["digest"] == child.id
    if not compress:
        assert [layer["digest"] for layer in manifest["layers"]] == list(child.config.diff_ids)


@pytest.mark.parametrize(
    "place", ["docker-archive:{}:lab/child:v1", "oci-archive:{}:lab/child:v1", "oci:{}:lab/child:v1"]
)
def test_we_load_what_skopeo_writes(engine: Engine, other: Engine, child: Image, tmp_path: Path, place: str) -> None:
    engine.images.save("lab/child:v1", tmp_path / "saved")
    skopeo_copy(f"docker-archive:{tmp_path}/saved", place.format(tmp_path / "written"))
    (loaded,) = other.images.load(tmp_path / "written")
    assert loaded.tags == ["lab/child:v1"]
    assert loaded.config.diff_ids == child.config.diff_ids
    written = tool("skopeo", "inspect", "--config", "--raw", place.format(tmp_path / "written"))
    assert loaded.config.raw == written.encode()
    for field in ("Cmd", "Env", "Labels"):  # skopeo leaves out of an OCI config what OCI does not know
        assert (loaded.config.config.get(field) or []) == child.config.config[field]


@pytest.mark.parametrize("compress", ["", "gzip"])
def test_umoci_unpacks_what_we_save_to_the_same_tree(
    engine: Engine, child: Image, tmp_path: Path, compress: str
) -> None:
    engine.images.save("lab/child:v1", tmp_path / "layout", format="oci-dir", compress=compress)
    tool("umoci", "unpack", "--image", f"{tmp_path}/layout:v1", tmp_path / "bundle")
    root = tmp_path / "bundle/rootfs"
    assert (root / "new").read_text() == "new\n"
    assert not (root / "bin/plain").exists()
    assert os.listdir(root / "home") == []
    assert (root / "hard").stat().st_ino == (root / "new").stat().st_ino
    assert (root / "etc/group").stat().st_mode & 0o7777 == 0o4755


def test_we_load_what_umoci_made_of_ours(engine: Engine, other: Engine, child: Image, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    engine.images.save("lab/child:v1", layout, format="oci-dir")
    tool("umoci", "unpack", "--image", f"{layout}:v1", tmp_path / "bundle")
    (tmp_path / "bundle/rootfs/umoci").write_text("was here")
    (tmp_path / "bundle/rootfs/new").unlink()
    tool("umoci", "repack", "--image", f"{layout}:v2", tmp_path / "bundle")
    tool("umoci", "config", "--image", f"{layout}:v2", "--config.cmd", "true")
    digests = {
        entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"]
        for entry in json.loads((layout / "index.json").read_bytes())["manifests"]
    }
    images = {image.id: image for image in other.images.load(layout)}
    assert child.id in images
    manifest = json.loads((layout / "blobs/sha256" / digests["v2"][7:]).read_bytes())
    repacked = images[manifest["config"]["digest"]]
    assert repacked.config.diff_ids[:2] == child.config.diff_ids
    raw = b"".join(layer_content.tar_stream(other.data.layers, repacked.config.chain_id))
    names = [header.name for header in members(raw)]
    assert {".wh.new", "umoci"} <= {name.removeprefix("./") for name in names}


def members(archive: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return opened.getmembers()


# -- docker ------------------------------------------------------------------------------------


def test_images_go_to_docker_and_back_with_their_ids(
    engine: Engine, other: Engine, image: Image, child: Image, empty_dockerd: Docker, tmp_path: Path
) -> None:
    engine.images.save(["busybox:1", "lab/child:v1"], tmp_path / "ours", compress="gzip")
    told = empty_dockerd.lines("load", "--input", tmp_path / "ours")
    assert told == ["Loaded image: busybox:1", "Loaded image: lab/child:v1"]
    listed = empty_dockerd.lines("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
    assert sorted(listed) == [f"busybox:1 {image.id}", f"lab/child:v1 {child.id}"]
    theirs = empty_dockerd.run("save", "busybox:1", "lab/child:v1")
    loaded = other.images.load(io.BytesIO(theirs))
    found = sorted((each.tags, each.id) for each in loaded)  # docker saves them in any order
    assert found == [(["busybox:1"], image.id), (["lab/child:v1"], child.id)]
    for each in loaded:
        for layer in each.layers:
            raw = b"".join(layer_content.tar_stream(other.data.layers, layer.chain_id))
            assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == layer.diff_id


def test_an_export_and_a_diff_are_docker_s(engine: Engine, child: Image, dockerd: Docker, tmp_path: Path) -> None:
    script = "echo x > /x; rm /new; rm -r /a; mkdir /a; touch /a/z; chmod 600 /etc/passwd; mkdir /d; mv /soft /d/soft"
    ours = engine.containers.run_detached(child, ["sh", "-c", script], network_mode="none")
    ours.wait()
    engine.images.save("lab/child:v1", tmp_path / "saved")
    dockerd.run("load", "--input", tmp_path / "saved")
    dockerd.run("run", "--name=box", "--network=none", "lab/child:v1", "sh", "-c", script)
    their_diff = dockerd.lines("diff", "box")
    their_export = dockerd.run("export", "box")
    assert sorted(f"{change.letter} {change.path}" for change in ours.diff()) == sorted(their_diff)
    assert listing(b"".join(ours.export())) == listing(their_export)


def listing(archive: bytes) -> dict[str, str]:
    """`tar -tv` of an archive by name; without times of this year, which are those of engines and scripts at work."""
    command = ["tar", "--full-time", "-tvf", "-"]
    shown = subprocess.run(command, input=archive, capture_output=True, check=True).stdout.decode()
    found = {}
    for line in shown.splitlines():
        mode, owner, size, day, time, name = line.split(maxsplit=5)
        found[name.removeprefix("./")] = f"{mode} {owner} {size}" + ("" if day >= "2020" else f" {day} {time}")
    return found
