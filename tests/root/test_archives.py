"""save and load: round trips are exact for every archive format; an invalid archive is refused without a trace."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from pylab_container import Engine, events
from pylab_container.errors import ImageNotFound, InvalidArchive, InvalidInput
from pylab_container.host import programs
from pylab_container.images.image import Image
from pylab_container.store import layer_content

pytestmark = pytest.mark.shared_engine

Files = dict[str, bytes]

CANARY = "root:canary"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Engine]:
    """A second engine, into which tests load archives."""
    engine = Engine(tmp_path / "other")
    yield engine
    shutil.rmtree(engine.runtime.path, ignore_errors=True)


@pytest.fixture
def child(engine: Engine, image: Image) -> Image:
    """An image of two layers, the lower one shared with busybox:1."""
    container = engine.containers.create(image, ["sh"], network_mode="none")
    container.put_archive("/", tar_of({"etc/new": b"new\n", "srv/file": os.urandom(70_000)}))
    made = container.commit("lab/child:v1")
    container.remove()
    return made


def tar_of(files: Files, links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


def files_of(archive: bytes) -> Files:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened if member.isfile()}  # type: ignore[union-attr]


def saved(engine: Engine, *names: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    engine.images.save(names, buffer, **options)
    return buffer.getvalue()


def layers(engine: Engine, image: Image) -> list[bytes]:
    return [b"".join(layer_content.tar_stream(engine.data.layers, layer.chain_id)) for layer in image.layers]


def contents(engine: Engine) -> dict[str, bytes]:
    """Return the content of every record of the store, and the names of all files in its layers."""
    found = {}
    for path in sorted(engine.data_root.rglob("*")):
        name = str(path.relative_to(engine.data_root))
        if not name.startswith("locks") and name != "tmp":
            found[name] = path.read_bytes() if path.is_file() and name.startswith("image/") else b""
    return found


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Pipe(io.RawIOBase):
    """A stream that can only be read from front to back, and in small pieces."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(min(size, 1000) if size >= 0 else 1000)


# -- round trips -------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("compress", ["", "gzip", "zstd"])
@pytest.mark.parametrize("format", ["docker-archive", "oci-archive", "oci-dir"])
def test_what_was_saved_is_loaded_with_its_id_names_and_every_byte(
    engine: Engine, other: Engine, image: Image, child: Image, format: str, compress: str, tmp_path: Path
) -> None:
    engine.images.save(["lab/child:v1", "busybox:1"], tmp_path / "saved", format=format, compress=compress)
    loaded = other.images.load(tmp_path / "saved")
    assert [(each.id, each.tags) for each in loaded] == [(child.id, ["lab/child:v1"]), (image.id, ["busybox:1"])]
    assert layers(other, loaded[0]) == layers(engine, child)
    assert other.images.get("busybox:1").config.raw == image.config.raw


def test_a_layer_that_images_share_is_in_the_archive_once(engine: Engine, image: Image, child: Image) -> None:
    archive = saved(engine, "busybox:1", "lab/child:v1")
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        names = opened.getnames()
    assert len(names) == len(set(names))
    first, second = json.loads(files_of(archive)["manifest.json"])
    assert second["Layers"][0] == first["Layers"][0] == f"blobs/sha256/{image.config.diff_ids[0][7:]}"
    assert [(each["RepoTags"], each["Config"][-64:]) for each in (first, second)] == [
        (["busybox:1"], image.id[7:]),
        (["lab/child:v1"], child.id[7:]),
    ]


def test_every_blob_has_its_own_digest_and_saving_again_gives_the_same_bytes(engine: Engine, child: Image) -> None:
    for compress in ("", "gzip", "zstd"):
        archive = saved(engine, "lab/child:v1", compress=compress)
        blobs = {name: data for name, data in files_of(archive).items() if name.startswith("blobs/")}
        assert blobs
        assert all(name == f"blobs/sha256/{digest(data)}" for name, data in blobs.items())
        assert saved(engine, "lab/child:v1", compress=compress) == archive


