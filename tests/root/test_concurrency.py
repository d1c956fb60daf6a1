"""Eight processes on one data root: importing, tagging, committing, building, loading, removing at the same time.

They share base image, layers and build cache, and each has names of its own, which no other may lose.
An operation whose image another process removes raises Conflict or NotFound.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import pytest

from pylab_container import Engine
from pylab_container.errors import Conflict, NotFound
from pylab_container.images.image import Image

PROCESSES = 8
DEADLOCK_AFTER = 600.0  # seconds; a process that has not ended by then hangs

Tags = dict[str, str]
"""The names that a process has given and not removed, with the image's id."""


class Result(TypedDict):
    """The result of a worker process.

    done   number of finished operations
    error  traceback of an exception, "" without one
    """

    tags: Tags
    done: int
    error: str


class Worker:
    """The operations of one process."""

    def __init__(self, engine: Engine, folder: Path, number: int, chance: random.Random) -> None:
        self.engine = engine
        self.folder = folder
        self.number = number
        self.chance = chance
        self.tags: Tags = {}
        self.done = 0

    def step(self) -> None:
        """Do one random operation. An error of a lost race is a valid result."""
        choices: list[Callable[[str], Image]] = [self.import_, self.tag, self.commit, self.build, self.load]
        name = f"worker{self.number}:{self.chance.randrange(4)}"
        try:
            if name in self.tags and self.chance.random() < 0.6:
                self.engine.images.remove(name, force=True)
                del self.tags[name]
            else:
                self.tags[name] = self.chance.choice(choices)(name).id
            self.done += 1
        except (Conflict, NotFound):
            # Only its own work may have failed; a name that it had before is still there or was moved by itself.
            self.tags.pop(name, None)
            with contextlib.suppress(NotFound):
                self.tags[name] = self.engine.images.get(name).id

    def import_(self, name: str) -> Image:
        return self.engine.images.import_(self.folder / f"base{self.chance.randrange(3)}.tar", name)

    def tag(self, name: str) -> Image:
        return self.chance.choice(self.engine.images.list()).tag(name)

    def commit(self, name: str) -> Image:
        container = self.engine.containers.create("busybox:1", ["true"], network_mode="none")
        try:
            (container.upper / "change").write_text(str(self.chance.randrange(3)))
            return container.commit(name)
        finally:
            container.remove()

    def build(self, name: str) -> Image:
        return self.engine.images.build(self.folder / f"context{self.chance.randrange(3)}", tag=name)

    def load(self, name: str) -> Image:
        [image] = self.engine.images.load(self.folder / "saved.tar")
        return image.tag(name)


@pytest.fixture
def folder(engine: Engine, image: Image, busybox_tar: Path, tmp_path: Path) -> Path:
    """Three archives and three build contexts, the same for all processes."""
    for number in range(3):
        (tmp_path / f"base{number}.tar").write_bytes(busybox_tar.read_bytes() + bytes(10240 * number))
        context = tmp_path / f"context{number}"
        context.mkdir()
        (context / "file").write_text(str(number))
        run = "RUN echo run > /run-file\n" if number == 0 else ""
        (context / "Dockerfile").write_text(f"FROM busybox:1\n{run}LABEL same=1\nCOPY file /copied\nWORKDIR /work\n")
    engine.images.build(tmp_path / "context1", tag="saved:1")
    engine.images.save("saved:1", tmp_path / "saved.tar")
    engine.images.remove("saved:1")
    return tmp_path


@pytest.fixture
def steps(*, stress: bool) -> int:
    """The number of operations of each process."""
    return 500 if stress else 4


def test_eight_processes_do_not_lose_each_others_work(
    engine: Engine, folder: Path, image: Image, seed: int, steps: int
) -> None:
    sys.stdout.write(f"--seed {seed}\n")
    children = [_start(engine.data_root, folder, number, seed, steps) for number in range(PROCESSES)]
    results = [_result(child, reading) for child, reading in children]
    errors = [result["error"] for result in results if result["error"]]
    assert not errors, "\n".join(errors)
    sys.stdout.write(f"operations: {[result['done'] for result in results]}\n")
    assert min(result["done"] for result in results) > 0
    names = {tag.reference.familiar: tag.image_id for tag in engine.data.images.tags()}
    for result in results:
        assert {name: names.get(name) for name in result["tags"]} == result["tags"]
    assert engine.fsck(deep=True) == []
    assert engine.containers.list(all=True) == []
    _remove_everything(engine, image)


def _remove_everything(engine: Engine, image: Image) -> None:
    """Remove all images; afterwards no layer may exist."""
    for name in [tag.reference.familiar for tag in engine.data.images.tags()]:
        engine.images.remove(name, force=True)
    while images := engine.images.list(all=True):
        engine.images.remove(images[0], force=True)
    assert engine.fsck(deep=True) == []
    assert engine.data.layers.all() == []
    assert os.listdir(engine.data.driver.root) == ["l"]


def _start(data_root: Path, folder: Path, number: int, seed: int, steps: int) -> tuple[int, int]:
    """Fork a worker. Return its pid, and the descriptor from which its result is read."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    result = Result(tags={}, done=0, error="")
    try:
        worker = Worker(Engine(data_root), folder, number, random.Random(f"{seed} {number}"))
        for _ in range(steps):
            worker.step()
        while not worker.done:  # each lost its race so far
            worker.step()
        result = Result(tags=worker.tags, done=worker.done, error="")
    except BaseException:  # noqa: BLE001 (the parent reports it)
        result["error"] = traceback.format_exc()
    finally:
        os.write(writing, json.dumps(result).encode())
        os._exit(0)


def _result(child: int, reading: int) -> Result:
    """Wait for a worker's end, and return its result. A worker that hangs is killed, and that is an error."""
    with open(reading, "rb") as pipe:
        if not select.select([pipe], [], [], DEADLOCK_AFTER)[0]:
            place = Path(f"/proc/{child}/wchan").read_text()
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Result(tags={}, done=0, error=f"worker {child} did not end; it waits in {place}")
        text = pipe.read()
    os.waitpid(child, 0)
    result: Result = json.loads(text)
    return result
