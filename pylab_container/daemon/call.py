"""One request of the API: parameters, body, and calls of the engine in threads."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from aiohttp import web
from multidict import MultiDict, MultiMapping

from pylab_container.daemon import VERSION, shapes
from pylab_container.daemon.connection import Connection
from pylab_container.daemon.workers import WORKERS, Kind, Workers
from pylab_container.engine import Engine
from pylab_container.errors import InvalidInput
from pylab_container.oci.image import Json
from pylab_container.version import __version__

Version = tuple[int, ...]

HEADERS = {
    "Api-Version": VERSION,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"pylab-container/{__version__} (linux)",
}
"""The headers of every answer."""
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class _Closable(Protocol):
    def close(self) -> None: ...


Closable = TypeVar("Closable", bound=_Closable)

ENGINE: web.AppKey[Engine] = web.AppKey("engine", Engine)
BUILDS: web.AppKey[set[threading.Event]] = web.AppKey("builds", set)
"""The running builds, each as the event that stops it."""

_JSON = re.compile(r"\s*application/json\s*(;\s*([^\s=;]+=[^;]+)?)*", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"
MAX_DOCUMENT_SIZE = 4 << 20  # bytes; far above any real description of a container
_FALSE = frozenset({"", "0", "no", "false", "none"})
"""The false values of a parameter, in lower case. All others are true (moby api/server/httputils/form.go)."""


class UnreadableFilters(InvalidInput):
    """Filters that are not JSON.

    Before API 1.42 dockerd answers with 500, and clients expect that.
    """

    def __init__(self, error: InvalidInput, version: Version) -> None:
        super().__init__(error.message, hint=error.hint)
        self.http_status = 500 if version < (1, 42) else 400


class Call:
    """A request: its parameters by their names in the API, its API version, and the engine."""

    def __init__(self, request: web.Request, version: Version, names: Mapping[str, str]) -> None:
        """names: the values of the route's placeholders, percent-decoded.

        Raises InvalidInput for a NUL.
        """
        self.request = request
        self.engine = request.app[ENGINE]
        self.version = version
        self.names = names
        self._parameters: MultiMapping[str] = request.query
        _refuse_nul(request.query.items())  # a NUL in the path cannot match the name of an object
        self._body: bytes | None = None

    @property
    def workers(self) -> Workers:
        """The thread pools for calls of the engine."""
        return self.request.app[WORKERS]

    @property
    def input_ended(self) -> asyncio.Event:
        """Set when the client half-closes the connection.

        It still reads the answer, but does not wait for future events.
        """
        return cast(Connection, self.request.protocol).input_ended

    @property
    def name(self) -> str:
        """The name in the path: of a container, an image, a network …"""
        return self.names["name"]

    def private_engine(self) -> Engine:
        """Return another engine on the data root, with an event stream for this request only."""
        return Engine(
            self.engine.data.path,
            storage_driver=self.engine.data.driver.name,
            registry_mirrors=self.engine.registries.mirrors,
            insecure_registries=self.engine.registries.insecure,
            recover=False,
        )

    def abort(self) -> None:
        """Close the connection at once and discard unsent data."""
        if self.request.transport is not None:
            self.request.transport.abort()

    def before(self, version: str) -> bool:
        """Return whether the request has an older API version than this one."""
        return self.version < parse_version(version)

    async def read_form(self) -> None:
        """Add the parameters of a form in the body. Raises InvalidInput.

        They have precedence over the parameters of the URL, as in Go's http.Request.ParseForm.
        """
        if self.request.content_type == _FORM and self.request.method in ("POST", "PUT"):
            pairs = urllib.parse.parse_qsl((await self.body()).decode(errors="replace"), keep_blank_values=True)
            _refuse_nul(pairs)
            self._parameters = MultiDict([*pairs, *self._parameters.items()])

    def text(self, parameter: str, default: str = "") -> str:
        """Return a parameter as text."""
        return self._parameters.get(parameter, default)

    def texts(self, parameter: str) -> list[str]:
        """Return all values of a repeatable parameter."""
        return self._parameters.getall(parameter, [])

    def text_since(self, version: str, parameter: str) -> str:
        """Return a parameter that older API versions ignore; "" for those."""
        return "" if self.before(version) else self.text(parameter)

    def flag(self, parameter: str, *, default: bool = False) -> bool:
        """Return a boolean parameter."""
        value = self._parameters.get(parameter)
        return default if value is None else value.strip().lower() not in _FALSE

    def number(self, parameter: str) -> int | None:
        """Return an integer parameter, None if it is missing. Raises InvalidInput."""
        value = self.text(parameter)
        if not value:
            return None
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", value, re.ASCII):
            raise InvalidInput(f'strconv.Atoi: parsing "{value}": invalid syntax', hint=f"{parameter} is a number")
        return int(value)

    def filters(self) -> dict[str, list[str]]:
        """Return the parameter "filters".

        It is {"name": ["a", "b"]}, or in an older form {"name": {"a": true}}. Raises UnreadableFilters.
        """
        value = self.text("filters")
        if value in ("", "null"):
            return {}
        try:
            sent = cast(Json, shapes.read(value.encode(), {"*": shapes.ANY}, alone=True))
        except InvalidInput as error:
            raise UnreadableFilters(error, self.version) from None
        return {name: values for name, entry in sent.items() if (values := _values(name, entry))}

    async def document(self, shape: Any, *, optional: bool = False, typed: bool = True) -> Json:
        """Return the body, a JSON object of this shape; null is an empty object.

        optional  a missing body is an empty object, too
        typed     the header Content-Type must be application/json

        Raises InvalidInput.
        """
        body = await self.body()
        if not body and optional:
            return {}
        content_type = self.request.headers.get("Content-Type", "")
        if body and typed and not _JSON.fullmatch(content_type):
            raise InvalidInput(
                f"Content-Type specified ({content_type}) must be 'application/json'",
                hint="send the header Content-Type: application/json",
            )
        return cast(Json, shapes.read(body, shape) or {})

    async def body(self) -> bytes:
        """Return the whole body. Raises InvalidInput for more than MAX_DOCUMENT_SIZE bytes."""
        if self._body is None:
            self._body = await self._read_body()
        return self._body

    async def _read_body(self) -> bytes:
        pieces, size = [], 0
        try:
            async for piece in self.request.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > MAX_DOCUMENT_SIZE:
                    raise InvalidInput(
                        f"request body too large: more than {MAX_DOCUMENT_SIZE} bytes", hint="send a shorter document"
                    )
        except web.RequestPayloadError as error:
            raise InvalidInput("unexpected EOF", hint="send as many bytes as Content-Length says") from error
        return b"".join(pieces)

    async def opened(self, function: Callable[[], Closable]) -> Closable:
        """Run a function that opens an object.

        If the client disconnects before it returns, the object is closed.
        """
        opening = asyncio.ensure_future(self.run(function))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise

    async def run(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        """Call the engine in a thread, because it blocks on disks, programs and locks."""
        kind = Kind.READ if self.request.method in ("GET", "HEAD") else Kind.CHANGE
        return await self.workers.run(kind, function, *arguments, **options)

    async def step(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        """Run one step of a stream in a thread."""
        return await self.workers.run(Kind.STREAM, function, *arguments, **options)


def _refuse_nul(texts: Iterable[tuple[str, str]]) -> None:
    """Raise InvalidInput for a NUL: it terminates names and arguments in the kernel."""
    for name, text in texts:
        if "\0" in text:
            raise InvalidInput(f"invalid value for {name}: it contains a NUL character", hint="leave it out")


def _values(name: str, entry: Any) -> list[str]:
    """Return the values of one filter. Raises InvalidInput."""
    if not isinstance(entry, list | dict | None) or not all(isinstance(value, str) for value in entry or ()):
        raise InvalidInput(f"invalid filter '{name}'", hint='{"name": ["value", …]}')
    return list(entry or ())


def _close(opening: asyncio.Future[Closable]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


@functools.lru_cache(maxsize=64)
def parse_version(text: str) -> Version:
    """Parse "1.41" as (1, 41).

    Trailing zeros do not count, as in dockerd: "1.41.0" is "1.41", and "2" is "2.0".
    """
    numbers = [int(part or 0) for part in text.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def answer(document: object, status: int = 200) -> web.Response:
    """Return a document as a JSON answer."""
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass") + b"\n"
    return web.Response(body=body, status=status, content_type="application/json")


def no_content() -> web.Response:
    """Return the answer 204."""
    return web.Response(status=204)
