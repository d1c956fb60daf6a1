"""Two lines for each request, for whoever wants to watch: lab 00 does.

    {"began": 1767322800123456789, "method": "GET", "path": "/v1.47/info"}
    {"began": 1767322800123456789, "method": "GET", "path": "/v1.47/info", "status": 200, "seconds": 0.004}

The first is written when it comes, the second when it was answered, which may be a moment after the client has its
answer: who has seen the first waits for the second. `began` is in nanoseconds since 1970.
"""

from __future__ import annotations

import json
import logging
import time as clock
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.typedefs import Handler, Middleware

from pylab_container.daemon.hijack import Taken
from pylab_container.errors import InvalidInput

_BEGAN = "began"


def beginnings(logger: logging.Logger) -> Middleware:
    """What aiohttp calls before each request: it is noted when it comes."""

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[_BEGAN] = clock.time_ns()
        logger.info(json.dumps(_line(request, request[_BEGAN])))
        return await handler(request)

    return note


def _line(request: web.BaseRequest, began: int) -> dict[str, Any]:
    return {"began": began, "method": request.method, "path": request.raw_path}


class RequestLog(AbstractAccessLogger):
    """What aiohttp calls after each request."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """time is how long it took, in seconds."""
        upgraded = isinstance(response, Taken) and "Upgrade" in request.headers
        # What cannot be read at all has not come as far as beginnings().
        began = request.get(_BEGAN) or clock.time_ns() - round(time * 10**9)
        line = {
            **_line(request, began),
            "status": 101 if upgraded else response.status,
            "seconds": round(time, 6),
        }
        self.logger.info(json.dumps(line))


def writing(path: Path) -> logging.Logger:
    """A logger that appends to a file, which only root can read: paths tell names. Raises InvalidInput."""
    try:
        path.touch(mode=0o600)
        handler = logging.FileHandler(path)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}", hint="name another file") from error
    logger = logging.Logger(__name__, logging.INFO)  # not one of the process's tree, where others would hear it
    logger.addHandler(handler)
    return logger
