"""Dispatch of requests to handlers: API versions, errors, and common headers."""

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

SHUTDOWN_TIMEOUT = 3.0  # seconds for threads to end
BUILD_SHUTDOWN_TIMEOUT = 8.0  # seconds while builds run: they stop their command and remove its container
_VERSIONED = re.compile(r"/v([0-9.]{1,40})(/.*)")
_UNCLEAN_PATH = re.compile(r"//|/\.(/|$)")
_BAD_ESCAPE = re.compile("%(?![0-9a-fA-F]{2})")
JSON_ERRORS_SINCE = (1, 24)  # API version; before it errors are plain text
_NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
_PLACEHOLDER = re.compile(r"\{([a-z]+)\}")

_ANSWERED: web.RequestKey[bool] = web.RequestKey("answered", bool)

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_logger = logging.getLogger(__name__)


class Route(NamedTuple):
    """The method and path of a handler, as in the API's documentation, without the version.

    {name} matches text with slashes, such as the name of an image; {word} matches text without slashes.

    streams  the handler reads the body itself; otherwise a form in the body is parsed into parameters
    """

    method: str
    path: str
    handler: Handler
    streams: bool = False


class RouteTable:
    """All routes; the first match is used."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        for route in routes:
            pattern = re.compile(_PLACEHOLDER.sub(_group, route.path), re.DOTALL)
            self._routes.setdefault((route.method, _first(route.path)), []).append((pattern, route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route and the values of its placeholders. Raises NotFound."""
        for pattern, route in self._routes.get((method, _first(path)), ()):
            if match := pattern.fullmatch(path):
                return route, match.groupdict()
        raise NotFound("page not found", hint="see the documentation of the Docker Engine API")


def _group(placeholder: re.Match[str]) -> str:
    return "(?P<word>[^/]+)" if placeholder[1] == "word" else f"(?P<{placeholder[1]}>.+)"


def _first(path: str) -> str:
    """Return the first word of a path, the key of a short list of routes."""
    return path[1:].partition("/")[0]


def application(engine: Engine, routes: Sequence[Route]) -> web.Application:
    """Return the API of an engine. Each path exists with and without a version before it."""
    app = web.Application()
    app[ENGINE] = engine
    app[STARTS] = Starts()
    app[SHARING] = Sharing()
    app[SAMPLING] = Sampling()
    app[WATCHER] = Watcher()
    app[BUILDS] = set()
    app.cleanup_ctx.append(_workers)
    app.on_response_prepare.append(_add_headers)
    app.router.add_route("*", r"/{path:[\s\S]*}", _dispatcher(RouteTable(routes)))
    return app


async def _workers(app: web.Application) -> AsyncIterator[None]:
    """Own the thread pools while the application runs.

    At shutdown, calls that were asked to stop get time to do so.
    """
    app[WORKERS] = Workers()
    yield
    await app[WORKERS].end(lambda: BUILD_SHUTDOWN_TIMEOUT if app[BUILDS] else SHUTDOWN_TIMEOUT)


def _dispatcher(table: RouteTable) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        """Call the handler, and turn every failure into a status and {"message": …}."""
        try:
            if request.version < HttpVersion10:
                raise InvalidInput("malformed HTTP version", hint="end the first line with HTTP/1.1")
            if request.method == "OPTIONS":
                return web.Response()
            _check_target(request.raw_path)
            if (clean := _cleaned(request.raw_path)) is not None:
                return web.Response(status=301, headers={"Location": clean})
            version, path = _version_and_path(request.path)
            route, names = table.find(request.method, path)
            _check_version(version)
            call = Call(request, parse_version(version), names)
            if not route.streams:
                await call.read_form()
            return await route.handler(call)
        except LabError as error:
            return _unless_answered(request, failure(error, plain=_has_plain_errors(request.path)))
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # any error: the client gets an answer, and the log a traceback
            if isinstance(error, OSError) and (refused := failures.refusal(error)):
                return _unless_answered(request, failure(refused, plain=_has_plain_errors(request.path)))
            _logger.exception("%s %s", request.method, request.path)
            return _unless_answered(request, answer({"message": _unexpected(error)}, 500))

    return handle


def _unexpected(error: Exception) -> str:
    """Return the message for an unexpected exception. The log has its traceback."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
    return "internal error: the log of the daemon has the details"


def _unless_answered(request: web.Request, response: web.Response) -> web.Response:
    """Return a failure as an answer.

    If another answer has begun, abort it: the client sees that it is incomplete.
    """
    if _ANSWERED not in request:
        return response
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("the answer had begun")


def failure(error: LabError, *, plain: bool = False) -> web.Response:
    """Return an error as an answer, without its hint, which Docker's clients would not show.

    plain  as text, the form before API 1.24
    """
    if plain:
        return web.Response(text=f"{error.message}\n", status=error.http_status, headers=_NO_SNIFF)
    return answer({"message": error.message}, error.http_status)


def _has_plain_errors(path: str) -> bool:
    """Return whether a path begins with a version whose errors are text."""
    match = _VERSIONED.fullmatch(path)
    return match is not None and parse_version(match[1]) < JSON_ERRORS_SINCE


def _check_target(target: str) -> None:
    """Raise InvalidInput for a request target that Go's net/url cannot parse."""
    if ";" in target.partition("?")[2]:
        raise InvalidInput("invalid semicolon separator in query", hint="write & between parameters")
    if bad := _BAD_ESCAPE.search(target):
        raise InvalidInput(f'invalid URL escape "{target[bad.start() : bad.start() + 3]}"', hint="write %25 for %")


def _cleaned(target: str) -> str | None:
    """Return a target without empty parts and single dots in its path, or None if it has none.

    dockerd's router redirects the client to that target. Percent-encoded parts belong to names and are kept. Double
    dots are kept too: no route matches them.
    """
    path, mark, query = target.partition("?")
    if not path.startswith("/") or not _UNCLEAN_PATH.search(path):
        return None
    kept = [part for part in path.split("/") if part not in ("", ".")]
    return f"/{'/'.join(kept)}{'/' if kept and path.endswith('/') else ''}{mark}{query}"


def _version_and_path(path: str) -> tuple[str, str]:
    """Divide a path into the version, VERSION if it has none, and the rest."""
    match = _VERSIONED.fullmatch(path)
    return (VERSION, path) if match is None else (match[1], match[2])


def _check_version(version: str) -> None:
    """Raise InvalidInput for an unsupported version."""
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
    request[_ANSWERED] = True
    response.headers.update(HEADERS)
