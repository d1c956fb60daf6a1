"""/networks: bridges that containers share."""

from __future__ import annotations

from aiohttp import web

from pylab_container.daemon import creation, fields, shapes
from pylab_container.daemon.application import Route
from pylab_container.daemon.call import Call, Json, answer
from pylab_container.errors import Forbidden, InvalidInput, NotFound

_POOL = {**shapes.named("Subnet Gateway IPRange", str), "AuxiliaryAddresses": shapes.NAMES}
_NETWORK = {
    **shapes.named("Name Driver Scope", str),
    **shapes.named("Attachable CheckDuplicate ConfigOnly EnableIPv6 Ingress Internal", bool),
    **shapes.named("Labels Options", shapes.NAMES),
    "ConfigFrom": {"Network": str},
    "IPAM": {"Driver": str, "Options": shapes.NAMES, "Config": [_POOL]},
}
_CONNECTION = {"Container": str, "EndpointConfig": creation.ENDPOINT, "Force": bool}


async def list_networks(call: Call) -> web.Response:
    """All, or those that pass the filters; who is on them is told by inspect alone (since 1.28)."""
    found = await call.run(call.engine.networks.list, call.filters())
    if call.before("1.28"):
        return answer(await call.run(lambda: [network.attrs for network in found]))
    return answer(await call.run(lambda: [{**network.attrs, "Containers": {}} for network in found]))


async def create(call: Call) -> web.Response:
    """Make one."""
    wanted = await call.document(_NETWORK)
    ipam = fields.child(wanted, "IPAM")
    _refuse(wanted, ipam)
    network = await call.run(
        call.engine.networks.create,
        fields.text(wanted, "Name"),
        fields.text(wanted, "Driver") or "bridge",
        ipam=_ipam(ipam),
        check_duplicate=fields.flag(wanted, "CheckDuplicate") or not call.before("1.44"),
        internal=fields.flag(wanted, "Internal"),
        attachable=fields.flag(wanted, "Attachable"),
        enable_ipv6=fields.flag(wanted, "EnableIPv6"),
        labels=fields.labels(wanted, "Labels"),
        options=fields.labels(wanted, "Options"),
    )
    return answer({"Id": network.id, "Warning": ""}, 201)


def _refuse(wanted: Json, ipam: Json) -> None:
    """Raises InvalidInput for what belongs to a swarm, or is not known."""
    for name in ("Ingress", "ConfigOnly"):
        if fields.flag(wanted, name):
            raise InvalidInput(f"{name} networks need a swarm", hint="this engine has one machine")
    if fields.text(fields.child(wanted, "ConfigFrom"), "Network"):
        raise InvalidInput("ConfigFrom networks need a swarm", hint="give the options themselves")
    if fields.text(wanted, "Scope") not in ("", "local"):
        raise Forbidden(
            f"cannot create a {fields.text(wanted, 'Scope')} scoped network when swarm is not active",
            hint="all networks here have the scope local",
        )


def _ipam(sent: Json) -> Json:
    """IPAM, each field of its type; the driver default takes no options, and minds none."""
    pools = [
        {
            **{name: fields.text(pool, name) for name in ("Subnet", "Gateway", "IPRange")},
            "AuxiliaryAddresses": fields.labels(pool, "AuxiliaryAddresses"),
        }
        for pool in fields.children(sent, "Config")
    ]
    return {"Driver": fields.text(sent, "Driver") or "default", "Options": sent.get("Options"), "Config": pools}


async def inspect(call: Call) -> web.Response:
    """One of them, with the containers that are on it."""
    if call.text("scope") not in ("", "local"):
        raise NotFound(f"network {call.name} not found", hint="all networks here have the scope local")
    return answer(await call.run(lambda: call.engine.networks.get(call.name).attrs))


async def remove(call: Call) -> web.Response:
    """Remove one."""
    await call.run(lambda: call.engine.networks.get(call.name).remove())
    return web.Response(status=204)


async def _connection(call: Call) -> tuple[str, Json]:
    """Which container is to be connected or disconnected, and how. Raises InvalidInput, ContainerNotFound."""
    wanted = await call.document(_CONNECTION)
    if not (name := fields.text(wanted, "Container")):
        raise InvalidInput('invalid name or ID supplied: ""', hint='{"Container": "NAME"}')
    return name, wanted


async def connect(call: Call) -> web.Response:
    """Put a container on one."""
    name, wanted = await _connection(call)
    wish = creation.endpoint_wish(fields.child(wanted, "EndpointConfig"))

    def connected() -> None:
        call.engine.containers.get(name)
        call.engine.networks.get(call.name).connect_as(name, wish)

    await call.run(connected)
    return web.Response()


async def disconnect(call: Call) -> web.Response:
    """Take a container off one."""
    name, wanted = await _connection(call)

    def disconnected() -> None:
        # To dockerd, Force says that the container may be gone; here the kernel tells who is on a network.
        if not fields.flag(wanted, "Force"):
            call.engine.containers.get(name)
        call.engine.networks.get(call.name).disconnect(name)

    await call.run(disconnected)
    return web.Response()


async def prune(call: Call) -> web.Response:
    """Remove those of users that no container is on."""
    pruned = await call.run(call.engine.networks.prune, call.filters())
    return answer({"NetworksDeleted": [removal.name for removal in pruned.deleted]})


ROUTES = (
    Route("GET", "/networks", list_networks),
    Route("GET", "/networks/", list_networks),
    Route("POST", "/networks/create", create),
    Route("POST", "/networks/prune", prune),
    Route("GET", "/networks/{name}", inspect),
    Route("DELETE", "/networks/{name}", remove),
    Route("POST", "/networks/{name}/connect", connect),
    Route("POST", "/networks/{name}/disconnect", disconnect),
)
