"""A line for each request that was answered, for whoever wants to watch: lab 00 does.

    {"began": 1767322800123456789, "method": "GET", "path": "/v1.45/info", "status": 200, "seconds": 0.004}

Requests are written down when they end, so the lines are not in the order of `began` (nanoseconds since 1970).
"""

from __future__ import annotations

import json
import logging
import time as clock
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from pylab_container.daemon.hijack import Taken
from pylab_container.errors import InvalidInput


class RequestLog(AbstractAccessLogger):
    """What aiohttp calls after each request."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """time is how long it took, in seconds."""
        upgraded = isinstance(response, Taken) and "Upgrade" in request.headers
        line = {
            "began": clock.time_ns() - round(time * 10**9),
            "method": request.method,
            "path": request.raw_path,
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
