"""Builds of an engine: the builder of build/, with the engine's containers, registries and linter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from msgspec.structs import replace

from pylab_container.build import builder
from pylab_container.build.recipe import BuildOptions, Recipe
from pylab_container.build.report import BuildPlan
from pylab_container.build.runner import Output, RunRequest
from pylab_container.build.services import Services
from pylab_container.containers import lookup, sandbox
from pylab_container.docker import build_check
from pylab_container.docker.credentials import CredentialFile
from pylab_container.dockerfile.warning import LintWarning
from pylab_container.engine.container import Container
from pylab_container.engine.explaining import explaining
from pylab_container.images.image import Image
from pylab_container.images.obtain import PullPolicy
from pylab_container.oci import reference as references
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.mounts import declared_volume
from pylab_container.store.mountpoints import place_mounts

if TYPE_CHECKING:
    from pylab_container.engine import Engine


def build(
    engine: Engine, source: str | Path | BinaryIO, options: BuildOptions, *, stop: threading.Event | None = None
) -> Image:
    """Build an image and name it; the arguments and the errors are those of build/builder.py."""
    with explaining(engine.data.path):
        return builder.build(engine.data, _services(engine, options), source, options, stop=stop)


def plan(engine: Engine, source: str | Path | BinaryIO, options: BuildOptions) -> BuildPlan:
    """Return what build() would do. Raises as build()."""
    with explaining(engine.data.path):
        return builder.plan(engine.data, _services(engine, options), source, options)


def check(engine: Engine, source: str | Path | BinaryIO, options: BuildOptions) -> tuple[LintWarning, ...]:
    """Return the linter's warnings about a Dockerfile: `docker build --check`. Raises DockerfileError, InvalidInput."""
    with builder.opened_context(engine.data, source, options) as (context, text, name):
        recipe = Recipe.read(context, text, name, options)
        return build_check.warnings(engine.data, recipe, options.target or None)


def _services(engine: Engine, options: BuildOptions) -> Services:
    def base_image(name: str, policy: PullPolicy, platform: str) -> Image:
        credentials = _credentials(options.auth_configs, name)
        return engine.images.obtain(name, pull=policy, platform=platform, auth_config=credentials)

    return Services(
        runner=ContainerRunner(engine),
        base_image=base_image,
        check=partial(build_check.warnings_of_build, engine.data),
        command_line=engine.command_line,
    )


def _credentials(auth_configs: Mapping[str, Mapping[str, str]] | None, image: str) -> Mapping[str, str] | None:
    """The credentials for the registry of an image; None: those in docker's config.json."""
    if auth_configs is None:
        return None
    return CredentialFile({"auths": dict(auth_configs)}).entry(references.parse(image).domain)


class ContainerRunner:
    """Runs the commands of a build in the engine's containers; a Runner (build/runner.py)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find_network(self, name: str) -> str:
        """Return the name of a network. Raises NotFound."""
        return self._engine.networks.get(name).name

    def secrets_directory(self, container_id: ContainerId) -> Path:
        """Return the directory in memory for a container's secrets."""
        return self._engine.runtime.secrets(container_id)

    def create(self, request: RunRequest) -> None:
        """Create a step's container, with the volumes that its config declares and the step does not mount over."""
        volumes = place_mounts(map(declared_volume, sorted(request.config.volumes)), self._engine.data.path)
        taken = {entry.destination for entry in request.mounts}
        host_config = replace(request.limits, network_mode=request.network, extra_hosts=tuple(request.extra_hosts))
        self._engine.containers.add(
            request.container_id,
            request.image_id,
            request.config,
            sandbox.resolve(host_config, partial(lookup.find, self._engine.data.records)),
            mounts=(*(volume for volume in volumes if volume.destination not in taken), *request.mounts),
        )

    def run(self, container_id: ContainerId, output: Output, is_cancelled: Callable[[], bool]) -> int:
        """Run a step's command and pass its output on; returns the exit status."""
        container = Container(self._engine, container_id)
        with container.start_attached() as attachment:
            if is_cancelled():
                container.kill()
            while (packet := attachment.receive()) is not None:
                output(*packet)
        return container.wait()

    def kill(self, container_id: ContainerId) -> None:
        """Kill a step's command. Raises Conflict if it does not run."""
        Container(self._engine, container_id).kill()

    def remove(self, container_id: ContainerId) -> None:
        """Remove a step's container and its unnamed volumes."""
        Container(self._engine, container_id).remove(force=True, v=True)

    def discard(self, container_id: ContainerId) -> None:
        """Remove all that exists of a step's container. Idempotent."""
        self._engine.containers.discard(container_id)
