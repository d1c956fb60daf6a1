"""fsck: every kind of damage, made by hand, is named, and mended where nothing is lost by that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.cli import main
from pylab_container.engine.container import Container
from pylab_container.host import programs
from pylab_container.images.image import Image
from pylab_container.oci import reference as references
from pylab_container.oci.ids import CacheId, ContainerId
from pylab_container.store import layer_content
from pylab_container.store.layer_store import Layer
from pylab_container.store.transactions import making
from tests.support.fixtures import engine_on

pytestmark = pytest.mark.usefixtures("intact")


def run(container: Container) -> None:
    """Run it to its end, which we note ourselves: a monitor's exit command is an engine, too, and would clear up."""
    with container.start_attached():
        container.wait()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, nothing_left_behind: None, busybox_tar: Path) -> Iterator[Path]:
    """A data root with busybox:1, changed:1 of two layers, and the container mine, which has never run."""
    with engine_on(tmp_path_factory.mktemp("template") / "root") as engine:
        image = engine.images.import_(busybox_tar, "busybox:1")
        changing = engine.containers.create(image, ["sh", "-c", "echo one > /one"], network_mode="none")
        run(changing)
        changed = changing.commit("changed:1")
        changing.remove()
        container = engine.containers.create(changed, ["cat", "/mine"], name="mine", network_mode="none")
        (container.upper / "mine").write_text("precious\n")
        yield engine.data_root


@pytest.fixture
def engine(template: Path, tmp_path: Path) -> Iterator[Engine]:
    """An engine on a copy of the template, which a test may damage."""
    programs.run(["cp", "-a", "--reflink=auto", str(template), str(tmp_path / "root")])
    with engine_on(tmp_path / "root") as engine:
        yield engine


@pytest.fixture
def changed(engine: Engine) -> Image:
    """An image of two layers on busybox:1."""
    return engine.images.get("changed:1")


@pytest.fixture
def container(engine: Engine) -> Container:
    """A container that has never run, with a file of its own."""
    return engine.containers.get("mine")


@pytest.fixture
def intact(engine: Engine, container: Container) -> Iterator[None]:
    """The store is clean before the test, and what was good before is good after it."""
    assert engine.fsck(deep=True) == []
    yield
    if container.id in [known.id for known in engine.containers.list(all=True)]:
        with container.start_attached() as attachment:
            assert attachment.receive() == ("stdout", b"precious\n")
        container.wait()
        container.remove()


def found(engine: Engine, *, deep: bool = False) -> list[str]:
    return [finding.sentence for finding in engine.fsck(deep=deep)]


def mended(engine: Engine, *, deep: bool = False) -> list[str]:
    """Repair everything and return the sentences of the findings. A second check must find nothing."""
    named = found(engine, deep=deep)
    findings = engine.fsck(repair=True, deep=deep)
    assert [finding.sentence for finding in findings] == named
    assert all(finding.repaired for finding in findings)
    assert engine.fsck(deep=True) == []
    return named


def lost(engine: Engine, *, deep: bool = False) -> list[str]:
    """Return the findings that a repair cannot resolve. It must not mark them as repaired, and find them again."""
    findings = engine.fsck(repair=True, deep=deep)
    assert not any(finding.repaired for finding in findings)
    assert engine.fsck(deep=deep) == findings
    return [finding.sentence for finding in findings]


def record(engine: Engine, layer: Layer) -> Path:
    return engine.data.layers.root / "sha256" / layer.chain_id[7:]


def directory(engine: Engine, layer: Layer) -> Path:
    return engine.data.driver.root / layer.cache_id


# -- names and images --------------------------------------------------------------------------


def test_a_name_that_points_to_nothing_is_taken_away(engine: Engine) -> None:
    names = engine.data.images.root / "repositories.json"
    document = json.loads(names.read_text())
    document["Repositories"]["ghost"] = {"ghost:1": "sha256:" + "a" * 64}
    names.write_text(json.dumps(document))
    assert mended(engine) == ["the name ghost:1 points to the image aaaaaaaaaaaa, which is not here"]
    assert {tag.reference.familiar for tag in engine.data.images.tags()} == {"busybox:1", "changed:1"}


def test_unreadable_names_are_kept_beside_a_new_file(engine: Engine, changed: Image) -> None:
    names = engine.data.images.root / "repositories.json"
    before = names.read_text()
    names.write_text(before[:-20])
    assert len(mended(engine)) == 1
    assert names.with_name("repositories.json.damaged").read_text() == before[:-20]
    engine.images.tag(changed.id, "changed:1")


