"""SIGKILL at any moment of a pull or push leaves a whole store, and the next engine leaves nothing of it."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.errors import ImageNotFound
from pylab_container.images.image import Image
from tests.support.processes import kill
from tests.support.registries import RunningRegistry, running

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningRegistry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with running(tmp_path / "registry") as started:
        yield started


@pytest.fixture
def name(engine: Engine, image: Image, registry: RunningRegistry, tmp_path: Path) -> str:
    """An image with four layers, which is in the registry and here."""
    context = tmp_path / "context"
    context.mkdir()
    lines = ["FROM busybox:1"]
    for number in range(3):
        (context / str(number)).write_bytes(os.urandom(2_000_000))
        lines.append(f"COPY {number} /")
    (context / "Dockerfile").write_text("\n".join(lines))
    engine.images.build(context, tag=f"{registry.host}/crash:1")
    engine.images.push(f"{registry.host}/crash:1")
    return f"{registry.host}/crash:1"


def test_a_pull_may_be_killed_at_any_moment(engine: Engine, name: str, tmp_path: Path, seed: int, kills: int) -> None:
    sys.stdout.write(f"--seed {seed}\n")
    chance, root = random.Random(f"{seed} pull"), tmp_path / "client"
    started = time.monotonic()
    wanted = Engine(root).images.pull(name).id
    duration = time.monotonic() - started

    def pull(client: Engine) -> None:
        forget(client, name)
        client.images.pull(name)

    for number in range(kills):
        delay = chance.uniform(0, duration * 2)
        sys.stdout.write(f"kill {number} after {delay:.4f} s\n")
        kill(root, pull, delay)
        client = Engine(root)
        assert [finding.sentence for finding in client.fsck(deep=True) if finding.kind != "leftover"] == []
        assert list((root / "tmp").glob("*")) == []
        client.fsck(repair=True)
        assert client.fsck() == []
        if (left := client.images.list(all=True)) == []:
            assert client.data.layers.all() == []
        else:
            assert [image.id for image in left] == [wanted]
    assert client.images.pull(name).id == wanted


def test_a_push_may_be_killed_at_any_moment(
    engine: Engine, name: str, registry: RunningRegistry, seed: int, kills: int
) -> None:
    sys.stdout.write(f"--seed {seed}\n")
    chance, digest = random.Random(f"{seed} push"), registry.digest("crash:1")
    target = name.replace("crash", "again")
    engine.images.tag(name, target)

    def push(client: Engine) -> None:
        # Nothing is known of the layers, so that all of them are sent.
        for path in (client.data.distribution.root / "v2metadata-by-diffid/sha256").glob("*"):
            path.unlink()
        client.images.push(target)

    for number in range(kills):
        delay = chance.uniform(0, 0.5)
        sys.stdout.write(f"kill {number} after {delay:.4f} s\n")
        kill(engine.data_root, push, delay)
        client = Engine(engine.data_root)
        assert [finding.sentence for finding in client.fsck(deep=True) if finding.kind != "leftover"] == []
    client.fsck(repair=True)
    assert client.images.push(target)[0].digest == digest == registry.digest("again:1")


def forget(client: Engine, name: str) -> None:
    with contextlib.suppress(ImageNotFound):
        client.images.remove(name)
