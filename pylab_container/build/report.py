"""The plan of a build, for `build --plan`. The report of a build is in images/build_report.py."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from pylab_container.dockerfile.warning import LintWarning
from pylab_container.images.build_report import BuildReport as BuildReport
from pylab_container.images.build_report import FileCounts as FileCounts
from pylab_container.images.build_report import StepReport as StepReport


class PlannedStep(Struct, frozen=True):
    """One instruction of a planned build.

    cache   the expected outcome: "hit", "miss", or "" for FROM
    reason  the reason for a miss
    """

    number: int
    of: int
    stage: str
    instruction: str
    cache: str
    reason: str


class BuildPlan(Struct, frozen=True):
    """The steps that a build would execute or find in the cache, in the order of the Dockerfile.

    left_out  stages that the target does not need
    needs     for each stage, the stages that must be built first
    """

    target: str
    steps: tuple[PlannedStep, ...]
    needs: dict[str, tuple[str, ...]]
    left_out: tuple[str, ...] = ()
    warnings: Sequence[LintWarning] = ()
