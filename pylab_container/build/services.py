"""Services from the caller of a build: a runner for RUN, base images, and the linter."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from pylab_container.build.recipe import Recipe
from pylab_container.build.runner import Runner
from pylab_container.dockerfile.warning import LintWarning
from pylab_container.images.image import Image
from pylab_container.images.obtain import PullPolicy


class Services(Struct, frozen=True):
    """Services of the caller; engine/builds.py provides those of an Engine.

    runner        runs the commands of RUN
    base_image    returns the image of FROM or --from for (name, pull policy, platform). Raises ImageNotFound,
                  Unauthorized, Unreachable
    check         returns the linter's warnings; raises DockerfileError if the Dockerfile says that they are errors
    command_line  returns the command line of labctr with these words and this data root, for hints
    """

    runner: Runner
    base_image: Callable[[str, PullPolicy, str], Image]
    check: Callable[[Recipe], tuple[LintWarning, ...]]
    command_line: Callable[..., str]
