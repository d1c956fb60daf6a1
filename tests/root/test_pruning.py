"""What takes space and what may go: df and the prunes, as docker reckons."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.engine.container import Container
from pylab_container.engine.image import Image
from pylab_container.errors import InvalidInput


def layer(size: int, name: str = "file") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = size
        archive.addfile(member, io.BytesIO(bytes(size)))
    return buffer.getvalue()


@pytest.fixture
def imported(engine: Engine) -> Callable[..., Image]:
    """Imports an image of one file of a size."""
    return lambda size, name=None, **more: engine.images.import_(io.BytesIO(layer(size)), name, **more)


def create(engine: Engine, image: Image, **more: object) -> Container:
    return engine.containers.create(image, ["true"], network_mode="none", **more)  # type: ignore[arg-type]


# -- images ------------------------------------------------------------------------------------


def test_images_without_a_name_go_and_the_others_stay(engine: Engine, imported: Callable[..., Image]) -> None:
    nameless, named, used = imported(1000), imported(2000, "named:1"), imported(3000)
    create(engine, used)
    chain = nameless.config.chain_id
    pruned = engine.images.prune()
    assert pruned.space_reclaimed == 1000
    assert [(removal.action, removal.name) for removal in pruned.deleted] == [
        ("Deleted", nameless.id),
        ("Deleted", chain),
    ]
    assert {image.id for image in engine.images.list()} == {named.id, used.id}
    assert engine.images.prune().deleted == ()


def test_with_dangling_false_every_image_without_a_container_goes(
    engine: Engine, imported: Callable[..., Image]
) -> None:
    imported(1000, "one:1").tag("one:2")
    used = imported(2000, "used:1")
    create(engine, used)
    pruned = engine.images.prune({"dangling": False})
    assert [removal.name for removal in pruned.deleted if removal.action == "Untagged"] == ["one:1", "one:2"]
    assert pruned.space_reclaimed == 1000
    assert [image.tags for image in engine.images.list()] == [["used:1"]]


def test_a_parent_stays_while_its_child_does(engine: Engine, image: Image) -> None:
    container = create(engine, image)
    container.put_archive("/", layer(500))
    child = container.commit("child:1")
    container.remove()
    engine.images.remove("busybox:1", force=True)
    assert engine.images.prune().deleted == ()
    assert [each.id for each in engine.images.list()] == [child.id]


def test_filters_choose_by_time_and_label(engine: Engine, imported: Callable[..., Image]) -> None:
    old = imported(1, changes="LABEL keep=yes size=small")
    new = imported(2, changes="LABEL keep=no")
    assert engine.images.prune({"until": "1h"}).deleted == ()
    assert engine.images.prune({"label": "nothing"}).deleted == ()
    assert engine.images.prune({"label": ["keep=yes", "size=large"]}).deleted == ()
    assert engine.images.prune({"label!": "keep"}).deleted == ()
    assert engine.images.prune({"label!": "keep=yes"}).deleted[0].name == new.id
    assert engine.images.prune({"label": ["keep=yes", "size=small"], "until": "0s"}).deleted[0].name == old.id


@pytest.mark.parametrize(
    "filters",
    [{"bogus": "1"}, {"until": "soon"}, {"until": ["1h", "2h"]}, {"dangling": "maybe"}, {"label": True}],
)
def test_a_filter_that_there_is_not_is_refused(engine: Engine, image: Image, filters: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        engine.images.prune(filters)  # type: ignore[arg-type]
    assert caught.value.hint
    assert engine.images.list() == [image]


# -- containers and volumes --------------------------------------------------------------------


def test_containers_that_do_not_run_go_with_what_they_wrote(engine: Engine, image: Image) -> None:
    running = engine.containers.run(image, ["sleep", "100"], detach=True, network_mode="none")
    ended = engine.containers.run(image, ["sh", "-c", "printf 12345 > /x"], detach=True, network_mode="none")
    ended.wait()
    created = create(engine, image, labels={"a": "b"})
    assert engine.containers.prune({"label": "a=c"}).deleted == ()
    assert [removal.name for removal in engine.containers.prune({"label": "a"}).deleted] == [created.id]
    pruned = engine.containers.prune()
    assert ([removal.name for removal in pruned.deleted], pruned.space_reclaimed) == ([ended.id], 5)
    assert engine.containers.list(all=True) == [running]


def test_volumes_without_a_name_go_once_no_container_has_them(engine: Engine, image: Image) -> None:
    container = engine.containers.run(
        image,
        ["sh", "-c", "printf 1234567 > /a/x; printf 1 > /b/x"],
        detach=True,
        network_mode="none",
        volumes=["/a", "named:/b"],
    )
    container.wait()
    assert len(engine.volumes.list()) == 2
    assert engine.volumes.prune().deleted == ()
    container.remove()
    pruned = engine.volumes.prune()
    assert (len(pruned.deleted), pruned.space_reclaimed) == (1, 7)
    assert [volume.name for volume in engine.volumes.list()] == ["named"]
    assert (engine.volumes.list()[0].path / "x").read_text() == "1"


# -- df ----------------------------------------------------------------------------------------


def test_df_counts_a_shared_layer_once(engine: Engine, image: Image) -> None:
    container = create(engine, image)
    container.put_archive("/", layer(700))
    child = container.commit("child:1")
    usage = engine.df()
    by_id = {one.image.id: one for one in usage.images}
    assert usage.layers_size == child.size == image.size + 700
    assert (by_id[image.id].shared, by_id[image.id].containers) == (image.size, 1)
    assert (by_id[child.id].shared, by_id[child.id].size - by_id[child.id].shared) == (image.size, 700)
    assert (usage.containers_size, usage.reclaimable_containers) == (700, 700)
    assert usage.reclaimable_images == usage.layers_size  # docker reckons so: the used image shares all it has


def test_df_of_nothing_is_nothing(engine: Engine) -> None:
    usage = engine.df()
    assert (usage.layers_size, usage.images, usage.containers, usage.volumes) == (0, (), (), ())


def test_what_prune_says_is_what_the_disk_gets_back(engine: Engine, imported: Callable[..., Image]) -> None:
    imported(5_000_000)

    def used() -> int:
        return sum(path.lstat().st_size for path in Path(engine.data_root).rglob("*") if path.is_file())

    before = used()
    pruned = engine.images.prune()
    assert pruned.space_reclaimed == 5_000_000
    assert before - used() >= 5_000_000
