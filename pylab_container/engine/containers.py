"""All containers of an engine: create, run, find, list. Names and meanings are docker-py's."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from pylab_container.containers import lookup
from pylab_container.containers.settle import all_settled
from pylab_container.engine.container import Container, ExecResult
from pylab_container.engine.explaining import explaining
from pylab_container.engine.parts import Parts
from pylab_container.errors import InvalidInput, LabError
from pylab_container.host.random_ids import generate_container_id
from pylab_container.images.lookup import find as find_image
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.network_settings import EndpointSettings

if TYPE_CHECKING:
    from pylab_container.docker.filters import Filters
    from pylab_container.docker.options import ContainerOptions
    from pylab_container.images.image import Image
    from pylab_container.maintenance.pruning import Pruned

__all__ = ["Container", "ContainerCollection", "ExecResult"]


class ContainerCollection:
    """All containers of one engine."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._data, self._runtime = parts, parts.data, parts.runtime

    def create(
        self, image: Image | str, command: str | Sequence[str] | None = None, **options: Unpack[ContainerOptions]
    ) -> Container:
        """Create a container of an image without starting it.

        command  replaces the image's CMD
        options  the keywords of docker/options.py

        Raises ImageNotFound, ContainerNotFound or NotFound for an object that an option names, InvalidInput, Conflict
        for a used name, TypeError for an unknown keyword.
        """
        from pylab_container.docker import creation
        from pylab_container.docker.options import refuse_unknown

        refuse_unknown(options)
        creation.refuse_unknown_network(self._data, options)
        return self.create_described(image, command, options)

    def create_described(
        self,
        image: Image | str,
        command: str | Sequence[str] | None,
        options: ContainerOptions,
        *,
        config: ContainerConfig | None = None,
        host_config: HostConfig | None = None,
        networks: Mapping[str, EndpointSettings] | None = None,
    ) -> Container:
        """As create(), for a client that also writes the documents that inspect shows.

        Those documents are described in docker/creation.py, Description. The networks that the options name need not
        exist before the start.
        """
        from pylab_container.containers.create import create
        from pylab_container.docker import creation
        from pylab_container.docker.options import refuse_unknown
        from pylab_container.images.image import Image

        refuse_unknown(options)
        base = image if isinstance(image, Image) else Image(self._data, find_image(self._data, image))
        name = image if isinstance(image, str) else (base.tags or [base.id])[0]
        record, warnings = creation.new_record(
            self._data,
            generate_container_id(),
            creation.ImageOfContainer(base.id, name, base.config.config),
            command,
            options,
            creation.Description(config, host_config, networks or {}),
        )
        container = Container(self._parts, create(self._data, self._runtime, record).id)
        container.warnings = warnings
        return container

    def redescribe(self, container: Container, options: ContainerOptions, host_config: HostConfig) -> None:
        """Replace the HostConfig of a container that does not run (docker/creation.py)."""
        from pylab_container.docker import creation

        creation.redescribe(self._data, self._runtime, container.id, options, host_config)

    def run(
        self,
        image: Image | str,
        command: str | Sequence[str] | None = None,
        *,
        remove: bool = False,
        **options: Unpack[ContainerOptions],
    ) -> bytes:
        """Create a container, start it, wait for its exit, and return its standard output.

        A missing image is pulled first. run_detached() is docker-py's run(detach=True).

        remove   remove the container when it has exited
        options  as create() takes them

        Raises ContainerFailed, with the output in .output, if it exits with a status other than 0; also the errors of
        create() and start().
        """
        from pylab_container.containers.run import run_to_exit

        container = self._create_to_run(image, command, options, remove=remove)
        try:
            with explaining(self._data.path):
                return run_to_exit(self._data, self._runtime, self._parts.event_log, container.id)
        finally:
            if remove:
                container.remove(force=True, v=True)

    def run_detached(
        self,
        image: Image | str,
        command: str | Sequence[str] | None = None,
        *,
        remove: bool = False,
        **options: Unpack[ContainerOptions],
    ) -> Container:
        """Create a container, start it, and return it while it runs: docker-py's run(detach=True).

        A missing image is pulled first.

        remove   remove the container when it exits, or if it cannot be started
        options  as create() takes them

        Raises the errors of create() and start().
        """
        return self.started(self._create_to_run(image, command, options, remove=remove), remove=remove)

    def _create_to_run(
        self, image: Image | str, command: str | Sequence[str] | None, options: ContainerOptions, *, remove: bool
    ) -> Container:
        """As create(), after a pull if the image is missing."""
        if remove and (options.get("restart_policy") or {}).get("Name", "no") != "no":
            raise InvalidInput("Conflicting options: --restart and --rm", hint="leave one of them out")
        if remove:
            options["auto_remove"] = True
        if isinstance(image, str):
            self._parts.obtain(image)
        return self.create(image, command, **options)

    def started(self, container: Container, *, remove: bool) -> Container:
        """Start a new container and return it. remove: remove it if the start fails."""
        try:
            container.start()
        except LabError:
            if remove:
                container.remove(force=True, v=True)
            raise
        return container

    def get(self, name: str) -> Container:
        """Return the container with this name, id, prefix of an id, or "CONTAINER/ALIAS".

        Raises ContainerNotFound.
        """
        return Container(self._parts, lookup.find(self._data.records, name).id)

    def list(
        self, *, all: bool = False, filters: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> builtins.list[Container]:
        """Return the running containers, or all of them, the newest first.

        filters  id, name, label, status, exited, health, ancestor, volume, network, before, since,
                 expose, publish: a value, or a list of them (docker/container_filters.py)
        limit    the number of containers, whatever their state; the newest are returned

        Raises InvalidInput for an unknown filter.
        """
        from pylab_container.docker.container_filters import matching_containers

        records = all_settled(self._data, self._runtime)
        matches = matching_containers(self._data, records, filters or {}, all=all, limit=limit)
        return [Container(self._parts, record.id) for record in matches]

    def remove_link(self, name: str) -> None:
        """Remove a link, named "CONTAINER/ALIAS" (networks/links.py).

        Raises Conflict, ContainerNotFound.
        """
        from pylab_container.containers.link_removal import remove_link

        remove_link(self._data, self._runtime, name)

    def prune(self, filters: Filters | None = None) -> Pruned:
        """Remove the containers that do not run.

        filters  until ("24h", or a moment), label, label! ("name" or "name=value")

        Raises InvalidInput for an unknown filter.
        """
        from pylab_container.maintenance import pruning

        return pruning.prune_containers(self._data, self._runtime, filters or {})

    def discard(self, container_id: ContainerId) -> None:
        """Remove a temporary container, running or not.

        If its creation was not completed, remove its writable layer.
        """
        from pylab_container.containers import removal

        removal.discard(self._data, self._runtime, container_id)

    def settle(self, name: str) -> None:
        """Do the work of the exit command for the container with this id.

        See containers/exit_command.py.
        """
        from pylab_container.containers import exit_command

        exit_command.settle_and_restart(self._data, self._runtime, name)

    def watch_health(self, container_id: str, started_at: str) -> None:
        """Check a container's health during the run that began at started_at.

        See containers/health_checks.py.
        """
        from pylab_container.containers import health_checks

        health_checks.watch(self._data, self._runtime, container_id, started_at)
