"""/images/create, /images/NAME/push, /distribution and /auth: transfers of images, and registry credentials."""

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
from pylab_container.daemon.call import Call, answer
from pylab_container.daemon.workers import Kind
from pylab_container.docker import progress
from pylab_container.errors import Conflict, InvalidInput
from pylab_container.events import Emit, Event
from pylab_container.images.image import machine_architecture
from pylab_container.oci import reference as references
from pylab_container.oci.image import Json
from pylab_container.oci.platform import Platform

_LOGIN = shapes.named("username password email serveraddress", str)


def credentials(call: Call) -> Json:
    """Parse the header X-Registry-Auth, JSON in base64.

    As in dockerd, a malformed header is ignored.
    """
    return _header(call, "X-Registry-Auth")


def all_credentials(call: Call) -> dict[str, Json]:
    """Parse the header X-Registry-Config of a build: credentials by the name of the registry."""
    entries = _header(call, "X-Registry-Config")
    return {name: entry for name, entry in entries.items() if isinstance(entry, dict)}


def _header(call: Call, name: str) -> Json:
    text = call.request.headers.get(name, "")
    try:
        raw = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
        return cast(Json, shapes.read(raw, {"*": shapes.ANY}) or {}) if raw else {}
    except (binascii.Error, InvalidInput):
        return {}


async def create(call: Call) -> web.StreamResponse:
    """POST /images/create: pull an image, or import a root file system."""
    if call.text("fromImage"):
        return await _pull(call)
    if call.text("fromSrc"):
        return await _import(call)
    raise InvalidInput(
        "neither fromImage nor fromSrc is given", hint="send fromImage=NAME to pull, or fromSrc=- to import"
    )


async def _pull(call: Call) -> web.StreamResponse:
    name, tag, platform = call.text("fromImage"), call.text("tag"), call.text_since("1.32", "platform")
    reference = references.parse(name)
    has_tag = bool(tag or reference.digest or name.endswith(f":{reference.tag}"))
    auth = credentials(call)

    def work(put_line: streams.PutLine, stop: threading.Event) -> None:
        progress_lines = _progress_lines(put_line, stop)
        if has_tag:
            call.engine.images.pull(name, tag or None, platform=platform, auth_config=auth, progress=progress_lines)
        else:
            call.engine.images.pull_all_tags(name, platform=platform, auth_config=auth, progress=progress_lines)

    return await streams.send_produced(call, work, errors_in_stream=False)


def _progress_lines(put_line: streams.PutLine, stop: threading.Event) -> Emit:
    """Return a receiver of events that forwards a transfer's progress to the client.

    It aborts the transfer when the client disconnects.
    """

    def emit(event: Event) -> None:
        if stop.is_set():
            raise Conflict("the transfer was stopped", hint="its client disconnected: start it again")
        if (document := progress.document(event)) is not None:
            put_line(document)

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

    def work(put_line: streams.PutLine, _stop: threading.Event) -> None:
        with contextlib.ExitStack() as stack:
            archive: BinaryIO | Path = stack.enter_context(body)
            if source != "-":  # no line before the download ends, so that its failure can be the status of the answer
                archive = download.fetch(source, stack.enter_context(call.engine.data.scratch())).path
                put_line({"status": f"Downloading from {source}"})
            image = call.engine.images.import_(archive, name, message=message, changes=changes)
        put_line({"status": image.id})

    return await streams.send_produced(call, work, errors_in_stream=False)


def _refuse_platform(text: str) -> None:
    """Raise InvalidInput if an import requests another platform than this machine's."""
    here = machine_architecture()
    if text and Platform.parse(text, architecture=here) != Platform.parse(f"linux/{here}", architecture=here):
        raise InvalidInput(f"cannot import for the platform {text}", hint=f"an import is for linux/{here} here")


def instructions(call: Call) -> list[str]:
    """Return the Dockerfile instructions in the values of the parameter "changes"."""
    return [line for text in call.texts("changes") for line in text.splitlines() if line.strip()]


async def push(call: Call) -> web.StreamResponse:
    """POST /images/NAME/push: push one tag or all tags to the registry in the name."""
    tag, auth = call.text("tag"), credentials(call)
    if "X-Registry-Auth" not in call.request.headers:
        auth = await _credentials_in_body(call)
    references.parse(call.name)
    if tag:
        images.target_name(call.name, tag)
    if call.text_since("1.46", "platform"):
        raise InvalidInput("push of one platform of several is not supported", hint="images here have one")

    def work(put_line: streams.PutLine, stop: threading.Event) -> None:
        progress_lines = _progress_lines(put_line, stop)
        call.engine.images.push(call.name, tag or None, all_tags=not tag, auth_config=auth, progress=progress_lines)

    return await streams.send_produced(call, work)


async def _credentials_in_body(call: Call) -> Json:
    """Read credentials from the body, where old clients send them. Raises InvalidInput for an empty body."""
    body = await call.body()
    try:
        if body:
            return cast(Json, shapes.read(body, _LOGIN) or {})
        problem = "EOF"
    except InvalidInput as error:
        problem = error.message
    raise InvalidInput(
        f"Bad parameters and missing X-Registry-Auth: {problem}", hint="send the header; e30= has no credentials"
    )


async def distribution(call: Call) -> web.Response:
    """GET /distribution/NAME/json: the descriptor of an image in a registry, without pulling it."""
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
    """POST /auth: verify credentials with a registry.

    Nothing is stored: clients send them with each request.
    """
    body = await call.document(_LOGIN)
    server = fields.text(body, "serveraddress")
    await call.workers.run(
        Kind.TRANSFER,
        call.engine.login,
        fields.text(body, "username"),
        fields.text(body, "password"),
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
