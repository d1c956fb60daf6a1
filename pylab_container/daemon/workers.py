"""The daemon's threads: one pool for each kind of blocking call.

The engine blocks. A call that only reads and writes the data root is short; a call that waits for a registry or a
process can take minutes. Each kind has its own pool, so that many calls of one kind cannot starve the others. Streams
and request bodies hold no thread while they wait (streams.py, watching.py).
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
    """The resource that a call may block on."""

    READ = "read"
    """The disk: requests with GET and HEAD."""
    CHANGE = "change"
    """The disk, a lock and the runtime: requests with other methods."""
    STREAM = "stream"
    """The disk: one step of a stream."""
    STOP = "stop"
    """The exit of a container's process, with a timeout that the client chooses."""
    TRANSFER = "transfer"
    """Registries, and the commands of a build. When all threads are busy, further calls are refused."""


class Workers:
    """The thread pools. Threads start on demand and are reused."""

    LIMITS: Mapping[Kind, int] = {
        Kind.READ: 256,
        Kind.CHANGE: 256,
        Kind.STREAM: 64,
        Kind.STOP: 1000,
        Kind.TRANSFER: 500,
    }
    """Maximum number of threads of each pool."""

    def __init__(self) -> None:
        self._pools = {kind: ThreadPoolExecutor(limit, f"{kind.value} call") for kind, limit in self.LIMITS.items()}
        self._free_transfers = threading.Semaphore(self.LIMITS[Kind.TRANSFER])

    async def run(
        self, kind: Kind, function: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        """Call a function in a thread. Raises Unavailable for a transfer if all threads are busy."""
        work = functools.partial(function, *arguments, **options)
        return await asyncio.wrap_future(self.submit(kind, work))

    def submit(self, kind: Kind, function: Callable[[], Result]) -> Future[Result]:
        """Schedule a function in a thread without waiting. Raises Unavailable as run() does."""
        if kind is Kind.TRANSFER and not self._free_transfers.acquire(blocking=False):
            message = f"{self.LIMITS[Kind.TRANSFER]} builds and transfers are under way"
            raise Unavailable(message, hint="try again when some of them have ended")
        running = self._pools[kind].submit(function)
        if kind is Kind.TRANSFER:
            running.add_done_callback(lambda _: self._free_transfers.release())
        return running

    async def end(self, seconds: Callable[[], float]) -> None:
        """Shut the pools down.

        Wait for busy threads at most seconds(), which is called again at each poll.
        """
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
