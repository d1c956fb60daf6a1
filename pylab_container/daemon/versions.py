"""The fields that Docker's documents gained and lost with each API version, as one table.

A field that a version does not have is ignored in a request and left out of an answer. The few parameters of that kind
are read with Call.text_since(). Source: moby's api/docs/CHANGELOG.md, the version history. Where dockerd
differs from it, for example in fields of /info that older versions also get, this table follows dockerd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from pylab_container.daemon.call import Version
from pylab_container.oci.image import Json


class Span(NamedTuple):
    """The versions that have a field: since <= version < until."""

    since: Version = (1, 0)
    until: Version = (2, 0)


_BIND = "HostConfig.Mounts.BindOptions"

# {schema: {path: span}}. A path applies to each item of a list; * matches every name in an object.
FIELDS: Mapping[str, Mapping[str, Span]] = {
    "ContainerCreate": {
        "HostConfig.KernelMemoryTCP": Span(since=(1, 40)),
        f"{_BIND}.NonRecursive": Span(since=(1, 40)),
        "HostConfig.KernelMemory": Span(until=(1, 42)),
        f"{_BIND}.CreateMountpoint": Span(since=(1, 42)),
        "HostConfig.Annotations": Span(since=(1, 43)),
        "Healthcheck.StartInterval": Span(since=(1, 44)),
        f"{_BIND}.ReadOnlyNonRecursive": Span(since=(1, 44)),
        f"{_BIND}.ReadOnlyForceRecursive": Span(since=(1, 44)),
        "NetworkingConfig.EndpointsConfig.*.MacAddress": Span(since=(1, 44)),
        "HostConfig.Mounts.VolumeOptions.Subpath": Span(since=(1, 45)),
        "HostConfig.Mounts.TmpfsOptions.Options": Span(since=(1, 46)),
    },
    "ContainerUpdate": {"PidsLimit": Span(since=(1, 40)), "KernelMemory": Span(until=(1, 42))},
    "ExecCreate": {"ConsoleSize": Span(since=(1, 42))},
    "ContainerInspect": {
        "Mounts": Span(since=(1, 20)),
        "Volumes": Span(until=(1, 20)),
        "VolumesRW": Span(until=(1, 20)),
        "Config.Memory": Span(until=(1, 20)),
        "Config.MemorySwap": Span(until=(1, 20)),
        "Config.CpuShares": Span(until=(1, 20)),
        "Config.Cpuset": Span(until=(1, 20)),
        # The value is always that of no limit: other values are refused.
        "HostConfig.KernelMemory": Span(until=(1, 42)),
        "HostConfig.KernelMemoryTCP": Span(until=(1, 42)),
        "NetworkSettings.Networks": Span(since=(1, 21)),
        "NetworkSettings.Networks.*.DNSNames": Span(since=(1, 44)),
    },
    "ContainerSummary": {"HostConfig.Annotations": Span(since=(1, 46))},
    "Image": {
        # Container and ContainerConfig were removed in 1.45 and are still sent: scripts that read them from docker
        # inspect do not control the negotiated version, and Debian's docker-compose requires them.
        "VirtualSize": Span(until=(1, 44)),
    },
    "SystemInfo": {
        "ExecutionDriver": Span(until=(1, 25)),
        "KernelMemory": Span(until=(1, 42)),
        "KernelMemoryTCP": Span(until=(1, 42)),
        "CDISpecDirs": Span(since=(1, 44)),
    },
    "SystemDataUsage": {
        "BuilderSize": Span(until=(1, 42)),
        "BuildCache.Parent": Span(until=(1, 42)),
    },
}


def known(schema: str, document: Json, version: Version) -> Json:
    """Return the document without the fields that the version does not have."""
    for path, span in FIELDS[schema].items():
        if not span.since <= version < span.until:
            document = cast(Json, _without(document, path.split(".")))
    return document


def _without(value: Any, steps: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_without(item, steps) for item in value]
    if not isinstance(value, dict):
        return value
    name, *rest = steps
    if rest:
        return {key: _without(inner, rest) if name in ("*", key) else inner for key, inner in value.items()}
    return {key: inner for key, inner in value.items() if key != name}