def test_a_repository_stands_for_all_its_tags_and_an_id_brings_no_name(engine: Engine, image: Image) -> None:
    image.tag("busybox:2")
    (manifest,) = json.loads(files_of(saved(engine, "busybox"))["manifest.json"])
    assert manifest["RepoTags"] == ["busybox:1", "busybox:2"]
    (manifest,) = json.loads(files_of(saved(engine, image.id))["manifest.json"])
    assert manifest["RepoTags"] is None
    assert json.loads(files_of(b"".join(image.save(named="busybox:2")))["manifest.json"])[0]["RepoTags"] == [
        "busybox:2"
    ]
    assert b"".join(image.save()) == saved(engine, image.id)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_an_archive_comes_through_a_pipe_compressed_or_not(
    engine: Engine, other: Engine, child: Image, pack: Callable[[bytes], bytes]
) -> None:
    stream: Any = Pipe(pack(saved(engine, "lab/child:v1")))
    (loaded,) = other.images.load(stream)
    assert (loaded.id, loaded.tags) == (child.id, ["lab/child:v1"])
    with other.data.scratch() as scratch:
        assert [path.name for path in scratch.parent.iterdir()] == [scratch.name]


def test_loading_what_is_there_already_changes_nothing_but_the_names(engine: Engine, child: Image) -> None:
    archive = saved(engine, "lab/child:v1")
    engine.images.tag("busybox:1", "lab/child:v1")
    before = len(engine.data.layers.all())
    with engine.events.collected() as told:
        (loaded,) = engine.images.load(io.BytesIO(archive))
    assert loaded.tags == ["lab/child:v1"]
    assert len(engine.data.layers.all()) == before
    assert not any(isinstance(event, events.LayerRegistered) for event in told)


def test_a_name_that_is_loaded_again_was_given_when_it_was(engine: Engine, child: Image) -> None:
    archive, before = saved(engine, "lab/child:v1"), child.attrs["Metadata"]
    engine.images.load(io.BytesIO(archive))
    assert child.attrs["Metadata"] == before


def test_images_know_what_they_were_made_from_if_that_comes_along(engine: Engine, other: Engine, image: Image) -> None:
    below = engine.containers.create(image, "below").commit("below:1")
    above = engine.containers.create(below, "above").commit("above:1")
    other.images.load(io.BytesIO(saved(engine, "above:1", "below:1")))
    assert [other.images.get(one.id).attrs["Parent"] for one in (above, below)] == [below.id, ""]
    assert other.fsck() == []


def test_a_parent_that_cannot_be_is_refused(other: Engine) -> None:
    histories: list[list[dict[str, str]]] = [[{"created_by": "a"}], [{"created_by": "b"}, {"created_by": "c"}]]
    configs = [image_config([], history=history) for history in histories]
    ids = [f"sha256:{digest(config)}" for config in configs]
    entries: list[dict[str, Any]] = [{"Config": f"{number}.json", "Layers": []} for number in range(2)]
    files = {f"{number}.json": config for number, config in enumerate(configs)}
    for child_number in (0, 1):
        listed = [{**entry, **({"Parent": ids[1 - child_number]} if number == child_number else {})}
                  for number, entry in enumerate(entries)]  # fmt: skip
        with pytest.raises(InvalidArchive, match="is not a valid parent"):
            other.images.load(io.BytesIO(tar_of({**files, "manifest.json": json.dumps(listed).encode()})))


def test_a_circle_of_parents_is_none(other: Engine) -> None:
    configs = [image_config([], author=author) for author in ("a", "b")]
    ids = [f"sha256:{digest(config)}" for config in configs]
    listed = [{"Config": f"{n}.json", "Layers": [], "Parent": ids[1 - n]} for n in range(2)]
    files = {f"{number}.json": config for number, config in enumerate(configs)}
    loaded = other.images.load(io.BytesIO(tar_of({**files, "manifest.json": json.dumps(listed).encode()})))
    assert [each.attrs["Parent"] for each in loaded] == ["", ""]


