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
from pylab_container.engine.container import Container

Json = dict[str, Any]
_INTERVAL = 1.0  # seconds between two measurements


def sample(container: Container) -> Json:
    """Measure a container now. Raises ContainerNotFound."""
    return stats.sample(container.record)


class _Measuring:
    """One container's measurements while clients look."""

    def __init__(self, workers: Workers, container: Container) -> None:
        self.clients = 0
        self.next: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._measure(workers, container))

    async def _measure(self, workers: Workers, container: Container) -> None:
        loop = asyncio.get_running_loop()
        try:
            before = await workers.run(Kind.STREAM, sample, container)
            while True:
                await asyncio.sleep(_INTERVAL)
                before = stats.following(before, await workers.run(Kind.STREAM, sample, container))
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

    async def samples(self, workers: Workers, container: Container, ended: asyncio.Event) -> AsyncGenerator[Json, None]:
        """Measurements of a container, each with the one before; a slow client misses some.

        ended  the client waits for no other

        Raises ContainerNotFound once the container is removed.
        """
        if (measuring := self._measured.get(container.id)) is None:
            measuring = self._measured[container.id] = _Measuring(workers, container)
        measuring.clients += 1
        end: asyncio.Future[Any] = asyncio.ensure_future(ended.wait())
        try:
            while True:
                measurement: asyncio.Future[Any] = measuring.next
                await asyncio.wait({measurement, end}, return_when=asyncio.FIRST_COMPLETED)
                if not measurement.done():
                    return
                yield measurement.result()
        finally:
            end.cancel()
            measuring.clients -= 1
            if not measuring.clients:
                measuring.end()
                del self._measured[container.id]


SAMPLING: web.AppKey[Sampling] = web.AppKey("sampling", Sampling)
