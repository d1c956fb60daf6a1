"""/containers: create, list, inspect, start, stop, update and remove."""

from __future__ import annotations

import contextlib
import time
from typing import NoReturn

from aiohttp import web

from pylab_container.daemon import creation, images
from pylab_container.daemon.application import Route
from pylab_container.daemon.attaching import detach_keys
from pylab_container.daemon.call import Call, answer, no_content
from pylab_container.daemon.container_documents import inspected, listed
from pylab_container.daemon.starts import STARTS
from pylab_container.daemon.versions import known
from pylab_container.daemon.workers import Kind
from pylab_container.engine import Engine
from pylab_container.engine.container import Container
from pylab_container.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    ContainerNotFound,
    ImageNotFound,
    InvalidInput,
    LabError,
    NotFound,
    Unimplemented,
)
from pylab_container.images.image import machine_architecture
from pylab_container.maintenance import usage
from pylab_container.networks import links
from pylab_container.oci.image import Json
from pylab_container.oci.platform import Platform
from pylab_container.oci.signals import signal_number

_MAC_ADDRESS = (
    "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
)
EMPTY_BODY_SIZE = 7  # bytes; a body up to this size, such as {} or null, is ignored (moby postContainersStart)


async def find(call: Call) -> Container:
    """Return the container that the path names. Raises ContainerNotFound."""
    return await call.run(call.engine.containers.get, call.name)


# ---- create and list ---------------------------------------------------------------------------


async def create(call: Call) -> web.Response:
    """POST /containers/create: create a container."""
    body = known("ContainerCreate", await call.document(creation.CREATE), call.version)
    requested = creation.parse(
        body,
        name=call.text("name"),
        shares_ipc=call.before("1.40"),
        readonly_recursive=not call.before("1.44"),
    )
    if call.before("1.44") and len(requested.networks) > 1:
        names = ", ".join(sorted(requested.networks))
        raise InvalidInput(f"Container cannot be connected to network endpoints: {names}", hint="connect it later")
    await call.run(_check_image, call, requested.image)
    try:
        container = await call.run(_create, call.engine, requested)
    except ImageNotFound:
        raise
    except NotFound as error:  # docker reacts to 404 by pulling the image
        raise InvalidInput(error.message, hint=error.hint) from error
    deprecations = [] if call.before("1.44") or not requested.options.get("mac_address") else [_MAC_ADDRESS]
    return answer({"Id": container.id, "Warnings": [*deprecations, *container.warnings]}, 201)


def _check_image(call: Call, name: str) -> None:
    """Raise ImageNotFound if the image does not exist, or not for the requested platform."""
    image, text = images.find(call, name), call.text_since("1.41", "platform")
    if not text:
        return
    here = machine_architecture()
    requested, actual = Platform.parse(text, architecture=here), Platform.of(image.config.document)
    if actual.rank(requested) is None:
        raise ImageNotFound(
            f"image with reference {name} was found but does not match the specified platform: "
            f"wanted {requested.os}/{requested.architecture}, actual: {actual.os}/{actual.architecture}",
            hint="pull the image for that platform",
        )


def _create(engine: Engine, requested: creation.CreateRequest) -> Container:
    return engine.containers.create_described(
        requested.image,
        requested.command,
        requested.options,
        config=requested.config,
        host_config=requested.host_config,
        networks=requested.networks,
    )


async def show_all(call: Call) -> web.Response:
    """GET /containers/json: the running containers, or all."""
    limit = call.number("limit") or 0
    return answer(
        await call.run(
            summaries, call, all=call.flag("all"), limit=limit if limit > 0 else None, with_size=call.flag("size")
        )
    )


def summaries(call: Call, *, all: bool, limit: int | None, with_size: bool) -> list[Json]:
    """Return Docker's ContainerSummary of each container that matches the request's filters."""
    engine, documents = call.engine, []
    image_names, link_names = _ImageNames(engine), links.names(engine.data.records.all())
    for container in engine.containers.list(all=all, filters=call.filters(), limit=limit):
        with contextlib.suppress(ContainerNotFound):  # removed since the list was read
            record = container.record
            image = image_names.name(record.config.image, record.image)
            document = listed(record, call.version, image=image, mounts=container.mounts, now=time.time())
            document["Names"] = sorted([*document["Names"], *link_names.get(record.id, ())])
            sizes = _sizes(engine, container) if with_size else {}
            documents.append({**document, **{name: size for name, size in sizes.items() if size}})
    return documents


