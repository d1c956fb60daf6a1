"""Images, Dockerfiles and listings that are made to do harm: each is refused or costs no more than its size."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.build.recipe import BuildOptions
from pylab_container.build.workspace import Workspace
from pylab_container.docker.image_filters import matching_images
from pylab_container.dockerfile import expansion
from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.engine.builds import build
from pylab_container.errors import (
    Conflict,
    CorruptStore,
    DockerfileError,
    InvalidArchive,
    InvalidInput,
    InvalidReference,
)
from pylab_container.images.image import Image
from pylab_container.oci import reference as references
from pylab_container.oci.image import LONGEST_CONFIG, ImageConfig, go_json, sha256
from pylab_container.store.image_store import ImageStore
from tests.support.api import Daemon
from tests.support.contexts import Context
from tests.support.waiting import eventually

pytestmark = pytest.mark.shared_engine


def put_config(engine: Engine, image: Image, **config: object) -> str:
    """Write a config into the store as a version did that did not look at it; return the image's id."""
    raw = go_json({**image.config.document, "config": {**image.config.config, **config}})
    (engine.data.images.root / "imagedb/content/sha256" / sha256(raw)[7:]).write_bytes(raw)
    return sha256(raw)


@pytest.mark.parametrize(
    "config",
    [{"Labels": ["a"]}, {"Env": [1]}, {"Volumes": ["/a"]}, {"Healthcheck": "x"}],
    ids=lambda each: next(iter(each)),
)
def test_a_stored_config_of_other_types_harms_only_its_own_image(
    engine: Engine, image: Image, config: dict[str, object]
) -> None:
    image_id = put_config(engine, image, **config)
    assert [each.id for each in engine.images.list()] == [image.id]
    assert [usage.image.id for usage in engine.df().images] == [image.id]
    engine.images.prune()
    with pytest.raises(CorruptStore, match="json: cannot unmarshal"):
        engine.images.get(image_id).attrs  # noqa: B018 (it is read only now)
    (finding,) = [each for each in engine.fsck() if each.kind == "image"]
    assert "json: cannot unmarshal" in finding.sentence
    assert image_id[7:19] in finding.sentence
    engine.images.remove(image_id, force=True)


def test_a_commit_with_other_types_is_refused(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, ["true"], network_mode="none")
    with pytest.raises((InvalidArchive, InvalidInput)):
        container.commit("bad:1", conf={"Labels": ["a"]})
    assert [each.id for each in engine.images.list(all=True)] == [image.id]


@pytest.mark.parametrize("tag", ["../../x", "", "a/b", "x\n"])
def test_a_name_that_cannot_be_read_again_is_not_stored(engine: Engine, image: Image, tag: str) -> None:
    with pytest.raises(InvalidReference):
        references.parse("x").with_tag(tag)
    with pytest.raises(InvalidReference):
        engine.data.images.tag(references.Reference("docker.io", "library/x", tag), image.id)
    assert image.tags == ["busybox:1"]


@pytest.mark.parametrize(
    "pattern", ["docker.io/library/busybox", "docker.io/library/busybox:1", "busybox", "*:1", "b[!x]*"]
)
def test_a_filter_finds_a_name_also_in_full(engine: Engine, image: Image, pattern: str) -> None:
    found = matching_images(engine.data, engine.images.list(), {"reference": pattern})
    assert [each.id for each in found] == ([] if "!" in pattern else [image.id])  # Go negates with ^


