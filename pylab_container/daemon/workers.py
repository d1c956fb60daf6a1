"""The daemon's threads: pools by what a call may wait for.

The engine blocks. A call that only reads and writes the data root is short; one that waits for a client, a registry
or a process is not. Each kind has its own pool, so that calls of one kind, however many, leave the others their
threads. Streams and request bodies hold no thread while they wait (streams.py, watching.py).
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from typing import ParamSpec, TypeVar

from aiohttp import web

from pylab_container.errors import Unavailable

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Kind(Enum):
    """What a call may wait for."""

    READ = "read"
    """The disk: GET and HEAD."""
    CHANGE = "change"
    """The disk, a lock and the runtime: the other methods."""
    STREAM = "stream"
    """The disk: one step of a stream."""
    STOP = "stop"
    """The end of a container's process, for as long as the client says."""
    TRANSFER = "transfer"
    """Registries, and the commands of a build. More of them at once than there are threads are refused."""


class Workers:
    """The pools. Threads are started when they are needed, and used again."""

    LIMITS: Mapping[Kind, int] = {
        Kind.READ: 256,
        Kind.CHANGE: 256,
        Kind.STREAM: 64,
        Kind.STOP: 1000,
        Kind.TRANSFER: 500,
    }
    """Threads of each pool at most."""

    def __init__(self) -> None:
        self._pools = {kind: ThreadPoolExecutor(limit, f"{kind.value} call") for kind, limit in self.LIMITS.items()}
        self._room = threading.Semaphore(self.LIMITS[Kind.TRANSFER])

    async def run(
        self, kind: Kind, function: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        """Call a function in a thread. Raises Unavailable for a transfer if there is no thread for it."""
        work = functools.partial(function, *arguments, **options)
        return await asyncio.wrap_future(self.submit(kind, work))

    def submit(self, kind: Kind, function: Callable[[], Result]) -> Future[Result]:
        """The same for a caller that does not wait, or not on the event loop."""
        if kind is Kind.TRANSFER and not self._room.acquire(blocking=False):
            under_way = f"{self.LIMITS[Kind.TRANSFER]} builds and transfers are under way"
            raise Unavailable(under_way, hint="try again when some of them have ended")
        running = self._pools[kind].submit(function)
        if kind is Kind.TRANSFER:
            running.add_done_callback(lambda _: self._room.release())
        return running

    async def end(self, seconds: Callable[[], float]) -> None:
        """End the pools; threads that work get some seconds, as long as the function says."""
        ending = [threading.Thread(target=self._shutdown, args=(pool,), daemon=True) for pool in self._pools.values()]
        for thread in ending:
            thread.start()
        began = time.monotonic()
        while any(thread.is_alive() for thread in ending) and time.monotonic() - began < seconds():
            await asyncio.sleep(0.02)

    @staticmethod
    def _shutdown(pool: ThreadPoolExecutor) -> None:
        pool.shutdown(cancel_futures=True)


WORKERS: web.AppKey[Workers] = web.AppKey("workers", Workers)
