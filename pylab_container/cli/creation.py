"""A container as the command line describes it, put into the engine's words."""

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
_MOST_CPUS = 1 << 20  # more than any machine has; a larger number of nanoseconds would not fit in 64 bits

# Options that are read here; all others are the engine's own keywords.
_READ_HERE = frozenset(
    "attach cidfile cpus device_read_bps device_read_iops device_write_bps device_write_iops entrypoint environment "
    "environment_files expose health_cmd health_interval health_retries health_start_period health_timeout "
    "label_files labels log_driver log_options mounts networks no_healthcheck platform publish pull quiet restart "
    "sysctls tmpfs volumes".split()
)


class Creation(Struct, frozen=True):
    """What `run` and `create` were asked for. given: the options by the names that options.py gives them."""

    image: str
    command: tuple[str, ...]
    given: Mapping[str, Any]

    @property
    def tty(self) -> bool:
        """Whether it has a terminal."""
        return bool(self.given["tty"])

    @property
    def streams(self) -> frozenset[str]:
        """Those that the caller wants connected. Raises InvalidInput."""
        if not self.given["attach"]:
            return frozenset(_STREAMS if self.given["stdin_open"] else _STREAMS[1:])
        wanted = frozenset(text.lower() for text in self.given["attach"])
        if not wanted <= set(_STREAMS):
            raise InvalidInput(
                f'invalid argument "{sorted(wanted - set(_STREAMS))[0]}" for "-a, --attach" flag: '
                "valid streams are STDIN, STDOUT and STDERR",
                hint="write -a stdout",
            )
        return wanted

    @property
    def restarts(self) -> bool:
        """Whether it has a restart policy."""
        return self.given["restart"] not in (None, "", "no")

    def create(self, engine: Engine, *, attached: bool, remove: bool) -> Container:
        """Make the container, and write its id where --cidfile says.

        attached  somebody is to be connected from its start on, and to wait for its end
        remove    it goes when it has ended
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
        with _id_file(self.given["cidfile"]) as write_id:
            container = self._made(engine, pull, options)
            for warning in container.warnings:
                say(f"WARNING: {warning}", err=True)
            try:
                for text in self.given["networks"][1:]:
                    _connect(engine, container, _network(text, ()))
                write_id(container.id)
            except BaseException:
                container.remove(force=True, v=True)
                raise
        return container

    def _pull_policy(self) -> Literal["missing", "never", "always"]:
        """Raises InvalidInput."""
        match self.given["pull"] or "missing":
            case "missing" | "never" | "always" as policy:
                return policy
            case pull:
                raise InvalidInput(
                    f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"',
                    hint="missing is what happens without --pull",
                )

    def _made(
        self, engine: Engine, pull: Literal["missing", "never", "always"], options: ContainerOptions
    ) -> Container:
        """The container; its image is fetched first if that is asked for."""
        command = list(self.command) or None
        if pull != "always":
            try:
                return engine.containers.create(self.image, command, **options)
            except ImageNotFound as error:
                if pull == "never":
                    name = parse(self.image).familiar
                    raise ImageNotFound(f"No such image: {name}", hint=error.hint) from None
        from pylab_container.cli.transfer_output import Display

        progress = None if self.given["quiet"] else Display(sys.stderr)
        engine.images.obtain(self.image, pull=pull, platform=self.given["platform"] or "", progress=progress)
        return engine.containers.create(self.image, command, **options)

    def _options(self) -> ContainerOptions:
        options = {name: value for name, value in self.given.items() if name not in _READ_HERE and _is_given(value)}
        return {**options, **self._process(), **self._life(), **self._files(), **self._disks(), **self._network()}  # type: ignore[typeddict-item]

    def _process(self) -> ContainerOptions:
        given, options = self.given, dict[str, Any]()
        if given["entrypoint"] is not None:
            options["entrypoint"] = list(filter(None, [given["entrypoint"]]))
        if given["environment"] or given["environment_files"]:
            options["environment"] = environment_of(given["environment"], given["environment_files"])
        if given["labels"] or given["label_files"]:
            options["labels"] = dict(pair(text) for text in [*lines_of(given["label_files"]), *given["labels"]])
        if given["cpus"]:
            if not abs(given["cpus"]) < _MOST_CPUS:  # also NaN
                raise InvalidInput(f"invalid number of CPUs: {given['cpus']}", hint="write --cpus 1.5")
            options["nano_cpus"] = round(given["cpus"] * 10**9)
        if given["sysctls"]:
            options["sysctls"] = dict(pair(text) for text in given["sysctls"])
        return options  # type: ignore[return-value]

    def _life(self) -> ContainerOptions:
        given, options = self.given, dict[str, Any]()
        if self.restarts:
            from pylab_container.docker.hostconfig import parse_restart_policy

            options["restart_policy"] = parse_restart_policy(given["restart"])
        if given["log_driver"] or given["log_options"]:
            config = dict(pair(text) for text in given["log_options"])
            options["log_config"] = {"Type": given["log_driver"] or "json-file", "Config": config}
        if check := _health(given):
            options["healthcheck"] = check
        return options  # type: ignore[return-value]

    def _files(self) -> ContainerOptions:
        given, options = self.given, dict[str, Any]()
        if given["volumes"]:
            options["volumes"] = [_absolute_source(volume) for volume in given["volumes"]]
        if given["mounts"]:
            from pylab_container.cli.mounting import mount_document

            options["mounts"] = [mount_document(text) for text in given["mounts"]]
        if given["tmpfs"]:
            options["tmpfs"] = {path: words for path, _, words in (text.partition(":") for text in given["tmpfs"])}
        return options  # type: ignore[return-value]

    def _disks(self) -> ContainerOptions:
        from pylab_container.oci import blockio

        return {  # type: ignore[return-value]
            name: [blockio.parse_rate(text, unit=name.endswith("bps")) for text in self.given[name]]
            for name in blockio.RATES
            if self.given[name]
        }

    def _network(self) -> ContainerOptions:
        given, options = self.given, dict[str, Any]()
        if given["networks"]:
            options.update(_network(given["networks"][0], given["network_aliases"]))
        if given["publish"] or given["expose"]:
            from pylab_container.oci.ports import parse_expose, parse_publish

            options["ports"] = parse_publish(given["publish"])[1]
            options["exposed_ports"] = list(parse_expose(given["expose"]))
        return options  # type: ignore[return-value]


def _is_given(value: Any) -> bool:
    return value is not None and value != () and value is not False and value != ""


def _network(text: str, aliases: tuple[str, ...]) -> dict[str, Any]:
    """--network NAME, or in fields: --network name=NAME,alias=OTHER,ip=ADDRESS. Raises InvalidInput."""
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
            hint = f"there are {', '.join([*names, *lists])}"
            raise InvalidInput(f"invalid field '{name}' in --network", hint=hint)
    return options


def _connect(engine: Engine, container: Container, wanted: Mapping[str, Any]) -> None:
    """Every --network after the first is connected on its own."""
    engine.networks.get(wanted["network"]).connect(
        container.id,
        aliases=wanted.get("network_aliases", ()),
        ipv4_address=wanted.get("ipv4_address", ""),
        ipv6_address=wanted.get("ipv6_address", ""),
        link_local_ips=wanted.get("link_local_ips", ()),
        mac_address=wanted.get("mac_address", ""),
    )


def _health(given: Mapping[str, Any]) -> dict[str, Any]:
    """docker-py's healthcheck. Raises InvalidInput."""
    check: dict[str, Any] = {}
    if given["health_cmd"]:
        check["test"] = ["CMD-SHELL", given["health_cmd"]]
    for name in ("interval", "timeout", "start_period"):
        if text := given[f"health_{name}"]:
            check[name] = _nanoseconds(text)
    if given["health_retries"] is not None:
        check["retries"] = given["health_retries"]
    if given["no_healthcheck"]:
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
    """-v ./here:/there means the caller's directory; the engine does not know that one."""
    source, colon, rest = volume.partition(":")
    return f"{os.path.abspath(source)}:{rest}" if colon and source.startswith(".") else volume


@contextlib.contextmanager
def _id_file(path: str | None) -> Any:
    """What writes an id into a file that must not be there yet; made first, so that two commands cannot share it."""
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