def test_a_changed_config_cannot_be_mended_and_its_image_can_be_removed(engine: Engine, changed: Image) -> None:
    extra = engine.images.add(
        changed.config.parse(changed.config.raw.replace(b'"docker_version"', b'"DOCKER_VERSION"'))
    )
    engine.data.images.content_path(extra.id).write_bytes(b"{}")
    [sentence] = lost(engine)
    assert sentence.startswith(f"the config of image {extra.id[7:19]} was changed on disk")
    engine.images.remove(extra.id, force=True)
    assert engine.fsck(deep=True) == []


def test_while_a_config_cannot_be_read_no_layer_counts_as_an_orphan(engine: Engine, changed: Image) -> None:
    raw = changed.config.raw
    engine.data.images.content_path(changed.id).write_bytes(raw + b" ")
    for known in engine.containers.list(all=True):
        known.remove()
    [sentence] = lost(engine)
    assert "was changed on disk" in sentence
    engine.data.images.content_path(changed.id).write_bytes(raw)
    assert engine.fsck(deep=True) == []


def test_a_parent_that_is_not_here_is_forgotten(engine: Engine, changed: Image) -> None:
    (engine.data.images.root / "imagedb/metadata/sha256" / changed.id[7:] / "parent").write_text("sha256:" + "b" * 64)
    assert mended(engine) == [f"the parent bbbbbbbbbbbb of image {changed.id[7:19]} (changed:1) is not here"]


def test_metadata_of_no_image_goes(engine: Engine) -> None:
    (engine.data.images.root / "imagedb/metadata/sha256" / ("c" * 64)).mkdir()
    assert mended(engine) == ["there is metadata of the image cccccccccccc, which is not here"]


# -- layers ------------------------------------------------------------------------------------


def test_a_missing_layer_is_told_once_for_each_image(engine: Engine, changed: Image, image: Image) -> None:
    top = changed.layers[1]
    kept = engine.data_root / "kept"
    record(engine, top).rename(kept)
    told, files = lost(engine)
    assert "(changed:1) has lost its layer" in told
    assert files == f"the directory overlay2/{top.cache_id[:12]}… belongs to no layer and no container"
    kept.rename(record(engine, top))
    assert engine.fsck(deep=True) == []


@pytest.mark.parametrize("file", ["diff", "parent"])
def test_what_a_layers_record_should_say_follows_from_its_image(engine: Engine, changed: Image, file: str) -> None:
    (record(engine, changed.layers[1]) / file).write_text("sha256:" + "d" * 64)
    [sentence] = mended(engine)
    assert "does not follow from its diff id and its parent" in sentence


def test_a_wrong_size_is_found_by_deep_and_put_right(engine: Engine, changed: Image) -> None:
    size = record(engine, changed.layers[1]) / "size"
    before = size.read_text()
    size.write_text("12345")
    assert found(engine) == []
    [sentence] = mended(engine, deep=True)
    assert sentence.endswith("has 4 bytes of content, but says 12345")
    assert size.read_text() == before == "4"


def test_a_missing_size_is_counted_anew(engine: Engine, changed: Image) -> None:
    (record(engine, changed.layers[1]) / "size").unlink()
    [sentence] = mended(engine)
    assert sentence.endswith("does not say its size")


def test_without_its_tar_split_a_layer_cannot_be_rebuilt(engine: Engine, changed: Image) -> None:
    path = record(engine, changed.layers[1]) / "tar-split.json.gz"
    path.unlink()
    [sentence] = lost(engine)
    assert "its tar cannot be rebuilt" in sentence


@pytest.mark.parametrize("damage", [b"", b"not gzip", b"\x1f\x8b\x08\x00"])
def test_a_damaged_tar_split_is_found_by_deep(engine: Engine, changed: Image, damage: bytes) -> None:
    (record(engine, changed.layers[1]) / "tar-split.json.gz").write_bytes(damage)
    [sentence] = lost(engine, deep=True)
    assert f"the layer {changed.layers[1].chain_id[7:19]} of image" in sentence


def _other_content(path: Path) -> None:
    path.write_text("two\n")


@pytest.mark.parametrize("damage", [_other_content, Path.unlink])
def test_a_changed_file_of_a_layer_is_found_by_deep(
    engine: Engine, changed: Image, damage: Callable[[Path], None]
) -> None:
    damage(directory(engine, changed.layers[1]) / "diff/one")
    assert found(engine) == []
    [sentence] = lost(engine, deep=True)
    assert 'the layer\'s file "one"' in sentence


