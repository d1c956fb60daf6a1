"""/containers/NAME/archive: files of a container as tar archives, for docker cp."""

from __future__ import annotations

import base64
import contextlib
import json
import posixpath
from collections.abc import Iterator

from aiohttp import web

from pylab_container.containers.root_filesystem import PathStatus
from pylab_container.daemon import fields
from pylab_container.daemon.application import Route
from pylab_container.daemon.call import Call
from pylab_container.daemon.containers import find
from pylab_container.daemon.streams import fetched, received, send
from pylab_container.errors import ContainerNotFound, InvalidInput, NotFound
from pylab_container.text.golang import file_mode
from pylab_container.text.timestamps import rfc3339

_STATUS = "X-Docker-Container-Path-Stat"


async def status(call: Call) -> web.Response:
    """HEAD: the status of a path, in a header."""
    path = _path(call)
    with _named(call, path):
        entry = await call.run((await find(call)).path_status, path)
    return web.Response(headers={_STATUS: _encoded(entry)})


async def get(call: Call) -> web.StreamResponse:
    """GET: a file or directory as a tar, with its status in a header."""
    return await _get(call, _path(call))


async def copy(call: Call) -> web.StreamResponse:
    """POST /containers/NAME/copy: the request for a tar before API 1.24."""
    if not call.before("1.24"):
        raise NotFound("page not found", hint="GET /containers/NAME/archive")
    path = fields.text(await call.document({"Resource": str}), "Resource")
    if not path:
        raise InvalidInput("Path cannot be empty", hint='{"Resource": "/path"}')
    return await _get(call, posixpath.join("/", path))


async def _get(call: Call, path: str) -> web.StreamResponse:
    with _named(call, path):
        pieces, entry = await call.run((await find(call)).get_archive, path)
    response = web.StreamResponse(headers={_STATUS: _encoded(entry), "Content-Type": "application/x-tar"})
    return await send(call, fetched(call, lambda: pieces), response=response)


async def put(call: Call) -> web.Response:
    """PUT: extract a tar into a directory."""
    path = _path(call)
    with _named(call, path):
        container = await find(call)
        archive = await received(call)

        def extract() -> None:
            with archive:
                container.put_archive(
                    path,
                    archive,
                    keep_directories=call.flag("noOverwriteDirNonDir"),
                    as_user=call.flag("copyUIDGID"),
                )

        await call.run(extract)
    return web.Response()


@contextlib.contextmanager
def _named(call: Call, path: str) -> Iterator[None]:
    """Name a missing path and its container in the error as the client did."""
    try:
        yield
    except ContainerNotFound:
        raise
    except NotFound as error:
        path = posixpath.normpath(path)
        raise NotFound(f"Could not find the file {path} in container {call.name}", hint=error.hint) from error


def _path(call: Call) -> str:
    path = call.text("path")
    if not path:
        raise InvalidInput("bad parameter: path cannot be empty", hint="send path=/…")
    return path if path.startswith("/") else f"/{path}"


def _encoded(entry: PathStatus) -> str:
    """Return the value of the header: JSON in base64 (Engine API, "ContainerArchiveInfo")."""
    document = {
        "name": entry.name,
        "size": entry.size,
        "mode": file_mode(entry.mode),
        "mtime": rfc3339(entry.mtime),
        "linkTarget": entry.link,
    }
    return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()


ROUTES = (
    Route("HEAD", "/containers/{name}/archive", status),
    Route("GET", "/containers/{name}/archive", get),
    Route("POST", "/containers/{name}/copy", copy),
    Route("PUT", "/containers/{name}/archive", put, streams=True),
)
