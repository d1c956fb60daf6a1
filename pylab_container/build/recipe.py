"""The input of a build: the options of its caller, and the parsed Dockerfile in its context."""

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
    """The options of a build. ImageCollection.build() describes those that are not listed here.

    names         names for the image
    network       network of RUN, `network_mode` there
    auth_configs  credentials for base images, by registry; None: those in docker's config.json
    valueless     build arguments without a value
    limits        of each RUN, as fields of Docker's HostConfig: Memory, ShmSize, Ulimits …
    every_stage   also build the stages before the target that it does not need
    keep          which containers of RUN stay. If a failed one is removed, its root is kept as an image
    """

    names: tuple[references.Reference, ...] = ()
    dockerfile: str | Path | BinaryIO | None = None
    buildargs: Mapping[str, str] = field(default_factory=dict)
    # `--build-arg NAME` without a variable NAME in the client's environment: it changes no ARG. Still moby warns if no
    # ARG requests it, because its map has the name with nil (builder/dockerfile/buildargs.go, WarnOnUnusedBuildArgs).
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
    # The classic builder cuts the Dockerfile off after the target and builds the rest (builder.go, build()); BuildKit
    # builds the stages that the target needs. The daemon sets this option, and clients then see the classic steps.
    every_stage: bool = False
    # `docker build --rm=false` is "always", without --force-rm it is "failed", with it "never".
    keep: Literal["never", "failed", "always"] = "never"


class Recipe(Struct, frozen=True):
    """A parsed Dockerfile in its context.

    text      the bytes of the Dockerfile, from which the linter also reads the comments
    name      the Dockerfile's name in error messages
    platform  the automatic arguments: TARGETARCH, BUILDPLATFORM …
    """

    context: BuildContext
    text: bytes
    name: str
    file: parser.Dockerfile
    options: BuildOptions
    platform: Mapping[str, str]

    @classmethod
    def read(cls, context: BuildContext, text: bytes, name: str, options: BuildOptions) -> Recipe:
        """Parse a Dockerfile. Raises DockerfileError, and InvalidInput for an invalid platform."""
        platform = platforms.requested(options.platform, options.buildargs)
        return cls(context, text, name, parser.parse(text, name=name), options, platform)

    def stages(self) -> Stages:
        """Return the stages of the Dockerfile. Raises DockerfileError."""
        return Stages.of(self.file, source=self.name, buildargs=self.options.buildargs, platform=self.platform)
