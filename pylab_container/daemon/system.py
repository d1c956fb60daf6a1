"""/_ping, /version, /info and /system/df: the daemon and the engine as a whole."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from pylab_container.daemon import DOCKER_RELEASE, MINIMUM_VERSION, VERSION, containers, images, volumes
from pylab_container.daemon.application import Route
from pylab_container.daemon.call import Call, Version, answer
from pylab_container.daemon.versions import known
from pylab_container.errors import InvalidInput
from pylab_container.images.image import machine_architecture
from pylab_container.maintenance.info import program_version
from pylab_container.oci.image import Json
from pylab_container.text.timestamps import rfc3339
from pylab_container.version import __version__

if TYPE_CHECKING:
    from pylab_container.maintenance.info import Info
    from pylab_container.maintenance.usage import CacheUsage, DiskUsage

_DRIVERS = {
    "Volume": ["local"],
    "Network": ["bridge", "host", "null"],
    "Authorization": [],
    "Log": ["json-file", "k8s-file", "local", "none"],
}
_NO_SWARM = {
    "NodeID": "",
    "NodeAddr": "",
    "LocalNodeState": "inactive",
    "ControlAvailable": False,
    "Error": "",
    "RemoteManagers": None,
}
_CONSTANT_INFO: Json = {
    "Plugins": _DRIVERS,
    "Debug": False,
    "NEventsListener": 0,
    "IndexServerAddress": "https://index.docker.io/v1/",
    "GenericResources": [],
    "HttpProxy": "",
    "HttpsProxy": "",
    "NoProxy": "",
    "Labels": [],
    "ExperimentalBuild": False,
    "ServerVersion": DOCKER_RELEASE,
    "Swarm": _NO_SWARM,
    "LiveRestoreEnabled": True,
    "Isolation": "default",
    "InitBinary": "catatonit",
    "ContainerdCommit": {"ID": "", "Expected": ""},
    "InitCommit": {"ID": "", "Expected": ""},
    "Warnings": [],
    "ExecutionDriver": "<not supported>",
    "KernelMemory": False,
    "KernelMemoryTCP": False,
    "CDISpecDirs": [],
}
"""The fields of SystemInfo that are the same on every machine."""
_PROGRAMS = ("runc", "conmon")
_DF_TYPES = ("container", "image", "volume", "build-cache")


async def ping(call: Call) -> web.Response:
    """GET /_ping: the headers contain the versions of the API and of the builder."""
    headers = {
        "Builder-Version": "1",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "Swarm": "inactive",
    }
    if call.request.method == "HEAD":
        return web.Response(content_type="text/plain", charset="utf-8", headers={**headers, "Content-Length": "0"})
    return web.Response(text="OK", headers=headers)


async def version(call: Call) -> web.Response:
    """GET /version: the versions of all components."""
    return answer(await call.run(version_document))


def version_document() -> Json:
    """Return Docker's SystemVersion.

    Its version is DOCKER_RELEASE; this package is a component.
    """
    machine = os.uname()
    own = {
        "ApiVersion": VERSION,
        "Arch": machine_architecture(),
        "BuildTime": "",
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": "",
        "KernelVersion": machine.release,
        "MinAPIVersion": MINIMUM_VERSION,
        "Os": "linux",
    }
    parts = [
        {"Name": "Engine", "Version": DOCKER_RELEASE, "Details": own},
        {"Name": "pylab-container", "Version": __version__, "Details": {"GitCommit": ""}},
    ]
    parts += [{"Name": name, "Version": program_version(name), "Details": {"GitCommit": ""}} for name in _PROGRAMS]
    top = {name: value for name, value in own.items() if name != "Experimental"}
    return {"Platform": {"Name": "pylab-container"}, "Components": parts, "Version": DOCKER_RELEASE, **top}


async def info(call: Call) -> web.Response:
    """GET /info: the engine and its machine."""
    information, settings = await call.run(call.engine.info), call.engine.registries
    return answer(info_document(information, _registries(settings.mirrors, settings.insecure), call.version))


def info_document(information: Info, registries: Json, version: Version) -> Json:
    """Return Docker's SystemInfo."""
    runc_version = program_version("runc")
    document: Json = {
        **information.document(),
        **_CONSTANT_INFO,
        **_machine_info(information),
        "ID": information.id,
        "RegistryConfig": registries,
        "RuncCommit": {"ID": runc_version, "Expected": runc_version},
        "SecurityOptions": ["name=seccomp,profile=default"] if version >= (1, 25) else ["seccomp"],
    }
    return known("SystemInfo", document, version)


