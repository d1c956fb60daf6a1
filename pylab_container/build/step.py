"""What a stage's builder and its steps share: the image so far, and one instruction ready to be carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct, field

from pylab_container.images.configuration import Configuration
from pylab_container.oci.image import ImageConfig
from pylab_container.store.layer_store import Layer


class Step(Struct, frozen=True):
    """One instruction, ready to be carried out.

    words         how the image's container_config records it; also the key of the build cache
    action        changes files and returns the layer; None where only the config changes
    fingerprints  what the files are that it copies, to explain a miss
    """

    words: tuple[str, ...]
    action: Callable[[], Layer | None] | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)


class StageImage(Configuration):
    """What the instructions of a stage have made so far.

    image_id, image  the last image; "" and None for FROM scratch
    unknown          a plan's stage after the first step that would have to be carried out
    """

    image_id: str = ""
    image: ImageConfig | None = None
    author: str = ""
    unknown: bool = False

    def copied(self) -> StageImage:
        """The same image as the start of another stage; arguments and the author end with their stage."""
        return StageImage(dict(self.config), image_id=self.image_id, image=self.image, unknown=self.unknown)


class NotMade(Exception):
    """A plan needs the files of an image that nobody has made."""


class Stopped(Exception):
    """Another stage of the build has failed."""
