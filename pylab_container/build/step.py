"""The image that a stage has made so far, and one step that can be executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct, field

from pylab_container.images.configuration import Configuration
from pylab_container.oci.image import ImageConfig
from pylab_container.store.layer_store import Layer


class Step(Struct, frozen=True):
    """One translated instruction.

    words         the words that the image's container_config records; also the key of the build cache
    action        changes files and returns the layer; None if only the config changes
    fingerprints  a short digest of each file that the step copies, to explain a miss
    """

    words: tuple[str, ...]
    action: Callable[[], Layer | None] | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)


class StageImage(Configuration):
    """The image that the instructions of a stage have made so far.

    image_id, image  the last image; "" and None for FROM scratch
    unknown          in a plan: a step that would have to be executed came before
    """

    image_id: str = ""
    image: ImageConfig | None = None
    author: str = ""
    unknown: bool = False

    def copied(self) -> StageImage:
        """Return the image as the start of another stage, without arguments and author."""
        return StageImage(dict(self.config), image_id=self.image_id, image=self.image, unknown=self.unknown)


class NotBuilt(Exception):
    """A plan needs the files of an image that is not built yet."""


class Stopped(Exception):
    """The build was stopped, or another of its stages has failed."""