def test_a_listing_reads_names_and_configs_once(engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        engine.images.tag(image, f"many:{number}")
    done: list[str] = []
    read_names, parse = ImageStore._read, ImageConfig.parse

    def counted_names(self: ImageStore) -> dict[str, dict[str, str]]:
        done.append("names")
        return read_names(self)

    def counted_config(raw: bytes) -> ImageConfig:
        done.append("config")
        return parse(raw)

    monkeypatch.setattr(ImageStore, "_read", counted_names)
    monkeypatch.setattr(ImageConfig, "parse", counted_config)
    for _ in range(5):
        (listed,) = engine.images.list()
        assert len(listed.attrs["RepoTags"]) == 31
    assert done in (["names"], ["names", "config"])
    engine.images.tag(image, "many:more")
    assert "many:more" in image.tags


def test_another_process_changes_names_and_configs_meanwhile(engine: Engine, image: Image) -> None:
    other = Engine(engine.data_root)
    assert engine.images.get("busybox:1").tags == ["busybox:1"]
    other.images.tag("busybox:1", "seen:1")
    assert image.tags == ["busybox:1", "seen:1"]
    made = other.images.import_(io.BytesIO(bytes(1024)), "gone:1")
    assert engine.images.get("gone:1").config.id == made.id
    other.images.remove("gone:1")
    with pytest.raises(KeyError):
        engine.data.images.get(made.id)
    config = engine.data.images.content_path(image.id)
    content = config.read_bytes()
    config.write_bytes(content[:-1] + b" ")
    with pytest.raises(CorruptStore):
        engine.data.images.get(image.id)
    config.write_bytes(content)


def test_an_image_config_has_a_limit(engine: Engine, image: Image, context: Context) -> None:
    lines = [f"ENV A={'x' * 60_000}"] + ["ENV A=$A$A"] * 12
    with pytest.raises(DockerfileError, match=rf"config has \d+ bytes, more than {LONGEST_CONFIG}|more than 4194304"):
        engine.images.build(context("\n".join(lines) + "\n"))
    with pytest.raises(DockerfileError, match="more than 4194304 characters"):
        engine.images.build(
            context("\n".join([lines[0], "ENV A=$A$A$A$A", *[f"ENV B{n}=" + "$A" * 40 for n in range(9)]]))
        )
    assert engine.fsck() == []


def test_a_value_of_512_kilobytes_is_no_harm(engine: Engine, context: Context) -> None:
    built = engine.images.build(context(f"ENV A={'x' * 64_000}\n" + "ENV A=$A$A\n" * 3 + "ENV B=${A#*y} C=${A%%x*}\n"))
    assert len(built.config.config["Env"][1]) == 512_000 + 2


def test_a_stopped_build_expands_no_other_word(
    engine: Engine, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, builds, words = threading.Event(), [], []
    made, expand = Workspace.__init__, expansion.expand

    def remembered(self: Workspace, *arguments: object, **more: object) -> None:
        made(self, *arguments, **more)  # type: ignore[arg-type]
        builds.append(self)

    def expanded(word: str, *arguments: object, **more: object) -> str:
        if builds:
            words.append(word)
            stop.set()
            eventually(lambda: builds[0].is_stopped)
        return expand(word, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Workspace, "__init__", remembered)
    monkeypatch.setattr(expansion, "expand", expanded)
    directory = context("ENV " + " ".join(f"A{number}=$PATH" for number in range(1000)) + "\n")
    with pytest.raises(Conflict, match="the build was stopped"):
        build(engine.parts, directory, BuildOptions(), stop=stop)
    assert len(words) == 1


def test_a_hostile_ignore_file_does_not_stop_a_build(engine: Engine, context: Context) -> None:
    name = "a" * 200
    directory = context(f"COPY . /x\nCOPY {'*a' * 50}b* /y/\n", {name: "1", ("a" * 100) + "b": "2"})
    (Path(directory) / ".dockerignore").write_text("*a" * 100 + "c\n" + "**/" + "*a*" * 100 + "d\n")
    built = engine.images.build(directory)
    assert len(built.config.history) == 3


def test_system_prune_with_a_label_reaches_the_build_cache(daemon: Daemon, engine: Engine, context: Context) -> None:
    engine.images.build(context("ENV A=1\n"))
    answer = daemon.api.request(
        "POST", "/build/prune", parameters={"all": "1", "filters": json.dumps({"label": ["x"]})}
    )
    assert (answer.status, json.loads(answer.body)["CachesDeleted"]) == (200, [])


def test_a_hostile_filter_does_not_stop_the_daemon(daemon: Daemon, engine: Engine, image: Image) -> None:
    engine.containers.create(image, ["true"], name="a" * 60 + "b", network_mode="none")
    for pattern, found in (("^(a+)+$", 0), ("^/?(a|aa)+b$", 1), ("(a*)*(a*)*c", 0)):
        answer = daemon.api.request(
            "GET", "/containers/json", parameters={"all": "1", "filters": json.dumps({"name": [pattern]})}
        )
        assert (answer.status, len(json.loads(answer.body))) == (200, found)


def test_a_stopped_build_compares_no_other_file_with_patterns(engine: Engine, context: Context) -> None:
    directory = context("COPY . /x\n", {f"file{number}": "" for number in range(200)})
    stop, looked = threading.Event(), []
    (Path(directory) / ".dockerignore").write_text("*.no\n")
    covers = IgnorePatterns.covers

    def counted(self: IgnorePatterns, path: str) -> bool:
        looked.append(path)
        stop.set()
        eventually(
            lambda: "watcher" not in {thread.name for thread in threading.enumerate()}
        )  # it has stopped the build
        return covers(self, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IgnorePatterns, "covers", counted)
        with pytest.raises(Conflict, match="the build was stopped"):
            build(engine.parts, directory, BuildOptions(), stop=stop)
    assert len(looked) == 1
