"""Images from elsewhere and to elsewhere: pull, import, push, and who is let in at a registry."""

from __future__ import annotations

import base64
import binascii
import contextlib
import threading
from pathlib import Path
from typing import BinaryIO, cast

from aiohttp import web

from pylab_container.build import download
from pylab_container.build.download import is_url
from pylab_container.daemon import fields, images, shapes, streams
from pylab_container.daemon.application import Route
from pylab_container.daemon.call import Call, Json, answer
from pylab_container.daemon.workers import Kind
from pylab_container.docker import progress
from pylab_container.errors import Conflict, InvalidInput
from pylab_container.events import Emit, Event
from pylab_container.images.image import machine_architecture
from pylab_container.oci import reference as references
from pylab_container.oci.platform import Platform

_LOGIN = shapes.named("username password email serveraddress", str)


def credentials(call: Call) -> Json:
    """The header X-Registry-Auth: JSON in base64. What nobody can read is nobody, as in dockerd."""
    return _header(call, "X-Registry-Auth")


def all_credentials(call: Call) -> dict[str, Json]:
    """The header X-Registry-Config: the same for each registry that a build may ask, by its name."""
    found = _header(call, "X-Registry-Config")
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)}


def _header(call: Call, name: str) -> Json:
    text = call.request.headers.get(name, "")
    try:
        raw = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
        return cast(Json, shapes.read(raw, {"*": shapes.ANY}) or {}) if raw else {}
    except (binascii.Error, InvalidInput):
        return {}


async def create(call: Call) -> web.StreamResponse:
    """Bring an image from a registry, or make one of a root file system."""
    if call.text("fromImage"):
        return await _pull(call)
    if call.text("fromSrc"):
        return await _import(call)
    raise InvalidInput("neither fromImage nor fromSrc is given", hint="fromImage=NAME pulls, fromSrc=- imports")


async def _pull(call: Call) -> web.StreamResponse:
    name, tag, platform = call.text("fromImage"), call.text("tag"), call.text_since("1.32", "platform")
    written = references.parse(name)
    has_tag = bool(tag or written.digest or name.endswith(f":{written.tag}"))
    auth = credentials(call)

    def work(tell: streams.Tell, stop: threading.Event) -> None:
        told = _telling(tell, stop)
        if has_tag:
            call.engine.images.pull(name, tag or None, platform=platform, auth_config=auth, progress=told)
        else:
            call.engine.images.pull_all_tags(name, platform=platform, auth_config=auth, progress=told)

    return await streams.send_told(call, work, told=False)


def _telling(tell: streams.Tell, stop: threading.Event) -> Emit:
    """What passes a transfer's events on as the API says them, and ends the transfer once nobody listens."""

    def emit(event: Event) -> None:
        if stop.is_set():
            raise Conflict("the transfer was stopped", hint="its client went away: begin again")
        if (document := progress.document(event)) is not None:
            tell(document)

    return emit


async def _import(call: Call) -> web.StreamResponse:
    source, message = call.text("fromSrc"), call.text("message")
    if source != "-" and not is_url(source):
        source = f"http://{source}"
    target = images.target_name(call.text("repo"), call.text("tag"))
    name = target.familiar if target else None
    _refuse_platform(call.text_since("1.32", "platform"))
    changes = instructions(call)
    body = await streams.received(call)

    def work(tell: streams.Tell, _stop: threading.Event) -> None:
        with contextlib.ExitStack() as stack:
            archive: BinaryIO | Path = stack.enter_context(body)
            if source != "-":  # nothing is told before it is here: a failure is the answer's status
                archive = download.fetch(source, stack.enter_context(call.engine.data.scratch())).path
                tell({"status": f"Downloading from {source}"})
            image = call.engine.images.import_(archive, name, message=message, changes=changes)
        tell({"status": image.id})

    return await streams.send_told(call, work, told=False)


def _refuse_platform(text: str) -> None:
    """Raises InvalidInput where an import is asked to be for another machine: nobody could see whether it is."""
    here = machine_architecture()
    if text and Platform.parse(text, architecture=here) != Platform.parse(f"linux/{here}", architecture=here):
        raise InvalidInput(f"cannot import for the platform {text}", hint=f"an import is for linux/{here} here")


def instructions(call: Call) -> list[str]:
    """The parameter "changes": lines of a Dockerfile, in one value or several."""
    return [line for text in call.texts("changes") for line in text.splitlines() if line.strip()]


async def push(call: Call) -> web.StreamResponse:
    """Send an image to the registry in its name: one tag, or all that are here."""
    tag, auth = call.text("tag"), credentials(call)
    if "X-Registry-Auth" not in call.request.headers:
        auth = await _credentials_in_body(call)
    references.parse(call.name)
    if tag:
        images.target_name(call.name, tag)
    if call.text_since("1.46", "platform"):
        raise InvalidInput("push of one platform of several is not supported", hint="images here have one")

    def work(tell: streams.Tell, stop: threading.Event) -> None:
        told = _telling(tell, stop)
        call.engine.images.push(call.name, tag or None, all_tags=not tag, auth_config=auth, progress=told)

    return await streams.send_told(call, work)


async def _credentials_in_body(call: Call) -> Json:
    """Where old clients send them. Raises InvalidInput where there are none either."""
    body = await call.body()
    try:
        if body:
            return cast(Json, shapes.read(body, _LOGIN) or {})
        wrong = "EOF"
    except InvalidInput as error:
        wrong = error.message
    raise InvalidInput(f"Bad parameters and missing X-Registry-Auth: {wrong}", hint="send the header, if only e30=")


async def distribution(call: Call) -> web.Response:
    """What a registry has under a name, without fetching it."""
    auth = credentials(call)
    descriptor, platforms = await call.workers.run(
        Kind.TRANSFER, call.engine.images.get_registry_data, call.name, auth_config=auth
    )
    return answer({"Descriptor": descriptor.document(), "Platforms": [_platform(text) for text in platforms]})


def _platform(text: str) -> Json:
    system, _, rest = text.partition("/")
    architecture, _, variant = rest.partition("/")
    return {"architecture": architecture, "os": system, **({"variant": variant} if variant else {})}


async def log_in(call: Call) -> web.Response:
    """Whether a registry knows somebody. Nothing is kept: clients send what they know with each request."""
    given = await call.document(_LOGIN)
    server = fields.text(given, "serveraddress")
    await call.workers.run(
        Kind.TRANSFER,
        call.engine.login,
        fields.text(given, "username"),
        fields.text(given, "password"),
        server,
        save=False,
    )
    return answer({"Status": "Login Succeeded", "IdentityToken": ""})


ROUTES = (
    Route("POST", "/images/create", create, streams=True),
    Route("POST", "/images/{name}/push", push),
    Route("GET", "/distribution/{name}/json", distribution),
    Route("POST", "/auth", log_in),
)