def test_an_archive_in_the_old_layout_of_docker_is_loaded(other: Engine) -> None:
    layer = tar_of({"etc/motd": b"hello\n"})
    archive, config = old_layout([layer, tar_of({"a": b"a"}), layer])
    (loaded,) = other.images.load(io.BytesIO(archive))
    assert (loaded.id, loaded.tags) == (f"sha256:{digest(config)}", ["old:1"])
    assert layers(other, loaded)[0] == layer


def oldest_layout(parent: str = "") -> dict[str, bytes]:
    """Return the files of an archive from docker before 1.10: a JSON document per layer, and layer names."""
    low = {"id": "low", "created": "2013-06-13T14:03:50Z", "comment": "imported", "parent": parent}
    top = {
        "id": "top",
        "parent": "low",
        "created": "2015-03-04T21:38:56Z",
        "author": "me",
        "os": "linux",
        "architecture": "amd64",
        "docker_version": "1.4.1",
        "Size": 7,
        "made_up": 1,
        "config": {"Cmd": ["sh"]},
        "container_config": {"Cmd": ["/bin/sh", "-c", "#(nop) CMD sh"]},
    }
    return {
        "repositories": b'{"lab/oldest":{"1":"top"}}',
        "low/json": json.dumps(low).encode(),
        "low/layer.tar": tar_of({"etc/motd": b"hello\n"}),
        "top/json": json.dumps(top).encode(),
        "top/layer.tar": b"",
    }


def test_an_archive_of_the_first_dockers_is_loaded(other: Engine) -> None:
    (loaded,) = other.images.load(io.BytesIO(tar_of(oldest_layout())))
    assert loaded.tags == ["lab/oldest:1"]
    assert loaded.attrs["Config"]["Cmd"] == ["sh"]
    assert layers(other, loaded) == [tar_of({"etc/motd": b"hello\n"}), b""]
    assert loaded.config.history == (
        {"created": "2013-06-13T14:03:50Z", "comment": "imported"},
        {"created": "2015-03-04T21:38:56Z", "author": "me", "created_by": "/bin/sh -c #(nop) CMD sh"},
    )
    assert not {"id", "parent", "Size", "made_up"} & set(loaded.config.document)
    assert other.fsck() == []


@pytest.mark.parametrize(
    "lie",
    [
        oldest_layout("top"),
        oldest_layout("nowhere"),
        {**oldest_layout(), "top/json": b"[1]"},
        {**oldest_layout(), "repositories": b'{"x": 1}'},
        {**oldest_layout(), "repositories": b'{"x": {"1": "../top"}}'},
        {**oldest_layout(), "top/layer.tar": b"no tar" * 100},
    ],
    ids=["a circle", "no parent", "no document", "no names", "no layer", "no tar"],
)
def test_an_archive_of_the_first_dockers_that_lies_is_refused(other: Engine, lie: dict[str, bytes]) -> None:
    with pytest.raises(InvalidArchive):
        other.images.load(io.BytesIO(tar_of(lie)))
    assert other.images.list(all=True) == []


def old_layout(tars: list[bytes]) -> tuple[bytes, bytes]:
    """Return an archive as docker 20.10 saves it: a directory per layer; a repeated layer is a symlink to the first."""
    config = image_config(tars)
    names, files, links = [], {f"{digest(config)}.json": config}, {}
    for number, layer in enumerate(tars):
        directory = f"{number:064x}"
        names.append(f"{directory}/layer.tar")
        files |= {f"{directory}/VERSION": b"1.0", f"{directory}/json": b"{}"}
        first = tars.index(layer)
        if first < number:
            links[names[-1]] = f"../{first:064x}/layer.tar"
        else:
            files[names[-1]] = layer
    files["manifest.json"] = json.dumps(
        [{"Config": f"{digest(config)}.json", "RepoTags": ["old:1"], "Layers": names}]
    ).encode()
    files["repositories"] = b'{"old":{"1":"0"}}'
    return tar_of(files, links), config


def image_config(tars: list[bytes], **more: Any) -> bytes:
    diff_ids = [f"sha256:{digest(layer)}" for layer in tars]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    return json.dumps({**document, **more}).encode()


