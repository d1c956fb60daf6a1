"""Images: import from everywhere, find, list, name, remove, look into."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pylab_container import Engine
from pylab_container.errors import ImageNotFound, InUse, InvalidArchive, InvalidInput, InvalidReference
from pylab_container.events import ImageChanged, LayerRegistered
from pylab_container.images.image import Image
from pylab_container.images.removal import Removal
from pylab_container.maintenance.usage import container_sizes
from pylab_container.text.timestamps import parse_rfc3339
from tests.support.waiting import eventually


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("_", "/"))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


TAR = archive(etc_hosts=b"127.0.0.1 localhost\n", a=b"x" * 10_000)


def stored_files(engine: Engine) -> list[str]:
    files = (path for path in engine.data_root.rglob("*") if path.suffix != ".lock")
    return sorted(str(path.relative_to(engine.data_root)) for path in files)


# -- import ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
def test_an_archive_is_imported_whatever_it_is_compressed_with(
    engine: Engine, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "misleading.name"
    path.write_bytes(compress(TAR))
    image = engine.images.import_(path, "lab:1")
    assert image.config.diff_ids == ("sha256:" + hashlib.sha256(TAR).hexdigest(),)
    assert image.size == 10_020
    assert image.tags == ["lab:1"]
    assert engine.images.import_(io.BytesIO(compress(TAR))).config.diff_ids == image.config.diff_ids


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, zstd])
def test_compressed_parts_after_each_other_are_one_archive(engine: Engine, compress: Callable[[bytes], bytes]) -> None:
    image = engine.images.import_(io.BytesIO(compress(TAR[:4000]) + compress(TAR[4000:])))
    assert image.config.diff_ids == ("sha256:" + hashlib.sha256(TAR).hexdigest(),)


def test_an_archive_is_imported_from_standard_input(engine: Engine) -> None:
    script = (
        f"from pylab_container import Engine; print(Engine({str(engine.data_root)!r}).images.import_('-', 'in:1').id)"
    )
    done = subprocess.run([sys.executable, "-c", script], input=gzip.compress(TAR), stdout=subprocess.PIPE, check=True)
    image = engine.images.get("in:1")
    assert image.id == done.stdout.decode().strip()
    assert image.config.document["comment"] == "Imported from -"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstd])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_compressed_archive_that_is_cut_off_leaves_nothing(
    engine: Engine, compress: Callable[[bytes], bytes], keep: float
) -> None:
    before = stored_files(engine)
    data = compress(TAR)
    with pytest.raises(InvalidArchive) as caught:
        engine.images.import_(io.BytesIO(data[: int(len(data) * keep)]), "lab:1")
    assert caught.value.hint
    assert stored_files(engine) == before
    assert engine.images.list() == []


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_damaged_compressed_archive_leaves_nothing(engine: Engine, compress: Callable[[bytes], bytes]) -> None:
    before = stored_files(engine)
    data = bytearray(compress(TAR))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(InvalidArchive):
        engine.images.import_(io.BytesIO(bytes(data)))
    assert stored_files(engine) == before


@pytest.mark.parametrize(
    "data",
    [
        b"not a tar",
        b"x" * 5000,
        gzip.compress(b"not a tar", mtime=0),
        gzip.compress(gzip.compress(TAR)),
        TAR[:520],
        archive(**{".._.._etc_x": b"evil"}),
        archive(a=b"x") + b"",
    ][:-1],
)
def test_what_is_no_root_file_system_leaves_nothing(engine: Engine, data: bytes) -> None:
    before = stored_files(engine)
    with pytest.raises(InvalidArchive):
        engine.images.import_(io.BytesIO(data), "lab:1")
    assert stored_files(engine) == before


def test_an_interrupted_import_leaves_nothing(engine: Engine) -> None:
    class Interrupted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise KeyboardInterrupt
            return super().read(2048)

    before = stored_files(engine)
    with pytest.raises(KeyboardInterrupt):
        engine.images.import_(Interrupted(TAR))
    assert stored_files(engine) == before


def test_a_missing_file_and_a_directory_are_no_archives(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        engine.images.import_(tmp_path / "missing.tar")
    with pytest.raises((InvalidInput, InvalidArchive)):
        engine.images.import_(tmp_path)


def test_a_bad_name_is_refused_before_the_archive_is_read(engine: Engine) -> None:
    with pytest.raises(InvalidReference):
        engine.images.import_("/does/not/exist", "Upper:1")


def test_a_layer_is_stored_once_however_often_it_is_imported(engine: Engine) -> None:
    with engine.events.collected() as events:
        first = engine.images.import_(io.BytesIO(TAR), "a:1")
        second = engine.images.import_(io.BytesIO(gzip.compress(TAR)), "b:1")
    assert [layer.cache_id for layer in first.layers] == [layer.cache_id for layer in second.layers]
    assert len([event for event in events if isinstance(event, LayerRegistered)]) == 1
    assert len([event for event in events if isinstance(event, ImageChanged)]) == 2
    assert len(list((engine.data_root / "overlay2").iterdir())) == 2, "the layer and l/"


def test_equal_time_gives_equal_ids(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first = engine.images.import_(io.BytesIO(TAR))
    assert engine.images.import_(io.BytesIO(TAR)) == first
    assert first.config.created == "2023-11-14T22:13:20Z"


# -- find --------------------------------------------------------------------------------------


def test_an_image_is_found_by_name_id_and_beginning_of_its_id(engine: Engine, image: Image) -> None:
    spellings = [
        "busybox:1",
        "library/busybox:1",
        "docker.io/library/busybox:1",
        image.id,
        image.id[7:],
        image.id[7:19],
    ]
    assert {engine.images.get(spelling) for spelling in [*spellings, image.short_id]} == {image}


@pytest.mark.parametrize(
    "name", ["nothing", "busybox", "busybox:2", "sha256:" + "0" * 64, "UPPER", "", "../x", "quay.io/busybox:1"]
)
def test_an_unknown_image_is_not_found(engine: Engine, image: Image, name: str) -> None:
    with pytest.raises(ImageNotFound, match="No such image"):
        engine.images.get(name)


def test_a_near_name_is_proposed(engine: Engine, image: Image) -> None:
    with pytest.raises(ImageNotFound, match='did you mean "busybox:1"'):
        engine.images.get("bussybox:1")


def test_an_ambiguous_beginning_is_refused(engine: Engine) -> None:
    archives = [io.BytesIO(archive(a=str(number).encode())) for number in range(17)]
    ids = [engine.images.import_(each).id[7] for each in archives]
    twice = next(digit for digit in ids if ids.count(digit) > 1)
    with pytest.raises(InvalidInput, match="beginning of"):
        engine.images.get(twice)


def test_images_are_listed_newest_first_and_by_name(engine: Engine) -> None:
    old, new = (engine.images.import_(io.BytesIO(archive(a=name)), f"lab:{name.decode()}") for name in (b"1", b"2"))
    nameless = engine.images.import_(io.BytesIO(archive(a=b"3")))
    engine.images.tag(old, "other:1")
    assert engine.images.list() == [nameless, new, old]
    assert engine.images.list("lab") == [new, old]
    assert engine.images.list("lab:1") == [old]
    assert engine.images.list("other") == [old]
    assert engine.images.list("nothing") == []
    assert old.tags == ["lab:1", "other:1"]


def test_two_engines_see_the_same_store(engine: Engine, image: Image) -> None:
    assert Engine(engine.data_root).images.list() == [image]


# -- name and remove ---------------------------------------------------------------------------


def test_a_name_moves_to_the_image_that_gets_it(engine: Engine, image: Image) -> None:
    other = engine.images.import_(io.BytesIO(TAR), "busybox:1")
    assert (image.tags, other.tags) == ([], ["busybox:1"])
    assert engine.images.get(image.id) == image, "the image itself stays"


@pytest.mark.parametrize("name", ["Upper", "a@sha256:" + "0" * 64, "0" * 64, ""])
def test_a_bad_name_changes_nothing(engine: Engine, image: Image, name: str) -> None:
    with pytest.raises(InvalidReference):
        image.tag(name)
    assert image.tags == ["busybox:1"]


def test_removing_one_of_several_names_keeps_the_image(engine: Engine, image: Image) -> None:
    image.tag("other:1")
    assert engine.images.remove("busybox:1") == [Removal("Untagged", "busybox:1")]
    assert image.tags == ["other:1"]


def test_removing_the_last_name_removes_the_image_and_its_layer(engine: Engine, image: Image) -> None:
    chain = image.config.chain_id
    assert engine.images.remove("busybox:1") == [
        Removal("Untagged", "busybox:1"),
        Removal("Deleted", image.id),
        Removal("Deleted", chain),
    ]
    assert list((engine.data_root / "overlay2").iterdir()) == [engine.data_root / "overlay2/l"]
    assert list((engine.data_root / "overlay2/l").iterdir()) == []
    assert list((engine.data_root / "image/overlay2/layerdb/sha256").iterdir()) == []
    with pytest.raises(ImageNotFound):
        _ = image.config


def test_an_image_with_names_in_two_repositories_is_removed_by_id_only_with_force(engine: Engine, image: Image) -> None:
    image.tag("busybox:2")
    image.tag("other:1")
    with pytest.raises(InUse, match="multiple repositories"):
        engine.images.remove(image.id)
    assert len(image.tags) == 3
    removed = engine.images.remove(image, force=True)
    assert [removal.action for removal in removed] == ["Untagged"] * 3 + ["Deleted"] * 2


def test_a_layer_that_another_image_needs_stays(engine: Engine) -> None:
    first = engine.images.import_(io.BytesIO(TAR), "a:1")
    second = engine.images.import_(io.BytesIO(TAR), "b:1", message="other")
    removed = engine.images.remove("a:1")
    assert removed == [Removal("Untagged", "a:1"), Removal("Deleted", first.id)]
    assert second.size == 10_020


def test_an_image_that_a_container_uses_is_not_removed(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(image, ["sleep", "600"])
    for force in (False, True):
        with pytest.raises(InUse, match=f"cannot be forced.*running container {container.short_id}"):
            engine.images.remove(image.id, force=force)
    with pytest.raises(InUse, match=container.short_id):
        engine.images.remove("busybox:1")
    assert image.tags == ["busybox:1"]
    container.kill()
    with pytest.raises(InUse, match="must force"):
        engine.images.remove("busybox:1")
    with pytest.raises(InUse, match="must be forced"):
        engine.images.remove(image.id)


def test_an_image_that_a_stopped_container_uses_goes_by_force_and_its_layers_with_the_container(
    engine: Engine, image: Image
) -> None:
    script = "[ -e /answer ] || echo $((40+2)) > /answer; exec sleep 600"
    container = engine.containers.run_detached(image, ["sh", "-c", script])
    eventually(lambda: container.exec_run(["cat", "/answer"]).output == b"42\n")
    running = engine.containers.run_detached(image, ["sleep", "600"])
    assert engine.images.remove("busybox:1", force=True) == [Removal("Untagged", "busybox:1")], "one runs"
    running.remove(force=True)
    container.kill()
    assert engine.images.remove(image.id, force=True) == [Removal("Deleted", image.id)]
    assert engine.images.list(all=True) == []
    with pytest.raises(ImageNotFound):
        container.commit()
    written, whole = container_sizes(engine.data, container.record)
    assert written == len("42\n") < whole
    assert engine.fsck() == []
    container.start()
    assert container.exec_run(["cat", "/answer"]).output == b"42\n"
    assert list(engine.data.layers.all())
    container.remove(force=True)
    assert list(engine.data.layers.all()) == []


def test_an_image_with_children_stays_without_its_name(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, ["true"])
    child = container.commit("child:1")
    container.remove()
    for force in (False, True):
        with pytest.raises(InUse, match="child"):
            engine.images.remove(image.id, force=force)
    assert engine.images.remove("busybox:1") == [Removal("Untagged", "busybox:1")]
    removed = [removal.name for removal in engine.images.remove("child:1")]
    assert child.id in removed
    assert image.id in removed, "an untagged parent goes with its last child"
    assert engine.images.list(all=True) == []


def test_removing_what_is_not_there_is_not_found(engine: Engine, image: Image) -> None:
    for name in ("nothing", "busybox:2", "0" * 12):
        with pytest.raises(ImageNotFound):
            engine.images.remove(name)


# -- look into ---------------------------------------------------------------------------------


def test_inspection_has_docker_s_fields(engine: Engine, image: Image) -> None:
    attrs = image.attrs
    assert attrs["Id"] == image.id
    assert attrs["RepoTags"] == ["busybox:1"]
    assert attrs["RootFS"]["Layers"] == list(image.config.diff_ids)
    assert Path(attrs["GraphDriver"]["Data"]["UpperDir"], "bin/busybox").exists()
    assert "LowerDir" not in attrs["GraphDriver"]["Data"]
    assert parse_rfc3339(attrs["Metadata"]["LastTagTime"]) >= parse_rfc3339(attrs["Created"]) > 0
    json.dumps(attrs)


@pytest.mark.smoke
def test_history_is_newest_first_with_sizes_and_names(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, ["true"])
    child = container.commit("child:1", message="nothing new")
    newest, oldest = child.history()
    assert (newest.id, newest.size, newest.comment, newest.tags) == (child.id, 0, "nothing new", ("child:1",))
    assert (oldest.id, oldest.size, oldest.tags) == (image.id, image.size, ("busybox:1",))
    assert newest.created_by == "true"
