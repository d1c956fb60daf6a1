"""/events: what happens, as it happens."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator

from aiohttp import web

from pylab_container.daemon.application import Route
from pylab_container.daemon.call import Call, Json
from pylab_container.daemon.streams import send_lines
from pylab_container.engine import event_log
from pylab_container.errors import InvalidInput

_MOMENT = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)


async def stream(call: Call) -> web.StreamResponse:
    """Events as JSON documents: the old ones since a moment, and those that come until another one."""
    since, until = _moment(call, "since"), _moment(call, "until")
    if since is not None and until is not None and since > until:
        times = call.text("since"), call.text("until")
        raise InvalidInput(f"`since` time ({times[0]}) cannot be after `until` time ({times[1]})", hint="swap them")
    if since is None and until is None:
        since = time.time()  # before the answer begins: its client may act on that, and waits for what then happens
    # dockerd takes a filter that it does not know for none.
    filters = {name: values for name, values in call.filters().items() if name in event_log.FILTERS}

    def events(stop: threading.Event) -> Iterator[Json]:
        return call.engine.event_log.read(since=since, until=until, filters=filters, stop=stop)

    return await send_lines(call, events)


def _moment(call: Call, name: str) -> float | None:
    """Seconds since 1970, perhaps with a fraction. Raises InvalidInput."""
    text = call.text(name)
    if not text:
        return None
    if not _MOMENT.fullmatch(text):
        raise InvalidInput(f'strconv.ParseInt: parsing "{text}": invalid syntax', hint=f"{name} is seconds since 1970")
    return float(text)


ROUTES = (Route("GET", "/events", stream),)
