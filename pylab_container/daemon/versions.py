"""What came into Docker's documents and what went out of them, version by version, as one table.

In a request, a field that the version does not know is as if it was not sent, whatever it says; in an answer it is left
out. Parameters are few, and each handler reads them with Call.text_since(). Source: moby's api/docs/CHANGELOG.md, the
version history; what dockerd does not heed of it, such as fields of /info that older versions get as well, is not
heeded here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from pylab_container.daemon.call import Json, Version


class Span(NamedTuple):
    """The versions that know a field: from since on, and no longer in until."""

    since: Version = (1, 0)
    until: Version = (2, 0)


_BIND = "HostConfig.Mounts.BindOptions"

# {schema: {place: span}}. Lists are gone through; * stands for every name in an object.
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
        # Nobody can have asked for another value than that of no limit.
        "HostConfig.KernelMemory": Span(until=(1, 42)),
        "HostConfig.KernelMemoryTCP": Span(until=(1, 42)),
        "NetworkSettings.Networks": Span(since=(1, 21)),
        "NetworkSettings.Networks.*.DNSNames": Span(since=(1, 44)),
    },
    "ContainerSummary": {"HostConfig.Annotations": Span(since=(1, 46))},
    "Image": {
        # Container and ContainerConfig went with 1.45, and are told still: scripts that ask docker inspect for them
        # do not know what the client and the daemon agree on, and Debian's docker-compose cannot do without.
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
    """The document without the fields that the version does not know."""
    for place, span in FIELDS[schema].items():
        if not span.since <= version < span.until:
            document = cast(Json, _without(document, place.split(".")))
    return document


def _without(value: Any, steps: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_without(one, steps) for one in value]
    if not isinstance(value, dict):
        return value
    name, *rest = steps
    if rest:
        return {key: _without(inner, rest) if name in ("*", key) else inner for key, inner in value.items()}
    return {key: inner for key, inner in value.items() if key != name}
