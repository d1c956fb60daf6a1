"""How a container's output is kept: LogConfig, and what `logs --details` shows of it.

json-file and local are Docker's names for files that `logs` reads. Ours are in the formats k8s-file while a container
runs and json-file after its end (runtime/logs.py); any of the three names will do. Source: Docker's manual, "JSON File
logging driver" and "Local file logging driver". Drivers of Docker's that send the output elsewhere are written down,
and missed at the start: dockerd notices no sooner whether it can reach where they lead.
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
_ELSEWHERE = frozenset("awslogs fluentd gcplogs gelf journald logentries splunk syslog".split())
_SIZES = frozenset(("max-size", "max-file"))
# Which labels and variables of the container go with each line, by name or by regular expression.
_DETAILS = frozenset(("labels", "labels-regex", "env", "env-regex", "tag"))


class LogLimit(NamedTuple):
    """How large a log in Docker's format may become: a number of files of a size in bytes each."""

    size: int
    files: int


def log_config(config: Mapping[str, Any]) -> LogConfig:
    """Check docker-py's mapping {"Type", "Config"}; it bounds the log, see log_size(). Raises InvalidInput."""
    kind = config.get("Type") or config.get("type") or "json-file"
    options = dict(config.get("Config") or config.get("config") or {})
    if kind in _ELSEWHERE:
        return LogConfig(type=kind, config={name: str(value) for name, value in options.items()})
    if kind not in _DRIVERS:
        raise InvalidInput(
            f"logger: no log driver named '{kind}' is registered",
            hint="there are json-file, k8s-file and local, which are the same, and none",
        )
    known = {"none": frozenset[str](), "local": _SIZES}.get(kind, _SIZES | _DETAILS)
    for name in options:
        if name not in known:
            raise InvalidInput(
                f"unknown log opt '{name}' for {kind} log driver", hint=f"there are {', '.join(sorted(known))}"
            )
    if "max-size" in options and sizes.parse(str(options["max-size"])) <= 0:
        raise InvalidInput("max-size must be a positive number", hint="write --log-opt max-size=10m")
    files = str(options.get("max-file", "1"))
    if not (files.isascii() and files.isdigit() and int(files)):
        raise InvalidInput("max-file cannot be less than 1", hint="write --log-opt max-file=1")
    return LogConfig(type=kind, config={name: str(value) for name, value in options.items()})


def require_driver(log_config: LogConfig) -> None:
    """Raise RuntimeFailed for a driver of Docker's that this engine does not have."""
    if log_config.type in _ELSEWHERE:
        raise RuntimeFailed(
            f"failed to initialize logging driver: {log_config.type}: this engine sends no output elsewhere",
            hint="make the container with --log-driver json-file, and read its logs",
        )


def log_size(log_config: LogConfig) -> int | None:
    """How many bytes the log may have, None for any number.

    Docker keeps max-file files of max-size bytes. conmon writes one and begins it anew when it is full, so ours may
    be as large as all of Docker's together: as much on the disk, and as much to read on the average.
    """
    options = log_config.config
    return sizes.parse(options["max-size"]) * int(options.get("max-file", 1)) if "max-size" in options else None


def log_limit(log_config: LogConfig) -> LogLimit | None:
    """How large the log of the earlier runs may be, which dockerd writes too; None for any size."""
    options = log_config.config
    if "max-size" not in options:
        return None
    return LogLimit(max(1, sizes.parse(options["max-size"])), int(options.get("max-file", 1)))


Searcher = Callable[[str], Callable[[str], bool]]
"""Makes of a regular expression the function that says whether a text has a match. Raises InvalidInput."""


def log_details(log_config: LogConfig, config: ContainerConfig, searcher: Searcher) -> str:
    """What `logs --details` puts before each line: "name=value,…" and a blank; the names are sorted.

    config  the container's: its labels and variables

    Raises InvalidInput for a wrong regular expression.
    """
    options = log_config.config
    variables = dict(entry.partition("=")[::2] for entry in config.env)
    found = {"tag": options["tag"]} if options.get("tag") else {}
    found |= dict(_chosen(options, "labels", config.labels, searcher))
    found |= dict(_chosen(options, "env", variables, searcher))
    return ",".join(f"{quote_plus(name)}={quote_plus(found[name])}" for name in sorted(found)) + " "


def damage_notice(count: int) -> str:
    """What `logs` says at its end of entries that it could not read."""
    lines = "1 damaged line" if count == 1 else f"{count} damaged lines"
    return f"Warning: {lines} of the log left out"


def _chosen(
    options: Mapping[str, str], kind: str, values: Mapping[str, str], searcher: Searcher
) -> Iterator[tuple[str, str]]:
    named, pattern = options.get(kind, "").split(","), options.get(f"{kind}-regex")
    search = searcher(pattern) if pattern else None
    for name, value in values.items():
        if name in named or (search and search(name)):
            yield name, value