class _ImageNames:
    """Names of images, each resolved once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ids: dict[str, str] = {}

    def name(self, name: str, image_id: str) -> str:
        """Return the name of a container's image at its creation.

        If the name now belongs to another image, return the id.
        """
        if name not in self._ids:
            self._ids[name] = ""
            with contextlib.suppress(NotFound, InvalidInput):
                self._ids[name] = self._engine.images.get(name).id
        return name if self._ids[name] == image_id else image_id


def _sizes(engine: Engine, container: Container) -> Json:
    return dict(zip(("SizeRw", "SizeRootFs"), usage.container_sizes(engine.data, container.record), strict=True))


async def inspect(call: Call) -> web.Response:
    """GET /containers/NAME/json: its configuration and state."""
    container = await find(call)
    return answer(await call.run(_inspect, call, container, with_size=call.flag("size")))


def _inspect(call: Call, container: Container, *, with_size: bool) -> Json:
    document = inspected(container.attrs, call.version)
    return {**document, **(_sizes(call.engine, container) if with_size else {})}


async def top(call: Call) -> web.Response:
    """GET /containers/NAME/top: its processes."""
    container = await find(call)
    return answer(await call.run(container.top, call.text("ps_args")))


async def changes(call: Call) -> web.Response:
    """GET /containers/NAME/changes: its changes to the image's files; null if it has none."""
    container = await find(call)
    differences = await call.run(container.diff)
    return answer([{"Path": change.path, "Kind": change.kind} for change in differences] or None)


# ---- lifecycle ------------------------------------------------------------------------------------


async def start(call: Call) -> web.Response:
    """POST /containers/NAME/start: start it; 304 if it runs."""
    described = len(await call.body()) > EMPTY_BODY_SIZE
    if described and not call.before("1.24"):
        raise InvalidInput(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
            hint="describe the container in /containers/create",
        )
    container = await find(call)
    record = await call.run(lambda: container.record)
    if record.state_document()["Running"] and not record.state_document()["Paused"]:
        return web.Response(status=304)
    detach_keys(call.text("detachKeys"))
    if described:
        body = await call.document(creation.START)
        requested = creation.parse(
            {"Image": "of its own", "HostConfig": body.get("HostConfig") or body}, name="", readonly_recursive=False
        )
        await call.run(call.engine.containers.redescribe, container, requested.options, requested.host_config)
    try:
        await call.request.app[STARTS].start(call, container, container.start_connected)
    except LabError as error:
        if record.host_config.auto_remove:
            await call.run(container.remove, force=True, v=True)
        raise _as_runc_error(error) from error
    return no_content()


def _as_runc_error(error: LabError) -> LabError:
    """Return an error of the start in the words of runc under dockerd, which clients match."""
    if not isinstance(error, CommandNotFound | CommandNotExecutable):
        return error
    where = "OCI runtime create failed: runc create failed: unable to start container process"
    return type(error)(f"{where}: {error.message}: unknown", hint=error.hint)


async def stop(call: Call) -> web.Response:
    """POST /containers/NAME/stop: send its stop signal; 304 if it does not run.

    It is killed after a timeout.
    """
    seconds, signal = call.number("t"), call.text_since("1.42", "signal") or None
    container = await find(call)
    record = await call.run(lambda: container.record)
    if not record.state_document()["Running"]:
        return web.Response(status=304)
    await call.workers.run(Kind.STOP, container.stop, seconds, signal=signal)
    return no_content()


async def restart(call: Call) -> web.Response:
    """POST /containers/NAME/restart: stop it if it runs, and start it."""
    seconds, signal = call.number("t"), call.text_since("1.42", "signal") or None
    container = await find(call)
    await call.request.app[STARTS].start(
        call, container, lambda clients: container.restart_connected(clients, seconds, signal=signal), Kind.STOP
    )
    return no_content()


async def kill(call: Call) -> web.Response:
    """POST /containers/NAME/kill: send a signal to its first process."""
    signal = call.text("signal") or "SIGKILL"
    signal_number(signal)
    try:
        container = await find(call)
    except ContainerNotFound as error:
        raise ContainerNotFound(f"Cannot kill container: {call.name}: {error.message}", hint=error.hint) from error
    try:
        await call.run(container.kill, signal)
    except Conflict:
        if not call.before("1.20"):  # before 1.20, killing an exited container succeeds
            raise
    return no_content()


