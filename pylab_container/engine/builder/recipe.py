"""What is asked of a build: the Dockerfile and the files beside it, read and understood, and the user's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pylab_container.engine.builder import platforms
from pylab_container.engine.builder.context import BuildContext
from pylab_container.formats import dockerfile
from pylab_container.formats import reference as references
from pylab_container.formats.stages import Stages


@dataclass(frozen=True)
class BuildOptions:
    """What the user asks of a build; ImageCollection.build() says what each means."""

    names: tuple[references.Reference, ...] = ()
    dockerfile: str | Path | BinaryIO | None = None
    buildargs: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    nocache: bool = False
    cache_from: tuple[str, ...] = ()
    network: str = ""
    extra_hosts: tuple[str, ...] = ()
    platform: str = ""
    secrets: Mapping[str, str | Path | bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile in its context.

    name      the Dockerfile's, for errors
    platform  the arguments that tell it where it is built: TARGETARCH and the like
    """

    context: BuildContext
    text: bytes
    name: str
    file: dockerfile.Dockerfile
    options: BuildOptions
    platform: Mapping[str, str]

    @classmethod
    def read(cls, context: BuildContext, text: bytes, name: str, options: BuildOptions) -> Recipe:
        """Raises DockerfileError for a mistake in the text, InvalidInput for a platform that is none."""
        platform = platforms.requested(options.platform, options.buildargs)
        return cls(context, text, name, dockerfile.parse(text, name=name), options, platform)

    def stages(self) -> Stages:
        """The stages of the Dockerfile. Raises DockerfileError."""
        return Stages.of(self.file, source=self.name, buildargs=self.options.buildargs, platform=self.platform)
