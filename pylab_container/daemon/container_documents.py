"""Docker's documents about containers, as each version of the API has them. Pure: records go in.

Sources: Engine API 1.41, "ContainerList" and "ContainerInspect", and the version history for what came and went
since (docs.docker.com/reference/api/engine/version-history).
"""

from __future__ import annotations

from collections.abc import Mapping

from pylab_container.daemon.call import Json, Version
from pylab_container.daemon.versions import known
from pylab_container.docker.stats import NETWORK_FIELDS
from pylab_container.docker.status import status
from pylab_container.engine.container import ContainerRecord
from pylab_container.networks.endpoint_documents import endpoint_document
from pylab_container.text.timestamps import parse_rfc3339

# ---- one container ---------------------------------------------------------------------------


def inspected(attributes: Json, version: Version) -> Json:
    """The document of ContainerInspect, out of Container.attrs."""
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
            "Networks": {name: _named(settings or {}, attributes, version) for name, settings in networks.items()},
        },
    }
    if version < (1, 21):
        document = _before_networks(document)
    return known("ContainerInspect", document, version)


def _before_networks(document: Json) -> Json:
    """What versions had before containers were on networks: limits, and in 1.19 mounts, stood in other places."""
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
    """The document of ContainerStats, out of Container.stats(): one sum of all networks before 1.21."""
    if version >= (1, 21):
        return document
    networks = document.get("networks") or {}
    total = {field: sum(one[field] for one in networks.values()) for field in NETWORK_FIELDS}
    return {**{name: value for name, value in document.items() if name != "networks"}, "network": total}


def _config(config: Json) -> Json:
    return {**config, "Labels": config.get("Labels") or {}}


def _named(settings: Json, attributes: Json, version: Version) -> Json:
    """An EndpointSettings; its own names, those that nobody asked for, are Aliases until 1.44, and DNSNames.

    Both are null where they are empty, as dockerd has them.
    """
    document = _endpoint(settings)
    own, aliases = (attributes["Id"][:12], attributes["Config"].get("Hostname")), document["Aliases"] or []
    document["DNSNames"] = list(dict.fromkeys([attributes["Name"].removeprefix("/"), *aliases])) if aliases else None
    if version >= (1, 45):
        document["Aliases"] = [alias for alias in aliases if alias not in own] or None
    return document


def _endpoint(settings: Json) -> Json:
    """An EndpointSettings with the fields of all versions."""
    empty = endpoint_document({})
    return {name: settings.get(name, empty[name]) for name in empty}


# ---- many ------------------------------------------------------------------------------------


def listed(record: ContainerRecord, version: Version, *, image: str, mounts: list[Json], now: float) -> Json:
    """One entry of ContainerList.

    image   the name of its image, or the id where that name is another one's by now
    mounts  as inspect shows them
    now     seconds since 1970
    """
    state = record.state_document()
    networks: Mapping[str, Json | None] = record.network.get("Networks") or {}
    annotations = record.host_config.get("Annotations")
    document = {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": image,
        "ImageID": record.image,
        "Command": " ".join([record.path, *(f"'{word}'" if " " in word else word for word in record.args)]),
        "Created": parse_rfc3339(record.created) // 10**9,
        "Ports": _ports(record.network.get("Ports") or {}),
        "Labels": record.config.get("Labels") or {},
        "State": state["Status"],
        "Status": status(state, now=now),
        "HostConfig": {
            "NetworkMode": record.host_config.get("NetworkMode") or "default",
            **({"Annotations": annotations} if annotations else {}),
        },
        # Here dockerd does not tell what they are called on it.
        "NetworkSettings": {
            "Networks": {name: {**_endpoint(one or {}), "Aliases": None} for name, one in networks.items()}
        },
        "Mounts": mounts,
    }
    return known("ContainerSummary", document, version)


def _ports(published: Mapping[str, list[Json] | None]) -> list[Json]:
    found = []
    for name, bindings in published.items():
        number, _, protocol = name.partition("/")
        inner = {"PrivatePort": int(number), "Type": protocol or "tcp"}
        outer = [{"IP": one["HostIp"], **inner, "PublicPort": int(one["HostPort"])} for one in bindings or ()]
        found += outer or [inner]
    return found
