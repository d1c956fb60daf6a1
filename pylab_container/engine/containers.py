"""All containers of an engine: create, run, find, list.

Names and meanings are docker-py's.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from msgspec.structs import replace

from pylab_container.containers import launch, lifetime, random_names, sandbox
from pylab_container.docker.hostconfig import NETWORK_MODES, requested_network
from pylab_container.docker.options import ContainerOptions, Host, command_line, documents, refuse_unknown
from pylab_container.engine.container import Container, ExecResult, no_such_container
from pylab_container.engine.volumes import ANONYMOUS_LABEL
from pylab_container.errors import Conflict, ContainerFailed, ContainerNotFound, InvalidInput, LabError
from pylab_container.host.removal import discard_below
from pylab_container.images.image import Image
from pylab_container.networks import links
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import State, Transition, after
from pylab_container.oci.mounts import MountPoint, borrow
from pylab_container.oci.network_settings import NetworkSettings
from pylab_container.runtime import cgroup
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.damage import ReportingDamage
from pylab_container.store.mountpoints import place_mounts
from pylab_container.store.transactions import changing
from pylab_container.text.timestamps import rfc3339

if TYPE_CHECKING:
    from pylab_container.docker.filters import Filters
    from pylab_container.engine import Engine
    from pylab_container.maintenance.pruning import Pruned

__all__ = ["Container", "ContainerCollection", "ExecResult"]

_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"


class ContainerCollection:
    """All containers of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(
        self, image: Image | str, command: str | Sequence[str] | None = None, **options: Unpack[ContainerOptions]
    ) -> Container:
        """Make a container of an image without starting it.

        command  replaces the image's CMD
        options  docker/options.py says what there is

        Raises ImageNotFound, ContainerNotFound or NotFound for what an option names, InvalidInput for
        what cannot be, Conflict for a name that is taken, TypeError for an unknown keyword.
        """
        refuse_unknown(options)
        mode = requested_network(options)
        if mode.startswith("container:"):
            self.get(mode.removeprefix("container:"))
        elif mode not in NETWORK_MODES:
            self._engine.networks.get(mode)
        return self.create_described(image, command, options)

    def create_described(
        self,
        image: Image | str,
        command: str | Sequence[str] | None,
        options: ContainerOptions,
        *,
        config: ContainerConfig | None = None,
        host_config: HostConfig | None = None,
        networks: Mapping[str, Any] | None = None,
    ) -> Container:
        """create(), for a client that also has a say in the documents which inspect shows.

        config       on top of the image's own configuration, below the options
        host_config  written down as it is: nothing but what has no effect, or has it by an option already
        networks     instead of the networks that the options name: {name: the endpoint's settings}

        What is empty in config and host_config says how nothing is written: null, or an empty list.

        Whether its networks exist is seen at the start.
        """
        refuse_unknown(options)
        engine = self._engine
        found = image if isinstance(image, Image) else engine.images.get(image)
        container_id = random_names.generate_id()
        made = documents(
            container_id,
            _with_config(found.config.config, config.document() if config else {}),
            command,
            options,
            image_name=image if isinstance(image, str) else (found.tags or [found.id])[0],
            host=_host(),
            borrowed=self._borrowed(options.get("volumes_from") or ()),
        )
        host = self._recorded_host(made.host_config, host_config)
        container = self.add(
            container_id,
            found.id,
            made.config.overlaid(_empty_fields(config)) if config else made.config,
            host,
            name=options.get("name"),
            mounts=tuple(place_mounts(made.mounts, self._engine.data.path)),
            networks=dict(networks) if networks else made.networks,
        )
        container.warnings = [*made.warnings, *_unpublished(host)]
        return container

    def redescribe(self, container: Container, options: ContainerOptions, host_config: HostConfig) -> None:
        """Another HostConfig for a container that does not run, as starts had it until version 1.23 of the API.

        Its mounts come on top of those that there are; on another network it leaves the old ones. options and
        host_config as in create_described(). Raises what that raises, and Conflict while it runs.
        """
        engine = self._engine
        with engine.data.records.lock(container.id):
            record = lifetime.settle(engine, lifetime.read(engine, container.id))
            after(record.state, Transition.START, container=record.name, container_id=record.id)
            made = documents(
                record.id,
                {**record.config.document(), "Volumes": None},
                None,
                options,
                image_name=record.config.image,
                host=_host(),
                borrowed=self._borrowed(options.get("volumes_from") or ()),
            )
            host = self._recorded_host(made.host_config, host_config)
            host = replace(host, nulls=host.nulls - {"Dns", "DnsOptions", "DnsSearch"})  # as moby has it then
            mounts = {
                mount.destination: mount
                for mount in (*record.mounts, *place_mounts(made.mounts, self._engine.data.path))
            }
            stays = host.network_mode == record.host_config.network_mode
            network = record.network if stays else NetworkSettings.parse({"Networks": made.networks})
            record = replace(record, host_config=host, mounts=tuple(mounts.values()), network=network)
            with engine.volumes.lock():
                self._make_sources(record)
                engine.data.records.save(record)

    def _recorded_host(self, requested: HostConfig, sent: HostConfig | None) -> HostConfig:
        """The HostConfig that is recorded: what was requested, and how the client wrote it."""
        host = self._resolved(requested)
        if host.links:
            host = replace(host, links=tuple(links.resolve(self._engine, host.links)))
        return host.overlaid(sandbox.resolve(self._engine, sent)) if sent else host

    def _resolved(self, host_config: HostConfig) -> HostConfig:
        """Replace names by what they stand for: ids of containers, the text of a profile."""
        if host_config.userns_mode:
            from pylab_container.containers import remap

            remap.refuse(host_config)
        resolved = sandbox.resolve(self._engine, host_config)
        return replace(resolved, security_opt=tuple(map(sandbox.with_profile, resolved.security_opt)))

    def _borrowed(self, sources: Sequence[str]) -> builtins.list[MountPoint]:
        """The mounts of the containers that --volumes-from names."""
        taken: builtins.list[MountPoint] = []
        for text in sources:
            name, _, mode = text.partition(":")
            taken += borrow(self.get(name).record.mounts, mode)
        return taken

    def add(
        self,
        container_id: ContainerId,
        image_id: str,
        config: ContainerConfig,
        host_config: HostConfig,
        *,
        name: str | None = None,
        mounts: tuple[MountPoint, ...] = (),
        networks: Json | None = None,
    ) -> Container:
        """Make a container out of finished documents, as create() and the builder do.

        image_id "" is the empty image, FROM scratch. Raises InvalidInput, Conflict.
        """
        path, *arguments = command_line(config)
        record = ContainerRecord(
            id=container_id,
            name=name or "",
            created=rfc3339(time.time_ns()),
            image=image_id,
            path=path,
            args=tuple(arguments),
            config=config,
            host_config=host_config,
            network=NetworkSettings.parse({"Networks": networks} if networks else {}),
            mounts=mounts,
            driver=self._engine.data.driver.name,
        )
        return self._add(record)

    def run(
        self,
        image: Image | str,
        command: str | Sequence[str] | None = None,
        *,
        remove: bool = False,
        **options: Unpack[ContainerOptions],
    ) -> bytes:
        """Create a container, start it, wait for its end, and return its standard output.

        A missing image is pulled first. run_detached() is docker-py's run(detach=True).

        remove   remove the container when it has exited
        options  as create() takes them

        Raises ContainerFailed, with the output in .output, if it exits with a status other than 0; else what
        create() and start() raise.
        """
        container = self._create_to_run(image, command, options, remove=remove)
        try:
            return _output(container)
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

        Raises what create() and start() raise.
        """
        return self.started(self._create_to_run(image, command, options, remove=remove), remove=remove)

    def _create_to_run(
        self, image: Image | str, command: str | Sequence[str] | None, options: ContainerOptions, *, remove: bool
    ) -> Container:
        """create(), after a pull if the image is missing."""
        if remove and (options.get("restart_policy") or {}).get("Name", "no") != "no":
            raise InvalidInput("Conflicting options: --restart and --rm", hint="leave one of them out")
        if remove:
            options["auto_remove"] = True
        if isinstance(image, str):
            self._engine.images.obtain(image)
        return self.create(image, command, **options)

    def started(self, container: Container, *, remove: bool) -> Container:
        """Start a container that was just made; with remove, a failure leaves nothing of it."""
        try:
            container.start()
        except LabError:
            if remove:
                container.remove(force=True, v=True)
            raise
        return container

    def get(self, name: str) -> Container:
        """The container with this name, id or beginning of an id, or "CONTAINER/ALIAS". Raises ContainerNotFound."""
        records = list(self._engine.data.records.all())
        wanted = name.removeprefix("/")
        exact = [record for record in records if wanted in (record.name, record.id)]
        if "/" in wanted:
            called = links.names(records)
            exact = [record for record in records if f"/{wanted}" in called.get(record.id, ())]
        found = exact or [record for record in records if wanted and record.id.startswith(wanted)]
        if not found:
            raise self._not_found(name)
        if len(found) > 1:
            raise InvalidInput(f'"{name}" is the beginning of {len(found)} container ids', hint="write more digits")
        return Container(self._engine, found[0].id)

    def _not_found(self, name: str) -> LabError:
        """The error for a name that no readable record has: a damaged one may have it."""
        damaged = self._engine.data.records.damaged()
        wanted = name.removeprefix("/")
        for container_id, error in damaged.items():
            if (wanted and container_id.startswith(wanted)) or self._engine.data.records.mentions(container_id, wanted):
                return error
        missing = no_such_container(name)
        if damaged:
            missing.hint = f"{missing.hint}; labctr system fsck says which of them are damaged"
        return missing

    def list(
        self, *, all: bool = False, filters: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> builtins.list[Container]:
        """The running containers, or all of them, the newest first.

        filters  id, name, label, status, exited, health, ancestor, volume, network, before, since,
                 expose, publish: a value, or a list of them (docker/filters.py)
        limit    the so many created last, whatever their state

        Raises InvalidInput for a filter that there is not.
        """
        from pylab_container.docker.container_filters import matching_containers

        records = matching_containers(self._engine.data, self._settled(), filters or {}, all=all, limit=limit)
        return [Container(self._engine, record.id) for record in records]

    def _settled(self) -> Iterator[ContainerRecord]:
        """Yield the settled record of each container. A damaged one is left out and reported (StoreDamaged)."""
        data = self._engine.data
        for record in data.records.all():
            removed = partial(_is_removed, self._engine, record.id)
            with contextlib.suppress(ContainerNotFound), ReportingDamage(data.emit, removed):
                yield lifetime.settled(self._engine, record)

    def remove_link(self, name: str) -> None:
        """Take a link away, by "CONTAINER/ALIAS" (networks/links.py). Raises Conflict, ContainerNotFound."""
        links.remove(self._engine, name)

    def prune(self, filters: Filters | None = None) -> Pruned:
        """Remove the containers that do not run.

        filters  until ("24h", or a moment), label, label! ("name" or "name=value")

        Raises InvalidInput for a filter that there is not.
        """
        from pylab_container.maintenance import pruning

        return pruning.prune_containers(self._engine, filters or {})

    def discard(self, container_id: ContainerId) -> None:
        """Remove a temporary container, running or not, or a writable layer that never became a container."""
        with contextlib.suppress(ContainerNotFound):
            Container(self._engine, container_id).remove(force=True, v=True)
        self._engine.data.layers.remove_writable(container_id)
        secrets = self._engine.runtime.secrets(container_id)
        if secrets.exists():
            discard_below(secrets.parent, container_id)

    def exit_command(self, container_id: str, *, unless: int = 0) -> builtins.list[str]:
        """What a monitor runs when its container has ended: `labctr` itself, to note it down.

        unless  a process that does so itself, by its pid: as long as it lives, a shell finds that out in a millisecond
        """
        engine = self._engine
        place = ["--root", str(engine.data.path), "--storage-driver", engine.data.driver.name]
        command = [sys.executable, "-m", "pylab_container", *place, "container", "settle", container_id]
        if unless:
            return ["/bin/sh", "-c", 'kill -0 "$0" 2> /dev/null || exec "$@"', str(unless), *command]
        return command

    def settle(self, name: str) -> None:
        """Note the end of a container's process, and start it again where its policy says so; the exit command."""
        container_id = ContainerId.match(name)
        with contextlib.suppress(LabError):
            if container_id and Container(self._engine, container_id).record.state is State.RESTARTING:
                lifetime.restart_when_due(self._engine, container_id)

    def health_command(self, record: ContainerRecord) -> builtins.list[str]:
        """What runs beside a container with a health check, from its start to its end."""
        engine = self._engine
        place = ["--root", str(engine.data.path), "--storage-driver", engine.data.driver.name]
        return [
            *(sys.executable, "-m", "pylab_container", *place, "container", "watch-health"),
            *(record.id, record.started_at),
        ]

    def watch_health(self, container_id: str, started_at: str) -> None:
        """Check a container's health as long as the run lasts that began at started_at (health.py)."""
        from pylab_container.containers import health_checks

        health_checks.watch(self._engine, container_id, started_at)

    def _add(self, record: ContainerRecord) -> Container:
        engine = self._engine
        container, bare = Container(engine, record.id), False

        def fill(root: Path) -> None:
            nonlocal bare
            launch.fill_init_layer(root)
            bare = launch.is_bare(record, root)

        with engine.data.records.lock_names():
            taken = {known.name: known for known in engine.data.records.all()}
            record = replace(record, name=self.choose_name(record.name, taken))
            try:
                with changing(engine.data, record.id, record.mounts), engine.data.images_lock():
                    chain = engine.images.config(record.image).chain_id if record.image else ""
                    engine.data.layers.create_writable(record.id, chain, fill)
                    with engine.volumes.lock():
                        self._make_sources(record)
                        engine.data.records.save(record)
            except BaseException:
                lifetime.remove(engine, record, volumes=True)
                raise
        if bare:
            try:
                launch.furnish(engine, record)
            except BaseException:
                container.remove(force=True, v=True)
                raise
        lifetime.tell(engine, "created", record)
        return container

    def _make_sources(self, record: ContainerRecord) -> None:
        for mount in record.mounts:
            source = Path(mount.source)
            if mount.type == "volume":
                labels = {**mount.labels, ANONYMOUS_LABEL: ""} if mount.anonymous else mount.labels
                self._engine.volumes.ensure(mount.name, labels, mount.driver_opts)
            elif mount.must_exist and not source.exists():
                raise InvalidInput(
                    f'invalid mount config for type "bind": bind source path does not exist: {source}',
                    hint="make it first; -v makes a missing directory by itself",
                )
            elif mount.type == "bind" and not source.exists():
                source.mkdir(parents=True)  # as Docker does it, for -v

    @staticmethod
    def choose_name(wanted: str, taken: Mapping[str, ContainerRecord]) -> str:
        """The wanted name, or one that is made up where it is "". Raises InvalidInput; Conflict where it is taken."""
        if not wanted:
            return next(name for name in iter(random_names.generate, None) if name not in taken)
        if not re.fullmatch(_NAME, wanted):
            raise InvalidInput(
                f"Invalid container name ({wanted}), only {_NAME[:-1]} are allowed",
                hint="choose letters, digits, _ . and -",
            )
        if wanted in taken:
            raise Conflict(
                f'Conflict. The container name "/{wanted}" is already in use by container "{taken[wanted].id}". '
                "You have to remove (or rename) that container to be able to reuse that name.",
                hint=f"remove it (labctr rm {wanted}) or choose another name",
            )
        return wanted


