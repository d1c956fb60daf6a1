"""All containers of an engine: create, run, find, list.

Names and meanings are docker-py's.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pylab_container.engine import launch, names
from pylab_container.engine.container import Container, ExecResult, no_such_container
from pylab_container.engine.image import Image
from pylab_container.errors import (
    Conflict,
    ContainerFailed,
    ContainerNotFound,
    InvalidInput,
    LabError,
)
from pylab_container.formats.image import EMPTY_CONFIG, Json, ordered_config
from pylab_container.formats.lifecycle import State
from pylab_container.formats.timestamps import rfc3339
from pylab_container.store.records import ContainerRecord

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.pruning import Filters, Pruned

__all__ = ["Container", "ContainerCollection", "ExecResult"]

_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"
_NETWORKS = ("bridge", "none", "host")


class ContainerCollection:
    """All containers of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(
        self,
        image: Image | str,
        command: str | Sequence[str] | None = None,
        *,
        name: str | None = None,
        entrypoint: str | Sequence[str] | None = None,
        environment: Mapping[str, str] | Sequence[str] | None = None,
        working_dir: str = "",
        user: str = "",
        hostname: str = "",
        volumes: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        tty: bool = False,
        stdin_open: bool = False,
        stdin_once: bool = True,
        console_size: tuple[int, int] | None = None,
        network_mode: str = "bridge",
        mem_limit: int | None = None,
        nano_cpus: int | None = None,
        pids_limit: int | None = None,
        auto_remove: bool = False,
    ) -> Container:
        """Make a container of an image without starting it.

        command       replaces the image's CMD; entrypoint its ENTRYPOINT (and then also its CMD)
        volumes       as -v takes them: "/on/the/host:/in/the/container[:ro]"
        stdin_once    with stdin_open: its input ends when the first one who attached leaves
        console_size  (rows, columns) of its terminal at the start
        network_mode  "bridge", "none" or "host"
        mem_limit     bytes; nano_cpus: processors times 10⁹; pids_limit: tasks

        Raises ImageNotFound, InvalidInput, Conflict for a name that is taken.
        """
        engine = self._engine
        found = image if isinstance(image, Image) else engine.images.get(image)
        if network_mode not in _NETWORKS:
            raise InvalidInput(f"network {network_mode} not found", hint=f"there are {', '.join(_NETWORKS)}")
        container_id = names.generate_id()
        config = _container_config(
            found,
            launch.arguments(command),
            launch.arguments(entrypoint),
            Hostname=hostname or (os.uname().nodename if network_mode == "host" else container_id[:12]),
            User=user,
            Env=launch.environment_list(environment),
            WorkingDir=working_dir,
            Labels=dict(labels or {}),
            Tty=tty,
            OpenStdin=stdin_open,
            StdinOnce=stdin_open and stdin_once,
            Image=image if isinstance(image, str) else (found.tags or [found.id])[0],
        )
        host_config = {
            "Binds": list(volumes) or None,
            "NetworkMode": network_mode,
            "ConsoleSize": list(console_size or (0, 0)),
            "AutoRemove": auto_remove,
            "Memory": mem_limit or 0,
            "NanoCpus": nano_cpus or 0,
            "PidsLimit": pids_limit,
        }
        mounts = tuple(self.mounts_for(volumes, config.get("Volumes") or {}))
        return self.add(container_id, found.id, config, host_config, name=name, mounts=mounts)

    def add(
        self,
        container_id: str,
        image_id: str,
        config: Json,
        host_config: Json,
        *,
        name: str | None = None,
        mounts: tuple[Json, ...] = (),
    ) -> Container:
        """Make a container out of finished documents, as create() and the builder do.

        image_id "" is the empty image, FROM scratch. Raises InvalidInput, Conflict.
        """
        path, *arguments = launch.command_line(config)
        defaults = {
            "NetworkMode": "bridge",
            "AutoRemove": False,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "LogConfig": {"Type": "k8s-file", "Config": {}},
        }
        record = ContainerRecord(
            id=container_id,
            name=name or "",
            created=rfc3339(time.time_ns()),
            image=image_id,
            path=path,
            args=tuple(arguments),
            config=config,
            host_config={**defaults, **host_config},
            mounts=mounts,
            driver=self._engine.driver.name,
        )
        return self._add(record)

    def run(
        self,
        image: Image | str,
        command: str | Sequence[str] | None = None,
        *,
        detach: bool = False,
        remove: bool = False,
        name: str | None = None,
        entrypoint: str | Sequence[str] | None = None,
        environment: Mapping[str, str] | Sequence[str] | None = None,
        working_dir: str = "",
        user: str = "",
        hostname: str = "",
        volumes: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        network_mode: str = "bridge",
        mem_limit: int | None = None,
        nano_cpus: int | None = None,
        pids_limit: int | None = None,
    ) -> Any:
        """Make a container, start it, and wait for its end; its output, as bytes.

        detach  do not wait: returns the running Container instead
        remove  remove the container when it has ended

        Raises ContainerFailed with its output where it ends with a status other than 0.
        """
        container = self.create(
            image,
            command,
            name=name,
            entrypoint=entrypoint,
            environment=environment,
            working_dir=working_dir,
            user=user,
            hostname=hostname,
            volumes=volumes,
            labels=labels,
            network_mode=network_mode,
            mem_limit=mem_limit,
            nano_cpus=nano_cpus,
            pids_limit=pids_limit,
            auto_remove=remove and detach,
        )
        if detach:
            self.started(container, remove=remove)
            return container
        try:
            return _output(container)
        finally:
            if remove:
                container.remove(force=True, v=True)

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
        """The container with this name, id or beginning of an id. Raises ContainerNotFound."""
        records = list(self._engine.records.all())
        wanted = name.removeprefix("/")
        exact = [record for record in records if wanted in (record.name, record.id)]
        found = exact or [record for record in records if wanted and record.id.startswith(wanted)]
        if not found:
            raise no_such_container(name)
        if len(found) > 1:
            raise InvalidInput(f'"{name}" is the beginning of {len(found)} container ids', hint="write more digits")
        return Container(self._engine, found[0].id)

    def list(self, *, all: bool = False) -> builtins.list[Container]:
        """The running containers, or all of them, the newest first."""
        listed = []
        for record in self._engine.records.all():
            container = Container(self._engine, record.id)
            with contextlib.suppress(ContainerNotFound):
                listed.append((container.record, container))
        wanted = [pair for pair in listed if all or pair[0].state in (State.RUNNING, State.PAUSED)]
        return [container for _, container in sorted(wanted, key=lambda pair: pair[0].created, reverse=True)]

    def prune(self, filters: Filters | None = None) -> Pruned:
        """Remove the containers that do not run.

        filters  until ("24h", or a moment), label, label! ("name" or "name=value")

        Raises InvalidInput for a filter that there is not.
        """
        from pylab_container.engine import pruning

        return pruning.prune_containers(self._engine, filters or {})

    def discard(self, container_id: str) -> None:
        """Remove a temporary container, running or not, or a writable layer that never became a container."""
        with contextlib.suppress(ContainerNotFound):
            Container(self._engine, container_id).remove(force=True, v=True)
        self._engine.layers.remove_writable(container_id)
        shutil.rmtree(self._engine.secrets_directory(container_id), ignore_errors=True)

    def exit_command(self, container_id: str) -> builtins.list[str]:
        """What a monitor runs when its container has ended: `labctr` itself, to note it down."""
        engine = self._engine
        place = ["--root", str(engine.data_root), "--storage-driver", engine.driver.name]
        return [sys.executable, "-m", "pylab_container", *place, "container", "settle", container_id]

    def settle(self, container_id: str) -> None:
        """Note the end of a container's process, if it has ended; the exit command calls this."""
        with contextlib.suppress(ContainerNotFound):
            _ = Container(self._engine, container_id).record

    def _add(self, record: ContainerRecord) -> Container:
        engine = self._engine
        container = Container(engine, record.id)
        with engine.records.lock_names():
            taken = {known.name: known for known in engine.records.all()}
            record = replace(record, name=self._choose_name(record.name, taken))
            try:
                with engine.images.commit_lock():
                    chain = engine.images.config(record.image).chain_id if record.image else ""
                    engine.layers.create_writable(record.id, chain, launch.fill_init_layer)
                    for mount in record.mounts:
                        # Docker also makes a bind's directory on the host, for -v.
                        if not Path(mount["Source"]).exists():
                            Path(mount["Source"]).mkdir(parents=True)
                    engine.records.save(record)
            except BaseException:
                container._remove(record, volumes=True)
                raise
        container._tell("created", record)
        return container

    @staticmethod
    def _choose_name(wanted: str, taken: Mapping[str, ContainerRecord]) -> str:
        if not wanted:
            return next(name for name in iter(names.generate, None) if name not in taken)
        if not re.fullmatch(_NAME, wanted):
            raise InvalidInput(
                f"Invalid container name ({wanted}), only {_NAME} are allowed", hint="choose letters, digits, _ . and -"
            )
        if wanted in taken:
            raise Conflict(
                f'Conflict. The container name "/{wanted}" is already in use by container "{taken[wanted].id}"',
                hint=f"remove it (labctr rm {wanted}) or choose another name",
            )
        return wanted

    def mounts_for(self, volumes: Sequence[str], declared: Mapping[str, Any]) -> Iterator[Json]:
        """Docker's Mounts entries for -v options and for the image's VOLUMEs that none of them covers."""
        entries = [launch.parse_volume(text) for text in volumes]
        covered = {entry["Destination"] for entry in entries}
        entries += [launch.parse_volume(path) for path in sorted(declared) if os.path.normpath(path) not in covered]
        for entry in entries:
            if entry["Type"] == "volume":
                entry["Anonymous"] = not entry["Name"]
                entry["Name"] = entry["Name"] or secrets.token_hex(32)
                entry["Source"] = str(self._engine.data_root / "volumes" / entry["Name"] / "_data")
                entry["Driver"] = "local"
            yield entry