# -- saving where it cannot be -----------------------------------------------------------------


def test_saving_to_a_place_that_cannot_be_leaves_nothing(engine: Engine, image: Image, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    for output, format in (
        (tmp_path / "missing/file", "docker-archive"),
        (tmp_path / "full", "docker-archive"),
        (tmp_path / "full", "oci-dir"),
        (tmp_path / "full/file/x", "oci-dir"),
        (Path("/dev/null"), "docker-archive"),
        (Path("/proc/x"), "oci-archive"),
    ):
        with pytest.raises(InvalidInput) as caught:
            engine.images.save("busybox:1", output, format=format)
        assert caught.value.hint
    assert sorted(path.name for path in tmp_path.rglob("*") if "root" not in path.parts) == ["file", "full"]
    assert Path("/dev/null").is_char_device()


def test_an_image_that_is_not_there_leaves_no_file_and_an_old_file_stays(
    engine: Engine, image: Image, tmp_path: Path
) -> None:
    (tmp_path / "old").write_text("old")
    for output in (tmp_path / "new", tmp_path / "old"):
        with pytest.raises(ImageNotFound):
            engine.images.save(["busybox:1", "nowhere:1"], output)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "old").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.name != "root"] == ["old"]


def test_a_full_disk_ends_a_save_with_a_sentence(engine: Engine, image: Image, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    programs.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(small)])
    try:
        for format in ("docker-archive", "oci-dir"):
            with pytest.raises(InvalidInput, match="No space left"):
                engine.images.save("busybox:1", small / "saved", format=format)
        assert list(small.iterdir()) == []
    finally:
        programs.run(["umount", str(small)])


# -- hostile archives --------------------------------------------------------------------------

LAYER = tar_of({"a": b"content"})
CONFIG = image_config([LAYER])


def docker(manifest: Any = None, files: Files | None = None, links: dict[str, str] | None = None) -> bytes:
    """A Docker archive of one image, with parts of it replaced."""
    entry = {"Config": "config", "RepoTags": ["evil:1"], "Layers": ["layer"]}
    if isinstance(manifest, dict):
        manifest = [{**entry, **manifest}]
    raw = manifest if isinstance(manifest, bytes) else json.dumps([entry] if manifest is None else manifest).encode()
    every = {"manifest.json": raw, "config": CONFIG, "layer": LAYER, **(files or {})}
    return tar_of({name: data for name, data in every.items() if name not in (links or {})}, links)


def descriptor(data: bytes, kind: str = "manifest", **fields: Any) -> dict[str, Any]:
    media = f"application/vnd.oci.image.{kind}.v1+json"
    return {"mediaType": media, "digest": f"sha256:{digest(data)}", "size": len(data), **fields}


def layout(
    *, manifest: Any = None, index: Any = None, blobs: tuple[bytes, ...] = (), files: Files | None = None
) -> Files:
    """The files of an OCI image layout of one image, with parts of it replaced."""
    told: dict[str, Any] = {"schemaVersion": 2, "config": descriptor(CONFIG, "config"), "layers": [descriptor(LAYER)]}
    raw = manifest if isinstance(manifest, bytes) else json.dumps({**told, **(manifest or {})}).encode()
    listed = index if isinstance(index, bytes) else json.dumps(index or {"manifests": [descriptor(raw)]}).encode()
    stored = {f"blobs/sha256/{digest(blob)}": blob for blob in (CONFIG, LAYER, raw, *blobs)}
    return {"oci-layout": b"{}", "index.json": listed, **stored, **(files or {})}


def nested(depth: int) -> Files:
    """Build a chain of nested indexes. A real loop is impossible, because each refers to the next by digest."""
    inner = json.dumps({"manifests": [descriptor(b"nothing")]}).encode()
    blobs = [inner]
    for _ in range(depth):
        blobs.append(json.dumps({"manifests": [descriptor(blobs[-1], "index")]}).encode())
    return layout(index={"manifests": [descriptor(blobs[-1], "index")]}, blobs=tuple(blobs))


