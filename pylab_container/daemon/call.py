"""One request of the API, with what handlers ask of it."""

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

from pylab_container import __version__
from pylab_container.daemon import VERSION, shapes
from pylab_container.daemon.connection import Connection
from pylab_container.daemon.workers import WORKERS, Kind, Workers
from pylab_container.engine import Engine
from pylab_container.errors import InvalidInput

Json = dict[str, Any]
Version = tuple[int, ...]

HEADERS = {
    "Api-Version": VERSION,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"pylab-container/{__version__} (linux)",
}
"""Those of every answer."""
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class _Closable(Protocol):
    def close(self) -> None: ...


Closable = TypeVar("Closable", bound=_Closable)

ENGINE: web.AppKey[Engine] = web.AppKey("engine", Engine)
BUILDS: web.AppKey[set[threading.Event]] = web.AppKey("builds", set)
"""The builds that are under way, each by what stops it."""

_JSON = re.compile(r"\s*application/json\s*(;\s*([^\s=;]+=[^;]+)?)*", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"
_LONGEST_DOCUMENT = 4 << 20
"""Bytes; no honest description of a container is longer."""
_FALSE = frozenset({"", "0", "no", "false", "none"})
"""What the API takes for no, in any case of letters; everything else is yes (moby api/server/httputils/form.go)."""


class UnreadableFilters(InvalidInput):
    """Filters that are no JSON. Until 1.41 dockerd takes that for a mistake of its own, and clients expect so."""

    def __init__(self, error: InvalidInput, version: Version) -> None:
        super().__init__(error.message, hint=error.hint)
        self.http_status = 500 if version < (1, 42) else 400


class Call:
    """A request: parameters by their names in the API, the version that the client speaks, the engine."""

    def __init__(self, request: web.Request, version: Version, names: Mapping[str, str]) -> None:
        """names: what the route's placeholders stand for, without their percent signs. Raises InvalidInput."""
        self.request = request
        self.engine = request.app[ENGINE]
        self.version = version
        self.names = names
        self._parameters: MultiMapping[str] = request.query
        _refuse_nul(request.query.items())  # a name in the path only looks for what there is
        self._body: bytes | None = None

    @property
    def workers(self) -> Workers:
        """The threads that wait for the engine."""
        return self.request.app[WORKERS]

    @property
    def input_ended(self) -> asyncio.Event:
        """Set once the client sends no more. It wants an answer, but does not wait for what is still to happen."""
        return cast(Connection, self.request.protocol).input_ended

    @property
    def name(self) -> str:
        """What the path names: a container, an image, a network …"""
        return self.names["name"]

    def private_engine(self) -> Engine:
        """Another view of the same data root, whose stream of events tells of this request alone."""
        return Engine(
            self.engine.data.path,
            storage_driver=self.engine.data.driver.name,
            registry_mirrors=self.engine.registries.mirrors,
            insecure_registries=self.engine.registries.insecure,
            recover=False,
        )

    def cut(self) -> None:
        """End the connection at once: what was sent is all that the client gets."""
        if self.request.transport is not None:
            self.request.transport.abort()

    def before(self, version: str) -> bool:
        """Whether the client speaks an older version than this one."""
        return self.version < parse_version(version)

    async def read_form(self) -> None:
        """Take the parameters that stand in the body, too, if it is a form. Raises InvalidInput.

        They come before those of the same name in the path, as in Go's http.Request.ParseForm.
        """
        if self.request.content_type == _FORM and self.request.method in ("POST", "PUT"):
            sent = urllib.parse.parse_qsl((await self.body()).decode(errors="replace"), keep_blank_values=True)
            _refuse_nul(sent)
            self._parameters = MultiDict([*sent, *self._parameters.items()])

    def text(self, parameter: str, default: str = "") -> str:
        """A parameter as it is."""
        return self._parameters.get(parameter, default)

    def texts(self, parameter: str) -> list[str]:
        """All values of a parameter that may be given several times."""
        return self._parameters.getall(parameter, [])

    def text_since(self, version: str, parameter: str) -> str:
        """A parameter that older versions do not know: to them it is as if it was not sent."""
        return "" if self.before(version) else self.text(parameter)

    def flag(self, parameter: str, *, default: bool = False) -> bool:
        """A parameter that says yes or no."""
        value = self._parameters.get(parameter)
        return default if value is None else value.strip().lower() not in _FALSE

    def number(self, parameter: str) -> int | None:
        """A whole number; None where there is none. Raises InvalidInput."""
        value = self.text(parameter)
        if not value:
            return None
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", value, re.ASCII):
            raise InvalidInput(f'strconv.Atoi: parsing "{value}": invalid syntax', hint=f"{parameter} is a number")
        return int(value)

    def filters(self) -> dict[str, list[str]]:
        """The parameter "filters": {"name": ["a", "b"]}, or in an older spelling {"name": {"a": true}}."""
        value = self.text("filters")
        if value in ("", "null"):
            return {}
        try:
            found = cast(Json, shapes.read(value.encode(), {"*": shapes.ANY}, alone=True))
        except InvalidInput as error:
            raise UnreadableFilters(error, self.version) from None
        return {name: values for name, wanted in found.items() if (values := _values(name, wanted))}

    async def document(self, shape: Any, *, optional: bool = False, typed: bool = True) -> Json:
        """The body, a JSON object of this shape; null is an empty one. Raises InvalidInput.

        optional  so is no body
        typed     the client has to say that it is JSON
        """
        body = await self.body()
        if not body and optional:
            return {}
        content_type = self.request.headers.get("Content-Type", "")
        if body and typed and not _JSON.fullmatch(content_type):
            raise InvalidInput(
                f"Content-Type specified ({content_type}) must be 'application/json'",
                hint="say in the header what the body is",
            )
        return cast(Json, shapes.read(body, shape) or {})

    async def body(self) -> bytes:
        """The whole body, as long as it is no longer than a document may be. Raises InvalidInput."""
        if self._body is None:
            self._body = await self._read_body()
        return self._body

    async def _read_body(self) -> bytes:
        pieces, size = [], 0
        try:
            async for piece in self.request.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > _LONGEST_DOCUMENT:
                    raise InvalidInput(
                        f"request body too large: more than {_LONGEST_DOCUMENT} bytes", hint="send a shorter document"
                    )
        except web.RequestPayloadError as error:
            raise InvalidInput("unexpected EOF", hint="send as much as the request's head says") from error
        return b"".join(pieces)

    async def opened(self, function: Callable[[], Closable]) -> Closable:
        """run() of what opens something; where the client goes meanwhile, it is closed again."""
        opening = asyncio.ensure_future(self.run(function))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise

    async def run(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        """Call the engine in a thread of its own: it waits for disks, programs and locks, and others must not."""
        kind = Kind.READ if self.request.method in ("GET", "HEAD") else Kind.CHANGE
        return await self.workers.run(kind, function, *arguments, **options)

    async def step(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        """run() of one step of what goes on for long."""
        return await self.workers.run(Kind.STREAM, function, *arguments, **options)


def _refuse_nul(texts: Iterable[tuple[str, str]]) -> None:
    """Raises InvalidInput for a NUL: the kernel ends each name and each argument with it."""
    for name, text in texts:
        if "\0" in text:
            raise InvalidInput(f"invalid value for {name}: it contains a NUL character", hint="leave it out")


def _values(name: str, wanted: Any) -> list[str]:
    """Of one filter. Raises InvalidInput."""
    if not isinstance(wanted, list | dict | None) or not all(isinstance(one, str) for one in wanted or ()):
        raise InvalidInput(f"invalid filter '{name}'", hint='{"name": ["value", …]}')
    return list(wanted or ())


def _close(opening: asyncio.Future[Closable]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


@functools.lru_cache(maxsize=64)
def parse_version(text: str) -> Version:
    """ "1.41" → (1, 41). Of parts that are missing dockerd takes no notice: "1.41.0" is the same, "2" is 2.0."""
    numbers = [int(part or 0) for part in text.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def answer(document: object, status: int = 200) -> web.Response:
    """A document as JSON."""
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass") + b"\n"
    return web.Response(body=body, status=status, content_type="application/json")


def no_content() -> web.Response:
    """Done, and nothing to say about it."""
    return web.Response(status=204)
