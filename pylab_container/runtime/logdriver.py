"""Log drivers: check a container's LogConfig, and build what `logs --details` shows of it.

json-file and local are Docker's names for drivers whose files `logs` reads. This engine's files have the format
k8s-file while a container runs and json-file after its end (log_files.py), so it accepts all three names for the same
driver.
Docker's drivers that send output to another service are accepted in the configuration and refused at the start, as
dockerd reports an unreachable service at the start, too.

Source: Docker's manual, "JSON File logging driver" and "Local file logging driver".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote_plus

from pylab_container.errors import InvalidInput, RuntimeFailed
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.host_config import LogConfig
from pylab_container.text import sizes

_DRIVERS = ("json-file", "k8s-file", "local", "none")
_REMOTE_DRIVERS = frozenset("awslogs fluentd gcplogs gelf journald logentries splunk syslog".split())
_SIZE_OPTIONS = frozenset(("max-size", "max-file"))
# These select the container's labels and variables that `logs --details` shows, by name or by regular expression.
_DETAIL_OPTIONS = frozenset(("labels", "labels-regex", "env", "env-regex", "tag"))


class LogLimit(NamedTuple):
    """The maximum size of a log in dockerd's format: a number of files, each of a size in bytes."""

    size: int
    files: int


def log_config(config: Mapping[str, Any]) -> LogConfig:
    """Check docker-py's mapping {"Type", "Config"}; its keys may also be in lower case. Raises InvalidInput."""
    kind = config.get("Type") or config.get("type") or "json-file"
    options = dict(config.get("Config") or config.get("config") or {})
    if kind in _REMOTE_DRIVERS:
        return LogConfig(type=kind, config={name: str(value) for name, value in options.items()})
    if kind not in _DRIVERS:
        raise InvalidInput(
            f"logger: no log driver named '{kind}' is registered",
            hint="use json-file, its other names k8s-file and local, or none",
        )
    known = {"none": frozenset[str](), "local": _SIZE_OPTIONS}.get(kind, _SIZE_OPTIONS | _DETAIL_OPTIONS)
    for name in options:
        if name not in known:
            raise InvalidInput(
                f"unknown log opt '{name}' for {kind} log driver", hint=f"use one of {', '.join(sorted(known))}"
            )
    if "max-size" in options and sizes.parse(str(options["max-size"])) <= 0:
        raise InvalidInput("max-size must be a positive number", hint="write --log-opt max-size=10m")
    files = str(options.get("max-file", "1"))
    if not (files.isascii() and files.isdigit() and int(files)):
        raise InvalidInput("max-file cannot be less than 1", hint="write --log-opt max-file=1")
    return LogConfig(type=kind, config={name: str(value) for name, value in options.items()})


def require_driver(log_config: LogConfig) -> None:
    """Raise RuntimeFailed for one of Docker's drivers that this engine does not implement."""
    if log_config.type in _REMOTE_DRIVERS:
        raise RuntimeFailed(
            f"failed to initialize logging driver: {log_config.type}: this engine sends no output elsewhere",
            hint="create the container with --log-driver json-file",
        )


def log_size(log_config: LogConfig) -> int | None:
    """The maximum size of conmon's file in bytes, None for no limit."""
    # Docker keeps max-file files of max-size bytes. conmon has one file and discards it when it is full, so the one may
    # be as large as all of Docker's together.
    options = log_config.config
    return sizes.parse(options["max-size"]) * int(options.get("max-file", 1)) if "max-size" in options else None


def log_limit(log_config: LogConfig) -> LogLimit | None:
    """The maximum size of the log of the earlier runs, which has dockerd's format; None for no limit."""
    options = log_config.config
    if "max-size" not in options:
        return None
    return LogLimit(max(1, sizes.parse(options["max-size"])), int(options.get("max-file", 1)))


Searcher = Callable[[str], Callable[[str], bool]]
"""Compiles a regular expression to a function that reports whether a text has a match. Raises InvalidInput."""


def log_details(log_config: LogConfig, config: ContainerConfig, searcher: Searcher) -> str:
    """The prefix of each line of `logs --details`: "name=value,…", sorted by name, and a blank.

    config    the container's configuration, with its labels and variables
    searcher  compiles the regular expressions of LogConfig

    Raises InvalidInput for an invalid regular expression.
    """
    options = log_config.config
    variables = dict(entry.partition("=")[::2] for entry in config.env)
    details = {"tag": options["tag"]} if options.get("tag") else {}
    details |= dict(_selected(options, "labels", config.labels, searcher))
    details |= dict(_selected(options, "env", variables, searcher))
    return ",".join(f"{quote_plus(name)}={quote_plus(details[name])}" for name in sorted(details)) + " "


def damage_notice(count: int) -> str:
    """The warning at the end of `logs` about entries that could not be parsed."""
    lines = "1 damaged line" if count == 1 else f"{count} damaged lines"
    return f"Warning: {lines} of the log left out"


def _selected(
    options: Mapping[str, str], kind: str, values: Mapping[str, str], searcher: Searcher
) -> Iterator[tuple[str, str]]:
    names, pattern = options.get(kind, "").split(","), options.get(f"{kind}-regex")
    search = searcher(pattern) if pattern else None
    for name, value in values.items():
        if name in names or (search and search(name)):
            yield name, value
