"""What a build did, step by step, and why: what `build --explain` and a notebook show."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct

from pylab_container.store.changes import ADDED, DELETED, MODIFIED

if TYPE_CHECKING:
    from pylab_container.dockerfile.lint.linter import LintWarning
    from pylab_container.store.layer_store import Layer, LayerStore


class FileCounts(Struct, frozen=True):
    """How many files a step's layer adds, changes and removes; directories count as files."""

    added: int = 0
    changed: int = 0
    removed: int = 0

    @property
    def total(self) -> int:
        """All together."""
        return self.added + self.changed + self.removed


class StepReport(Struct, frozen=True, dict=True):
    """One instruction, carried out or found.

    number, of   counted from 1, over all stages that were needed
    stage        what the stage is called
    image_id     the image after it; "" where there is none yet
    cache        "hit", "miss", or "" for what makes no image
    reason       on a miss, why
    started      seconds since the build began
    seconds      how long it took
    layer        the layer that it added, None where only the config changed
    """

    number: int
    of: int
    stage: str
    instruction: str
    image_id: str
    cache: str
    reason: str
    started: float
    seconds: float
    layer: Layer | None = None
    layers: LayerStore | None = None

    @property
    def bytes(self) -> int:
        """Bytes of file content in its layer."""
        return self.layer.size if self.layer else 0

    @cached_property
    def files(self) -> FileCounts:
        """What its layer does to the files below; found out when asked for."""
        if self.layer is None or self.layers is None:
            return FileCounts()
        kinds = list(self.layers.changes(self.layer).values())
        return FileCounts(kinds.count(ADDED), kinds.count(MODIFIED), kinds.count(DELETED))


class BuildReport(Struct, frozen=True):
    """A whole build: its steps in the order of the Dockerfile, its warnings, and `seconds` from start to end."""

    steps: tuple[StepReport, ...]
    seconds: float
    warnings: tuple[LintWarning, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that were made, in their order."""
        return tuple(dict.fromkeys(step.stage for step in self.steps))


class PlannedStep(Struct, frozen=True):
    """One instruction of a build that has not been done: `cache` is what would happen, "hit", "miss" or ""."""

    number: int
    of: int
    stage: str
    instruction: str
    cache: str
    reason: str


class BuildPlan(Struct, frozen=True):
    """What a build would do, in the order of the Dockerfile.

    left_out  stages that the target does not need
    needs     for each stage, the stages that must be there first
    """

    target: str
    steps: tuple[PlannedStep, ...]
    needs: dict[str, tuple[str, ...]]
    left_out: tuple[str, ...] = ()
    warnings: Sequence[LintWarning] = ()
