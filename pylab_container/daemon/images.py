"""/images: list, inspect, tag and remove images, and archives of them."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import NoReturn

from aiohttp import web

from pylab_container.daemon import streams
from pylab_container.daemon.application import Route
from pylab_container.daemon.call import Call, Version, answer
from pylab_container.daemon.versions import known
from pylab_container.docker.filters import refuse_unknown, truth
from pylab_container.docker.image_filters import matching_images, matching_names
from pylab_container.errors import ImageNotFound, InvalidInput, InvalidReference, Unavailable
from pylab_container.events import Event, ImageChanged
from pylab_container.images.image import HistoryEntry, Image
from pylab_container.oci import reference as references
from pylab_container.oci.image import Json
from pylab_container.text.timestamps import parse_rfc3339

_TAR = "application/x-tar"
_NONE = "<none>"
MAX_SEARCH_RESULTS = 100  # the largest limit that a search may have


def find(call: Call, name: str) -> Image:
    """Return the image with this name.

    Raises ImageNotFound in dockerd's words, with the implied tag, and InvalidReference for an invalid name.
    """
    try:
        return call.engine.images.get(name)
    except ImageNotFound as error:
        raise ImageNotFound(f"No such image: {references.parse(name).familiar}", hint=error.hint) from None


# ---- list and inspect ----------------------------------------------------------------------------


async def list_images(call: Call) -> web.Response:
    """GET /images/json: all images, or those that match the filters."""
    return answer(await call.run(_listed, call))


def _listed(call: Call) -> list[Json]:
    filters = call.filters()
    if call.before("1.41") and (name := call.text("filter")):
        filters = {**filters, "reference": [*filters.get("reference", ()), name]}
    images = matching_images(call.engine.data, call.engine.images.list(all=call.flag("all")), filters)
    shared = {}
    if call.flag("shared-size") and not call.before("1.42"):
        shared = {usage.image.id: usage.shared for usage in call.engine.df().images}
    documents = []
    for image in images:
        try:
            document = summary(image, call.version, shared=shared.get(image.id, -1))
        except ImageNotFound:  # removed concurrently
            continue
        if patterns := filters.get("reference"):
            document |= {field: matching_names(document[field], patterns) for field in ("RepoTags", "RepoDigests")}
        documents.append(document)
    return documents


def summary(image: Image, version: Version, *, shared: int = -1, containers: int = -1) -> Json:
    """Return Docker's ImageSummary. shared and containers: -1 for not computed."""
    attributes = image.attrs
    tags, digests = attributes["RepoTags"], attributes["RepoDigests"]
    if not tags and not digests and version < (1, 43):
        tags, digests = [f"{_NONE}:{_NONE}"], [f"{_NONE}@{_NONE}"]
    document: Json = {
        "Containers": containers,
        "Created": _seconds(attributes["Created"]),
        "Id": image.id,
        "Labels": image.labels,
        "ParentId": attributes["Parent"],
        "RepoDigests": digests,
        "RepoTags": tags,
        "SharedSize": shared,
        "Size": attributes["Size"],
        "VirtualSize": attributes["Size"],
    }
    return known("Image", document, version)


def _seconds(created: str) -> int:
    return parse_rfc3339(created) // 10**9 if created else 0


async def inspect(call: Call) -> web.Response:
    """GET /images/NAME/json: an image's configuration."""

    def inspected() -> Json:
        try:
            return known("Image", find(call, call.name).attrs, call.version)
        except (ImageNotFound, InvalidReference) as error:  # dockerd adds this prefix for this request only
            raise type(error)(f"no such image: {call.name}: {error.message}", hint=error.hint) from None

    return answer(await call.run(inspected))


async def history(call: Call) -> web.Response:
    """GET /images/NAME/history: the steps of an image, newest first."""
    return answer(await call.run(lambda: [_step(entry) for entry in find(call, call.name).history()]))


def _step(entry: HistoryEntry) -> Json:
    return {
        "Comment": entry.comment,
        "Created": _seconds(entry.created),
        "CreatedBy": entry.created_by,
        "Id": entry.id,
        "Size": entry.size,
        "Tags": list(entry.tags) or None,
    }


async def search(call: Call) -> web.Response:
    """GET /images/search: refuse.

    dockerd uses a service of Docker Hub that other registries do not have.
    """
    limit = call.number("limit")
    if limit is not None and not 0 <= limit <= MAX_SEARCH_RESULTS:
        raise InvalidInput(f"Limit {limit} is outside the range of [1, {MAX_SEARCH_RESULTS}]", hint="leave --limit out")
    _refuse_filters(call.filters())
    raise Unavailable(
        f'cannot search for "{call.text("term")}": registries have no search', hint="name the image to pull"
    )