def test_a_file_that_came_into_a_layer_later_is_found_by_deep(engine: Engine, changed: Image) -> None:
    (directory(engine, changed.layers[1]) / "diff/two").write_text("new\n")
    [sentence] = lost(engine, deep=True)
    assert 'has the file "two", which came from elsewhere' in sentence


def test_a_whiteout_belongs_to_its_layer(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, ["sh", "-c", "rm /etc/passwd; rm -r /home; mkdir /home"])
    run(container)
    container.commit("less:1")
    container.remove()
    assert found(engine, deep=True) == []


def test_lost_files_of_a_layer_cannot_be_mended(engine: Engine, changed: Image) -> None:
    kept = engine.data_root / "kept"
    (directory(engine, changed.layers[1]) / "diff").rename(kept)
    [sentence] = lost(engine)
    assert "(changed:1) has lost its files" in sentence
    kept.rename(directory(engine, changed.layers[1]) / "diff")


@pytest.mark.parametrize("text", ["", "../..", "l", "/"])
def test_a_damaged_cache_id_names_no_directory_that_goes(engine: Engine, image: Image, text: str) -> None:
    container = engine.containers.create(image, ["sh", "-c", "echo more > /more"], network_mode="none")
    run(container)
    with making(engine.data) as lease:
        layer = layer_content.copy(engine.data.layers, engine.data.layers.writable(container.id), lease)
        assert layer is not None
        (record(engine, layer) / "cache-id").write_text(text)
        container.remove()
        [broken, *_] = found(engine)
        assert "does not say in cache-id which directory it has" in broken
    assert not record(engine, layer).exists()
    assert mended(engine) == [f"the directory overlay2/{layer.cache_id[:12]}… belongs to no layer and no container"]


def test_layers_that_nobody_needs_go_and_those_below_them_stay(
    engine: Engine, changed: Image, container: Container
) -> None:
    container.remove()
    base, top = changed.layers
    engine.data.images.remove(changed.id)
    engine.data.images.untag(references.parse("changed:1"))
    assert mended(engine) == [f"the layer {top.chain_id[7:19]} belongs to no image and no container"]
    assert engine.data.layers.all() == [base]


def test_a_layer_that_somebody_makes_an_image_of_is_no_orphan(engine: Engine, container: Container) -> None:
    with making(engine.data) as lease:
        layer = layer_content.copy(engine.data.layers, engine.data.layers.writable(container.id), lease)
        assert layer is not None
        assert engine.fsck(repair=True) == []
        assert engine.data.layers.exists(layer.chain_id)
    assert not engine.data.layers.exists(layer.chain_id)


# -- directories -------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1])
def test_a_missing_link_is_made_again(engine: Engine, changed: Image, position: int) -> None:
    path = directory(engine, changed.layers[position])
    link = (path / "link").read_text()
    (engine.data.driver.root / "l" / link).unlink()
    assert len(mended(engine)) == 1
    assert (engine.data.driver.root / "l" / link).resolve() == path / "diff"


@pytest.mark.parametrize("text", ["", "../../x", "AAAAAAAAAAAAAAAAAAAAAAAAAA"])
def test_a_damaged_link_file_is_written_again(engine: Engine, changed: Image, text: str) -> None:
    path = directory(engine, changed.layers[0]) / "link"
    link = path.read_text()
    path.write_text(text)
    assert "has no short name" in engine.fsck(repair=True)[0].sentence
    assert path.read_text() == link
    assert engine.fsck(deep=True) == []


def test_a_layer_without_link_and_file_gets_a_new_one_in_all_lowers(engine: Engine, changed: Image) -> None:
    path = directory(engine, changed.layers[0])
    (engine.data.driver.root / "l" / (path / "link").read_text()).unlink()
    (path / "link").unlink()
    engine.fsck(repair=True)
    assert engine.fsck(deep=True) == []
    assert (path / "link").read_text() in (directory(engine, changed.layers[1]) / "lower").read_text()


@pytest.mark.parametrize("text", ["", "l/AAAAAAAAAAAAAAAAAAAAAAAAAA"])
def test_lower_follows_from_the_parents(engine: Engine, changed: Image, text: str) -> None:
    path = directory(engine, changed.layers[1]) / "lower"
    before = path.read_text()
    path.write_text(text)
    findings = engine.fsck(repair=True)
    assert findings[0].sentence.endswith("is not on top of its parent")
    assert engine.fsck(deep=True) == []
    assert path.read_text() == before


def test_the_lowest_layer_has_no_lower(engine: Engine, changed: Image) -> None:
    path = directory(engine, changed.layers[0]) / "lower"
    path.write_text("l/AAAAAAAAAAAAAAAAAAAAAAAAAA")
    engine.fsck(repair=True)
    assert engine.fsck(deep=True) == []
    assert not path.exists()


