"""Resource usage of containers, sampled once a second for all clients together.

As in dockerd (moby, daemon/stats/collector.go) a container has one sampler: a thousand clients read its cgroup no more
often than one client.
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
SAMPLE_INTERVAL = 1.0  # seconds between two samples


class _Sampler:
    """Samples one container while it has clients. next: a future for the next sample."""

    def __init__(self, engine: Engine, workers: Workers, container_id: ContainerId) -> None:
        self.clients = 0
        self.next: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._sample(engine, workers, container_id))

    async def _sample(self, engine: Engine, workers: Workers, container_id: ContainerId) -> None:
        loop = asyncio.get_running_loop()
        try:
            before = await workers.run(Kind.STREAM, stats.sample, engine, container_id)
            while True:
                await asyncio.sleep(SAMPLE_INTERVAL)
                before = stats.following(before, await workers.run(Kind.STREAM, stats.sample, engine, container_id))
                now, self.next = self.next, loop.create_future()
                now.set_result(before)
        except Exception as error:  # noqa: BLE001 - the clients that wait for the sample get any error
            self.next.set_exception(error)
            self.next.exception()  # mark it as retrieved: without clients, asyncio would log a warning

    def end(self) -> None:
        """Stop sampling."""
        self._task.cancel()


class Sampling:
    """The samplers of all containers that have clients. Used on the event loop only."""

    def __init__(self) -> None:
        self._samplers: dict[str, _Sampler] = {}

    async def samples(
        self, engine: Engine, workers: Workers, container_id: ContainerId, ended: asyncio.Event
    ) -> AsyncGenerator[Json, None]:
        """Yield samples of a container, each with its predecessor. A slow client misses some.

        ended  set when the client waits for no further sample

        Raises ContainerNotFound once the container is removed.
        """
        if (sampler := self._samplers.get(container_id)) is None:
            sampler = self._samplers[container_id] = _Sampler(engine, workers, container_id)
        sampler.clients += 1
        end: asyncio.Future[Any] = asyncio.ensure_future(ended.wait())
        try:
            while True:
                sample: asyncio.Future[Any] = sampler.next
                await asyncio.wait({sample, end}, return_when=asyncio.FIRST_COMPLETED)
                if not sample.done():
                    return
                yield sample.result()
        finally:
            end.cancel()
            sampler.clients -= 1
            if not sampler.clients:
                sampler.end()
                del self._samplers[container_id]


SAMPLING: web.AppKey[Sampling] = web.AppKey("sampling", Sampling)
