"""SIGKILL at any moment leaves a store that opens, with all that was complete, and whose debris fsck clears.

A child process does one operation over and over and is killed after a random time. The
seed is printed with a failure; --seed repeats it, --stress kills 200 times instead of 4.
"""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.errors import ImageNotFound
from pylab_container.images.image import Image
from tests.support.processes import kill

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

KEPT = ("busybox:1", "kept:1")
DOCKERFILE = "FROM busybox:1\nRUN echo run > /run-file\nCOPY file /copied\nWORKDIR /work\n"
STAGES = """FROM busybox:1 AS one
RUN --mount=type=cache,target=/cache date > /cache/now && cat /cache/now > /one
FROM busybox:1 AS two
RUN --mount=type=secret,id=token --mount=target=/context cat /context/file /run/secrets/token > /two
FROM busybox:1
COPY --from=one /one /
COPY --link --from=two /two /
"""


class Bench:
    """One data root with two images that must survive, and operations to kill."""

    def __init__(self, engine: Engine, archives: Path, busybox_tar: Path) -> None:
        self.engine = engine
        self.archives = archives
        self.busybox_tar = busybox_tar
        self.base = engine.images.get("busybox:1")
        container = engine.containers.create(self.base, ["sh", "-c", "echo kept > /kept"], network_mode="none")
        container.start()
        container.wait()
        container.commit("kept:1")
        self.container_id = container.id
        (archives / "context").mkdir()
        (archives / "context/Dockerfile").write_text(DOCKERFILE)
        (archives / "context/file").write_text("content\n")
        (archives / "context/stages").write_text(STAGES)
        (archives / "loaded").mkdir()
        (archives / "loaded/Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /first\nCOPY Dockerfile /second\n")
        engine.images.build(archives / "loaded", tag="loaded:1")
        engine.images.save("loaded:1", archives / "loaded.tar")
        engine.images.remove("loaded:1")
        self.ids = {name: engine.images.get(name).id for name in KEPT}

    def clean(self, engine: Engine) -> None:
        """Remove the results of the operations, so that the next run starts from the beginning."""
        for name in ("imported:1", "committed:1", "loaded:1", "built:1", "removed:1"):
            with contextlib.suppress(ImageNotFound):
                engine.images.remove(name, force=True)
        for image in engine.images.list(all=True):
            if image.id not in self.ids.values():
                with contextlib.suppress(ImageNotFound):
                    engine.images.remove(image.id, force=True)

    def import_(self, engine: Engine) -> Image:
        return engine.images.import_(self.archives / "other.tar", "imported:1")

    def commit(self, engine: Engine) -> Image:
        return engine.containers.get(self.container_id).commit("committed:1")

    def load(self, engine: Engine) -> Image:
        return engine.images.load(self.archives / "loaded.tar")[0]

    def build(self, engine: Engine) -> Image:
        return engine.images.build(self.archives / "context", tag="built:1", nocache=True)

    def stages(self, engine: Engine) -> Image:
        context, file = self.archives / "context", self.archives / "context/stages"
        return engine.images.build(context, dockerfile=file, tag="built:1", nocache=True, secrets={"token": b"secret"})

    def remove(self, engine: Engine) -> Image:
        image = engine.images.load(self.archives / "loaded.tar")[0]
        engine.images.tag(image, "removed:1")
        engine.images.remove("loaded:1")
        engine.images.remove("removed:1")
        return self.base

    def prune(self, engine: Engine) -> Image:
        engine.images.build(self.archives / "context", tag="built:1", nocache=True)
        engine.prune_builds(all=True)
        return self.base


@pytest.fixture
def bench(engine: Engine, image: Image, busybox_tar: Path, tmp_path: Path) -> Bench:
    archives = tmp_path / "archives"
    archives.mkdir()
    # Another tar than busybox:1 was made of: equal ones would share the layer.
    data = busybox_tar.read_bytes()
    (archives / "other.tar").write_bytes(data + bytes(10240))
    return Bench(engine, archives, busybox_tar)


@pytest.mark.parametrize("name", ["import_", "commit", "load", "build", "stages", "remove", "prune"])
def test_an_operation_may_be_killed_at_any_moment(bench: Bench, name: str, seed: int, kills: int) -> None:
    sys.stdout.write(f"--seed {seed}\n")
    chance = random.Random(f"{seed} {name}")
    operation: Callable[[Engine], Image] = getattr(bench, name)
    operation(bench.engine)
    bench.clean(bench.engine)
    started = time.monotonic()
    operation(bench.engine)
    duration = time.monotonic() - started

    def once_more(engine: Engine) -> None:
        operation(engine)
        bench.clean(engine)

    for number in range(kills):
        bench.clean(Engine(bench.engine.data_root))
        delay = chance.uniform(0, duration * 1.2)
        sys.stdout.write(f"kill {number} after {delay:.4f} s of about {duration:.4f}\n")
        kill(bench.engine.data_root, once_more, delay)
        _check(bench, operation, recover=chance.random() < 0.5)


def _check(bench: Bench, operation: Callable[[Engine], Image], *, recover: bool) -> None:
    engine = Engine(bench.engine.data_root, recover=recover)
    if recover:  # of all that a killed operation can leave, an engine's start leaves half-written files
        serious = [finding for finding in engine.fsck(deep=True) if finding.kind != "leftover"]
        assert serious == []
        assert [container.id for container in engine.containers.list(all=True)] == [bench.container_id]
    assert {name: engine.images.get(name).id for name in KEPT} == bench.ids
    findings = engine.fsck(repair=True, deep=True)
    assert [finding.sentence for finding in findings if not finding.repaired] == []
    assert engine.fsck(deep=True) == []
    assert {name: engine.images.get(name).id for name in KEPT} == bench.ids
    operation(engine)
    assert engine.fsck() == []