def test_a_missing_work_directory_is_made(engine: Engine, changed: Image) -> None:
    (directory(engine, changed.layers[1]) / "work").rmdir()
    [sentence] = mended(engine)
    assert sentence.endswith("has no work directory")


def test_a_directory_of_nobody_goes_mounted_or_not(engine: Engine, changed: Image) -> None:
    engine.data.driver.create(CacheId("e" * 64), changed.layers[1].cache_id)
    engine.data.driver.mount(CacheId("e" * 64))
    assert mended(engine) == ["the directory overlay2/eeeeeeeeeeee… belongs to no layer and no container"]


def test_a_link_to_nowhere_goes(engine: Engine) -> None:
    (engine.data.driver.root / "l" / ("Q" * 26)).symlink_to(f"../{'f' * 64}/diff")
    assert len(mended(engine)) == 1


def test_a_second_link_to_a_directory_goes(engine: Engine, changed: Image) -> None:
    (engine.data.driver.root / "l" / ("Q" * 26)).symlink_to(f"../{changed.layers[0].cache_id}/diff")
    assert len(mended(engine)) == 1


def test_directories_of_other_programs_are_theirs(engine: Engine) -> None:
    (engine.data.driver.root / "check-overlayfs-support1").mkdir()
    (engine.data.driver.root / "ab12cd34ef56gh78ij90kl12m").mkdir()  # as BuildKit names them
    assert engine.fsck(repair=True, deep=True) == []
    assert (engine.data.driver.root / "ab12cd34ef56gh78ij90kl12m").exists()


# -- containers --------------------------------------------------------------------------------


def test_a_record_that_cannot_be_read_is_written_anew_and_its_files_stay(engine: Engine, container: Container) -> None:
    (engine.data.records.directory(container.id) / "config.v2.json").write_text('{"ID": ')
    assert len(mended(engine)) == 1
    assert container.name == f"recovered_{container.short_id}"
    assert (container.upper / "mine").read_text() == "precious\n"
    assert container.commit("saved:1").layers[-1].size == len("precious\n")
    container.remove()


@pytest.mark.parametrize("text", ["", "[", None])
def test_a_damaged_host_configuration_leaves_the_rest_of_the_record(
    engine: Engine, container: Container, text: str | None
) -> None:
    path = engine.data.records.directory(container.id) / "hostconfig.json"
    path.unlink() if text is None else path.write_text(text)
    assert len(mended(engine)) == 1
    assert (container.name, container.record.path) == ("mine", "cat")


def test_a_container_without_its_layer_gets_an_empty_one(engine: Engine, container: Container) -> None:
    engine.data.layers.remove_writable(container.id)
    assert mended(engine) == ["the container mine has lost its writable layer; repair gives it a new, empty one"]
    assert list(container.upper.iterdir()) == []
    (container.upper / "mine").write_text("precious\n")


@pytest.mark.parametrize("which", ["init", "own"])
def test_a_lost_directory_of_a_container_is_made_anew(engine: Engine, container: Container, which: str) -> None:
    writable = engine.data.layers.writable(container.id)
    engine.data.driver.remove(writable.init_id if which == "init" else writable.mount_id)
    engine.fsck(repair=True)
    assert engine.fsck(deep=True) == []
    (container.upper / "mine").write_text("precious\n")


def test_a_writable_layer_without_a_container_goes(engine: Engine, image: Image) -> None:
    engine.data.layers.create_writable(ContainerId("a" * 64), image.config.chain_id)
    assert mended(engine) == ["the writable layer aaaaaaaaaaaa belongs to no container; a killed command left it"]


def test_a_writable_layer_that_a_build_uses_is_left_alone(engine: Engine, image: Image) -> None:
    with making(engine.data) as lease:
        lease.claim("container", "a" * 64)
        engine.data.layers.create_writable(ContainerId("a" * 64), image.config.chain_id)
        assert engine.fsck(repair=True) == []
    assert engine.fsck() == []


def test_what_bears_the_id_of_no_container_goes(engine: Engine) -> None:
    (engine.data.records.root / ("b" * 64)).mkdir()
    (engine.runtime.path / ("c" * 64)).mkdir(parents=True)
    (engine.runtime.path / "exits").mkdir(exist_ok=True)
    (engine.runtime.path / "exits" / ("d" * 64)).write_text("0")
    sentences = mended(engine)
    assert sorted(sentence.split(" belongs")[0] for sentence in sentences) == [
        "the bundle cccccccccccc",
        "the directory of files bbbbbbbbbbbb",
        "the exit status dddddddddddd",
    ]


