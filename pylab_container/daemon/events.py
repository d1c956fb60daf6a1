"""/events: the events of all engines on the data root."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from aiohttp import web

from pylab_container.daemon.application import Route
from pylab_container.daemon.call import Call
from pylab_container.daemon.streams import fetched, send_lines
from pylab_container.daemon.watching import following
from pylab_container.docker import event_log
from pylab_container.docker.event_log import EventReader
from pylab_container.errors import InvalidInput
from pylab_container.oci.image import Json

BATCH_SIZE = 1 << 12  # fields of documents that a thread fetches at a time; a document has about ten
_MOMENT = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)


async def stream(call: Call) -> web.StreamResponse:
    """GET /events: past and new events as JSON documents, from since until until."""
    since, until = _moment(call, "since"), _moment(call, "until")
    if since is not None and until is not None and since > until:
        times = call.text("since"), call.text("until")
        raise InvalidInput(f"`since` time ({times[0]}) cannot be after `until` time ({times[1]})", hint="swap them")
    # dockerd ignores unknown filters.
    filters = {name: values for name, values in call.filters().items() if name in event_log.FILTERS}
    # Open the reader before the answer begins: the client may take the head as a signal that events are recorded.
    reader = call.engine.event_log.reader(since=since, until=until, filters=filters)
    return await send_lines(call, _events(call, reader, until))


async def _events(call: Call, reader: EventReader, until: float | None) -> AsyncGenerator[Json, None]:
    ends: list[Coroutine[Any, Any, object]] = [] if until is None else [asyncio.sleep(until - time.time())]
    with contextlib.closing(reader):
        async with following(call, call.engine.data.path, *ends) as stream:
            while True:
                async with contextlib.aclosing(fetched(call, reader.new, batch=BATCH_SIZE)) as documents:
                    async for document in documents:
                        yield document
                if reader.ended or not await stream.more():
                    return


def _moment(call: Call, name: str) -> float | None:
    """Parse a time in seconds since 1970, with an optional fraction. Raises InvalidInput."""
    text = call.text(name)
    if not text:
        return None
    if not _MOMENT.fullmatch(text):
        raise InvalidInput(f'strconv.ParseInt: parsing "{text}": invalid syntax', hint=f"{name} is seconds since 1970")
    return float(text)


ROUTES = (Route("GET", "/events", stream),)
