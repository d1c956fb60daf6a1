"""With SOURCE_DATE_EPOCH set, equal content makes equal images, wherever and whenever it is made."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.errors import InvalidInput
from pylab_container.images.image import Image
from pylab_container.store import layer_content
from tests.support.waiting import eventually

EPOCH = 1_700_000_000

DOCKERFILE = """\
FROM busybox:1
LABEL kit=lab
COPY tree /srv
RUN echo made > /made; mkdir -p /a/b; ln /made /a/b/hard; ln -s made /soft; rm /bin/plain; date > /dev/null
WORKDIR /deep/here
ENV A=1
CMD ["cat", "/made"]
"""


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[list[Engine]]:
    """Two engines whose data roots have paths of different length."""
    made = [Engine(tmp_path / name) for name in ("one", "two/with/a/long/path")]
    yield made
    for engine in made:
        for container in engine.containers.list(all=True):
            container.remove(force=True)
        shutil.rmtree(engine.runtime.path, ignore_errors=True)


def twice(engines: list[Engine], make: Callable[[Engine], Image]) -> tuple[Image, Image]:
    first = make(engines[0])
    second = int(time.time())
    eventually(lambda: int(time.time()) > second)  # every time stamp is another one
    return first, make(engines[1])


def context(top: Path) -> Path:
    (top / "tree/sub").mkdir(parents=True)
    (top / "Dockerfile").write_text(DOCKERFILE)
    (top / "tree/sub/file").write_text("x" * 5000)
    (top / "tree/old").write_text("old")
    os.utime(top / "tree/old", (EPOCH - 1000, EPOCH - 1000))
    return top


def build(engine: Engine, busybox_tar: Path) -> Image:
    engine.images.import_(busybox_tar, "busybox:1")
    return engine.images.build(context(engine.data_root / "context"), tag="built:1")


def commit(engine: Engine, busybox_tar: Path) -> Image:
    image = engine.images.import_(busybox_tar, "busybox:1")
    script = "echo x > /x; mkdir /d; echo y > /d/y; rm /bin/plain; touch -d '2001-01-01 00:00:00' /old"
    container = engine.containers.run_detached(image, ["sh", "-c", script], network_mode="none")
    container.wait()
    made = container.commit("committed:1", author="a", changes="EXPOSE 80")
    container.remove()
    return made


@pytest.mark.parametrize("make", [build, commit])
def test_equal_content_has_equal_ids_in_two_data_roots(
    engines: list[Engine], busybox_tar: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Engine, Path], Image]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
    first, second = twice(engines, lambda engine: make(engine, busybox_tar))
    assert first.config.raw == second.config.raw
    assert first.id == second.id
    assert first.config.created == "2023-11-14T22:13:20Z"
    streams = [
        [b"".join(layer_content.tar_stream(e.data.layers, each.chain_id)) for each in i.layers]
        for e, i in zip(engines, (first, second), strict=True)
    ]
    assert streams[0] == streams[1]


def test_no_time_on_disk_is_later_and_earlier_ones_stay(
    engines: list[Engine], busybox_tar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
    engine = engines[0]
    image = build(engine, busybox_tar)
    script = "stat -c '%Y %n' /made /a/b /soft /srv/sub/file /srv/old /deep"
    output: bytes = engine.containers.run(image, ["sh", "-c", script], remove=True, network_mode="none")
    assert output.decode().splitlines() == [
        f"{EPOCH} /made",
        f"{EPOCH} /a/b",
        f"{EPOCH} /soft",
        f"{EPOCH} /srv/sub/file",
        f"{EPOCH - 1000} /srv/old",
        f"{EPOCH} /deep",
    ]


def test_a_committed_image_does_not_name_the_container(
    engines: list[Engine], busybox_tar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
    made = commit(engines[0], busybox_tar)
    assert "container" not in made.config.document
    assert made.config.config["Hostname"] == made.config.document["container_config"]["Hostname"] == ""


def test_without_it_images_have_the_clock_s_time(engines: list[Engine], busybox_tar: Path) -> None:
    first, second = twice(engines, lambda engine: commit(engine, busybox_tar))
    assert first.id != second.id


@pytest.mark.parametrize("value", ["yesterday", "-1", "1.5", "1" * 12, "٣"])
def test_what_is_no_time_is_refused(
    engines: list[Engine], busybox_tar: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    with pytest.raises(InvalidInput, match="is not a time"):
        engines[0].images.import_(busybox_tar, "busybox:1")
    assert engines[0].images.list() == []
    assert engines[0].data.layers.all() == []
