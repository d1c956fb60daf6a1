"""A log with two JSON lines for each request. Lab 00 shows it.

    {"began": 1767322800123456789, "method": "GET", "path": "/v1.47/info"}
    {"began": 1767322800123456789, "method": "GET", "path": "/v1.47/info", "status": 200, "seconds": 0.004}

The first line is written when the request arrives, the second after its answer, perhaps after the client has read it:
a reader that has seen the first line waits for the second. `began` is in nanoseconds since 1970.
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

from pylab_container.daemon.hijack import HijackedResponse
from pylab_container.errors import InvalidInput

_BEGAN = "began"


def arrivals(logger: logging.Logger) -> Middleware:
    """Return aiohttp's middleware that logs the arrival of each request."""

    @web.middleware
    async def log_arrival(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[_BEGAN] = clock.time_ns()
        logger.info(json.dumps(_line(request, request[_BEGAN])))
        return await handler(request)

    return log_arrival


def _line(request: web.BaseRequest, began: int) -> dict[str, Any]:
    return {"began": began, "method": request.method, "path": request.raw_path}


class RequestLog(AbstractAccessLogger):
    """Logs the end of each request; aiohttp calls log()."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log a request. time: its duration in seconds."""
        upgraded = isinstance(response, HijackedResponse) and "Upgrade" in request.headers
        # A malformed request has not passed the middleware.
        began = request.get(_BEGAN) or clock.time_ns() - round(time * 10**9)
        line = {
            **_line(request, began),
            "status": 101 if upgraded else response.status,
            "seconds": round(time, 6),
        }
        self.logger.info(json.dumps(line))


def open_request_log(path: Path) -> logging.Logger:
    """Return a logger that appends to a file. Only root can read it: paths contain names.

    Raises InvalidInput.
    """
    try:
        path.touch(mode=0o600)
        handler = logging.FileHandler(path)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}", hint="name another file") from error
    logger = logging.Logger(
        __name__, logging.INFO
    )  # outside the process's logger hierarchy, whose handlers would get a copy
    logger.addHandler(handler)
    return logger
