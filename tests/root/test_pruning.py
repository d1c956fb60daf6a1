"""df and the prune commands: used and reclaimable space, computed as docker does."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.engine.container import Container
from pylab_container.errors import BuildFailed, InvalidInput
from pylab_container.events import PruneDone
from pylab_container.host.files import locked
from pylab_container.images.image import Image
from pylab_container.maintenance.pruning import Pruned
from pylab_container.text.timestamps import rfc3339
from tests.support.contexts import Context, caches, run
from tests.support.waiting import eventually

pytestmark = pytest.mark.shared_engine


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


def create(engine: Engine, image: Image, **more: Any) -> Container:
    return engine.containers.create(image, ["true"], network_mode="none", **more)


# -- images ------------------------------------------------------------------------------------


@pytest.mark.own_engine
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


@pytest.mark.own_engine
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
    running = engine.containers.run_detached(image, ["sleep", "600"], network_mode="none")
    ended = engine.containers.run_detached(image, ["sh", "-c", "printf 12345 > /x"], network_mode="none")
    ended.wait()
    created = create(engine, image, labels={"a": "b"})
    assert engine.containers.prune({"label": "a=c"}).deleted == ()
    assert [removal.name for removal in engine.containers.prune({"label": "a"}).deleted] == [created.id]
    pruned = engine.containers.prune()
    assert ([removal.name for removal in pruned.deleted], pruned.space_reclaimed) == ([ended.id], 5)
    assert engine.containers.list(all=True) == [running]


def test_volumes_without_a_name_go_once_no_container_has_them(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(
        image,
        ["sh", "-c", "printf 1234567 > /a/x; printf 1 > /b/x"],
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


@pytest.mark.own_engine
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


# -- the build cache ---------------------------------------------------------------------------


def names(pruned: Pruned) -> set[str]:
    return {removal.name for removal in pruned.deleted}


def ids(engine: Engine) -> set[str]:
    return {each.id for each in engine.images.list(all=True)}


def test_steps_that_lead_to_nothing_go_and_those_of_an_image_with_a_name_stay(
    engine: Engine, context: Context, imported: Callable[..., Image]
) -> None:
    nameless = imported(10)
    named = engine.images.build(context("COPY a /a\nENV A=1\n", {"a": "1234"}), tag="named:1")
    engine.images.build(context("COPY a /a\nENV A=1\nCOPY b /b\nENV B=1\n", {"a": "1234", "b": "123"}))
    assert len(ids(engine)) == 6
    assert (engine.df().build_cache_size, engine.df().reclaimable_build_cache) == (3, 3)
    pruned = engine.prune_builds()
    assert (len(pruned.deleted), pruned.space_reclaimed) == (2, 3)
    assert nameless.id in ids(engine)  # not created by a build
    assert [step.id for step in named.history()][:3] == [named.id, *engine.images.ancestors(named.id)][1:4]
    assert caches(engine.images.build(context("COPY a /a\nENV A=1\n", {"a": "1234"}))) == ["hit", "hit"]
    assert engine.prune_builds().deleted == ()
    assert engine.fsck(deep=True) == []


def test_with_all_the_steps_below_an_image_go_and_it_stays_whole(engine: Engine, context: Context) -> None:
    named = engine.images.build(
        context("COPY a /a\nENV A=1\nCOPY b /b\nENV B=1\n", {"a": "A", "b": "B"}), tag="named:1"
    )
    base = engine.images.get("busybox:1")
    pruned = engine.prune_builds(all=True)
    assert (len(pruned.deleted), pruned.space_reclaimed) == (3, 0)
    assert ids(engine) == {named.id, base.id}
    assert run(engine, named, "cat /a /b; echo $A$B") == "AB11\n"
    assert [step.id for step in named.history()] == [named.id, *["<missing>"] * 4]
    assert engine.df().build_cache == ()
    assert engine.fsck(deep=True) == []


def test_an_image_with_a_container_or_a_committed_child_is_no_cache(engine: Engine, context: Context) -> None:
    built = engine.images.build(context("COPY a /a\n", {"a": "1234"}))
    container = create(engine, built)
    assert engine.prune_builds(all=True).deleted == ()
    child = container.commit()
    container.remove()
    assert engine.prune_builds().deleted == ()
    assert names(engine.prune_builds(all=True)) == {built.id}
    assert run(engine, child, "cat /a") == "1234"


def test_the_root_of_a_failed_step_goes(engine: Engine, context: Context) -> None:
    with pytest.raises(BuildFailed) as caught:
        engine.images.build(context("RUN echo 12345 > /x; exit 1\n"), network_mode="none")
    failed = engine.images.get(caught.value.image_id)
    assert run(engine, failed, "cat /x") == "12345\n"
    pruned = engine.prune_builds()
    assert (names(pruned), pruned.space_reclaimed) == ({failed.id}, 6)
    assert ids(engine) == {engine.images.get("busybox:1").id}


def test_until_spares_what_is_younger_and_what_that_was_made_from(engine: Engine, context: Context) -> None:
    engine.images.build(context("ENV A=1\nRUN --mount=type=cache,target=/c touch /c/f\n"), network_mode="none")
    assert engine.prune_builds(filters={"until": "1h"}).deleted == ()
    middle = rfc3339(time.time_ns() + 10**6)
    time.sleep(0.01)
    engine.images.build(context("ENV A=1\nENV B=1\n"))
    pruned = engine.prune_builds(filters={"until": middle})
    added = [(step.config.config["Env"] or [])[1:] for step in engine.images.list(all=True)]
    assert added == [["A=1", "B=1"], ["A=1"], []]
    assert len(pruned.deleted) == 2  # the RUN, and its mount


def test_a_cache_mount_goes_unless_a_build_uses_it(engine: Engine, context: Context) -> None:
    folder = context("RUN --mount=type=cache,target=/c echo 1234 > /c/file\n")
    engine.images.build(folder, network_mode="none")
    (mount,) = [one for one in engine.df().build_cache if one.kind == "exec.cachemount"]
    assert (mount.size, mount.active) == (5, False)
    for shared in (True, False):
        with locked(engine.data.locks / f"cache-{mount.id}", shared=shared):
            assert [one.active for one in engine.df().build_cache if one.kind == "exec.cachemount"] == [True]
            assert mount.id not in names(engine.prune_builds())
    pruned = engine.prune_builds(all=True)
    assert (names(pruned), pruned.space_reclaimed) == ({mount.id}, 5)
    assert list((engine.data_root / "builder/cache").iterdir()) == []
    engine.images.build(folder, network_mode="none")


def test_nothing_is_pruned_from_under_a_build_that_runs(engine: Engine, context: Context) -> None:
    # A minute, or until the prunes are done.
    script = "for i in $(seq 600); do [ -e /looked ] && break; sleep 0.1; done"
    folder = context(f"COPY a /a\nENV A=1\nRUN {script}\nRUN cat /a\n", {"a": "1"})
    with ThreadPoolExecutor() as thread, engine.events.collected() as events:
        built = thread.submit(Engine(engine.data_root).images.build, folder, network_mode="none")
        eventually(lambda: built.done() or engine.containers.list())
        assert not built.done(), built.result()
        assert engine.prune_builds(all=True).deleted == ()
        assert engine.images.prune().deleted == ()
        (engine.containers.list()[0].merged / "looked").touch()
        assert built.result().config.config["Env"][1:] == ["A=1"]
    assert {type(event) for event in events} == {PruneDone}


def test_the_build_cache_has_no_labels(engine: Engine, context: Context) -> None:
    engine.images.build(context("LABEL x=1\nENV A=1\n"))
    kept = ids(engine)
    assert engine.prune_builds(all=True, filters={"label": "x"}).deleted == ()
    assert ids(engine) == kept
    assert names(engine.prune_builds(filters={"label!": "x"})) < kept
    with pytest.raises(InvalidInput, match="Invalid filter 'dangling'"):
        engine.prune_builds(filters={"dangling": "x"})