def _container_config(
    image: Image, command: Sequence[str] | None, entrypoint: Sequence[str] | None, **given: Any
) -> Json:
    """The image's config with what the user gave on top, as `docker run` merges them."""
    base = {**EMPTY_CONFIG, **image.config.config}
    merged = {**base, **{name: value for name, value in given.items() if value or name not in base or not base[name]}}
    merged["Env"] = launch.merge_environment(base.get("Env") or (), given["Env"])
    merged["Labels"] = {**(base.get("Labels") or {}), **given["Labels"]}
    merged["Image"] = given["Image"]
    if entrypoint is not None:
        merged["Entrypoint"] = list(entrypoint) or None
        merged["Cmd"] = None
    if command:
        merged["Cmd"] = list(command)
    return ordered_config(merged)


def _output(container: Container) -> bytes:
    """Run a fresh container to its end and return what it printed on standard output."""
    pieces: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    with container.start_attached() as attachment:
        while (packet := attachment.receive()) is not None:
            pieces[packet[0]].append(packet[1])
    status = container.wait()
    output, errors = b"".join(pieces["stdout"]), b"".join(pieces["stderr"])
    if status != 0:
        record = container.record
        command = " ".join([record.path, *record.args])
        raise ContainerFailed(
            f"the command {command!r} in container {record.name} ended with status {status}",
            hint=errors.decode(errors="replace").strip()[-500:] or "its output is in .output",
            status=status,
            output=output + errors,
        )
    return output
