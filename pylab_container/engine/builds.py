"""Builds of an engine: build/ with the engine's containers, registries and linter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from pylab_container.build import builder
from pylab_container.build.recipe import BuildOptions, Recipe
from pylab_container.build.report import BuildPlan
from pylab_container.build.runner import Output, RunRequest
from pylab_container.build.services import Services
from pylab_container.containers import lookup, namespaces, removal, stop
from pylab_container.containers.create import create
from pylab_container.containers.start import start
from pylab_container.containers.waiting import wait
from pylab_container.docker import build_check
from pylab_container.docker.creation import finished_record
from pylab_container.docker.credentials import CredentialFile
from pylab_container.docker.event_log import EventLog
from pylab_container.dockerfile.warning import LintWarning
from pylab_container.engine.explaining import explaining
from pylab_container.engine.parts import Parts
from pylab_container.images.image import Image
from pylab_container.images.obtain import PullPolicy
from pylab_container.networks.lookup import find_network
from pylab_container.oci import reference as references
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.mounts import declared_volume
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot
from pylab_container.store.mountpoints import place_mounts


def build(
    parts: Parts, source: str | Path | BinaryIO, options: BuildOptions, *, stop: threading.Event | None = None
) -> Image:
    """Build an image and name it; the arguments and the errors are those of build/builder.py."""
    with explaining(parts.data.path):
        return builder.build(parts.data, _services(parts, options), source, options, stop=stop)


def plan(parts: Parts, source: str | Path | BinaryIO, options: BuildOptions) -> BuildPlan:
    """Return what build() would do. Raises as build()."""
    with explaining(parts.data.path):
        return builder.plan(parts.data, _services(parts, options), source, options)


def check(parts: Parts, source: str | Path | BinaryIO, options: BuildOptions) -> tuple[LintWarning, ...]:
    """Return the linter's warnings about a Dockerfile: `docker build --check`.

    Raises DockerfileError, InvalidInput.
    """
    with builder.opened_context(parts.data, source, options) as (context, text, name):
        recipe = Recipe.read(context, text, name, options)
        return build_check.warnings(parts.data, recipe, options.target or None)


def _services(parts: Parts, options: BuildOptions) -> Services:
    def base_image(name: str, policy: PullPolicy, platform: str) -> Image:
        credentials = _credentials(options.auth_configs, name)
        return parts.obtain(name, pull=policy, platform=platform, auth_config=credentials)

    return Services(
        runner=ContainerRunner(parts.data, parts.runtime, parts.event_log),
        base_image=base_image,
        check=partial(build_check.warnings_of_build, parts.data),
        command_line=parts.command_line,
    )


def _credentials(auth_configs: Mapping[str, Mapping[str, str]] | None, image: str) -> Mapping[str, str] | None:
    """Return the credentials for the registry of an image; None: those in docker's config.json."""
    if auth_configs is None:
        return None
    return CredentialFile({"auths": dict(auth_configs)}).entry(references.parse(image).domain)


class ContainerRunner:
    """Runs the commands of a build in the engine's containers; a Runner (build/runner.py)."""

    def __init__(self, data: DataRoot, runtime: Runtime, event_log: EventLog) -> None:
        self._data, self._runtime, self._event_log = data, runtime, event_log

    def find_network(self, name: str) -> str:
        """Return the name of a network. Raises NotFound."""
        return find_network(self._data, name).name

    def secrets_directory(self, container_id: ContainerId) -> Path:
        """Return the directory in memory for a container's secrets."""
        return self._runtime.secrets(container_id)

    def create(self, request: RunRequest) -> None:
        """Create a step's container, with its own mounts and the volumes of its config."""
        # As in `docker run`: a mount of the step takes the place of an image's VOLUME at the same path.
        volumes = place_mounts(map(declared_volume, sorted(request.config.volumes)), self._data.path)
        mounted = {entry.destination for entry in request.mounts}
        host_config = replace(request.limits, network_mode=request.network, extra_hosts=tuple(request.extra_hosts))
        record = finished_record(
            self._data,
            request.container_id,
            request.image_id,
            request.config,
            namespaces.resolve_modes(host_config, partial(lookup.find, self._data.records)),
            mounts=(*(volume for volume in volumes if volume.destination not in mounted), *request.mounts),
        )
        create(self._data, self._runtime, record)

    def run(self, container_id: ContainerId, output: Output, is_cancelled: Callable[[], bool]) -> int:
        """Run a step's command and pass its output on; returns the exit status."""
        # exit_hook=False: this process waits for the exit and records it; the monitor does so only if we are killed.
        attachment = start(self._data, self._runtime, container_id, exit_hook=False, clients=1)
        assert attachment is not None
        with attachment:
            if is_cancelled():
                self.kill(container_id)
            while (packet := attachment.receive()) is not None:
                output(*packet)
        return wait(self._data, self._runtime, self._event_log, container_id)

    def kill(self, container_id: ContainerId) -> None:
        """Kill a step's command. Raises Conflict if it does not run."""
        stop.kill(self._data, self._runtime, self._event_log, container_id)

    def remove(self, container_id: ContainerId) -> None:
        """Remove a step's container and its unnamed volumes."""
        removal.remove(self._data, self._runtime, container_id, force=True, volumes=True)

    def discard(self, container_id: ContainerId) -> None:
        """Remove whatever exists of a step's container. Idempotent."""
        removal.discard(self._data, self._runtime, container_id)
