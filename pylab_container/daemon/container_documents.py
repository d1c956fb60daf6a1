"""Docker's documents about containers in each version of the API, as pure functions of records.

Sources: Engine API 1.41, "ContainerList" and "ContainerInspect", and the version history for what came and went
since (docs.docker.com/reference/api/engine/version-history).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from pylab_container.daemon.call import Version
from pylab_container.daemon.versions import known
from pylab_container.docker.stats import NETWORK_FIELDS
from pylab_container.docker.status import status
from pylab_container.engine.container import ContainerRecord
from pylab_container.oci.image import Json
from pylab_container.oci.network_settings import EndpointSettings
from pylab_container.text.timestamps import parse_rfc3339

# ---- one container ---------------------------------------------------------------------------


def inspected(attributes: Json, version: Version) -> Json:
    """Return the document of ContainerInspect from Container.attrs."""
    settings = attributes["NetworkSettings"]
    networks: Mapping[str, Json | None] = settings.get("Networks") or {}
    document = {
        **attributes,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "Config": _config(attributes["Config"]),
        "NetworkSettings": {
            **settings,
            "Ports": settings.get("Ports") or {},
            "Networks": {
                name: _named(EndpointSettings.parse(settings or {}), attributes, version)
                for name, settings in networks.items()
            },
        },
    }
    if version < (1, 21):
        document = _before_networks(document)
    return known("ContainerInspect", document, version)


def _before_networks(document: Json) -> Json:
    """Move limits and mounts to the fields that they had before API 1.21."""
    config, host, mounts = document["Config"], document["HostConfig"], document["Mounts"]
    return {
        **document,
        "Config": {
            "MacAddress": "",
            "NetworkDisabled": False,
            "ExposedPorts": None,
            **config,
            "VolumeDriver": host.get("VolumeDriver") or "",
            "Memory": host.get("Memory") or 0,
            "MemorySwap": host.get("MemorySwap") or 0,
            "CpuShares": host.get("CpuShares") or 0,
            "Cpuset": host.get("CpusetCpus") or "",
        },
        "Volumes": {mount["Destination"]: mount["Source"] for mount in mounts},
        "VolumesRW": {mount["Destination"]: mount["RW"] for mount in mounts},
    }


def measured(document: Json, version: Version) -> Json:
    """Return the document of ContainerStats from Container.stats().

    Before API 1.21 it has the sum of all networks.
    """
    if version >= (1, 21):
        return document
    networks = document.get("networks") or {}
    total = {field: sum(counters[field] for counters in networks.values()) for field in NETWORK_FIELDS}
    return {**{name: value for name, value in document.items() if name != "networks"}, "network": total}


def _config(config: Json) -> Json:
    return {**config, "Labels": config.get("Labels") or {}}


def _named(settings: EndpointSettings, attributes: Json, version: Version) -> Json:
    """Return an EndpointSettings.

    The implicit names are in Aliases before 1.45, and in DNSNames since 1.44.

    As in dockerd both are null instead of empty.
    """
    document = _endpoint(settings)
    own, aliases = (attributes["Id"][:12], attributes["Config"].get("Hostname")), document["Aliases"] or []
    document["DNSNames"] = list(dict.fromkeys([attributes["Name"].removeprefix("/"), *aliases])) if aliases else None
    if version >= (1, 45):
        document["Aliases"] = [alias for alias in aliases if alias not in own] or None
    return document


def _endpoint(settings: EndpointSettings | None) -> Json:
    """Return an EndpointSettings with the fields of all versions."""
    return replace(settings or EndpointSettings(), unknown={}).shown()


# ---- list ------------------------------------------------------------------------------------


def listed(record: ContainerRecord, version: Version, *, image: str, mounts: list[Json], now: float) -> Json:
    """Return one entry of ContainerList.

    image   the name of its image, or the id if the name now belongs to another image
    mounts  as in ContainerInspect
    now     seconds since 1970
    """
    state = record.state_document()
    networks = record.network.networks
    annotations = record.host_config.annotations
    document = {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": image,
        "ImageID": record.image,
        "Command": " ".join([record.path, *(f"'{word}'" if " " in word else word for word in record.args)]),
        "Created": parse_rfc3339(record.created) // 10**9,
        "Ports": _ports(record.network.ports),
        "Labels": record.config.labels,
        "State": state["Status"],
        "Status": status(state, now=now),
        "HostConfig": {
            "NetworkMode": record.host_config.network_mode or "default",
            **({"Annotations": annotations} if annotations else {}),
        },
        # dockerd leaves Aliases out of this document.
        "NetworkSettings": {
            "Networks": {name: {**_endpoint(settings), "Aliases": None} for name, settings in networks.items()}
        },
        "Mounts": mounts,
    }
    return known("ContainerSummary", document, version)


def _ports(published: Mapping[str, list[Json] | None]) -> list[Json]:
    ports = []
    for name, bindings in published.items():
        number, _, protocol = name.partition("/")
        inner = {"PrivatePort": int(number), "Type": protocol or "tcp"}
        outer = [
            {"IP": binding["HostIp"], **inner, "PublicPort": int(binding["HostPort"])} for binding in bindings or ()
        ]
        ports += outer or [inner]
    return ports