def test_a_container_that_does_not_run_is_not_mounted(engine: Engine, container: Container) -> None:
    engine.data.driver.mount(engine.data.layers.writable(container.id).mount_id)
    [sentence] = mended(engine)
    assert sentence == f"the files of container {container.short_id} are mounted, but it does not run"


def test_a_running_container_is_left_alone(engine: Engine, image: Image) -> None:
    running = engine.containers.run_detached(image, ["sleep", "600"], network_mode="none")
    assert engine.fsck(repair=True, deep=True) == []
    assert running.status == "running"
    running.remove(force=True)
    assert engine.fsck() == []


def test_a_start_that_was_killed_half_way_is_undone(engine: Engine, container: Container) -> None:
    (engine.runtime.path / container.id).mkdir(parents=True)
    assert mended(engine) == ["the start of container mine was killed half-way"]


# -- leftovers ---------------------------------------------------------------------------------


def test_write_sets_leases_and_staging_of_the_dead_go(engine: Engine, image: Image) -> None:
    temporary = engine.data.layers.root / "tmp"
    (temporary / "write-set-1").mkdir()
    (temporary / "write-set-1/cache-id").write_text("a" * 64)
    engine.data.driver.create(CacheId("a" * 64), image.layers[0].cache_id)
    (temporary / "write-set-2").mkdir()
    (temporary / "lease-1").write_text("layer " + image.config.chain_id + "\n")
    (temporary / f"mount-{'b' * 64}").mkdir()
    assert len(mended(engine)) == 4
    assert list(temporary.iterdir()) == []
    assert not (engine.data.driver.root / ("a" * 64)).exists()


def test_half_written_files_and_scratch_directories_go(engine: Engine, container: Container) -> None:
    for path in (
        engine.data.images.root / ".tmp-repositories.json1",
        engine.data.images.root / "imagedb/content/sha256/.tmp-1",
        engine.data.records.directory(container.id) / ".tmp-config.v2.json1",
    ):
        path.write_text("half")
    (engine.data_root / "tmp/abandoned").mkdir(parents=True)
    with engine.data.scratch() as scratch:
        assert len(mended(engine)) == 4
        assert scratch.is_dir()


def test_an_engine_clears_at_its_start_what_the_dead_left(engine: Engine, image: Image) -> None:
    temporary = engine.data.layers.root / "tmp"
    engine.data.layers.create_writable(ContainerId("a" * 64), image.config.chain_id)
    (temporary / "lease-1").write_text(f"container {'a' * 64}\nlayer {image.config.chain_id}\n")
    (temporary / "write-set-1").mkdir()
    again = Engine(engine.data_root)
    assert (list(temporary.iterdir()), again.fsck(deep=True)) == ([], [])


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_other_drivers_are_checked_too(tmp_path: Path, busybox_tar: Path, driver: str) -> None:
    engine = Engine(tmp_path / driver, storage_driver=driver)
    image = engine.images.import_(busybox_tar, "busybox:1")
    container = engine.containers.create(image, ["true"])
    engine.images.build(_context(tmp_path), tag="built:1")
    assert engine.fsck(deep=True) == []
    engine.data.records.remove(container.id)
    assert engine.fsck(repair=True)[0].repaired
    assert engine.fsck(deep=True) == []


def _context(tmp_path: Path) -> Path:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM busybox:1\nCOPY Dockerfile /\n")
    return tmp_path / "context"


# -- the command -------------------------------------------------------------------------------


@pytest.mark.smoke
def test_the_command_says_what_it_found_and_whether_it_is_left(
    engine: Engine, changed: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    def fsck(*options: str) -> tuple[int, str]:
        return main(["--root", str(engine.data_root), "system", "fsck", *options]), capsys.readouterr().out

    assert fsck() == (0, "nothing found\n")
    lease = engine.data.layers.root / "tmp/lease-1"
    lease.write_text("")
    named = f"a killed command left its lease of nothing\n  {lease}\n1 found, "
    assert fsck() == (1, f"found: {named}1 left\n")
    assert fsck("--repair") == (0, f"repaired: {named}0 left\n")
    assert fsck("--repair", "--deep") == (0, "nothing found\n")


def test_the_command_fails_while_something_is_left(engine: Engine, changed: Image) -> None:
    (directory(engine, changed.layers[1]) / "diff/one").write_text("two\n")
    assert main(["--root", str(engine.data_root), "system", "fsck", "--repair", "--deep"]) == 1
