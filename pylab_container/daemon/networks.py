"""/networks: create, list, connect and remove networks."""

from __future__ import annotations

from aiohttp import web

from pylab_container.daemon import creation, fields, shapes
from pylab_container.daemon.application import Route
from pylab_container.daemon.call import Call, answer
from pylab_container.errors import Forbidden, InvalidInput, NotFound
from pylab_container.oci.image import Json

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
    """GET /networks: all, or those that match the filters.

    Since API 1.28 without their containers.
    """
    networks = await call.run(call.engine.networks.list, call.filters())
    if call.before("1.28"):
        return answer(await call.run(lambda: [network.attrs for network in networks]))
    return answer(await call.run(lambda: [{**network.attrs, "Containers": {}} for network in networks]))


async def create(call: Call) -> web.Response:
    """POST /networks/create: create a network."""
    body = await call.document(_NETWORK)
    ipam = fields.child(body, "IPAM")
    _refuse(body, ipam)
    network = await call.run(
        call.engine.networks.create,
        fields.text(body, "Name"),
        fields.text(body, "Driver") or "bridge",
        ipam=_ipam(ipam),
        check_duplicate=fields.flag(body, "CheckDuplicate") or not call.before("1.44"),
        internal=fields.flag(body, "Internal"),
        attachable=fields.flag(body, "Attachable"),
        enable_ipv6=fields.flag(body, "EnableIPv6"),
        labels=fields.labels(body, "Labels"),
        options=fields.labels(body, "Options"),
    )
    return answer({"Id": network.id, "Warning": ""}, 201)


def _refuse(body: Json, ipam: Json) -> None:
    """Raise InvalidInput for networks of a swarm."""
    for name in ("Ingress", "ConfigOnly"):
        if fields.flag(body, name):
            raise InvalidInput(f"{name} networks need a swarm", hint="this engine has one machine")
    if fields.text(fields.child(body, "ConfigFrom"), "Network"):
        raise InvalidInput("ConfigFrom networks need a swarm", hint="give the options themselves")
    if fields.text(body, "Scope") not in ("", "local"):
        raise Forbidden(
            f"cannot create a {fields.text(body, 'Scope')} scoped network when swarm is not active",
            hint="all networks here have the scope local",
        )


def _ipam(sent: Json) -> Json:
    """Return IPAM with typed fields. The IPAM driver default ignores options."""
    pools = [
        {
            **{name: fields.text(pool, name) for name in ("Subnet", "Gateway", "IPRange")},
            "AuxiliaryAddresses": fields.labels(pool, "AuxiliaryAddresses"),
        }
        for pool in fields.children(sent, "Config")
    ]
    return {"Driver": fields.text(sent, "Driver") or "default", "Options": sent.get("Options"), "Config": pools}


async def inspect(call: Call) -> web.Response:
    """GET /networks/NAME: a network with its containers."""
    if call.text("scope") not in ("", "local"):
        raise NotFound(f"network {call.name} not found", hint="all networks here have the scope local")
    return answer(await call.run(lambda: call.engine.networks.get(call.name).attrs))


async def remove(call: Call) -> web.Response:
    """DELETE /networks/NAME: remove a network."""
    await call.run(lambda: call.engine.networks.get(call.name).remove())
    return web.Response(status=204)


async def _connection(call: Call) -> tuple[str, Json]:
    """Return the name of the container to connect or disconnect, and the body.

    Raises InvalidInput.
    """
    body = await call.document(_CONNECTION)
    if not (name := fields.text(body, "Container")):
        raise InvalidInput('invalid name or ID supplied: ""', hint='{"Container": "NAME"}')
    return name, body


async def connect(call: Call) -> web.Response:
    """POST /networks/NAME/connect: connect a container."""
    name, body = await _connection(call)
    endpoint = creation.parse_endpoint(fields.child(body, "EndpointConfig"))

    def connected() -> None:
        call.engine.containers.get(name)
        call.engine.networks.get(call.name).connect_as(name, endpoint)

    await call.run(connected)
    return web.Response()


async def disconnect(call: Call) -> web.Response:
    """POST /networks/NAME/disconnect: disconnect a container."""
    name, body = await _connection(call)

    def disconnected() -> None:
        # As in dockerd, with Force the container may have been removed. The kernel knows the members of a network.
        if not fields.flag(body, "Force"):
            call.engine.containers.get(name)
        call.engine.networks.get(call.name).disconnect(name)

    await call.run(disconnected)
    return web.Response()


async def prune(call: Call) -> web.Response:
    """POST /networks/prune: remove user networks without containers."""
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