def _is_removed(engine: Engine, container_id: str) -> bool:
    return not engine.data.records.exists(container_id)


def _host() -> Host:
    return Host(os.uname().nodename, os.cpu_count() or 1, cgroup.memory_nodes(), cgroup.unsupported_limits())


def _unpublished(host: HostConfig) -> list[str]:
    if host.network_mode == "host" and host.port_bindings:
        return ["Published ports are discarded when using host network mode"]
    return []


def _empty_fields(config: ContainerConfig) -> ContainerConfig:
    """The fields of a config that are empty: null, [] or {}."""
    return ContainerConfig.parse({name: value for name, value in config.document().items() if not value})


def _with_config(base: Mapping[str, Any], given: Mapping[str, Any]) -> Json:
    """An image's configuration with fields on top; volumes are added to those that it has.

    An empty field leaves the image's as it is, but for its triggers: they are for builds alone.
    """
    given = {name: value for name, value in given.items() if value or name == "OnBuild"}
    volumes = {**(base.get("Volumes") or {}), **(given.get("Volumes") or {})}
    return {**base, **given, **({"Volumes": volumes} if volumes else {})}


def _output(container: Container) -> bytes:
    """Run a fresh container to its end and return what it printed on standard output."""
    pieces: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    record = container.record  # it may be gone when it has ended
    with container.start_attached() as attachment:
        while (packet := attachment.receive()) is not None:
            pieces[packet[0]].append(packet[1])
    status = container.wait()
    output, errors = b"".join(pieces["stdout"]), b"".join(pieces["stderr"])
    if status != 0:
        command = " ".join([record.path, *record.args])
        raise ContainerFailed(
            f"the command {command!r} in container {record.name} ended with status {status}",
            hint=errors.decode(errors="replace").strip()[-500:] or "its output is in .output",
            status=status,
            output=output + errors,
        )
    return output