def _machine_info(information: Info) -> Json:
    return {
        **information.limits,
        "IPv4Forwarding": information.forwarding,
        "BridgeNfIptables": os.path.exists("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        "BridgeNfIp6tables": os.path.exists("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": len(os.listdir("/proc/self/task")),
        "SystemTime": rfc3339(time.time_ns()),
        "OSVersion": information.os_version,
    }


def _registries(mirrors: Sequence[str], insecure: Sequence[str]) -> Json:
    """Docker's RegistryServiceConfig."""
    networks = [entry for entry in insecure if "/" in entry]
    own = {"Name": "docker.io", "Mirrors": list(mirrors), "Secure": True, "Official": True}
    others = {
        host: {"Name": host, "Mirrors": [], "Secure": False, "Official": False} for host in insecure if "/" not in host
    }
    return {
        "AllowNondistributableArtifactsCIDRs": [],
        "AllowNondistributableArtifactsHostnames": [],
        "InsecureRegistryCIDRs": ["127.0.0.0/8", *networks],
        "IndexConfigs": {"docker.io": own, **others},
        "Mirrors": list(mirrors),
    }


async def df(call: Call) -> web.Response:
    """GET /system/df: disk usage; since API 1.42 of the requested types."""
    types = _DF_TYPES if call.before("1.42") else tuple(call.texts("type")) or _DF_TYPES
    for name in types:
        if name not in _DF_TYPES:
            raise InvalidInput(f"unknown object type: {name}", hint=f"use one of {', '.join(_DF_TYPES)}")
    usage = await call.run(call.engine.df)
    return answer(await call.run(usage_document, call, usage, types))


def usage_document(call: Call, usage: DiskUsage, types: tuple[str, ...]) -> Json:
    """Docker's SystemDataUsageResponse."""
    document: Json = {"LayersSize": usage.layers_size if "image" in types else 0}
    if "image" in types:
        document["Images"] = [
            images.summary(entry.image, call.version, shared=entry.shared, containers=entry.containers)
            for entry in usage.images
        ]
    if "container" in types:
        document["Containers"] = containers.summaries(call, all=True, limit=None, with_size=True)
    if "volume" in types:
        document["Volumes"] = [
            {**volumes.document(entry.volume.document()), "UsageData": {"Size": entry.size, "RefCount": entry.links}}
            for entry in usage.volumes
        ]
    if "build-cache" in types:
        document["BuildCache"] = [_cache_document(entry) for entry in usage.build_cache]
    document["BuilderSize"] = usage.build_cache_size
    return known("SystemDataUsage", document, call.version)


def _cache_document(entry: CacheUsage) -> Json:
    return {
        "ID": entry.id,
        "Parent": "",
        "Type": entry.kind,
        "Description": "",
        "InUse": entry.active,
        "Shared": entry.shared,
        "Size": entry.size,
        "CreatedAt": entry.when,
        "LastUsedAt": entry.when,
        "UsageCount": 1,
    }


ROUTES = (
    Route("GET", "/_ping", ping),
    Route("HEAD", "/_ping", ping),
    Route("GET", "/version", version),
    Route("GET", "/info", info),
    Route("GET", "/system/df", df),
)
