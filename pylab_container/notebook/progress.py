"""What a student has done: attempts, results, hints and predictions, in one file of the data root.

<data root>/labs/progress.json
{
  "exercises":   {"04.2": {"attempts": 2, "met": 4, "of": 4, "hints": 1}},
  "predictions": {"04.a": {"choice": "all the same"}}
}

Two labs may be open at once: each change reads the file, changes it and replaces it under a lock. The file is the
student's, and may be deleted or damaged: a damaged one is kept beside the new one, as progress.json.damaged.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from pylab_container.host.files import locked, write_atomic


class Work(Struct):
    """What was done about one exercise.

    attempts  checks of an answer
    met, of   criteria of the best attempt
    hints     hints that were shown
    """

    attempts: int = 0
    met: int = 0
    of: int = 0
    hints: int = 0

    @property
    def solved(self) -> bool:
        return 0 < self.of == self.met


class Prediction(Struct):
    """What was expected: the choice, in the words of the question's choices."""

    choice: str


class Record(Struct):
    """The content of progress.json."""

    exercises: dict[str, Work] = {}
    predictions: dict[str, Prediction] = {}


class Progress:
    """The file progress.json below a directory, which is made when the first change is written."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "progress.json"

    def read(self) -> Record:
        """Return what is recorded; an empty record if there is no file, or if it cannot be read as one."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return msgspec.json.decode(self.path.read_bytes(), type=Record)
        return Record()

    def attempted(self, key: str, *, met: int, of: int) -> Work:
        """Record an attempt; a worse result than the best one counts as an attempt only."""
        with self._changing() as record:
            work = record.exercises.setdefault(key, Work())
            work.attempts += 1
            if met >= work.met or of != work.of:  # of differs after an update of the kit
                work.met, work.of = met, of
        return work

    def hinted(self, key: str, *, of: int) -> int:
        """Record that the next hint is shown, and return its number: 1 to of."""
        with self._changing() as record:
            work = record.exercises.setdefault(key, Work())
            work.hints = min(work.hints + 1, of)
        return work.hints

    def predicted(self, key: str, choice: str) -> None:
        """Record a prediction; the last one counts."""
        with self._changing() as record:
            record.predictions[key] = Prediction(choice)

    def forget(self, lab: str) -> None:
        """Forget what was done in one lab, "04"."""
        with self._changing() as record:
            for entries in (record.exercises, record.predictions):
                for key in [key for key in entries if key.startswith(f"{lab}.")]:
                    del entries[key]

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Record]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent / ".progress.lock"):
            record = self.read()
            if not record.exercises and not record.predictions and self.path.exists():
                self._keep_damaged()
            yield record
            write_atomic(self.path, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")

    def _keep_damaged(self) -> None:
        try:
            msgspec.json.decode(self.path.read_bytes(), type=Record)
        except msgspec.DecodeError:
            os.replace(self.path, self.path.with_suffix(".json.damaged"))