def lying_index(**fields: Any) -> Files:
    """Build an index that refers to itself under a wrong digest: an endless loop unless digests are verified."""
    name = "0" * 64
    raw = json.dumps({"manifests": [descriptor(b"", "index", digest=f"sha256:{name}", **fields)]}).encode()
    return layout(index=raw, files={f"blobs/sha256/{name}": raw})


MANY = [image_config([LAYER], author=str(number)) for number in range(3)]
FOREIGN = json.dumps({"manifests": [descriptor(b"", platform={"os": "linux", "architecture": "s390x"})]}).encode()
WRONG = "sha256:" + "0" * 64

HOSTILE: dict[str, bytes] = {
    "no tar": b"not a tar" * 1000,
    "nothing": b"",
    "zeros": bytes(10240),
    "no manifest": tar_of({"a": b"x"}),
    "manifest is a directory": tar_of({"manifest.json/x": b""}),
    "config outside": docker({"Config": "../../../etc/passwd"}),
    "config absolute": docker({"Config": "/etc/passwd"}),
    "config missing": docker({"Config": "nowhere"}),
    "config through a link": docker(links={"config": "/etc/passwd"}),
    "config through a climbing link": docker(links={"config": "../../../../../../etc/passwd"}),
    "manifest through a link": docker(links={"manifest.json": "/etc/passwd"}),
    "layer outside": docker({"Layers": ["../../etc/passwd"]}),
    "layer absolute": docker({"Layers": ["/etc/passwd"]}),
    "layer through a link": docker(links={"layer": "/etc/passwd"}),
    "layer a loop of links": docker({"Layers": ["one"]}, links={"one": "two", "two": "one"}),
    "layer a link to itself": docker(links={"layer": "layer"}),
    "wrong diff id": docker(files={"layer": tar_of({"a": b"other"})}),
    "layer no tar": docker(files={"layer": b"x" * 2000}),
    "too few layers": docker({"Layers": []}),
    "too many layers": docker({"Layers": ["layer", "layer"]}),
    "layers null": docker({"Layers": None}),
    "layers a text": docker({"Layers": "layer"}),
    "layers numbers": docker({"Layers": [1]}),
    "config null": docker({"Config": None}),
    "tags a number": docker({"RepoTags": [7]}),
    "an invalid tag": docker({"RepoTags": ["../../x:y"]}),
    "a tag with a digest": docker({"RepoTags": [f"x@{WRONG}"]}),
    "manifest null": docker(b"null"),
    "manifest a number": docker(b"7"),
    "manifest of nothing": docker(b"[]"),
    "manifest of null": docker(b"[null]"),
    "manifest no JSON": docker(b"{"),
    "manifest not UTF-8": docker(b"\xff\xfe["),
    "manifest endlessly deep": docker(b"[" * 200_000),
    "manifest huge": docker(b" " * (17 << 20)),
    "config huge": docker(files={"config": b" " * (17 << 20)}),
    "config no JSON": docker(files={"config": b"x"}),
    "config a list": docker(files={"config": b"[]"}),
    "config without rootfs": docker(files={"config": b"{}"}),
    "rootfs null": docker(files={"config": b'{"rootfs":null}'}),
    "diff ids numbers": docker(files={"config": b'{"rootfs":{"diff_ids":[1]}}'}),
    "diff id a path": docker(files={"config": b'{"rootfs":{"diff_ids":["sha256:../../../../x"]}}'}),
    "diff id of no kind": docker(files={"config": b'{"rootfs":{"diff_ids":["x"]}}'}),
    "config a text": docker(files={"config": image_config([LAYER], config="x")}),
    "cut off in a layer": docker(files={"layer": LAYER + bytes(100_000)})[:-60_000],
    "cut off gzip": gzip.compress(docker())[:-20],
    "damaged gzip": gzip.compress(docker())[:100] + b"\0" * 50 + gzip.compress(docker())[150:],
    "index no JSON": tar_of(layout(index=b"{")),
    "index null": tar_of(layout(index=b"null")),
    "index manifests null": tar_of(layout(index=b'{"manifests":null}')),
    "index of nothing": tar_of(layout(index={"manifests": []})),
    "index of a missing blob": tar_of(layout(index={"manifests": [descriptor(b"missing")]})),
    "index wrong digest": tar_of(
        layout(index={"manifests": [descriptor(b"", digest=WRONG)]}, files={f"blobs/sha256/{WRONG[7:]}": b"{}"})
    ),
    "index digest a path": tar_of(layout(index={"manifests": [descriptor(b"", digest="sha256:../../index.json")]})),
    "index digest of another kind": tar_of(layout(index={"manifests": [descriptor(b"", digest="md5:" + "0" * 32)]})),
    "index size negative": tar_of(layout(index={"manifests": [descriptor(b"", size=-1)]})),
    "index size a text": tar_of(layout(index={"manifests": [descriptor(b"", size="1")]})),
    "index in index without end": tar_of(nested(50)),
    "index that lists itself": tar_of(lying_index()),
    "index for another machine": tar_of(
        layout(index={"manifests": [descriptor(FOREIGN, "index")]}, blobs=(FOREIGN,)),
    ),
    "platform a text": tar_of(layout(index={"manifests": [descriptor(b"", platform="linux")]})),
    "annotations a list": tar_of(layout(index={"manifests": [descriptor(b"", annotations=["x"])]})),
    "image manifest null": tar_of(layout(manifest=b"null")),
    "image manifest without config": tar_of(layout(manifest={"config": None})),
    "image manifest without layers": tar_of(layout(manifest={"layers": None})),
    "image manifest layer count": tar_of(layout(manifest={"layers": []})),
    "layer blob missing": tar_of(layout(manifest={"layers": [descriptor(b"missing")]})),
    "layer blob of wrong digest": tar_of(layout(files={f"blobs/sha256/{digest(LAYER)}": tar_of({"a": b"x"})})),
    "layer blob with right content and wrong digest": tar_of(
        layout(
            manifest={"layers": [descriptor(b"", digest=WRONG)]},
            files={f"blobs/sha256/{WRONG[7:]}": gzip.compress(LAYER)},
        )
    ),
    "config blob of wrong digest": tar_of(layout(files={f"blobs/sha256/{digest(CONFIG)}": MANY[0]})),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_an_archive_that_lies_is_refused_and_the_store_unchanged(engine: Engine, case: str) -> None:
    before = contents(engine)
    with pytest.raises((InvalidArchive, InvalidInput)) as caught:
        engine.images.load(io.BytesIO(HOSTILE[case]))
    assert caught.value.hint
    assert CANARY not in str(caught.value)
    assert contents(engine) == before


HOSTILE_DIRECTORIES: dict[str, dict[str, str]] = {
    "index through a link": {"index.json": "/etc/passwd"},
    "blob through a link": {f"blobs/sha256/{digest(LAYER)}": "/etc/passwd"},
    "blob through a climbing link": {f"blobs/sha256/{digest(LAYER)}": "../../../outside"},
    "blobs through a link": {"blobs": "/etc"},
    "loop of links": {f"blobs/sha256/{digest(CONFIG)}": digest(CONFIG)},
}


@pytest.mark.parametrize("case", HOSTILE_DIRECTORIES)
def test_a_layout_with_links_out_of_it_is_refused(engine: Engine, tmp_path: Path, case: str) -> None:
    (tmp_path / "outside").write_bytes(LAYER)
    top = tmp_path / "layout"
    for name, data in layout().items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
    for name, target in HOSTILE_DIRECTORIES[case].items():
        if (top / name).is_dir():
            shutil.rmtree(top / name)
        else:
            (top / name).unlink()
        (top / name).symlink_to(target)
    before = contents(engine)
    with pytest.raises(InvalidArchive):
        engine.images.load(top)
    assert contents(engine) == before


def test_a_layout_whose_links_stay_inside_is_loaded(engine: Engine, tmp_path: Path) -> None:
    for name, data in layout().items():
        (tmp_path / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "layout" / name).write_bytes(data)
    blob = tmp_path / "layout/blobs/sha256" / digest(LAYER)
    blob.rename(blob.with_name("elsewhere"))
    blob.symlink_to("elsewhere")
    (loaded,) = engine.images.load(tmp_path / "layout")
    assert loaded.id == f"sha256:{digest(CONFIG)}"


def test_a_fifo_in_a_layout_blocks_nobody(engine: Engine, tmp_path: Path) -> None:
    for name, data in layout().items():
        (tmp_path / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "layout" / name).write_bytes(data)
    blob = tmp_path / "layout/blobs/sha256" / digest(LAYER)
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(InvalidArchive):
        engine.images.load(tmp_path / "layout")


@pytest.mark.own_engine
def test_the_images_before_a_bad_one_are_kept_whole_and_of_the_bad_one_nothing(engine: Engine) -> None:
    good = {"Config": "config", "RepoTags": ["good:1"], "Layers": ["layer"]}
    bad = {"Config": "second", "RepoTags": ["bad:1"], "Layers": ["layer", "below", "wrong"]}
    second = image_config([LAYER, tar_of({"b": b"b"}), tar_of({"c": b"c"})])
    files = {"second": second, "below": tar_of({"b": b"b"}), "wrong": tar_of({"c": b"other"})}
    with pytest.raises(InvalidArchive):
        engine.images.load(io.BytesIO(docker([good, bad], files)))
    assert [image.tags for image in engine.images.list()] == [["good:1"]]
    assert len(engine.data.layers.all()) == 1
    assert list((engine.data.layers.root / "tmp").iterdir()) == []


# -- bombs -------------------------------------------------------------------------------------


def bomb(size: int) -> bytes:
    """Build a layer of zero bytes that gzip compresses by a factor of 1000."""
    member = tarfile.TarInfo("zeros")
    member.size = size
    return gzip.compress(member.tobuf() + bytes(size + -size % 512 + 1024))


def test_an_import_that_unpacks_to_more_than_allowed_is_refused(engine: Engine) -> None:
    before = contents(engine)
    with pytest.raises(InvalidArchive, match="unpacks to more than 1000000 bytes"):
        engine.images.import_(io.BytesIO(bomb(20_000_000)), max_size=1_000_000)
    assert contents(engine) == before
    assert engine.images.import_(io.BytesIO(bomb(500_000)), max_size=1_000_000).size == 500_000


def test_an_archive_whose_layers_unpack_to_more_than_allowed_is_refused(engine: Engine) -> None:
    packed = bomb(20_000_000)
    config = image_config([gzip.decompress(packed)])
    archive = docker(files={"config": config, "layer": packed})
    before = contents(engine)
    for source in (archive, gzip.compress(archive), gzip.compress(docker(files={"x": bytes(20_000_000)}))):
        with pytest.raises(InvalidArchive, match="unpacks to more than 1000000 bytes"):
            engine.images.load(io.BytesIO(source), max_size=1_000_000)
        assert contents(engine) == before
    assert engine.images.load(io.BytesIO(archive), max_size=30_000_000)[0].size == 20_000_000


def test_without_a_limit_the_disk_sets_it(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    programs.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)])
    try:
        engine = Engine(small / "root")
        before = contents(engine)
        with pytest.raises(InvalidArchive, match="what the disk has to spare"):
            engine.images.import_(io.BytesIO(bomb(50_000_000)))
        assert contents(engine) == before
    finally:
        programs.run(["umount", str(small)])
        shutil.rmtree(engine.runtime.path, ignore_errors=True)


