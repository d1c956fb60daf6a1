"""Docker's documents about containers, as each version of the API has them. Pure: records go in.

Sources: Engine API 1.41, "ContainerList" and "ContainerInspect", and the version history for what came and went
since (docs.docker.com/reference/api/engine/version-history).
"""

from __future__ import annotations

from collections.abc import Mapping

from pylab_container.daemon.call import Json, Version
from pylab_container.engine.containers.container import ContainerRecord
from pylab_container.engine.networks.endpoints import endpoint_document
from pylab_container.formats.status import status
from pylab_container.formats.timestamps import parse_rfc3339

# Fields of HostConfig that there were until 1.41; nobody could ask for another value.
_UNTIL_1_41 = ("KernelMemory", "KernelMemoryTCP")

# ---- one container ---------------------------------------------------------------------------


def inspected(attributes: Json, version: Version) -> Json:
    """The document of ContainerInspect, out of Container.attrs."""
    settings = attributes["NetworkSettings"]
    state = attributes["State"]
    return {
        **attributes,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "HostConfig": _host_config(attributes["HostConfig"], version),
        "Config": _config(attributes["Config"]),
        "State": state,
        "NetworkSettings": {
            **settings,
            "Ports": settings.get("Ports") or {},
            "Networks": _networks(settings.get("Networks") or {}, attributes, version),
        },
    }


def _host_config(host: Json, version: Version) -> Json:
    gone = () if version < (1, 42) else _UNTIL_1_41
    return {name: value for name, value in host.items() if name not in gone}


def _config(config: Json) -> Json:
    return {**config, "Labels": config.get("Labels") or {}}


def _networks(networks: Mapping[str, Json | None], attributes: Json, version: Version) -> Json:
    return {name: _endpoint(settings or {}, attributes, version) for name, settings in networks.items()}


def _endpoint(settings: Json, attributes: Json, version: Version) -> Json:
    """An EndpointSettings with all its fields."""
    known = endpoint_document({})
    document = {name: settings.get(name, known[name]) for name in known}
    if version >= (1, 44):
        names = [attributes["Name"].removeprefix("/"), attributes["Id"][:12], *(document["Aliases"] or ())]
        document["DNSNames"] = list(dict.fromkeys(names)) if document["Aliases"] else None
    return document


# ---- many ------------------------------------------------------------------------------------


def listed(record: ContainerRecord, version: Version, *, image: str, mounts: list[Json], now: float) -> Json:
    """One entry of ContainerList.

    image   the name of its image, or the id where that name is another one's by now
    mounts  as inspect shows them
    now     seconds since 1970
    """
    state = record.state_document()
    attributes = {"Name": f"/{record.name}", "Id": record.id}
    return {
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
        "HostConfig": {"NetworkMode": record.host_config.get("NetworkMode") or "default"},
        "NetworkSettings": {"Networks": _networks(record.network.get("Networks") or {}, attributes, version)},
        "Mounts": mounts,
    }


def _ports(published: Mapping[str, list[Json] | None]) -> list[Json]:
    found = []
    for name, bindings in published.items():
        number, _, protocol = name.partition("/")
        inner = {"PrivatePort": int(number), "Type": protocol or "tcp"}
        outer = [{"IP": one["HostIp"], **inner, "PublicPort": int(one["HostPort"])} for one in bindings or ()]
        found += outer or [inner]
    return found
