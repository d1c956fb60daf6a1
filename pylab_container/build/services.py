"""What a build gets from its caller: everything that reaches beyond the data root."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from pylab_container.build.recipe import Recipe
from pylab_container.build.runner import Runner
from pylab_container.dockerfile.warning import LintWarning
from pylab_container.images.image import Image
from pylab_container.images.obtain import PullPolicy


class Services(Struct, frozen=True):
    """The caller's parts of a build.

    runner        runs the commands of RUN
    base_image    returns the image of FROM or --from by (name, policy, platform), pulled if it is missing. Raises
                  ImageNotFound, Unauthorized, Unreachable
    check         returns the linter's warnings; raises DockerfileError if the Dockerfile says that they are errors
    command_line  returns labctr's command line for the data root, from its words; for hints
    """

    runner: Runner
    base_image: Callable[[str, PullPolicy, str], Image]
    check: Callable[[Recipe], tuple[LintWarning, ...]]
    command_line: Callable[..., str]
