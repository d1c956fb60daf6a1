"""Who waits in this daemon for a container to be started, and what was done to containers meanwhile.

`docker run` creates a container, attaches to it, waits for its end, and only then starts it. So attaching waits,
and whoever starts the container in this daemon connects everybody who waits before its process runs: no output is
missed. Another process on the data root knows nothing of this; what it has started is noticed by looking.
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

_LOOK = 1.0  # seconds between two looks for what other processes do


class Starts:
    """The meeting place; all of it belongs to the event loop."""

    def __init__(self) -> None:
        self._expecting: dict[str, list[asyncio.Future[Share | None]]] = defaultdict(list)
        self._news: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._starting: set[asyncio.Future[None]] = set()

    @asynccontextmanager
    async def expect(self, container_id: str) -> AsyncIterator[asyncio.Future[Share | None]]:
        """A share of the streams after the next start, None where it failed. It is closed at the block's end."""
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
        """Wait for the start that was expected, by whomever; None where it cannot be attached to.

        started_at  when it was started last, as it was before it was expected

        Raises ContainerNotFound once the container is gone.
        """
        while not future.done():
            await self.news(container.id)
            # A start of this daemon's connects: another connection, made later, would have missed something.
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
        """Start a container, with all connected who wait for that.

        start  does it, connected for so many clients; what it raises is raised here
        kind   what it waits for
        """
        # The start goes on when the client that asked for it has gone: somebody else may be waiting.
        starting = asyncio.ensure_future(self._start(call, container, start, kind))
        self._starting.add(starting)
        starting.add_done_callback(self._started)
        await asyncio.shield(starting)

    def _started(self, starting: asyncio.Future[None]) -> None:
        self._starting.discard(starting)
        if not starting.cancelled():
            starting.exception()  # raised where it was asked for; when the client has gone, nobody hears it

    async def _start(
        self, call: Call, container: Container, start: Callable[[int], Attachment | None], kind: Kind
    ) -> None:
        waiting = self._expecting.pop(container.id, [])
        shared: SharedStreams | None = None
        try:
            if attachment := await call.workers.run(kind, start, len(waiting)):
                shared = call.request.app[SHARING].hold(container.id, attachment)
        finally:
            for future in waiting:
                hand_over(future, shared.share() if shared else None)
            self.tell(container.id)

    def tell(self, container_id: str) -> None:
        """Let all know who wait for something to happen to a container."""
        for event in self._news.get(container_id, ()):
            event.set()

    async def news(self, container_id: str) -> None:
        """Wait until something may have happened to a container: it was told here, or a second went by."""
        event = asyncio.Event()
        self._news[container_id].add(event)
        try:
            async with asyncio.timeout(_LOOK):
                await event.wait()
        except TimeoutError:
            return
        finally:
            self._news[container_id].discard(event)
            if not self._news[container_id]:
                del self._news[container_id]


async def _attach_late(call: Call, container: Container, future: asyncio.Future[Share | None]) -> None:
    try:
        hand_over(future, await call.request.app[SHARING].join(call, container))
    except Conflict:
        hand_over(future, None)  # it has ended already


def hand_over(future: asyncio.Future[Share | None], share: Share | None) -> None:
    """Give a share to who expects one."""
    if not future.done():
        future.set_result(share)
    elif share:
        share.close()  # who waited has gone


STARTS: web.AppKey[Starts] = web.AppKey("starts", Starts)
