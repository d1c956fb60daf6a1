"""The options of run and create, translated to arguments of the engine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from pylab_container.cli import terminal
from pylab_container.cli.entries import environment_of, lines_of, pair
from pylab_container.cli.printing import say
from pylab_container.errors import ImageNotFound, InvalidInput
from pylab_container.oci.reference import parse

if TYPE_CHECKING:
    from pylab_container.docker.options import ContainerOptions
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container

_STREAMS = ("stdin", "stdout", "stderr")
MAX_CPUS = 1 << 20  # above any real machine; more nanoseconds per second would not fit in 64 bits

# Options with a syntax that this module parses. All others are keywords of the engine.
_PARSED_HERE = frozenset(
    "attach cidfile cpus device_read_bps device_read_iops device_write_bps device_write_iops entrypoint environment "
    "environment_files expose health_cmd health_interval health_retries health_start_period health_timeout "
    "label_files labels log_driver log_options mounts networks no_healthcheck platform publish pull quiet restart "
    "sysctls tmpfs volumes".split()
)


class Creation(Struct, frozen=True):
    """The command line of `run` or `create`.

    options  values by the names that options.py defines
    """

    image: str
    command: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def tty(self) -> bool:
        """Whether the container has a terminal."""
        return bool(self.options["tty"])

    @property
    def streams(self) -> frozenset[str]:
        """The streams to connect to the caller. Raises InvalidInput."""
        if not self.options["attach"]:
            return frozenset(_STREAMS if self.options["stdin_open"] else _STREAMS[1:])
        streams = frozenset(text.lower() for text in self.options["attach"])
        if not streams <= set(_STREAMS):
            raise InvalidInput(
                f'invalid argument "{sorted(streams - set(_STREAMS))[0]}" for "-a, --attach" flag: '
                "valid streams are STDIN, STDOUT and STDERR",
                hint="write -a stdout",
            )
        return streams

    @property
    def restarts(self) -> bool:
        """Whether the container has a restart policy."""
        return self.options["restart"] not in (None, "", "no")

    def create(self, engine: Engine, *, attached: bool, remove: bool) -> Container:
        """Create the container, and write its id to --cidfile. Raises InvalidInput.

        attached  the caller is connected at its start and waits for its exit
        remove    remove the container when it exits
        """
        if remove and self.restarts:
            raise InvalidInput("conflicting options: cannot specify both --restart and --rm", hint="leave one out")
        pull = self._pull_policy()
        options = self._options()
        options["attach"] = sorted(self.streams) if attached else []
        options["stdin_once"] = attached
        options["auto_remove"] = remove
        if self.tty and attached:
            options["console_size"] = terminal.size(terminal.STDIN)
        with _id_file(self.options["cidfile"]) as write_id:
            container = self._create_container(engine, pull, options)
            for warning in container.warnings:
                say(f"WARNING: {warning}", err=True)
            try:
                for text in self.options["networks"][1:]:
                    _connect(engine, container, _network(text, ()))
                write_id(container.id)
            except BaseException:
                container.remove(force=True, v=True)
                raise
        return container

    def _pull_policy(self) -> Literal["missing", "never", "always"]:
        """Return the value of --pull. Raises InvalidInput."""
        match self.options["pull"] or "missing":
            case "missing" | "never" | "always" as policy:
                return policy
            case pull:
                raise InvalidInput(
                    f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"',
                    hint="the default is missing",
                )

    def _create_container(
        self, engine: Engine, pull: Literal["missing", "never", "always"], options: ContainerOptions
    ) -> Container:
        """Create the container. Pull its image first as --pull says. Raises ImageNotFound."""
        command = list(self.command) or None
        if pull != "always":
            try:
                return engine.containers.create(self.image, command, **options)
            except ImageNotFound as error:
                if pull == "never":
                    name = parse(self.image).familiar
                    raise ImageNotFound(f"No such image: {name}", hint=error.hint) from None
        from pylab_container.cli.transfer_output import Display

        progress = None if self.options["quiet"] else Display(sys.stderr)
        engine.images.obtain(self.image, pull=pull, platform=self.options["platform"] or "", progress=progress)
        return engine.containers.create(self.image, command, **options)

    def _options(self) -> ContainerOptions:
        options = {name: value for name, value in self.options.items() if name not in _PARSED_HERE and _is_set(value)}
        return {**options, **self._process(), **self._life(), **self._files(), **self._disks(), **self._network()}  # type: ignore[typeddict-item]

    def _process(self) -> ContainerOptions:
        values, arguments = self.options, dict[str, Any]()
        if values["entrypoint"] is not None:
            arguments["entrypoint"] = list(filter(None, [values["entrypoint"]]))
        if values["environment"] or values["environment_files"]:
            arguments["environment"] = environment_of(values["environment"], values["environment_files"])
        if values["labels"] or values["label_files"]:
            arguments["labels"] = dict(pair(text) for text in [*lines_of(values["label_files"]), *values["labels"]])
        if values["cpus"]:
            if not abs(values["cpus"]) < MAX_CPUS:  # also NaN
                raise InvalidInput(f"invalid number of CPUs: {values['cpus']}", hint="write --cpus 1.5")
            arguments["nano_cpus"] = round(values["cpus"] * 10**9)
        if values["sysctls"]:
            arguments["sysctls"] = dict(pair(text) for text in values["sysctls"])
        return arguments  # type: ignore[return-value]

    def _life(self) -> ContainerOptions:
        values, arguments = self.options, dict[str, Any]()
        if self.restarts:
            from pylab_container.docker.hostconfig import parse_restart_policy

            arguments["restart_policy"] = parse_restart_policy(values["restart"])
        if values["log_driver"] or values["log_options"]:
            config = dict(pair(text) for text in values["log_options"])
            arguments["log_config"] = {"Type": values["log_driver"] or "json-file", "Config": config}
        if check := _health(values):
            arguments["healthcheck"] = check
        return arguments  # type: ignore[return-value]

    def _files(self) -> ContainerOptions:
        values, arguments = self.options, dict[str, Any]()
        if values["volumes"]:
            arguments["volumes"] = [_absolute_source(volume) for volume in values["volumes"]]
        if values["mounts"]:
            from pylab_container.cli.mounting import mount_document

            arguments["mounts"] = [mount_document(text) for text in values["mounts"]]
        if values["tmpfs"]:
            arguments["tmpfs"] = {path: words for path, _, words in (text.partition(":") for text in values["tmpfs"])}
        return arguments  # type: ignore[return-value]

    def _disks(self) -> ContainerOptions:
        from pylab_container.oci import blockio

        return {  # type: ignore[return-value]
            name: [blockio.parse_rate(text, unit=name.endswith("bps")) for text in self.options[name]]
            for name in blockio.RATES
            if self.options[name]
        }

    def _network(self) -> ContainerOptions:
        values, arguments = self.options, dict[str, Any]()
        if values["networks"]:
            arguments.update(_network(values["networks"][0], values["network_aliases"]))
        if values["publish"] or values["expose"]:
            from pylab_container.oci.ports import parse_expose, parse_publish

            arguments["ports"] = parse_publish(values["publish"])[1]
            arguments["exposed_ports"] = list(parse_expose(values["expose"]))
        return arguments  # type: ignore[return-value]


def _is_set(value: Any) -> bool:
    return value is not None and value != () and value is not False and value != ""


def _network(text: str, aliases: tuple[str, ...]) -> dict[str, Any]:
    """Parse --network: NAME, or fields such as name=NAME,alias=OTHER,ip=ADDRESS.

    Raises InvalidInput.
    """
    if "=" not in text:
        return {"network": text}
    names = {"name": "network", "ip": "ipv4_address", "ip6": "ipv6_address", "mac-address": "mac_address"}
    lists = {"alias": "network_aliases", "link-local-ip": "link_local_ips"}
    options: dict[str, Any] = {"network_aliases": list(aliases)} if aliases else {}
    for field in text.split(","):
        name, _, value = field.partition("=")
        if name in lists:
            options.setdefault(lists[name], []).append(value)
        elif name in names:
            options[names[name]] = value
        else:
            hint = f"the fields are {', '.join([*names, *lists])}"
            raise InvalidInput(f"invalid field '{name}' in --network", hint=hint)
    return options


def _connect(engine: Engine, container: Container, endpoint: Mapping[str, Any]) -> None:
    """Connect the container to a --network after the first."""
    engine.networks.get(endpoint["network"]).connect(
        container.id,
        aliases=endpoint.get("network_aliases", ()),
        ipv4_address=endpoint.get("ipv4_address", ""),
        ipv6_address=endpoint.get("ipv6_address", ""),
        link_local_ips=endpoint.get("link_local_ips", ()),
        mac_address=endpoint.get("mac_address", ""),
    )


def _health(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return docker-py's healthcheck from the options. Raises InvalidInput."""
    check: dict[str, Any] = {}
    if options["health_cmd"]:
        check["test"] = ["CMD-SHELL", options["health_cmd"]]
    for name in ("interval", "timeout", "start_period"):
        if text := options[f"health_{name}"]:
            check[name] = _nanoseconds(text)
    if options["health_retries"] is not None:
        check["retries"] = options["health_retries"]
    if options["no_healthcheck"]:
        if check:
            raise InvalidInput("--no-healthcheck conflicts with --health-* options", hint="leave one out")
        check["test"] = ["NONE"]
    return check


def _nanoseconds(text: str) -> int:
    from pylab_container.dockerfile.instructions import duration

    try:
        return duration(text)
    except InvalidInput:
        raise InvalidInput(f'time: invalid duration "{text}"', hint="write 30s, 1m30s or 500ms") from None


def _absolute_source(volume: str) -> str:
    """Make the source of -v ./here:/there absolute.

    The engine does not know the caller's working directory.
    """
    source, colon, rest = volume.partition(":")
    return f"{os.path.abspath(source)}:{rest}" if colon and source.startswith(".") else volume


@contextlib.contextmanager
def _id_file(path: str | None) -> Any:
    """Yield a function that writes the id to a new file.

    O_EXCL creates it before the container, so that concurrent commands cannot use the same file. Raises InvalidInput.
    """
    if path is None:
        yield lambda container_id: None
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise InvalidInput(
            f"container ID file found, make sure the other container isn't running or delete {path}",
            hint=f"rm {path}",
        ) from None
    except OSError as error:
        raise InvalidInput(f"failed to create the container ID file: {path}: {error.strerror}") from error
    with open(fd, "w") as file:
        try:
            yield file.write
        except BaseException:
            os.unlink(path)
            raise
