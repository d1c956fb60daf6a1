"""What containers use, measured once a second for all clients that look.

As in dockerd (moby, daemon/stats/collector.go) there is one measurement of a container for any number of clients:
a thousand of them cost no more reading of cgroups than one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from aiohttp import web

from pylab_container.daemon.workers import Kind, Workers
from pylab_container.docker import stats
from pylab_container.engine import Engine
from pylab_container.oci.ids import ContainerId

Json = dict[str, Any]
_INTERVAL = 1.0  # seconds between two measurements


class _Measuring:
    """One container's measurements while clients look."""

    def __init__(self, engine: Engine, workers: Workers, container_id: ContainerId) -> None:
        self.clients = 0
        self.next: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._measure(engine, workers, container_id))

    async def _measure(self, engine: Engine, workers: Workers, container_id: ContainerId) -> None:
        loop = asyncio.get_running_loop()
        try:
            before = await workers.run(Kind.STREAM, stats.sample, engine, container_id)
            while True:
                await asyncio.sleep(_INTERVAL)
                before = stats.following(before, await workers.run(Kind.STREAM, stats.sample, engine, container_id))
                now, self.next = self.next, loop.create_future()
                now.set_result(before)
        except Exception as error:  # noqa: BLE001 - whatever it is, clients wait for it
            self.next.set_exception(error)
            self.next.exception()  # clients raise it; without clients, asyncio would log it as never retrieved

    def end(self) -> None:
        self._task.cancel()


class Sampling:
    """Which containers are measured at the moment. It belongs to the event loop."""

    def __init__(self) -> None:
        self._measured: dict[str, _Measuring] = {}

    async def samples(
        self, engine: Engine, workers: Workers, container_id: ContainerId, ended: asyncio.Event
    ) -> AsyncGenerator[Json, None]:
        """Measurements of a container, each with the one before; a slow client misses some.

        ended  the client waits for no other

        Raises ContainerNotFound once the container is removed.
        """
        if (measuring := self._measured.get(container_id)) is None:
            measuring = self._measured[container_id] = _Measuring(engine, workers, container_id)
        measuring.clients += 1
        end: asyncio.Future[Any] = asyncio.ensure_future(ended.wait())
        try:
            while True:
                sample: asyncio.Future[Any] = measuring.next
                await asyncio.wait({sample, end}, return_when=asyncio.FIRST_COMPLETED)
                if not sample.done():
                    return
                yield sample.result()
        finally:
            end.cancel()
            measuring.clients -= 1
            if not measuring.clients:
                measuring.end()
                del self._measured[container_id]


SAMPLING: web.AppKey[Sampling] = web.AppKey("sampling", Sampling)
