"""The exercises of the labs that have no criteria yet: for each a check of the answer, and a hint.

    lab.check(1, answer, image)      in lab 01 looks up EXERCISES["01", 1]

A check gets the answer and the subject of the exercise: an image, a container or a directory. It compares the answer
with the state of the store and the container's files, because a fixed solution could be wrong on another machine.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from pylab_container.engine import Engine
from pylab_container.engine.containers import Container
from pylab_container.errors import InvalidInput
from pylab_container.events import RegistryRequest
from pylab_container.images.image import Image
from pylab_container.notebook.display import Note


class Exercise(Struct, frozen=True):
    """One exercise.

    check   takes the answer and the subject; returns the mistake, "" if the answer is right
    praise  shown for a right answer
    hint    shown for a wrong or missing answer
    """

    check: Callable[[Any, Any], str]
    praise: str
    hint: str

    def judge(self, answer: object, subject: object) -> Note:
        """Check an answer and return the note to show. None stands for a missing answer."""
        if answer is None:
            return Note("open", f"not solved yet. Hint: {self.hint}")
        mistake = self.check(answer, subject)
        return Note("no", f"not yet: {mistake}\n  Hint: {self.hint}") if mistake else Note("ok", self.praise)


# -- lab 00 ------------------------------------------------------------------------------------


def _lists_running(answer: object, _subject: object) -> str:
    words = re.sub(r"/v1\.\d+/", "/", str(answer).split("?")[0]).split()
    return "" if words == ["GET", "/containers/json"] else f"{answer!r} does something else"


def _blobs_fetched(answer: object, subject: tuple[Engine, str]) -> str:
    """The answer is the number of blobs that a pull fetches now."""
    engine, name = subject
    with engine.events.collected() as events:
        engine.images.pull(name)
    paths = [event.path for event in events if isinstance(event, RegistryRequest) and event.method == "GET"]
    fetched = sum("/blobs/" in path for path in paths)
    return "" if answer == fetched and answer is not False else f"the pull did not fetch {answer!r} blobs"


def _manifest_digest(answer: object, subject: tuple[Engine, str]) -> str:
    engine, name = subject
    known = [digest.rpartition("@")[2] for digest in engine.images.get(name).attrs["RepoDigests"]]
    return "" if str(answer).rpartition("@")[2] in known else "the registry has no manifest of this digest"


# -- lab 01 ------------------------------------------------------------------------------------


def _number_of_layers(answer: object, image: Image) -> str:
    return "" if answer == len(image.layers) else f"{answer!r} is not the number of its layers"


def _layer_directory(answer: object, image: Image) -> str:
    expected = image._data.driver.diff_path(image.layers[-1].cache_id)
    path = _path(answer)
    if not path.is_dir():
        return f"there is no directory {answer}"
    return "" if path.resolve() == expected.resolve() else "that directory does not hold the image's files"


def _same_tar_twice(answer: object, image: Image) -> str:
    """The answer is the second image."""
    if not isinstance(answer, Image):
        return "the answer is what engine.images.import_ returned"
    if answer.id == image.id:
        return "that is the first image itself"
    shared = answer.layers == image.layers
    return "" if shared else "its layer is another one: import the very same tar"


# -- lab 05 ------------------------------------------------------------------------------------


def _whiteout(answer: object, upper: Path) -> str:
    path = _path(answer)
    if not path.is_absolute():
        path = upper / path
    if not os.path.lexists(path):
        return f"there is no {answer}"
    if upper.resolve() not in path.parent.resolve().parents and path.parent.resolve() != upper.resolve():
        return "it is not in the upper directory"
    status = path.lstat()
    is_whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
    return "" if is_whiteout else "it is not a character device 0:0"


def _number_of_lowers(answer: object, container: Container) -> str:
    lower = (container.upper.parent / "lower").read_text()
    return "" if answer == len(lower.split(":")) else f"{answer!r} is not the number of lower directories"


def _path(answer: object) -> Path:
    return Path(os.path.expandvars(str(answer)))


EXERCISES = {
    ("00", 1): Exercise(
        _lists_running,
        "right: with ?all=1 it lists the others, too.",
        'daemon.docker("ps") shows what it asks',
    ),
    ("00", 2): Exercise(
        _blobs_fetched,
        "right: the manifest's digest is the one that is known here, so nothing else is asked for.",
        "with lab.watch(RegistryRequest): engine.images.pull(name)",
    ),
    ("00", 3): Exercise(
        _manifest_digest,
        "right: name@digest names this very image for ever.",
        "pulled.attrs tells what the image is called, by tag and by digest",
    ),
    ("01", 1): Exercise(
        _number_of_layers,
        "right: one tar, one layer. Every image starts with one.",
        "image.layers is a list",
    ),
    ("01", 2): Exercise(
        _layer_directory,
        "right: an image's files are ordinary files in an ordinary directory.",
        "image.layers[0].cache_id names a directory in $LABCTR_ROOT/overlay2",
    ),
    ("01", 3): Exercise(
        _same_tar_twice,
        "right: two images, two ids, but the layer is on disk once.",
        "call engine.images.import_ with the same tar and another name",
    ),
    ("05", 1): Exercise(
        _whiteout,
        "right: a character device 0:0 hides the name below it.",
        "the file is in container.upper, under the path of the file that was deleted",
    ),
    ("05", 2): Exercise(
        _number_of_lowers,
        "right: the image's layers and the container's init layer.",
        "the file lower separates them with colons",
    ),
}


def check(lab: str, number: int, answer: object, subject: object) -> Note:
    """Check the answer to an exercise and return a note about it. Raises InvalidInput for an unknown one."""
    exercise = EXERCISES.get((lab, number))
    if exercise is None:
        count = sum(1 for known, _ in EXERCISES if known == lab)
        raise InvalidInput(f"lab {lab} has no exercise {number}", hint=f"they are 1 to {count}")
    note = exercise.judge(answer, subject)
    return Note(note.kind, f"exercise {number}: {note.text}")