def _refuse_filters(filters: Mapping[str, list[str]]) -> None:
    refuse_unknown(filters, ("is-automated", "is-official", "stars"))
    for name in ("is-automated", "is-official"):
        for value in filters.get(name, ()):
            truth(name, value)
    for value in filters.get("stars", ()):
        if not re.fullmatch("[+-]?[0-9]+", value, re.ASCII):
            raise InvalidInput(f"Invalid filter 'stars={value}'", hint="write a number")


# ---- names -----------------------------------------------------------------------------------


async def tag(call: Call) -> web.Response:
    """POST /images/NAME/tag: add a name to an image."""

    def tagged() -> None:
        image = find(call, call.name)
        target = target_name(call.text("repo"), call.text("tag"))
        if target is None:
            raise InvalidReference("invalid reference format", hint="give repo=NAME")
        call.engine.images.tag(image, target.familiar)

    await call.run(tagged)
    return web.Response(status=201)


def target_name(repository: str, tag: str) -> references.Reference | None:
    """Return the name that two parameters form, None without a repository.

    Raises InvalidReference.
    """
    if not repository:
        return None
    reference = references.parse_tag(repository)
    return references.parse_tag(reference.with_tag(tag).familiar) if tag else reference


async def remove(call: Call) -> web.Response:
    """DELETE /images/NAME: remove a name, and with its last name the image."""
    if not call.name.strip():
        await refuse_nameless(call)

    def removed() -> list[Json]:
        find(call, call.name)
        removals = call.engine.images.remove(call.name, force=call.flag("force"), noprune=call.flag("noprune"))
        return [{removal.action: removal.name} for removal in removals]

    return answer(await call.run(removed))


async def refuse_nameless(call: Call) -> NoReturn:
    """Refuse a path without a name."""
    raise InvalidInput("image name cannot be blank", hint="write /images/NAME")


async def prune(call: Call) -> web.Response:
    """POST /images/prune: remove unused images."""
    pruned = await call.run(call.engine.images.prune, call.filters())
    deleted = [{removal.action: removal.name} for removal in pruned.deleted]
    return answer({"ImagesDeleted": deleted, "SpaceReclaimed": pruned.space_reclaimed})


# ---- archives --------------------------------------------------------------------------------


async def save(call: Call) -> web.StreamResponse:
    """GET /images/NAME/get: one image as an archive."""
    return await _save(call, [call.name])


async def save_several(call: Call) -> web.StreamResponse:
    """GET /images/get: several images as one archive."""
    names = [name for text in call.texts("names") for name in text.split(",") if name]
    if not names:
        raise InvalidInput("no image was named", hint="send names=NAME for each image")
    return await _save(call, names)


async def _save(call: Call, names: list[str]) -> web.StreamResponse:
    return await streams.send(call, streams.fetched(call, lambda: call.engine.images.stream(names)), content_type=_TAR)


async def load(call: Call) -> web.StreamResponse:
    """POST /images/load: store the images of an archive, with a line for each of their names."""
    engine, body = call.private_engine(), await streams.received(call)

    def work(put_line: streams.PutLine, _stop: threading.Event) -> None:
        names: dict[str, list[str]] = {}

        def on_event(event: Event) -> None:
            if isinstance(event, ImageChanged) and event.action == "unnamed":
                old = f"The image {event.reference} already exists, renaming the old one with ID {event.image_id}"
                put_line({"stream": f"{old} to empty string\n"})
            elif isinstance(event, ImageChanged):
                names.setdefault(event.image_id, []).extend([event.reference] if event.action == "named" else [])

        with body, engine.events.subscribed(on_event):
            engine.images.load(body)
        for image_id, image_names in names.items():
            for name in image_names:
                put_line({"stream": f"Loaded image: {name}\n"})
            if not image_names:
                put_line({"stream": f"Loaded image ID: {image_id}\n"})

    return await streams.send_produced(call, work)


ROUTES = (
    Route("GET", "/images/json", list_images),
    Route("GET", "/images/search", search),
    Route("GET", "/images/get", save_several),
    Route("POST", "/images/load", load, streams=True),
    Route("POST", "/images/prune", prune),
    Route("DELETE", "/images/", refuse_nameless),
    Route("GET", "/images/{name}/json", inspect),
    Route("GET", "/images/{name}/history", history),
    Route("GET", "/images/{name}/get", save),
    Route("POST", "/images/{name}/tag", tag),
    Route("DELETE", "/images/{name}", remove),
)
