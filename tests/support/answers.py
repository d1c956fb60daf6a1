"""Answers to the labs' exercises. The base image has the servers already, because tests have no way to a mirror."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from pylab_container import Engine
from pylab_container.errors import ImageNotFound
from pylab_container.images.image import Image
from pylab_container.notebook import sandbox
from pylab_container.notebook.exercises.exercise import Result
from pylab_container.notebook.lab import Lab
from tests.support.debian import servers_tar

MISUNDERSTOOD = -1
"""What judged() returns for an answer that the check cannot use."""


@contextlib.contextmanager
def answering(number: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Yield a lab on the engine's data root, with shortened grace periods, and forget its progress afterwards."""
    try:
        engine.images.get("debian12:latest")
    except ImageNotFound:
        engine.images.import_(servers_tar(), "debian12:latest")
    monkeypatch.setenv("LABCTR_ROOT", str(engine.data_root))
    monkeypatch.setenv("LAB", "")
    monkeypatch.setattr(sandbox, "STOP_GRACE_S", 2.5)
    monkeypatch.setattr(sandbox, "ANSWER_DEADLINE_S", 1.0)
    monkeypatch.setattr(sandbox, "RUNS_S", 2.0)
    lab = Lab(number)
    yield lab
    lab.progress.path.unlink(missing_ok=True)


def contents(engine: Engine) -> tuple[object, ...]:
    """Return what a check must leave as it was."""
    images = {(image.id, *image.tags) for image in engine.images.list(all=True)}
    return images, engine.containers.list(all=True), os.listdir(engine.data_root / "overlay2")


def judged(lab: Lab, key: str, answer: object) -> int:
    """Return the number of criteria that the answer meets. The check leaves the engine as it was."""
    before = contents(lab.engine)
    result = lab.check(key, answer)
    assert contents(lab.engine) == before
    assert isinstance(result, Result)
    return MISUNDERSTOOD if result.misunderstood else result.met


def built(lab: Lab, dockerfile: str) -> Image:
    """Build an image as a student does, in a directory of the lab."""
    context = lab.directory / "answer"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(dockerfile)
    return lab.engine.images.build(context, tag="answer:1")
