"""/volumes: create, list and remove volumes."""

from __future__ import annotations

from aiohttp import web

from pylab_container.daemon import fields, shapes
from pylab_container.daemon.application import Route
from pylab_container.daemon.call import Call, answer, no_content
from pylab_container.errors import InvalidInput
from pylab_container.oci.image import Json

_VOLUME = {
    "Name": str,
    "Driver": str,
    "DriverOpts": shapes.NAMES,
    "Labels": shapes.NAMES,
    "ClusterVolumeSpec": shapes.ANY,
}


def document(attributes: Json) -> Json:
    """Return Docker's Volume: the document of inspect, in which no map is null."""
    return {**attributes, "Labels": attributes["Labels"] or {}, "Options": attributes["Options"] or {}}


async def list_volumes(call: Call) -> web.Response:
    """GET /volumes: all volumes, or those that match the filters."""

    def listed() -> list[Json]:
        return [document(volume.attrs) for volume in call.engine.volumes.list(call.filters())]

    return answer({"Volumes": await call.run(listed), "Warnings": []})


async def create(call: Call) -> web.Response:
    """POST /volumes/create: create a volume, or return the existing one."""
    body = await call.document(_VOLUME)
    if fields.child(body, "ClusterVolumeSpec"):
        raise InvalidInput("there are no cluster volumes", hint="this engine has one machine")
    volume = await call.run(
        call.engine.volumes.create,
        fields.text(body, "Name") or None,
        driver=fields.text(body, "Driver") or "local",
        driver_opts=fields.labels(body, "DriverOpts"),
        labels=fields.labels(body, "Labels"),
    )
    return answer(await call.run(lambda: document(volume.attrs)), 201)


async def inspect(call: Call) -> web.Response:
    """GET /volumes/NAME: a volume."""
    return answer(await call.run(lambda: document(call.engine.volumes.get(call.name).attrs)))


async def remove(call: Call) -> web.Response:
    """DELETE /volumes/NAME: remove a volume and its files."""
    await call.run(call.engine.volumes.remove, call.name, force=call.flag("force"))
    return no_content()


async def prune(call: Call) -> web.Response:
    """POST /volumes/prune: remove unused volumes.

    Since API 1.42 named ones only with the filter all.
    """
    filters = call.filters()
    if call.before("1.42"):
        filters = {**filters, "all": ["true"]}
    pruned = await call.run(call.engine.volumes.prune, filters)
    names = [removal.name for removal in pruned.deleted]
    return answer({"VolumesDeleted": names, "SpaceReclaimed": pruned.space_reclaimed})


ROUTES = (
    Route("GET", "/volumes", list_volumes),
    Route("POST", "/volumes/create", create),
    Route("POST", "/volumes/prune", prune),
    Route("GET", "/volumes/{name}", inspect),
    Route("DELETE", "/volumes/{name}", remove),
)
