"""The values that pass between a stage and its instructions: a Step to execute, and the image so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct, field

from pylab_container.images.configuration import Configuration
from pylab_container.oci.image import ImageConfig
from pylab_container.store.layer_store import Layer


class Step(Struct, frozen=True):
    """One translated instruction, before it is known whether the cache has its image.

    words         the words that the image's container_config records; also the key of the build cache
    action        changes files and returns the layer; None if only the config changes
    fingerprints  a short digest of each file that the step copies, to explain a miss
    """

    # The words and the action are separate, because a step that is in the cache is not executed. The words must
    # therefore contain all inputs of the action, except those that must not change its result: secrets, cache mounts
    # and proxies.

    words: tuple[str, ...]
    action: Callable[[], Layer | None] | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)


class StageImage(Configuration):
    """The image that the instructions of a stage have made so far; each instruction changes it in place.

    image_id, image  the last image; "" and None for FROM scratch
    unknown          in a plan: an earlier step would have to be executed, so the image and its id are not known
    """

    image_id: str = ""
    image: ImageConfig | None = None
    author: str = ""
    unknown: bool = False

    def copied(self) -> StageImage:
        """Return the image as the start of another stage, without arguments and author."""
        # A copy, because two stages may continue from this one (moby evaluator.go, beginStage). It may be shallow:
        # instructions replace the fields of the config and never change a field's value in place. An ARG ends with its
        # stage (evaluator.go, newDispatchState: ResetAllowed).
        return StageImage(dict(self.config), image_id=self.image_id, image=self.image, unknown=self.unknown)


# Neither of the two is a LabError. They do not leave build/, and `except LabError` in running.py keeps the container of
# a step that failed, but not of one that was stopped.


class NotBuilt(Exception):
    """A plan needs the files of an image that is not built yet."""


class Stopped(Exception):
    """The build was stopped, or another of its stages has failed."""
