"""How an image was built, step by step, and why: the data of `build --explain`."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct

from pylab_container.dockerfile.warning import LintWarning
from pylab_container.store.changes import ADDED, DELETED, MODIFIED

if TYPE_CHECKING:
    from pylab_container.store.layer_store import Layer, LayerStore


class FileCounts(Struct, frozen=True):
    """How many files a step's layer adds, changes and removes; directories count as files."""

    added: int = 0
    changed: int = 0
    removed: int = 0

    @property
    def total(self) -> int:
        """The sum of the three."""
        return self.added + self.changed + self.removed


class StepReport(Struct, frozen=True, dict=True):
    """One instruction, carried out or taken from the cache.

    number, of   counted from 1, over all stages that were needed
    stage        the name of the stage
    image_id     the image after the step; "" if no image exists yet
    cache        "hit", "miss", or "" for an instruction that makes no image
    reason       on a miss, why
    started      seconds since the build began
    seconds      duration
    layer        the layer that the step added; None if only the config changed
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
        """Bytes of file content in the step's layer."""
        return self.layer.size if self.layer else 0

    @cached_property
    def files(self) -> FileCounts:
        """Count what the step's layer does to the files below; computed at the first use."""
        if self.layer is None or self.layers is None:
            return FileCounts()
        kinds = list(self.layers.changes(self.layer).values())
        return FileCounts(kinds.count(ADDED), kinds.count(MODIFIED), kinds.count(DELETED))


class BuildReport(Struct, frozen=True):
    """A whole build: its steps in the Dockerfile's order, its warnings, and its seconds."""

    steps: tuple[StepReport, ...]
    seconds: float
    warnings: tuple[LintWarning, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages that were built, in their order."""
        return tuple(dict.fromkeys(step.stage for step in self.steps))
