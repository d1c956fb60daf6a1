"""Clients that attach before a container starts, and notifications about changes of containers.

`docker run` creates a container, attaches, waits for its exit, and only then starts it. An attach to a container that
does not run therefore waits. The request that starts the container connects all waiting clients before the process
runs, so that they miss no output. A start by another process on the data root is found by polling.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from pylab_container.daemon.call import Call
from pylab_container.daemon.sharing import SHARING, Share, SharedStreams
from pylab_container.daemon.workers import Kind
from pylab_container.engine.container import Attachment, Container
from pylab_container.errors import Conflict

POLL_INTERVAL = 1.0  # seconds between polls for changes by other processes


class Starts:
    """The waiting clients of each container. Used on the event loop only."""

    def __init__(self) -> None:
        self._expecting: dict[str, list[asyncio.Future[Share | None]]] = defaultdict(list)
        self._changed: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._starting: set[asyncio.Future[None]] = set()

    @asynccontextmanager
    async def expect(self, container_id: str) -> AsyncIterator[asyncio.Future[Share | None]]:
        """Yield a future for a share of the next start's streams, None if it fails.

        The block closes the share.
        """
        future: asyncio.Future[Share | None] = asyncio.get_running_loop().create_future()
        self._expecting[container_id].append(future)
        try:
            yield future
        finally:
            self._forget(container_id, future)
            if future.done() and not future.cancelled() and (share := future.result()):
                share.close()
            future.cancel()

    async def attached(
        self, call: Call, container: Container, future: asyncio.Future[Share | None], started_at: str
    ) -> Share | None:
        """Wait for the expected start, by this or another process.

        Return None if it cannot be attached to.

        started_at  time of the container's last start, read before expect()

        Raises ContainerNotFound if the container is removed.
        """
        while not future.done():
            await self.wait_for_change(container.id)
            # A start by this daemon resolves the future itself. A connection that is made later would miss output.
            if future in self._expecting.get(container.id, ()):
                record = await call.run(lambda: container.record)
                if record.started_at != started_at and future in self._expecting.get(container.id, ()):
                    self._forget(container.id, future)
                    await _attach_late(call, container, future)
        return future.result()

    def _forget(self, container_id: str, future: asyncio.Future[Share | None]) -> None:
        waiting = self._expecting.get(container_id, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._expecting.pop(container_id, None)

    async def start(
        self,
        call: Call,
        container: Container,
        start: Callable[[int], Attachment | None],
        kind: Kind = Kind.CHANGE,
    ) -> None:
        """Start a container and connect all clients that wait for it.

        start  starts it, with a connection for this number of clients; its errors are raised here
        kind   the pool of threads that runs it
        """
        # A client that disconnects must not cancel the start: other clients may wait for it.
        starting = asyncio.ensure_future(self._start(call, container, start, kind))
        self._starting.add(starting)
        starting.add_done_callback(self._started)
        await asyncio.shield(starting)

    def _started(self, starting: asyncio.Future[None]) -> None:
        self._starting.discard(starting)
        if not starting.cancelled():
            starting.exception()  # mark it as retrieved: the client may have disconnected, so that no caller awaits it

    async def _start(
        self, call: Call, container: Container, start: Callable[[int], Attachment | None], kind: Kind
    ) -> None:
        waiting = self._expecting.pop(container.id, [])
        shared: SharedStreams | None = None
        try:
            if attachment := await call.workers.run(kind, start, len(waiting)):
                shared = call.request.app[SHARING].register(container.id, attachment)
        finally:
            for future in waiting:
                deliver(future, shared.share() if shared else None)
            self.notify(container.id)

    def notify(self, container_id: str) -> None:
        """Wake all callers of wait_for_change() for a container."""
        for event in self._changed.get(container_id, ()):
            event.set()

    async def wait_for_change(self, container_id: str) -> None:
        """Wait for notify() for a container, at most POLL_INTERVAL.

        Another process may have changed the container.
        """
        event = asyncio.Event()
        self._changed[container_id].add(event)
        try:
            async with asyncio.timeout(POLL_INTERVAL):
                await event.wait()
        except TimeoutError:
            return
        finally:
            self._changed[container_id].discard(event)
            if not self._changed[container_id]:
                del self._changed[container_id]


async def _attach_late(call: Call, container: Container, future: asyncio.Future[Share | None]) -> None:
    try:
        deliver(future, await call.request.app[SHARING].join(call, container))
    except Conflict:
        deliver(future, None)  # it has already exited


def deliver(future: asyncio.Future[Share | None], share: Share | None) -> None:
    """Resolve a future of expect(), or close the share if its client has disconnected."""
    if not future.done():
        future.set_result(share)
    elif share:
        share.close()


STARTS: web.AppKey[Starts] = web.AppKey("starts", Starts)