def test_there_are_as_many_hostile_archives_as_promised() -> None:
    """The layers among them are in test_layertar.py, with 21 that are harmless and more than 40 that are refused."""
    assert len(HOSTILE) + len(HOSTILE_DIRECTORIES) >= 70


def test_a_name_that_an_archive_takes_away_is_told(engine: Engine, image: Image, tmp_path: Path) -> None:
    engine.images.save("busybox:1", tmp_path / "saved.tar")
    engine.images.remove("busybox:1")
    other = engine.images.import_(io.BytesIO(bytes(10240)), "busybox:1")
    with engine.events.collected() as heard:
        engine.images.load(tmp_path / "saved.tar")
    told = [(event.action, event.image_id) for event in heard if isinstance(event, events.ImageChanged)]
    assert told == [("loaded", image.id), ("unnamed", other.id), ("named", image.id)]


# -- images with no layers, and with as many as there can be -------------------------------------------


@pytest.mark.parametrize("rootfs", [{"diff_ids": []}, {"diff_ids": None}, {}])
@pytest.mark.parametrize("listed", [{"layers": []}, {"layers": None}, {}])
def test_an_image_without_layers_is_loaded_run_and_saved_as_a_valid_layout(
    engine: Engine, rootfs: dict[str, Any], listed: dict[str, Any]
) -> None:
    """Go encodes an empty list as [], as null, or leaves it out (omitempty)."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = {"architecture": machine, "os": "linux", "config": {"Cmd": ["x"]}, "rootfs": {"type": "layers", **rootfs}}
    raw = json.dumps(config).encode()
    described = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": f"sha256:{digest(raw)}"}
    manifest = json.dumps({"schemaVersion": 2, "config": {**described, "size": len(raw)}, **listed}).encode()
    kind = "application/vnd.oci.image.manifest.v1+json"
    entry = {"mediaType": kind, "digest": f"sha256:{digest(manifest)}", "size": len(manifest)}
    files = {f"blobs/sha256/{digest(blob)}": blob for blob in (raw, manifest)}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    (image,) = engine.images.load(io.BytesIO(tar_of(files)))
    container = engine.containers.create(image, ["x"], network_mode="none")
    assert container.diff() == []
    container.put_archive("/", tar_of({"new": b"x"}))
    assert len(container.commit("lab/one").layers) == 1
    container.remove()
    layout = files_of(saved(engine, image.id, format="oci-archive"))
    (found,) = json.loads(layout["index.json"])["manifests"]
    written = json.loads(layout[f"blobs/sha256/{found['digest'][7:]}"])
    assert written["layers"] == []
    assert layout[f"blobs/sha256/{written['config']['digest'][7:]}"] == raw
    engine.images.remove("lab/one")


def archive_of_layers(count: int) -> bytes:
    """An archive of docker's with an image of a number of layers, each with one file."""
    blobs = [tar_of({f"layer{number}": b""}) for number in range(count)]
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest(blob)}" for blob in blobs]}
    raw = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["x"]}, "rootfs": rootfs}).encode()
    files = {f"{number}.tar": blob for number, blob in enumerate(blobs)} | {"config.json": raw}
    listed = [{"Config": "config.json", "RepoTags": ["lab/tall:1"], "Layers": [f"{n}.tar" for n in range(count)]}]
    return tar_of(files | {"manifest.json": json.dumps(listed).encode()})


def test_what_has_more_layers_than_can_be_mounted_is_refused_when_it_is_loaded(engine: Engine) -> None:
    (image,) = engine.images.load(io.BytesIO(archive_of_layers(125)))
    container = engine.containers.create(image, ["x"], network_mode="none")
    assert sum(b"layer" in piece for piece in container.export()) == 125
    container.put_archive("/", tar_of({"one-more": b""}))
    with pytest.raises(InvalidInput, match="max depth exceeded"):
        container.commit("lab/taller:1")
    container.remove()
    for count in (126, 128):
        with pytest.raises(InvalidInput, match="max depth exceeded"):
            engine.images.load(io.BytesIO(archive_of_layers(count)))
    assert {tag for one in engine.images.list() for tag in one.tags} == {"busybox:1", "lab/tall:1"}


def test_an_archive_of_extensions_without_end_is_refused(engine: Engine) -> None:
    """tarfile recurses for each extension header."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("file")
        member.pax_headers = {"comment": "x"}
        archive.addfile(member)
    extension = buffer.getvalue()[:1024]
    with pytest.raises(InvalidArchive, match="not an image archive"):
        engine.images.load(io.BytesIO(extension * 3000 + buffer.getvalue()))
