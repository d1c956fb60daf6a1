"""From a request to its handler: versions, errors, and the headers of every answer."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple

from aiohttp import HttpVersion10, web

from pylab_container.daemon import MINIMUM_VERSION, VERSION
from pylab_container.daemon.call import BUILDS, ENGINE, HEADERS, Call, answer, parse_version
from pylab_container.daemon.sampling import SAMPLING, Sampling
from pylab_container.daemon.sharing import SHARING, Sharing
from pylab_container.daemon.starts import STARTS, Starts
from pylab_container.daemon.watching import WATCHER, Watcher
from pylab_container.daemon.workers import WORKERS, Workers
from pylab_container.engine import Engine
from pylab_container.errors import InvalidInput, LabError, NotFound
from pylab_container.maintenance import failures

_LAST_MOMENT = 3.0  # seconds for threads to end
_LAST_COMMAND = 8.0  # the same while there are builds: they end the command that runs, and remove its container
_VERSIONED = re.compile(r"/v([0-9.]{1,40})(/.*)")
_UNCLEAN = re.compile(r"//|/\.(/|$)")
_BAD_ESCAPE = re.compile("%(?![0-9a-fA-F]{2})")
_ERRORS_ARE_DOCUMENTS = (1, 24)
_AS_IT_IS = {"X-Content-Type-Options": "nosniff"}
_PLACEHOLDER = re.compile(r"\{([a-z]+)\}")

_BEGUN: web.RequestKey[bool] = web.RequestKey("begun", bool)

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_logger = logging.getLogger(__name__)


class Route(NamedTuple):
    """A handler's place: path as in the API's documentation, without the version.

    What stands for {name} may hold slashes, as names of images do; {word} may not.

    streams  whether the handler reads the body as it comes; parameters are taken from every other one that is a form
    """

    method: str
    path: str
    handler: Handler
    streams: bool = False


class Table:
    """All routes; the first that fits is taken."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        for route in routes:
            pattern = re.compile(_PLACEHOLDER.sub(_group, route.path), re.DOTALL)
            self._routes.setdefault((route.method, _first(route.path)), []).append((pattern, route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route, and what its placeholders stand for. Raises NotFound."""
        for pattern, route in self._routes.get((method, _first(path)), ()):
            if found := pattern.fullmatch(path):
                return route, found.groupdict()
        raise NotFound("page not found", hint="the API's documentation tells what there is")


def _group(placeholder: re.Match[str]) -> str:
    return "(?P<word>[^/]+)" if placeholder[1] == "word" else f"(?P<{placeholder[1]}>.+)"


def _first(path: str) -> str:
    """The first word of a path: it parts the routes into short lists."""
    return path[1:].partition("/")[0]


def application(engine: Engine, routes: Sequence[Route]) -> web.Application:
    """The API on an engine. Each path is there with a version before it and without."""
    app = web.Application()
    app[ENGINE] = engine
    app[STARTS] = Starts()
    app[SHARING] = Sharing()
    app[SAMPLING] = Sampling()
    app[WATCHER] = Watcher()
    app[BUILDS] = set()
    app.cleanup_ctx.append(_workers)
    app.on_response_prepare.append(_add_headers)
    app.router.add_route("*", r"/{path:[\s\S]*}", _answering(Table(routes)))
    return app


async def _workers(app: web.Application) -> AsyncIterator[None]:
    """The threads, as long as the application lives. In the end those that were told to stop get a moment for it."""
    app[WORKERS] = Workers()
    yield
    await app[WORKERS].end(lambda: _LAST_COMMAND if app[BUILDS] else _LAST_MOMENT)


def _answering(table: Table) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        """Every failure as the API tells it: a status and {"message": …}."""
        try:
            if request.version < HttpVersion10:
                raise InvalidInput("malformed HTTP version", hint="HTTP/1.1 stands at the end of the first line")
            if request.method == "OPTIONS":
                return web.Response()
            _refuse_unreadable(request.raw_path)
            if (clean := _cleaned(request.raw_path)) is not None:
                return web.Response(status=301, headers={"Location": clean})
            version, path = _version_and_path(request.path)
            route, names = table.find(request.method, path)
            _check(version)
            call = Call(request, parse_version(version), names)
            if not route.streams:
                await call.read_form()
            return await route.handler(call)
        except LabError as error:
            return _unless_begun(request, failure(error, plain=_speaks_plainly(request.path)))
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # whatever it is: the client gets an answer, and the log the story
            if isinstance(error, OSError) and (refused := failures.refusal(error)):
                return _unless_begun(request, failure(refused, plain=_speaks_plainly(request.path)))
            _logger.exception("%s %s", request.method, request.path)
            return _unless_begun(request, answer({"message": _unforeseen(error)}, 500))

    return handle


def _unforeseen(error: Exception) -> str:
    """What a client is shown of an exception that no module expected; the log has all of it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
    return "internal error: the log of the daemon has the details"


def _unless_begun(request: web.Request, response: web.Response) -> web.Response:
    """A failure as an answer. Where another answer has begun, that is cut off: its missing end tells the client."""
    if _BEGUN not in request:
        return response
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("the answer had begun")


def failure(error: LabError, *, plain: bool = False) -> web.Response:
    """An error as an answer. Its hint is for people who type labctr; those who type docker would not see it.

    plain  as text, which was the form before 1.24
    """
    if plain:
        return web.Response(text=f"{error.message}\n", status=error.http_status, headers=_AS_IT_IS)
    return answer({"message": error.message}, error.http_status)


def _speaks_plainly(path: str) -> bool:
    """Whether a path begins with a version whose errors are text."""
    found = _VERSIONED.fullmatch(path)
    return found is not None and parse_version(found[1]) < _ERRORS_ARE_DOCUMENTS


def _refuse_unreadable(target: str) -> None:
    """Raises InvalidInput for a target that Go's net/url does not take apart."""
    if ";" in target.partition("?")[2]:
        raise InvalidInput("invalid semicolon separator in query", hint="write & between parameters")
    if bad := _BAD_ESCAPE.search(target):
        raise InvalidInput(f'invalid URL escape "{target[bad.start() : bad.start() + 3]}"', hint="write %25 for %")


def _cleaned(target: str) -> str | None:
    """Where a target leads that has empty parts or single dots in its path; None for one that has none.

    As in dockerd, whose router sends a client there. What is behind percent signs is a name, and left alone;
    and so are two dots, which lead nowhere here.
    """
    path, mark, query = target.partition("?")
    if not path.startswith("/") or not _UNCLEAN.search(path):
        return None
    kept = [part for part in path.split("/") if part not in ("", ".")]
    return f"/{'/'.join(kept)}{'/' if kept and path.endswith('/') else ''}{mark}{query}"


def _version_and_path(path: str) -> tuple[str, str]:
    """What a path begins with, if it is a version, and the rest of it."""
    found = _VERSIONED.fullmatch(path)
    return (VERSION, path) if found is None else (found[1], found[2])


def _check(version: str) -> None:
    """Raises InvalidInput for a version that is not answered."""
    if parse_version(version) < parse_version(MINIMUM_VERSION):
        raise InvalidInput(
            f"client version {version} is too old. Minimum supported API version is {MINIMUM_VERSION}, "
            "please upgrade your client to a newer version",
            hint="set DOCKER_API_VERSION",
        )
    if parse_version(version) > parse_version(VERSION):
        raise InvalidInput(
            f"client version {version} is too new. Maximum supported API version is {VERSION}",
            hint="set DOCKER_API_VERSION",
        )


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    request[_BEGUN] = True
    response.headers.update(HEADERS)