async def pause(call: Call) -> web.Response:
    """POST /containers/NAME/pause: freeze its processes."""
    await call.run((await find(call)).pause)
    return no_content()


async def unpause(call: Call) -> web.Response:
    """POST /containers/NAME/unpause: continue its frozen processes."""
    await call.run((await find(call)).unpause)
    return no_content()


async def resize(call: Call) -> web.Response:
    """POST /containers/NAME/resize: set the size of its terminal."""
    rows, columns = size_of_terminal(call)
    container = await find(call)
    await call.run(container.resize, rows=rows, columns=columns)
    return web.Response()


def size_of_terminal(call: Call) -> tuple[int, int]:
    """Return the parameters h and w, (rows, columns). Raises InvalidInput."""
    rows, columns = call.number("h"), call.number("w")
    if rows is None or columns is None:
        raise InvalidInput('strconv.Atoi: parsing "": invalid syntax', hint="send h and w")
    if not (0 <= rows < 1 << 16 and 0 <= columns < 1 << 16):
        raise InvalidInput("the size of a terminal is two numbers", hint="send h and w")
    return rows, columns


# ---- update and remove ---------------------------------------------------------------------------


async def rename(call: Call) -> web.Response:
    """POST /containers/NAME/rename: rename it."""
    if not (name := call.text("name")):
        raise InvalidInput("Neither old nor new names may be empty", hint="send name=NAME")
    container = await find(call)
    await call.run(container.rename, name)
    return no_content()


async def update(call: Call) -> web.Response:
    """POST /containers/NAME/update: change its limits or its restart policy."""
    options = creation.changes(known("ContainerUpdate", await call.document(creation.UPDATE), call.version))
    container = await find(call)
    warnings = await call.run(lambda: container.update(**options))
    return answer({"Warnings": warnings or None})


async def refuse_checkpoint(call: Call) -> NoReturn:
    """Refuse checkpoints, which dockerd supports in experimental mode only."""
    raise Unimplemented(
        "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to "
        "enable it.",
        hint="this engine makes no checkpoints",
    )


async def remove(call: Call) -> web.Response:
    """DELETE /containers/NAME: remove it.

    v also removes its anonymous volumes; force also removes a running container.
    """
    if call.flag("link"):
        await call.run(call.engine.containers.remove_link, call.name)
        return no_content()
    container = await find(call)
    await call.run(container.remove, force=call.flag("force"), v=call.flag("v"))
    call.request.app[STARTS].notify(container.id)
    return no_content()


async def refuse_nameless(call: Call) -> NoReturn:
    """Refuse a path without a name."""
    raise InvalidInput('invalid name or ID supplied: ""', hint="write /containers/NAME")


async def prune(call: Call) -> web.Response:
    """POST /containers/prune: remove all containers that do not run."""
    pruned = await call.run(call.engine.containers.prune, call.filters())
    names = [removal.name for removal in pruned.deleted]
    for container_id in names:
        call.request.app[STARTS].notify(container_id)
    return answer({"ContainersDeleted": names or None, "SpaceReclaimed": pruned.space_reclaimed})


ROUTES = (
    Route("DELETE", "/containers/", refuse_nameless),
    Route("GET", "/containers/{name}/checkpoints", refuse_checkpoint),
    Route("POST", "/containers/{name}/checkpoints", refuse_checkpoint),
    Route("DELETE", "/containers/{name}/checkpoints/{checkpoint}", refuse_checkpoint),
    Route("POST", "/containers/create", create),
    Route("POST", "/containers/prune", prune),
    Route("GET", "/containers/json", show_all),
    Route("GET", "/containers/{name}/json", inspect),
    Route("GET", "/containers/{name}/top", top),
    Route("GET", "/containers/{name}/changes", changes),
    Route("POST", "/containers/{name}/start", start),
    Route("POST", "/containers/{name}/stop", stop),
    Route("POST", "/containers/{name}/restart", restart),
    Route("POST", "/containers/{name}/kill", kill),
    Route("POST", "/containers/{name}/pause", pause),
    Route("POST", "/containers/{name}/unpause", unpause),
    Route("POST", "/containers/{name}/resize", resize),
    Route("POST", "/containers/{name}/rename", rename),
    Route("POST", "/containers/{name}/update", update),
    Route("DELETE", "/containers/{name}", remove),
)
