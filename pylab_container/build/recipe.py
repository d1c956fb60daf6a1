"""What is asked of a build: the Dockerfile and the files beside it, read and understood, and the user's options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Literal

from msgspec import Struct, field

from pylab_container.build import platforms
from pylab_container.build.context import BuildContext
from pylab_container.dockerfile import parser
from pylab_container.dockerfile.stages import Stages
from pylab_container.oci import reference as references
from pylab_container.oci.host_config import DEFAULT, HostConfig


class BuildOptions(Struct, frozen=True):
    """What the user asks of a build; ImageCollection.build() says what each means.

    auth_configs  who asks registries for base images, by the registries' names; None: who docker's config.json says
    valueless  arguments that the user names without a value: they count for the warning that nobody takes them
    every_stage  also those before the target that it does not need
    limits  HostConfig of the containers of RUN: memory, shm_size, ulimits …
    keep    which RUN's containers stay; where a failed one goes, its root stays as an image
    """

    names: tuple[references.Reference, ...] = ()
    dockerfile: str | Path | BinaryIO | None = None
    buildargs: Mapping[str, str] = field(default_factory=dict)
    valueless: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    nocache: bool = False
    cache_from: tuple[str, ...] = ()
    network: str = ""
    extra_hosts: tuple[str, ...] = ()
    platform: str = ""
    secrets: Mapping[str, str | Path | bytes] = field(default_factory=dict)
    pull: bool = False
    auth_configs: Mapping[str, Mapping[str, str]] | None = None
    limits: HostConfig = DEFAULT
    every_stage: bool = False
    keep: Literal["never", "failed", "always"] = "never"


class Recipe(Struct, frozen=True):
    """A Dockerfile in its context.

    name      the Dockerfile's, for errors
    platform  the arguments that tell it where it is built: TARGETARCH and the like
    """

    context: BuildContext
    text: bytes
    name: str
    file: parser.Dockerfile
    options: BuildOptions
    platform: Mapping[str, str]

    @classmethod
    def read(cls, context: BuildContext, text: bytes, name: str, options: BuildOptions) -> Recipe:
        """Raises DockerfileError for a mistake in the text, InvalidInput for a platform that is none."""
        platform = platforms.requested(options.platform, options.buildargs)
        return cls(context, text, name, parser.parse(text, name=name), options, platform)

    def stages(self) -> Stages:
        """The stages of the Dockerfile. Raises DockerfileError."""
        return Stages.of(self.file, source=self.name, buildargs=self.options.buildargs, platform=self.platform)
